"""Calls of a state store, made at random, and Penguiflow's own store, but for what ours does otherwise on purpose."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from penguiflow.planner import PlannerEvent, Trajectory
from penguiflow.planner.models import PlannerAction
from penguiflow.planner.trajectory import TrajectoryStep
from penguiflow.state import (
    InMemoryStateStore,
    RemoteBinding,
    StateUpdate,
    SteeringEvent,
    SteeringEventType,
    StoredEvent,
    TaskContextSnapshot,
    TaskState,
    TaskStatus,
    TaskType,
    UpdateType,
)

Call: TypeAlias = Callable[[Any], Coroutine[Any, Any, Any]]
"""What is done with a store, to be done with another one as well."""

HAS_CONVERSATIONS = hasattr(InMemoryStateStore, "find_binding")
"""Since Penguiflow 3.11."""


class Reference(InMemoryStateStore):  # type: ignore[misc]
    """Penguiflow's store, with our differences from it: ``docs/guide/penguiflow.md`` lists them."""

    def __init__(self) -> None:
        super().__init__()
        self.known: set[tuple[str, str, str]] = set()

    async def save_update(self, update: StateUpdate) -> None:
        # A repeat is not there twice.
        if self._is_new("update", update.session_id, update.update_id):
            await super().save_update(update)

    async def save_steering(self, event: SteeringEvent) -> None:
        if self._is_new("steering", event.session_id, event.event_id):
            await super().save_steering(event)

    def _is_new(self, *name: str) -> bool:
        is_new = name not in self.known
        self.known.add(name)  # type: ignore[arg-type]
        return is_new

    # A trajectory belongs to its trace and session.

    async def save_trajectory(self, trace_id: str, session_id: str, trajectory: Trajectory) -> None:
        await super().save_trajectory(f"{session_id}|{trace_id}", session_id, trajectory)

    async def get_trajectory(self, trace_id: str, session_id: str) -> Trajectory | None:
        found: Trajectory | None = await super().get_trajectory(f"{session_id}|{trace_id}", session_id)
        return found

    async def list_traces(self, session_id: str, limit: int = 50) -> list[str]:
        return [name.partition("|")[2] for name in await super().list_traces(session_id, limit)]


