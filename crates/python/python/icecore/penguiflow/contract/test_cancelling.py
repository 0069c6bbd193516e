"""Penguiflow cancels its workers while they save: what was accepted is there, and nothing is stuck."""

import asyncio
from typing import Any

import pytest

from ._groups import judges, require
from ._making import event, eventually, fresh, kinds, task, update


async def cancelled_after(steps: int, call: Any) -> bool:
    """Lets a call take some steps, cancels it, and says whether it ended because of that."""
    running = asyncio.create_task(call)
    for _ in range(steps):
        await asyncio.sleep(0)
    was_running = running.cancel()
    async with asyncio.timeout(30):
        await asyncio.wait([running])
    if was_running:
        # A store that swallows this would keep Penguiflow from stopping.
        assert running.cancelled()
    elif not running.cancelled():
        assert running.exception() is None
    return was_running


@judges("events")
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
async def test_an_event_is_stored_although_its_caller_is_cancelled(state_store: Any, steps: int) -> None:
    trace_id = fresh()

    await cancelled_after(steps, state_store.save_event(event(trace_id)))

    assert await eventually(lambda: kinds(state_store, trace_id), bool) == ["node_start"]


@judges("events")
async def test_many_events_are_stored_although_their_callers_are_cancelled(state_store: Any) -> None:
    trace_id = fresh()
    calls = [asyncio.create_task(state_store.save_event(event(trace_id, kind=str(n)))) for n in range(200)]

    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)

    found = await eventually(lambda: kinds(state_store, trace_id), lambda found: len(found) == 200)
    assert sorted(found, key=int) == [str(n) for n in range(200)]


@judges("events")
@pytest.mark.parametrize("steps", range(6))
async def test_after_a_cancelled_call_every_other_goes_on(state_store: Any, steps: int) -> None:
    trace_id = fresh()

    await cancelled_after(steps, state_store.load_history(trace_id))
    await cancelled_after(steps, state_store.save_event(event(trace_id, kind="cancelled")))
    async with asyncio.timeout(30):
        await state_store.save_event(event(trace_id, ts=2.0, kind="after"))
        found = await eventually(lambda: kinds(state_store, trace_id), lambda found: "after" in found)

    assert found in (["after"], ["cancelled", "after"])


@judges("tasks")
@pytest.mark.parametrize("steps", range(6))
async def test_a_cancelled_save_of_a_task_is_there_as_a_whole_or_not_at_all(state_store: Any, steps: int) -> None:
    session_id = fresh()
    first = task(session_id, "t-1", priority=1, result={"a": 1})
    second = task(session_id, "t-1", priority=2, result={"a": 2})
    await state_store.save_task(first)

    await cancelled_after(steps, state_store.save_task(second))
    async with asyncio.timeout(30):
        await state_store.save_task(task(session_id, "t-2"))
        found = await state_store.list_tasks(session_id)

    assert [one.task_id for one in found] == ["t-1", "t-2"]
    assert found[0] in (first, second)


@judges("updates")
async def test_cancelled_updates_do_not_change_the_order_of_the_others(state_store: Any) -> None:
    session_id = fresh()
    calls = [asyncio.create_task(state_store.save_update(update(session_id, n))) for n in range(300)]

    await asyncio.sleep(0)
    for call in calls[::3]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)

    found = [one.content for one in await state_store.list_updates(session_id)]
    done = [n for n, answer in enumerate(answers) if answer is None]
    assert found == sorted(set(found))
    assert set(done) <= set(found)


@judges("pauses")
@pytest.mark.parametrize("steps", range(6))
async def test_a_cancelled_save_of_a_pause_leaves_nothing_stuck(state_store: Any, steps: int) -> None:
    require(state_store, "pauses")
    token = fresh()

    await cancelled_after(steps, state_store.save_planner_state(token, {"n": 1}))
    async with asyncio.timeout(30):
        await state_store.save_planner_state(token, {"n": 2})
        found = [await state_store.load_planner_state(token) for _ in range(2)]

    assert found == [{"n": 2}, None]
