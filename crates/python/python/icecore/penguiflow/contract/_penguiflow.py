"""Penguiflow's own names, from one place: it has no types, and its versions differ."""

# mypy: disable-error-code="import-untyped,import-not-found"

import dataclasses

from penguiflow import Headers, Message, Node, NodePolicy, create
from penguiflow import __version__ as VERSION
from penguiflow.admin import main as admin
from penguiflow.artifacts import (
    ArtifactRef,
    ArtifactRetentionConfig,
    ArtifactScope,
    ArtifactStore,
    ScopedArtifacts,
    discover_artifact_store,
)
from penguiflow.catalog import build_catalog, tool
from penguiflow.planner import PlannerEvent, PlannerPause, ReactPlanner, Trajectory
from penguiflow.planner.models import PlannerAction
from penguiflow.planner.trajectory import BackgroundTaskResult, TrajectoryStep, TrajectorySummary
from penguiflow.registry import ModelRegistry
from penguiflow.state import (
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
    protocol,
)
from penguiflow.steering import sanitize_steering_event

# Since 3.11 a binding knows the conversation that it belongs to.
HAS_CONVERSATIONS = "router_session_id" in {field.name for field in dataclasses.fields(RemoteBinding)}

__all__ = [
    "HAS_CONVERSATIONS",
    "VERSION",
    "ArtifactRef",
    "ArtifactRetentionConfig",
    "ArtifactScope",
    "ArtifactStore",
    "BackgroundTaskResult",
    "Headers",
    "Message",
    "ModelRegistry",
    "Node",
    "NodePolicy",
    "PlannerAction",
    "PlannerEvent",
    "PlannerPause",
    "ReactPlanner",
    "RemoteBinding",
    "ScopedArtifacts",
    "StateUpdate",
    "SteeringEvent",
    "SteeringEventType",
    "StoredEvent",
    "TaskContextSnapshot",
    "TaskState",
    "TaskStatus",
    "TaskType",
    "Trajectory",
    "TrajectoryStep",
    "TrajectorySummary",
    "UpdateType",
    "admin",
    "build_catalog",
    "create",
    "discover_artifact_store",
    "protocol",
    "sanitize_steering_event",
    "tool",
]
