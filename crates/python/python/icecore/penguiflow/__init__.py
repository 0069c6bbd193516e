"""Penguiflow's state store on Icecore: every capability of its protocol, on every storage system.

It needs the package ``penguiflow``, 3.6 or later.
"""

try:
    import penguiflow.state  # noqa: F401
except ImportError as error:
    raise ImportError(
        "icecore.penguiflow needs the package penguiflow, 3.6 or later: pip install penguiflow"
    ) from error

from ._admin import create_store
from ._artifact_store import ArtifactStore
from ._durable import durable
from ._extensions import (
    EXTENSIONS,
    Capabilities,
    DeletedSession,
    ExpiredSessions,
    GrownLog,
    Growth,
    KeptSession,
    KeptSessionPage,
    KindGrowth,
)
from ._flows import HistoryPage
from ._planner import CheckedMemory, StateConflictError, VersionedState
from ._resume import resume, run
from ._state_store import GROUPS, StateStore
from ._tasks import UpdatePage

__all__ = [
    "EXTENSIONS",
    "GROUPS",
    "ArtifactStore",
    "Capabilities",
    "CheckedMemory",
    "DeletedSession",
    "ExpiredSessions",
    "Growth",
    "GrownLog",
    "HistoryPage",
    "KeptSession",
    "KeptSessionPage",
    "KindGrowth",
    "StateConflictError",
    "StateStore",
    "UpdatePage",
    "VersionedState",
    "create_store",
    "durable",
    "resume",
    "run",
]
