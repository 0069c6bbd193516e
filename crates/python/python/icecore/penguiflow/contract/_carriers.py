"""The places where Penguiflow's callers may put any value: each saves one, and reads it back."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ._making import binding, event, fresh, planner_event, step, task, trajectory, update
from ._penguiflow import TaskContextSnapshot


@dataclass(frozen=True)
class Carrier:
    name: str
    capability: str
    carry: Callable[[Any, Any], Awaitable[Any]]


async def in_event(store: Any, value: Any) -> Any:
    trace_id = fresh()
    await store.save_event(event(trace_id, payload={"v": value}))
    [found] = await store.load_history(trace_id)
    return found.payload["v"]


async def in_binding(store: Any, value: Any) -> Any:
    session_id = fresh()
    await store.save_remote_binding(binding(fresh(), router_session_id=session_id, metadata={"v": value}))
    [found] = await store.list_bindings(router_session_id=session_id)
    return found.metadata["v"]


async def in_pause(store: Any, value: Any) -> Any:
    token = fresh()
    await store.save_planner_state(token, {"trajectory": {"query": "q"}, "payload": {"v": value}})
    found = await store.load_planner_state(token)
    assert same_keys(found, ["trajectory", "payload"])
    return found["payload"]["v"]


async def in_memory(store: Any, value: Any) -> Any:
    key = fresh()
    await store.save_memory_state(key, {"version": 1, "v": value})
    found = await store.load_memory_state(key)
    assert same_keys(found, ["version", "v"])
    return found["v"]


async def in_task_result(store: Any, value: Any) -> Any:
    session_id = fresh()
    await store.save_task(task(session_id, "t-1", result=value))
    [found] = await store.list_tasks(session_id)
    return found.result


async def in_task_progress(store: Any, value: Any) -> Any:
    session_id = fresh()
    await store.save_task(task(session_id, "t-1", progress={"v": value}))
    [found] = await store.list_tasks(session_id)
    return found.progress["v"]


async def in_task_context(store: Any, value: Any) -> Any:
    session_id = fresh()
    snapshot = TaskContextSnapshot(session_id=session_id, task_id="t-1", llm_context={"v": value})
    await store.save_task(task(session_id, "t-1", context_snapshot=snapshot))
    [found] = await store.list_tasks(session_id)
    return found.context_snapshot.llm_context["v"]


async def in_update(store: Any, value: Any) -> Any:
    session_id = fresh()
    await store.save_update(update(session_id, {"v": value}))
    [found] = await store.list_updates(session_id)
    return found.content["v"]


async def in_trajectory(store: Any, value: Any) -> Any:
    trace_id, session_id = fresh(), fresh()
    await store.save_trajectory(trace_id, session_id, trajectory(metadata={"v": value}))
    found = await store.get_trajectory(trace_id, session_id)
    return found.metadata["v"]


async def in_observation(store: Any, value: Any) -> Any:
    trace_id, session_id = fresh(), fresh()
    await store.save_trajectory(trace_id, session_id, trajectory(steps=[step({"v": value})]))
    found = await store.get_trajectory(trace_id, session_id)
    return found.steps[0].observation["v"]


async def in_planner_event(store: Any, value: Any) -> Any:
    trace_id = fresh()
    await store.save_planner_event(trace_id, planner_event(extra={"v": value}))
    [found] = await store.list_planner_events(trace_id)
    return found.extra["v"]


def same_keys(found: Any, keys: list[str]) -> bool:
    return isinstance(found, dict) and sorted(found) == sorted(keys)


CARRIERS = (
    Carrier("event", "events", in_event),
    Carrier("binding", "conversations", in_binding),
    Carrier("pause", "pauses", in_pause),
    Carrier("memory", "memory", in_memory),
    Carrier("task result", "tasks", in_task_result),
    Carrier("task progress", "tasks", in_task_progress),
    Carrier("task context", "tasks", in_task_context),
    Carrier("update", "updates", in_update),
    Carrier("trajectory", "trajectories", in_trajectory),
    Carrier("observation", "trajectories", in_observation),
    Carrier("planner event", "planner events", in_planner_event),
)
