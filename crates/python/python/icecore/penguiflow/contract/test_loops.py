"""A store is made where no loop runs, and used from several, in several threads."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from ._groups import judges, ours, require
from ._making import contents, event, eventually, fresh, kinds, task, update
from ._ours import ONE_LOOP
from ._plugin import Factory, opened

Closing = Callable[[Any], Any]


def made(open_state_store: Factory, close_state_stores: Closing) -> Any:
    """A store that is made without a loop, as for an HTTP application; in one, if its factory is a coroutine."""
    store = open_state_store()
    if asyncio.iscoroutine(store):

        async def awaited() -> Any:
            return await store

        return close_state_stores(asyncio.run(awaited()))
    return close_state_stores(store)


def in_threads(*works: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
    """Runs each in a loop and a thread of its own, all at the same time; returns what they return or raise."""
    answers: list[Any] = [None] * len(works)
    ready = threading.Barrier(len(works))

    def run(n: int, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            ready.wait(30)
            answers[n] = asyncio.run(work())
        except Exception as error:
            answers[n] = error

    threads = [threading.Thread(target=run, args=(n, work), daemon=True) for n, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    return answers


@judges("loops")
def test_a_store_that_is_made_without_a_loop_serves_one_after_another(
    open_state_store: Factory, close_state_stores: Closing
) -> None:
    store, trace_id = made(open_state_store, close_state_stores), fresh()

    for n in range(3):
        asyncio.run(store.save_event(event(trace_id, kind=str(n))))

    async def read() -> list[str]:
        return await eventually(lambda: kinds(store, trace_id), lambda found: len(found) == 3)

    assert [asyncio.run(read()) for _ in range(2)] == [["0", "1", "2"]] * 2


@judges("loops")
def test_a_store_that_is_made_in_a_loop_is_used_in_another_thread_s(
    open_state_store: Factory, close_state_stores: Closing
) -> None:
    trace_id = fresh()

    async def make() -> Any:
        store = await opened(open_state_store)
        await store.save_event(event(trace_id))
        return store

    store = close_state_stores(asyncio.run(make()))

    assert in_threads(lambda: kinds(store, trace_id)) == [["node_start"]]


@ours(ONE_LOOP)
@judges("loops")
def test_two_loops_in_two_threads_write_at_the_same_time(
    open_state_store: Factory, close_state_stores: Closing
) -> None:
    store = made(open_state_store, close_state_stores)
    require(store, "updates")
    sessions = [fresh(), fresh()]
    shared = fresh()

    async def write(session_id: str) -> list[Any]:
        for n in range(0, 300, 10):
            updates = [update(session_id, n + m) for m in range(10)]
            events = [event(shared, kind=f"{session_id} {n + m}") for m in range(10)]
            calls = [store.save_update(one) for one in updates] + [store.save_event(one) for one in events]
            await asyncio.gather(*[asyncio.create_task(call) for call in calls])
        return await contents(store, session_id)

    found = in_threads(lambda: write(sessions[0]), lambda: write(sessions[1]))

    assert found == [list(range(300)), list(range(300))]
    assert len(asyncio.run(kinds(store, shared))) == 600


@ours(ONE_LOOP)
@judges("loops")
def test_of_takers_in_two_threads_one_gets_it(open_state_store: Factory, close_state_stores: Closing) -> None:
    store = made(open_state_store, close_state_stores)
    require(store, "pauses")
    for n in range(5):
        token = fresh()
        asyncio.run(store.save_planner_state(token, {"n": n}))

        async def take(token: str = token) -> list[Any]:
            calls = [asyncio.create_task(store.load_planner_state(token)) for _ in range(32)]
            return await asyncio.gather(*calls)

        found = in_threads(take, take)

        assert all(isinstance(answer, list) for answer in found), found
        assert [payload for answer in found for payload in answer if payload is not None] == [{"n": n}]


@ours(ONE_LOOP)
@judges("loops")
def test_tasks_of_two_threads_are_all_there(open_state_store: Factory, close_state_stores: Closing) -> None:
    store = made(open_state_store, close_state_stores)
    require(store, "tasks")
    session_id = fresh()

    async def save(name: str) -> None:
        for n in range(50):
            await store.save_task(task(session_id, f"{name}-{n}"))

    assert in_threads(lambda: save("a"), lambda: save("b")) == [None, None]
    found = [one.task_id for one in asyncio.run(store.list_tasks(session_id))]
    assert sorted(found) == sorted(f"{name}-{n}" for name in "ab" for n in range(50))
    assert [name for name in found if name.startswith("a")] == [f"a-{n}" for n in range(50)]
