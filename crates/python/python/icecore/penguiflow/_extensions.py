"""What Penguiflow does not ask for, and a deployment needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from .._call import wait
from .._errors import RefusedError
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


class KeptSession(NamedTuple):
    """A session of which something is kept."""

    session_id: str | None
    """``None`` if the id has more than 300 bytes, escaped, or is no text: then only its hash is stored."""
    active_at: datetime
    """When something was last saved of it, but for what is kept by trace or in memory."""
    kinds: list[str]
    """What there is: of ``updates``, ``steering``, ``tasks``, ``traces``, ``conversation``, ``artifacts``."""


class KeptSessionPage(NamedTuple):
    """One page of sessions, in no order that means anything."""

    sessions: list[KeptSession]
    next: str | None
    """Where the next page begins. A page may have fewer than were asked for, or none, and another may follow."""


class ExpiredSessions(NamedTuple):
    """What went of idle sessions, or would go."""

    sessions: list[str]
    commits: int
    bytes: int
    artifacts: int
    artifact_bytes: int
    held: list[str]
    """Sessions that stay, since something of them is held."""
    unnamed: int
    """Sessions that stay, since only the hash of their id is stored."""


class KindGrowth(NamedTuple):
    """What all logs of a kind take."""

    kind: str
    """Such as ``updates``, ``memory``, ``artifacts``; also kinds of one's own."""
    logs: int
    commits: int
    bytes: int
    """Headers, bodies, snapshots and content, as they are handed to the storage system."""
    new_commits: int
    new_bytes: int
    """Headers and bodies of commits since then."""


class GrownLog(NamedTuple):
    """A log of which much is new."""

    log: str
    bytes: int
    new_bytes: int


class Growth(NamedTuple):
    """What the tenant's data take, and how they grow."""

    since: datetime
    kinds: list[KindGrowth]
    """Largest first, by what is new."""
    largest: list[GrownLog]
    bytes: int
    new_bytes: int


EXTENSIONS: tuple[str, ...] = (
    "capabilities",
    "checked_memory",
    "delete_session",
    "discard_planner_state",
    "expire_sessions",
    "growth",
    "list_sessions",
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

    async def list_sessions(self, *, after: str | None = None, limit: int = 100) -> KeptSessionPage:
        """A page of at most ``limit`` sessions, 1,000 at the most; ``after`` is the ``next`` of the page before.

        A session is there once an update, steering, a task, a trajectory, a remote conversation or an artifact is saved
        under its id; one that is there throughout is on exactly one page.
        """
        sessions, next = await wait(self._native.list_sessions(after, limit))
        return KeptSessionPage([KeptSession(*session) for session in sessions], next)

    async def expire_sessions(
        self, idle: timedelta | float, *, dry_run: bool = False, timeout: float = 60.0
    ) -> ExpiredSessions:
        """Deletes, one after another, all sessions of which nothing was saved for so long, in seconds if it is a
        number. Each as :meth:`delete_session` does, which ``timeout`` is for.

        Meant for an hourly job. If it is interrupted, call it again. What begins again between the look at a session
        and its turn, in the time that some fifty deletions take, goes too.
        """
        before = datetime.now(UTC) - _length(idle)
        sessions: list[str] = []
        held: list[str] = []
        commits = bytes = artifacts = artifact_bytes = unnamed = 0
        after: str | None = None
        while True:
            page = await self.list_sessions(after=after, limit=50)
            for session, active_at, _ in page.sessions:
                if active_at > before:
                    continue
                if session is None:
                    unnamed += 1
                    continue
                try:
                    gone = await self.delete_session(session, dry_run=dry_run, timeout=timeout)
                except RefusedError as error:
                    if error.fact("hold") is None:
                        raise
                    held.append(session)
                    continue
                sessions.append(session)
                commits += gone.commits
                bytes += gone.bytes
                artifacts += gone.artifacts
                artifact_bytes += gone.artifact_bytes
            after = page.next
            if after is None:
                return ExpiredSessions(sessions, commits, bytes, artifacts, artifact_bytes, held, unnamed)

    async def growth(self, within: timedelta | float = 86_400.0, *, largest: int = 10) -> Growth:
        """What the tenant's data take, by kind, and how much of it is of the last day, or other time, in seconds if it
        is a number; with the logs that grew most. It reads all headers: for a report now and then, not for a request.
        """
        since = datetime.now(UTC) - _length(within)
        kinds, logs = await wait(self._native.growth(since, largest))
        grown = sorted((KindGrowth(*kind) for kind in kinds), key=lambda kind: (-kind.new_bytes, -kind.bytes))
        sums = sum(kind.bytes for kind in grown), sum(kind.new_bytes for kind in grown)
        return Growth(since, grown, [GrownLog(*log) for log in logs], *sums)


def _length(given: timedelta | float) -> timedelta:
    length = given if isinstance(given, timedelta) else timedelta(seconds=given)
    if length < timedelta(0):
        raise ValueError("a length of time is not negative")
    return length
