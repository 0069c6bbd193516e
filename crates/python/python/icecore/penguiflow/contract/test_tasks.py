"""What a session knows about its tasks."""

import asyncio
import dataclasses
import datetime
from typing import Any

import pytest

from ._groups import judges, ours
from ._making import fresh, started, task
from ._ours import EMPTY_PROGRESS, SHALLOW
from ._penguiflow import TaskContextSnapshot, TaskState, TaskStatus, TaskType


def snapshot(**fields: Any) -> Any:
    return TaskContextSnapshot(session_id="s", task_id="t", **fields)


@judges("tasks")
@pytest.mark.parametrize("status", list(TaskStatus))
@pytest.mark.parametrize("task_type", list(TaskType))
async def test_a_task_comes_back_with_every_field(state_store: Any, status: Any, task_type: Any) -> None:
    session_id = fresh()
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, datetime.UTC)
    sent = TaskState(
        task_id="t-1",
        session_id=session_id,
        status=status,
        task_type=task_type,
        priority=-3,
        context_snapshot=TaskContextSnapshot(
            session_id=session_id,
            task_id="t-1",
            trace_id="tr",
            spawned_from_task_id="t-0",
            spawned_from_event_id="e",
            spawned_at=when,
            spawn_reason="why",
            query="q",
            propagate_on_cancel="isolate",
            notify_on_complete=False,
            context_version=7,
            context_hash="0a",
            llm_context={"a": [1, {"b": None}]},
            tool_context={"tenant_id": "acme"},
            memory={"version": 1},
            artifacts=[{"id": "art_1"}],
        ),
        trace_id="tr",
        result={"answer": [1, 1.0, None]},
        error="no",
        description="ü",
        progress={"label": "half", "current": 1},
        created_at=when,
        updated_at=when + datetime.timedelta(microseconds=1),
    )

    await state_store.save_task(sent)

    [found] = await state_store.list_tasks(session_id)
    assert found == sent
    assert isinstance(found, TaskState) and isinstance(found.context_snapshot, TaskContextSnapshot)
    assert (found.status, found.task_type) == (status, task_type)
    assert isinstance(found.status, TaskStatus) and isinstance(found.task_type, TaskType)
    assert found.created_at.utcoffset() == datetime.timedelta(0)


@judges("tasks")
async def test_a_task_that_says_little_comes_back_equal(state_store: Any) -> None:
    session_id = fresh()
    sent = task(session_id, "t-1")

    await state_store.save_task(sent)

    [found] = await state_store.list_tasks(session_id)
    assert found == sent
    assert (found.context_snapshot.context_version, found.context_snapshot.context_hash) == (None, None)
    assert (found.result, found.error, found.progress, found.trace_id) == (None, None, None, None)


@judges("tasks")
@pytest.mark.parametrize("result", [0, False, "", [], {}, 1.0, "null", [None]], ids=repr)
async def test_a_result_that_is_nearly_nothing_is_kept(state_store: Any, result: Any) -> None:
    session_id = fresh()

    await state_store.save_task(task(session_id, "t-1", result=result))

    [found] = await state_store.list_tasks(session_id)
    assert (type(found.result), found.result) == (type(result), result)


@ours(EMPTY_PROGRESS)
@judges("tasks")
async def test_an_empty_progress_is_not_a_missing_one(state_store: Any) -> None:
    session_id = fresh()

    await state_store.save_task(task(session_id, "t-1", progress={}))

    [found] = await state_store.list_tasks(session_id)
    assert found.progress == {}


@judges("tasks")
async def test_a_session_that_nobody_knows_has_an_empty_list(state_store: Any) -> None:
    assert await state_store.list_tasks(fresh()) == []


@judges("tasks")
async def test_tasks_are_in_order_of_their_first_save(state_store: Any) -> None:
    """Penguiflow takes the last foreground task of the list for the current one."""
    session_id = fresh()
    names = ["c", "a", "10", "9", "b"]

    for name in names:
        await state_store.save_task(task(session_id, name))
    for name in reversed(names):
        await state_store.save_task(task(session_id, name, status=TaskStatus.RUNNING))

    found = await state_store.list_tasks(session_id)
    assert [(one.task_id, one.status) for one in found] == [(name, TaskStatus.RUNNING) for name in names]


