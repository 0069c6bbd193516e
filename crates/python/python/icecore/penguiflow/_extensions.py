"""What Penguiflow does not ask for, and a deployment needs."""

from __future__ import annotations

from typing import NamedTuple

from .._call import wait
from ._base import Base


class DeletedSession(NamedTuple):
    """What went of a session, or would go, as it was when it was looked for."""

    logs: dict[str, int]
    """How many logs had something of it, by kind."""
    commits: int
    bytes: int
    """Of these commits."""
    artifacts: int
    artifact_bytes: int
    shared_traces: list[str]
    """Traces that another session has too, or that belong to none: only what is this session's own goes."""
    unsure_memory: list[str]
    """Keys of memory that may be this session's, and may be another's: it stays."""
    hashed_memory: int
    """Memory of the tenant under keys so long that they are stored as hashes: whose it is cannot be told. It stays."""


EXTENSIONS: tuple[str, ...] = (
    "capabilities",
    "checked_memory",
    "delete_session",
    "discard_planner_state",
    "load_memory_state_with_etag",
    "page_history",
    "page_updates",
    "save_events",
    "save_memory_state_if",
    "save_updates",
    "update_memory_state",
)
"""The calls that Penguiflow's protocol does not have."""


class Capabilities(NamedTuple):
    """What a state store can do, and what it promises."""

    groups: frozenset[str]
    """The capabilities of Penguiflow's protocol that it has, by their names in :data:`GROUPS`; and ``events``."""
    extensions: frozenset[str]
    """The calls beyond it, of :data:`EXTENSIONS`."""
    system: str
    """The storage system, for people."""
    durability: str
    """What is durable survives ``process``: nothing; ``machine``: the death of every process; ``disk``: a loss of
    power; ``replicated``: the loss of a machine."""
    saves: str
    """Whether events, updates, planner events and trajectories are ``durable`` when their call returns, or
    ``buffered``: then :meth:`StateStore.flush` waits for that. All else is durable when it answers."""
    many_writers: bool
    """Whether several processes may write at once."""
    atomic_create: bool
    """Whether transactions over several logs are possible."""
    read_only: bool
    commit_bytes_max: int
    """The most that one commit holds."""
    timeout: float
    """No call takes longer, in seconds, but for those that have a ``timeout``."""


class Extensions(Base):
    """Beside every capability."""

    async def capabilities(self) -> Capabilities:
        """What this store can do, and what it promises: for a check when a program starts."""
        from ._state_store import GROUPS

        groups = frozenset({"events", *(name for name, group in GROUPS.items() if isinstance(self, group))})
        extensions = frozenset(name for name in EXTENSIONS if hasattr(self, name))
        of_system = await wait(self._native.capabilities())
        system, durability, many_writers, atomic_create, read_only, commit_bytes_max = of_system
        return Capabilities(
            groups=groups,
            extensions=extensions,
            system=system,
            durability=durability,
            saves=self._durability,
            many_writers=many_writers,
            atomic_create=atomic_create,
            read_only=read_only,
            commit_bytes_max=commit_bytes_max,
            timeout=self._timeout,
        )

    async def delete_session(self, session_id: str, *, dry_run: bool = False, timeout: float = 60.0) -> DeletedSession:
        """Deletes all that is kept of a session: tasks, updates, steering, its traces with all that is kept of them,
        memory, session values, remote conversations, artifacts. Within a tenant an id is the session, whoever its user
        is. There may be a session of this id again; an update or event that is saved again under its id stays deleted.

        If something of it is held, nothing goes, and it is a ``RefusedError``. If it is interrupted, or takes longer
        than ``timeout`` seconds, call it again.
        """
        await self._handed_over(timeout)
        await self._settle_artifacts()
        return DeletedSession(*await wait(self._native.delete_session(session_id, dry_run, timeout)))
