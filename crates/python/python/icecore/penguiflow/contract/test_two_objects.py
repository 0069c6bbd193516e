"""Two store objects over the same data, as two workers have them; and one after another, as a restart has."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ._groups import judges, lacks, ours, require
from ._making import (
    binding,
    contents,
    event,
    eventually,
    fresh,
    kinds,
    planner_event,
    settled,
    steering,
    task,
    trajectory,
    update,
)
from ._ours import ONCE
from ._penguiflow import ArtifactScope
from ._plugin import Open, close
from ._streams import Stream


@judges("two objects")
async def test_the_other_sees_what_was_settled(state_store: Any, other_state_store: Any) -> None:
    trace_id = fresh()
    for n in range(20):
        await state_store.save_event(event(trace_id, kind=str(n)))
    await settled(state_store)

    found = await eventually(lambda: kinds(other_state_store, trace_id), lambda found: len(found) == 20)

    assert found == [str(n) for n in range(20)]


@judges("two objects")
async def test_the_same_event_from_both_is_one(state_store: Any, other_state_store: Any) -> None:
    trace_id = fresh()
    for store in (state_store, other_state_store):
        await store.save_event(event(trace_id, payload={"a": 1, "b": 2}))
        await settled(store)

    await eventually(lambda: kinds(other_state_store, trace_id), bool)

    for store in (state_store, other_state_store):
        assert await kinds(store, trace_id) == ["node_start"]


@judges("two objects")
async def test_the_other_sees_a_task_at_once_and_in_its_place(state_store: Any, other_state_store: Any) -> None:
    require(state_store, "tasks")
    session_id = fresh()

    for n in range(6):
        await (state_store, other_state_store)[n % 2].save_task(task(session_id, f"t-{n}"))
    await other_state_store.save_task(task(session_id, "t-0", priority=1))

    for store in (state_store, other_state_store):
        found = await store.list_tasks(session_id)
        assert [(one.task_id, one.priority) for one in found] == [("t-0", 1), *((f"t-{n}", 0) for n in range(1, 6))]


@judges("two objects")
async def test_the_other_sees_steering_at_once(state_store: Any, other_state_store: Any) -> None:
    require(state_store, "steering")
    session_id = fresh()
    sent = [steering(session_id, {"text": str(n)}) for n in range(6)]

    for n, one in enumerate(sent):
        await (state_store, other_state_store)[n % 2].save_steering(one)

    assert list(await state_store.list_steering(session_id)) == sent
    assert list(await other_state_store.list_steering(session_id)) == sent


@judges("two objects")
@ours(ONCE)
@pytest.mark.parametrize("name", ["updates", "steering"])
async def test_what_both_save_is_there_once(state_store: Any, other_state_store: Any, name: str) -> None:
    """After a restart, or at another worker, only the store can know that it is a repeat."""
    require(state_store, name)
    one = Stream(name, state_store)
    other = Stream(name, other_state_store, one.session_id)
    for n in range(10):
        await one.save(one.make(str(n)))
    await settled(state_store)

    for n in range(10):
        await other.save(one.make(str(n)))
    await settled(other_state_store)

    found = await eventually(other.names, lambda found: len(found) >= 10)
    assert found == [str(n) for n in range(10)]


@judges("two objects")
async def test_the_other_takes_the_pause(state_store: Any, other_state_store: Any) -> None:
    require(state_store, "pauses")
    token = fresh()

    await state_store.save_planner_state(token, {"n": 1})

    assert await other_state_store.load_planner_state(token) == {"n": 1}
    assert await state_store.load_planner_state(token) is None


@judges("two objects")
async def test_the_other_finds_the_binding(state_store: Any, other_state_store: Any) -> None:
    require(state_store, "conversations")
    session_id, key = (fresh(), dict[str, Any](trace_id=fresh(), context_id=None, task_id="r-1"))
    what = {"router_session_id": session_id, "agent_url": "a", "remote_skill": "s"}

    await state_store.save_remote_binding(binding(**key, **what))
    await settled(state_store)
    found = await eventually(lambda: other_state_store.find_binding(**what), bool)
    assert found.task_id == "r-1"

    await other_state_store.mark_binding_terminal(**key)
    await settled(other_state_store)
    assert await eventually(lambda: state_store.find_binding(**what), lambda found: found is None) is None


@judges("two objects")
async def test_a_store_that_is_opened_again_has_all_that_was_accepted(
    open_another_state_store: Open, state_stores_share: bool
) -> None:
    if not state_stores_share:
        pytest.skip("each store object has data of its own")
    name, store = fresh(), await open_another_state_store()
    writes: dict[str, Callable[[], Awaitable[None]]] = {
        "events": lambda: store.save_event(event(name)),
        "updates": lambda: store.save_update(update(name, 1)),
        "steering": lambda: store.save_steering(steering(name)),
        "tasks": lambda: store.save_task(task(name, "t-1")),
        "memory": lambda: store.save_memory_state(name, {"n": 1}),
        "pauses": lambda: store.save_planner_state(name, {"n": 1}),
        "trajectories": lambda: store.save_trajectory(name, name, trajectory("q")),
        "planner events": lambda: store.save_planner_event(name, planner_event()),
    }
    written = [capability for capability in writes if lacks(store, capability) is None]
    for capability in written:
        await writes[capability]()

    # Not flushed: a store that buffers must write what it has when it is closed.
    await close(store)
    again = await open_another_state_store()

    reads: dict[str, Callable[[], Awaitable[Any]]] = {
        "events": lambda: kinds(again, name),
        "updates": lambda: contents(again, name),
        "steering": lambda: again.list_steering(name),
        "tasks": lambda: again.list_tasks(name),
        "memory": lambda: again.load_memory_state(name),
        "pauses": lambda: again.load_planner_state(name),
        "trajectories": lambda: again.get_trajectory(name, name),
        "planner events": lambda: again.list_planner_events(name),
    }
    missing = [capability for capability in written if not await eventually(reads[capability], bool, 5.0)]
    assert missing == []


@judges("two objects")
async def test_the_other_has_the_artifacts_and_what_is_deleted_is_gone_for_both(
    state_store: Any, other_state_store: Any
) -> None:
    require(state_store, "artifacts")
    data, scope = fresh().encode(), ArtifactScope(session_id=fresh())
    ref = await state_store.artifact_store.put_bytes(data, filename="first", scope=scope)

    assert await other_state_store.artifact_store.get(ref.id) == data
    assert await other_state_store.artifact_store.get_ref(ref.id) == ref
    assert await other_state_store.artifact_store.put_bytes(data, filename="second", scope=scope) == ref
    assert await other_state_store.artifact_store.delete(ref.id) is True
    assert await state_store.artifact_store.get(ref.id) is None
    assert await state_store.artifact_store.list(scope=scope) == []
