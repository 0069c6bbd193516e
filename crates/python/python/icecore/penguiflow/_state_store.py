"""The state store, with all its capabilities or without some."""

from __future__ import annotations

from typing import Any

from ._artifact_store import ArtifactStore
from ._base import Base
from ._extensions import Extensions
from ._flows import Bindings, Events
from ._planner import Memory, Pauses, PlannerEvents, Trajectories
from ._tasks import Steering, Tasks


class Artifacts(Base):
    """Content beside all this."""

    @property
    def artifact_store(self) -> ArtifactStore:
        """The artifacts of this tenant: one object, made when it is first asked for."""
        if self._artifacts is None:
            native = self._icecore._native
            self._artifacts = ArtifactStore(native, self._tenant, self._artifact_retention, self._timeout)
        return self._artifacts


GROUPS: dict[str, type[Base]] = {
    "bindings": Bindings,
    "pauses": Pauses,
    "memory": Memory,
    "tasks": Tasks,
    "steering": Steering,
    "trajectories": Trajectories,
    "planner_events": PlannerEvents,
    "artifacts": Artifacts,
}
"""The capabilities that a store may lack."""


class StateStore(Events, Bindings, Pauses, Memory, Tasks, Steering, Trajectories, PlannerEvents, Artifacts, Extensions):
    """A state store for Penguiflow, over any storage system."""

    @staticmethod
    def without(*groups: str) -> type[Any]:
        """A class like this one that lacks some of :data:`GROUPS`: Penguiflow then does without them."""
        unknown = sorted(set(groups) - GROUPS.keys())
        if unknown:
            raise ValueError(f"no capability is called {', '.join(unknown)}; there are {', '.join(GROUPS)}")
        kept = tuple(group for name, group in GROUPS.items() if name not in groups)
        return type("StateStore", (Events, *kept, Extensions), {"__module__": __name__})
