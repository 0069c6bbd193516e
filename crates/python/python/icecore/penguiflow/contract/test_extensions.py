"""What Penguiflow's protocol does not ask for and its follow-up RFC does: judged where a store has it."""

import asyncio
from typing import Any

import pytest

from ._groups import judges, lacks
from ._making import event, fresh, kinds, steering, task, trajectory, update


@judges("deletion")
async def test_all_of_a_session_goes_and_nothing_of_another(state_store: Any) -> None:
    gone, kept = fresh(), fresh()
    for session in (gone, kept):
        await fill(state_store, session)

    await state_store.delete_session(gone)

    assert not any(await found(state_store, gone))
    assert all(await found(state_store, kept))


@judges("deletion")
async def test_a_session_is_deleted_again_and_so_is_one_that_never_was(state_store: Any) -> None:
    session = fresh()
    await fill(state_store, session)

    for _ in range(2):
        await state_store.delete_session(session)
    await state_store.delete_session(fresh())

    assert not any(await found(state_store, session))


@judges("deletion")
async def test_there_may_be_a_session_of_an_id_that_was_deleted(state_store: Any) -> None:
    session = fresh()
    await fill(state_store, session)
    await state_store.delete_session(session)

    await fill(state_store, session)

    assert all(await found(state_store, session))


@judges("listing")
async def test_each_session_is_listed_once_until_it_is_deleted(state_store: Any) -> None:
    sessions = {fresh() for _ in range(5)}
    for session in sessions:
        await fill(state_store, session)

    assert sorted(await listed(state_store, sessions)) == sorted(sessions)
    if lacks(state_store, "deletion") is None:
        gone = sessions.pop()
        await state_store.delete_session(gone)
        assert sorted(await listed(state_store, {gone, *sessions})) == sorted(sessions)


async def listed(store: Any, sessions: set[str]) -> list[str]:
    """Of these, in small pages."""
    found: list[str] = []
    after = None
    while True:
        page = await store.list_sessions(after=after, limit=2)
        assert len(page.sessions) <= 2
        found += [session.session_id for session in page.sessions if session.session_id in sessions]
        after = page.next
        if after is None:
            return found


async def fill(store: Any, session: str) -> None:
    """What the store can keep of a session, with ids of updates and steering that are new."""
    trace = f"{session}-trace"
    await store.save_event(event(trace, payload={"fresh": fresh()}))
    if lacks(store, "tasks") is None:
        await store.save_task(task(session, "t-1", trace_id=trace))
        await store.save_update(update(session, trace_id=trace))
        await store.save_steering(steering(session))
    if lacks(store, "trajectories") is None:
        await store.save_trajectory(trace, session, trajectory())
    if lacks(store, "memory") is None:
        await store.save_memory_state(f"acme:ada:{session}", {"version": 1})


async def found(store: Any, session: str) -> list[bool]:
    """Of each whether there is any."""
    trace = f"{session}-trace"
    there = []
    if lacks(store, "tasks") is None or lacks(store, "trajectories") is None:
        # That the trace is this session's is told by one of these.
        there.append(bool(await store.load_history(trace)))
    if lacks(store, "tasks") is None:
        there += [bool(await store.list_tasks(session)), bool(await store.list_updates(session))]
        there.append(bool(await store.list_steering(session)))
    if lacks(store, "trajectories") is None:
        there += [bool(await store.list_traces(session)), await store.get_trajectory(trace, session) is not None]
    if lacks(store, "memory") is None:
        there.append(await store.load_memory_state(f"acme:ada:{session}") is not None)
    if not there:
        pytest.skip("the store keeps nothing by session")
    return there


@judges("checked memory")
async def test_memory_is_saved_over_what_is_expected_only(state_store: Any) -> None:
    key = f"acme:ada:{fresh()}"
    assert await state_store.load_memory_state_with_etag(key) is None

    first = await state_store.save_memory_state_if(key, {"n": 1}, expect=None)
    second = await state_store.save_memory_state_if(key, {"n": 2}, expect=first)
    for stale in (None, first):
        with pytest.raises(Exception, match=".") as refused:
            await state_store.save_memory_state_if(key, {"n": 3}, expect=stale)
        state, etag = refused.value.found  # type: ignore[attr-defined]
        assert (state, etag) == ({"n": 2}, second)

    assert tuple(await state_store.load_memory_state_with_etag(key)) == ({"n": 2}, second)


@judges("checked memory")
async def test_a_plain_save_is_another_state(state_store: Any) -> None:
    key = f"acme:ada:{fresh()}"
    etag = await state_store.save_memory_state_if(key, {"n": 1}, expect=None)
    await state_store.save_memory_state(key, {"n": 1})

    with pytest.raises(Exception, match="."):
        await state_store.save_memory_state_if(key, {"n": 2}, expect=etag)

    assert await state_store.load_memory_state(key) == {"n": 1}


@judges("checked memory")
async def test_of_writers_that_race_one_saves(state_store: Any) -> None:
    key = f"acme:ada:{fresh()}"
    etag = await state_store.save_memory_state_if(key, {"by": None}, expect=None)

    saving = (state_store.save_memory_state_if(key, {"by": writer}, expect=etag) for writer in range(16))
    outcomes = await asyncio.gather(*saving, return_exceptions=True)

    won = [writer for writer, outcome in enumerate(outcomes) if isinstance(outcome, str)]
    assert len(won) == 1
    assert await state_store.load_memory_state(key) == {"by": won[0]}


@judges("many at once")
async def test_many_are_kept_once_in_their_order(state_store: Any) -> None:
    one, other, session = fresh(), fresh(), fresh()
    events = [event((one, other)[number % 2], kind=f"k-{number}") for number in range(1_200)]
    updates = [update(session, number) for number in range(1_200)]

    for _ in range(2):
        await state_store.save_events(events)
        await state_store.save_updates(updates)
    await state_store.save_events([])

    assert await kinds(state_store, one) == [f"k-{number}" for number in range(0, 1_200, 2)]
    assert await kinds(state_store, other) == [f"k-{number}" for number in range(1, 1_200, 2)]
    assert [found.content for found in await state_store.list_updates(session, limit=0)] == list(range(1_200))


@judges("pages")
@pytest.mark.parametrize("limit", [1, 7, 1_000])
async def test_pages_give_each_once_and_skip_none(state_store: Any, limit: int) -> None:
    trace, session = fresh(), fresh()
    assert (await state_store.page_updates(session)).updates == []
    for number in range(30):
        await state_store.save_event(event(trace, kind=f"k-{number}", ts=float(-number)))
        await state_store.save_update(update(session, number))

    histories, updates, places = [], [], [None, None]
    while True:
        history = await state_store.page_history(trace, after=places[0], limit=limit)
        page = await state_store.page_updates(session, after=places[1], limit=limit)
        assert len(history.events) <= limit and len(page.updates) <= limit
        places = [history.next, page.next]
        histories += [found.kind for found in history.events]
        updates += [found.content for found in page.updates]
        if not history.events and not page.updates:
            break

    assert histories == [f"k-{number}" for number in range(30)]
    assert updates == list(range(30))
    await state_store.save_update(update(session, 30))
    assert [found.content for found in (await state_store.page_updates(session, after=places[1])).updates] == [30]
