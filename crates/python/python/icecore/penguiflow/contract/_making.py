"""Makes Penguiflow's objects with little to say, under names that no other test has, and waits for stores."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from ._penguiflow import (
    PlannerAction,
    PlannerEvent,
    RemoteBinding,
    StateUpdate,
    SteeringEvent,
    SteeringEventType,
    StoredEvent,
    TaskContextSnapshot,
    TaskState,
    TaskStatus,
    TaskType,
    Trajectory,
    TrajectoryStep,
    UpdateType,
)

T = TypeVar("T")


def fresh(prefix: str = "c") -> str:
    """A name that was never used: a store may hold the data of earlier tests."""
    return f"{prefix}-{uuid.uuid4().hex}"


def event(trace_id: str | None, **fields: Any) -> Any:
    given = {"ts": 1.0, "kind": "node_start", "node_name": "n", "node_id": "n-1", "payload": {}, **fields}
    return StoredEvent(trace_id=trace_id, **given)


def binding(trace_id: str, **fields: Any) -> Any:
    given = {"context_id": None, "task_id": "remote-1", "agent_url": "https://agent.example", **fields}
    return RemoteBinding(trace_id=trace_id, **given)


def task(session_id: str, task_id: str, **fields: Any) -> Any:
    given = {"status": TaskStatus.PENDING, "task_type": TaskType.FOREGROUND, "priority": 0, **fields}
    if "context_snapshot" not in given:
        given["context_snapshot"] = TaskContextSnapshot(session_id="s", task_id="t")
    return TaskState(task_id=task_id, session_id=session_id, **given)


def update(session_id: str, content: Any = None, **fields: Any) -> Any:
    given = {"task_id": "t-1", "update_type": UpdateType.PROGRESS, **fields}
    return StateUpdate(session_id=session_id, content=content, **given)


def steering(session_id: str, payload: Any = None, **fields: Any) -> Any:
    given = {"task_id": "t-1", "event_type": SteeringEventType.USER_MESSAGE, **fields}
    return SteeringEvent(session_id=session_id, payload={"text": "hi"} if payload is None else payload, **given)


def planner_event(event_type: str = "step_start", **fields: Any) -> Any:
    return PlannerEvent(event_type=event_type, **{"ts": 1.0, "trajectory_step": 0, **fields})


def trajectory(query: str = "q", **fields: Any) -> Any:
    return Trajectory(query=query, **fields)


def step(observation: Any = None, **fields: Any) -> Any:
    action = PlannerAction(next_node="search", args={"q": "tea"})
    return TrajectoryStep(action=action, observation=observation, **fields)


async def kinds(store: Any, trace_id: str) -> list[str]:
    return [found.kind for found in await store.load_history(trace_id)]


async def contents(store: Any, session_id: str, **options: Any) -> list[Any]:
    return [found.content for found in await store.list_updates(session_id, **options)]


async def eventually(read: Callable[[], Awaitable[T]], holds: Callable[[T], bool], seconds: float = 10.0) -> T:
    """Reads until it holds or the time is up, and returns the last answer: some writes may become visible later."""
    until = time.monotonic() + seconds
    while True:
        found = await read()
        if holds(found) or time.monotonic() > until:
            return found
        await asyncio.sleep(0.01)


async def settled(store: Any) -> None:
    """Lets a store that buffers write what it has accepted, if it has a name for that."""
    flush = getattr(store, "flush", None)
    if flush is not None:
        await flush()


async def started(calls: Sequence[Coroutine[Any, Any, T]], seconds: float = 60.0) -> list[T]:
    """Starts calls in order, each as a task, as Penguiflow does with updates; returns their answers in that order."""
    async with asyncio.timeout(seconds):
        return await asyncio.gather(*[asyncio.create_task(call) for call in calls])