class Calls:
    """Calls that meet one another: few names, and of those that write most what is new."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.number = 0
        self.saved: list[Call] = []
        self.makers = [
            *[self.event] * 4,
            *[self.update, self.steering, self.task, self.trajectory, self.planner_event, self.binding] * 2,
            *[self.pause, self.memory, self.again],
        ]

    def name(self, kind: str) -> str:
        return f"{kind}/{self.rng.randrange(3)}"

    def some(self, values: list[Any]) -> Any:
        return self.rng.choice(values)

    def value(self, depth: int = 0) -> Any:
        """Any value that JSON has a word for; the number makes most of them new."""
        self.number += 1
        rng = self.rng
        kind = rng.randrange(8 if depth < 4 else 6)
        if kind == 6:
            return [self.value(depth + 1) for _ in range(rng.randrange(4))]
        if kind == 7:
            names = ["", "$", "$dict", "$bytes", "a", "é", "\0", f"{self.number}"]
            return {rng.choice(names): self.value(depth + 1) for _ in range(rng.randrange(4))}
        return [
            self.number,
            rng.choice([None, True, False]),
            rng.uniform(-1e9, 1e9),
            rng.choice([0.0, -0.0, 1.0, 5e-324, 1e300, 2**53 + 1, -(2**63), 2**80]),
            f"text {self.number}",
            "".join(rng.choice('aé😀\0"\\\n$\u2028') for _ in range(rng.randrange(20))),
        ][kind]

    def object(self) -> dict[str, Any]:
        return {"number": self.number, "value": self.value(), self.some(["a", "$", "b"]): self.value()}

    def time(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.rng.randrange(10**12))

    # What writes.

    def event(self) -> Call:
        trace = self.some([None, "__global__", *(f"trace/{n}" for n in range(3))])
        kind, node = self.some(["node_start", "", "icecore.x", "e"]), self.some([None, "", "node", "é"])
        time = self.some([0.0, 1.5, 1e9, 1.5e9 + self.rng.random(), -3.0])
        event = StoredEvent(trace, time, kind, node, self.some([None, "n-1"]), self.object())
        return lambda store: store.save_event(deepcopy(event))

    def update(self) -> Call:
        update = StateUpdate(
            session_id=self.name("session"),
            task_id=self.name("task"),
            trace_id=self.some([None, "trace"]),
            update_id=f"{self.rng.randrange(60)}",
            update_type=self.some(list(UpdateType)),
            content=self.value(),
            step_index=self.some([None, 0, 7]),
            created_at=self.time(),
        )
        return lambda store: store.save_update(update.model_copy(deep=True))

    def steering(self) -> Call:
        long = {"list": list(range(60)), "text": "é" * 5_000}
        event = SteeringEvent(
            session_id=self.name("session"),
            task_id=self.name("task"),
            event_id=f"{self.rng.randrange(60)}",
            event_type=self.some(list(SteeringEventType)),
            payload=self.some([self.object(), self.object(), long]),
            created_at=self.time(),
        )
        return lambda store: store.save_steering(event.model_copy(deep=True))

    def task(self) -> Call:
        session, name = self.name("session"), self.name("task")
        snapshot = TaskContextSnapshot(
            session_id=session,
            task_id=name,
            spawned_at=self.time(),
            context_version=self.some([None, 0, 3]),
            llm_context=self.object(),
            artifacts=[self.object()],
        )
        task = TaskState(
            task_id=name,
            session_id=session,
            status=self.some(list(TaskStatus)),
            task_type=self.some(list(TaskType)),
            priority=self.rng.randrange(5),
            context_snapshot=snapshot,
            result=self.value(),
            # Of an empty one Penguiflow's store makes None.
            progress=self.some([None, self.object()]),
            created_at=self.time(),
            updated_at=self.time(),
        )
        return lambda store: store.save_task(deepcopy(task))

    def trajectory(self) -> Call:
        trace, session = self.name("trace"), self.name("session")
        action = PlannerAction(next_node="search", args=self.object())
        trajectory = Trajectory(query=f"{self.number}", steps=[TrajectoryStep(action=action, observation=self.value())])
        return lambda store: store.save_trajectory(trace, session, trajectory)

    def planner_event(self) -> Call:
        trace, step, extra = self.name("trace"), self.rng.randrange(9), self.object()
        event = PlannerEvent(event_type=self.some(["step_start", "", "e"]), ts=1.5, trajectory_step=step, extra=extra)
        return lambda store: store.save_planner_event(trace, deepcopy(event))

    def binding(self) -> Call:
        task = self.rng.randrange(6)
        key = {"trace_id": f"trace/{task % 2}", "context_id": self.some([None, "c"]), "task_id": f"{task}"}
        if not HAS_CONVERSATIONS:
            binding = RemoteBinding(**key, agent_url="agent")
            return lambda store: store.save_remote_binding(binding)
        if self.rng.random() < 0.3:
            return lambda store: store.mark_binding_terminal(**key)
        fields = {name: self.some([None, None, "a"]) for name in ("tenant_id", "user_id")}
        fields |= {
            "remote_skill": self.some([None, "a", "a", "a"]),
            "is_terminal": self.rng.random() < 0.2,
            "metadata": self.object(),
        }
        # It stays in its session: of one that moves and comes back Penguiflow's store remembers its first place.
        session = f"session/{task % 3}" if task < 5 else None
        binding = RemoteBinding(**key, agent_url="agent", router_session_id=session, **fields)
        return lambda store: store.save_remote_binding(deepcopy(binding))

    def pause(self) -> Call:
        token, payload = self.name("token"), self.object()
        return lambda store: store.save_planner_state(token, deepcopy(payload))

    def memory(self) -> Call:
        key, state = self.name("key"), self.object()
        return lambda store: store.save_memory_state(key, deepcopy(state))

    def again(self) -> Call:
        return self.some(self.saved) if self.saved else self.event()

    def write(self) -> Call:
        call: Call = self.some(self.makers)()
        self.saved.append(call)
        return call

    def burst(self) -> Call:
        """Calls that begin one after the other, and of which none waits for another."""
        calls = [self.write() for _ in range(self.rng.randrange(2, 12))]

        async def all_at_once(store: Any) -> None:
            await asyncio.gather(*[asyncio.create_task(call(store)) for call in calls])

        return all_at_once

    # What reads.

    def read(self) -> Call:
        session, task, trace = self.name("session"), self.some([None, self.name("task")]), self.name("trace")
        which = {"task_id": task, "since_id": self.some([None, "", "nobody", f"{self.rng.randrange(60)}"])}
        which["limit"] = self.some([0, 1, 3, 500])
        reads: list[Call] = [
            lambda store: store.load_history(self_or_global),
            lambda store: store.list_updates(session, **which),
            lambda store: store.list_steering(session, **which),
            lambda store: store.list_tasks(session),
            lambda store: store.get_trajectory(trace, session),
            lambda store: store.list_traces(session, which["limit"]),
            lambda store: store.list_planner_events(trace),
            lambda store: store.load_planner_state(token),
            lambda store: store.load_memory_state(key),
        ]
        self_or_global, token, key = self.some(["__global__", trace, trace]), self.name("token"), self.name("key")
        if HAS_CONVERSATIONS:
            asked = {"router_session_id": session, "agent_url": "agent", "remote_skill": "a"}
            asked |= {name: self.some([None, None, "a"]) for name in ("tenant_id", "user_id")}
            reads.append(lambda store: store.list_bindings(router_session_id=session))
            reads += [lambda store: store.find_binding(**asked)] * 2
        return self.some(reads)  # type: ignore[no-any-return]
