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


class Extensions(Base):
    """Beside every capability."""

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
