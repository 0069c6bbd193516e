"""Updates: Penguiflow starts a task for each, waits for none, and expects them in the order of their start."""

import asyncio
from typing import Any

import pytest

from ._groups import judges
from ._making import contents, fresh, started, update


@judges("updates")
async def test_a_thousand_that_are_started_at_once_are_in_the_order_of_their_start(state_store: Any) -> None:
    session_id = fresh()

    await started([state_store.save_update(update(session_id, n)) for n in range(1_000)])

    assert await contents(state_store, session_id, limit=1_000) == list(range(1_000))


@judges("updates")
async def test_two_sessions_in_turn_are_in_order_each(state_store: Any) -> None:
    sessions = [fresh(), fresh()]

    await started([state_store.save_update(update(sessions[n % 2], n)) for n in range(1_000)])

    found = [await contents(state_store, session_id, limit=1_000) for session_id in sessions]
    assert found == [list(range(0, 1_000, 2)), list(range(1, 1_000, 2))]


@judges("updates")
async def test_large_and_small_ones_are_in_the_order_of_their_start(state_store: Any) -> None:
    session_id = fresh()
    sizes = [200_000 if n % 10 == 0 else 1 for n in range(100)]

    await started([state_store.save_update(update(session_id, [n, "x" * size])) for n, size in enumerate(sizes)])

    assert [n for n, _ in await contents(state_store, session_id)] == list(range(100))


@judges("updates")
async def test_bursts_with_pauses_between_are_in_order(state_store: Any) -> None:
    """What was started a few turns of the loop ago may be anywhere in a store; what comes now must not pass it."""
    session_id, calls = fresh(), []

    for n in range(200):
        calls.append(asyncio.create_task(state_store.save_update(update(session_id, n))))
        for _ in range(n % 4):
            await asyncio.sleep(0)
    await asyncio.gather(*calls)

    assert await contents(state_store, session_id) == list(range(200))


@judges("updates")
async def test_the_caller_s_update_is_read_when_the_call_begins(state_store: Any) -> None:
    session_id = fresh()
    sent = update(session_id, {"a": [1]})

    saving = asyncio.create_task(state_store.save_update(sent))
    await asyncio.sleep(0)
    sent.content["a"].append(2)
    await saving

    assert await contents(state_store, session_id) == [{"a": [1]}]


@judges("updates")
@pytest.mark.parametrize("content", [None, 0, 1.0, "", "text", [], [1, None], {}, True], ids=repr)
async def test_a_content_may_be_any_json(state_store: Any, content: Any) -> None:
    session_id = fresh()
    sent = update(session_id, content, step_index=0, total_steps=3)

    await state_store.save_update(sent)

    assert list(await state_store.list_updates(session_id)) == [sent]
    [found] = await contents(state_store, session_id)
    assert type(found) is type(content)


@judges("older names")
async def test_updates_go_by_their_older_names_too(state_store: Any) -> None:
    session_id = fresh()
    first, second = (update(session_id, 1, task_id="t-1"), update(session_id, 2, task_id="t-2"))

    await state_store.save_task_update(first)
    await state_store.save_update(second)

    assert list(await state_store.list_task_updates(session_id)) == [first, second]
    assert list(await state_store.list_task_updates(session_id, since_id=first.update_id)) == [second]
    assert list(await state_store.list_task_updates(session_id, task_id="t-1", limit=1)) == [first]
    assert list(await state_store.list_updates(session_id)) == [first, second]