@judges("tasks")
async def test_two_sessions_may_have_a_task_of_one_name(state_store: Any) -> None:
    first, second = fresh(), fresh()

    await state_store.save_task(task(first, "foreground", priority=1))
    await state_store.save_task(task(second, "foreground", priority=2))

    found = [await state_store.list_tasks(session_id) for session_id in (first, second)]
    assert [[(one.session_id, one.priority) for one in tasks] for tasks in found] == [[(first, 1)], [(second, 2)]]


@judges("tasks")
async def test_of_saves_in_flight_the_last_one_wins(state_store: Any) -> None:
    for _ in range(20):
        session_id = fresh()
        running = task(session_id, "t-1", status=TaskStatus.RUNNING)
        complete = dataclasses.replace(running, status=TaskStatus.COMPLETE)

        await started([state_store.save_task(running), state_store.save_task(complete)])

        [found] = await state_store.list_tasks(session_id)
        assert found.status == TaskStatus.COMPLETE


@judges("tasks")
async def test_of_many_saves_in_flight_the_last_one_of_each_task_wins(state_store: Any) -> None:
    session_id = fresh()
    calls = [task(session_id, f"t-{n % 4}", priority=n) for n in range(200)]

    await started([state_store.save_task(call) for call in calls])

    found = await state_store.list_tasks(session_id)
    assert [(one.task_id, one.priority) for one in found] == [(f"t-{n}", 196 + n) for n in range(4)]


@judges("tasks")
async def test_the_caller_s_task_is_read_when_the_call_begins(state_store: Any) -> None:
    """A `TaskState` is changed by its session while a save of it may be under way."""
    session_id = fresh()
    sent = task(session_id, "t-1", progress={"n": 1}, context_snapshot=snapshot(llm_context={"a": [1]}))

    saving = asyncio.create_task(state_store.save_task(sent))
    await asyncio.sleep(0)
    sent.update_status(TaskStatus.FAILED)
    sent.progress["n"] = 2
    sent.context_snapshot.llm_context["a"].append(2)
    await saving

    [found] = await state_store.list_tasks(session_id)
    assert (found.status, found.progress) == (TaskStatus.PENDING, {"n": 1})
    assert found.context_snapshot.llm_context == {"a": [1]}


@judges("tasks")
async def test_what_callers_and_readers_change_changes_no_task(state_store: Any) -> None:
    session_id = fresh()
    sent = task(session_id, "t-1", progress={"n": 1}, context_snapshot=snapshot(llm_context={"a": [1]}))
    await state_store.save_task(sent)

    [found] = await state_store.list_tasks(session_id)
    for changed in (sent, found):
        changed.status = TaskStatus.FAILED
        changed.priority = 99
        changed.progress["n"] = 2
        changed.context_snapshot.query = "changed"
        changed.context_snapshot.llm_context["a"].append(2)

    [again] = await state_store.list_tasks(session_id)
    assert (again.status, again.priority, again.progress) == (TaskStatus.PENDING, 0, {"n": 1})
    assert (again.context_snapshot.query, again.context_snapshot.llm_context) == (None, {"a": [1]})


@ours(SHALLOW)
@judges("tasks")
@pytest.mark.parametrize("who", ["caller", "reader"])
async def test_what_is_deep_within_result_and_progress_is_the_store_s_own(state_store: Any, who: str) -> None:
    session_id = fresh()
    sent = task(session_id, "t-1", result={"a": [1]}, progress={"a": [1]})
    await state_store.save_task(sent)

    changed = sent if who == "caller" else (await state_store.list_tasks(session_id))[0]
    changed.result["a"].append(2)
    changed.progress["a"].append(2)

    [found] = await state_store.list_tasks(session_id)
    assert (found.result, found.progress) == ({"a": [1]}, {"a": [1]})
