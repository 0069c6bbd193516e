"""The state store, with all its capabilities or without some."""

from __future__ import annotations

from typing import Any

from ._base import Base
from ._flows import Bindings, Events
from ._planner import Memory, Pauses, PlannerEvents, Trajectories
from ._tasks import Steering, Tasks

GROUPS: dict[str, type[Base]] = {
    "bindings": Bindings,
    "pauses": Pauses,
    "memory": Memory,
    "tasks": Tasks,
    "steering": Steering,
    "trajectories": Trajectories,
    "planner_events": PlannerEvents,
}
"""The capabilities that a store may lack."""


class StateStore(Events, Bindings, Pauses, Memory, Tasks, Steering, Trajectories, PlannerEvents):
    """A state store for Penguiflow, over any storage system."""

    @staticmethod
    def without(*groups: str) -> type[Any]:
        """A class like this one that lacks some of :data:`GROUPS`: Penguiflow then does without them."""
        unknown = sorted(set(groups) - GROUPS.keys())
        if unknown:
            raise ValueError(f"no capability is called {', '.join(unknown)}; there are {', '.join(GROUPS)}")
        kept = tuple(group for name, group in GROUPS.items() if name not in groups)
        return type("StateStore", (Events, *kept), {"__module__": __name__})
