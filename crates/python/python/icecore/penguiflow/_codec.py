"""Penguiflow's classes, as what is stored and back. Fields that a later Penguiflow adds are stored as well."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any, TypeVar

from penguiflow.planner import PlannerEvent
from penguiflow.state import (
    RemoteBinding,
    StateUpdate,
    SteeringEvent,
    StoredEvent,
    TaskContextSnapshot,
    TaskState,
    TaskStatus,
    TaskType,
)
from pydantic import BaseModel

from .._native import encode_any
from ._values import decode

M = TypeVar("M", bound=BaseModel)


def names(kind: type[Any]) -> tuple[str, ...]:
    """The fields of a dataclass or a model."""
    if is_dataclass(kind):
        return tuple(field.name for field in fields(kind))
    return tuple(kind.model_fields)


BINDING = names(RemoteBinding)
PLANNER_EVENT = names(PlannerEvent)
SNAPSHOT = names(TaskContextSnapshot)
STEERING = names(SteeringEvent)
TASK = names(TaskState)
UPDATE = names(StateUpdate)


def _known(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Without what a later Penguiflow has written, and this one does not know."""
    return {name: values[name] for name in names if name in values}


def event(trace_id: str, item: tuple[bytes, str, str]) -> StoredEvent:
    """An event, asked for under this trace."""
    data, kind, node = item
    values = decode(data)
    return StoredEvent(
        trace_id=values.get("trace_id", trace_id),
        ts=values["ts"],
        kind=values.get("kind", kind),
        node_name=values.get("node_name", node or None),
        node_id=values["node_id"],
        payload=values["payload"],
    )


def planner_event(item: tuple[bytes, str, str]) -> PlannerEvent:
    """An event of a planner."""
    return PlannerEvent(**_known(decode(item[0]), PLANNER_EVENT))


def model(kind: type[M], item: tuple[bytes, str, str]) -> M:
    """An update or a steering event."""
    data = item[0]
    if b'"$' not in data:
        return kind.model_validate_json(data)
    return kind.model_validate(decode(data))


def write_task(task: TaskState) -> bytes:
    """A task, as it is now."""
    values = {name: getattr(task, name) for name in TASK}
    snapshot = task.context_snapshot
    values["context_snapshot"] = {name: getattr(snapshot, name) for name in SNAPSHOT}
    return encode_any(values)


def task(data: bytes) -> TaskState:
    """A task of one's own: whoever gets it changes it."""
    values = _known(decode(data), TASK)
    values["status"] = TaskStatus(values["status"])
    values["task_type"] = TaskType(values["task_type"])
    values["context_snapshot"] = TaskContextSnapshot.model_validate(values["context_snapshot"])
    for name in ("created_at", "updated_at"):
        values[name] = datetime.fromisoformat(values[name])
    return TaskState(**values)


def write_binding(binding: RemoteBinding) -> bytes:
    """A binding."""
    return encode_any({name: getattr(binding, name) for name in BINDING})


def binding(data: bytes) -> RemoteBinding:
    """A binding of one's own."""
    return RemoteBinding(**_known(decode(data), BINDING))
