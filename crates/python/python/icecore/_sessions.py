"""Sessions of a tenant's users."""

from __future__ import annotations

import builtins
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from ._call import wait
from ._log import Log
from ._native import NativeSessions

if TYPE_CHECKING:
    from ._store import Store


class Session(NamedTuple):
    """A session as it was when it was looked at."""

    user: str
    id: str
    status: str
    """``live``, ``expired`` or ``terminated``."""
    created_at: datetime
    touched_at: datetime
    """When it was made, touched, ended, or given or denied a token."""
    idle: timedelta | None
    """After how long without a touch it expires."""
    expires_at: datetime | None
    """When it expires if it is not touched any more."""
    ended_at: datetime | None
    """``None`` as long as it is live."""


class SessionPage(NamedTuple):
    """One page of sessions, newest first."""

    sessions: list[Session]
    next: str | None
    """Where the next page begins. A page may have fewer than were asked for, and another may follow."""


class SessionLimits(NamedTuple):
    """How many live sessions there may be, and how long a new one lasts unless it is said."""

    per_tenant: int | None = None
    per_user: int | None = None
    idle: timedelta | None = None
    lifetime: timedelta | None = None


class Purged(NamedTuple):
    """What a purge took, or would take."""

    sessions: int
    logs: int
    held: int
    """Sessions that a hold keeps: they have ended, and can be purged when it is released."""
    artifacts: int
    """What their users had stored in them."""


class Swept(NamedTuple):
    """What a sweep did."""

    purged: Purged
    repaired: int
    """Entries of lists that say now what became of their sessions."""
    removed: int
    """Entries that led to nothing."""


class IssuedToken(NamedTuple):
    """A token as it was given. It cannot be had again, and ``repr`` does not show it."""

    id: str
    token: str

    def __repr__(self) -> str:
        return f"IssuedToken(id={self.id!r})"


class SessionToken(NamedTuple):
    """What is known of a token that was given."""

    id: str
    label: str
    issued_at: datetime
    expires_at: datetime | None
    """When it opens nothing any more; else it does for as long as the session is live."""


class Sessions:
    """The sessions of one tenant. No call does without the user; ids are any text of 1 to 1,024 bytes.

    Lengths of time are kept in milliseconds.
    """

    __slots__ = ("_native",)

    def __init__(self, store: Store, tenant: str) -> None:
        self._native = NativeSessions(store._native, tenant)

    @property
    def tenant(self) -> str:
        """Whose sessions these are."""
        return self._native.tenant

    async def create(
        self, user: str, id: str, *, idle: timedelta | None = None, lifetime: timedelta | None = None
    ) -> Session:
        """Makes a session: of all that race for an id, in any process, one does, and the others get a conflict.

        What is not said is as the tenant's limits say. An id names one session for ever, also one that has ended.
        """
        made, _ = await wait(self._native.create(user, id, idle, lifetime, False))
        return Session(*made)

    async def get_or_create(
        self, user: str, id: str, *, idle: timedelta | None = None, lifetime: timedelta | None = None
    ) -> tuple[Session, bool]:
        """The live session of this id, which is made if there is none; and whether it was made."""
        session, was_made = await wait(self._native.create(user, id, idle, lifetime, True))
        return Session(*session), was_made

    async def get(self, user: str, id: str) -> Session:
        """A live session; a ``NotFoundError`` if there is none, or it has ended."""
        return Session(*await wait(self._native.get(user, id)))

    async def find(self, user: str, id: str) -> Session | None:
        """A session, also one that has ended; ``None`` if there is none, or it was purged."""
        found = await wait(self._native.find(user, id))
        return None if found is None else Session(*found)

    async def touch(self, user: str, id: str) -> Session:
        """Says that it is being used: it does not expire for as long again as it may be idle."""
        return Session(*await wait(self._native.touch(user, id)))

    async def terminate(self, user: str, id: str, because: str = "") -> Session:
        """Ends a session for good. One that somebody ended before is given as it is."""
        return Session(*await wait(self._native.terminate(user, id, because)))

    async def list(
        self, user: str | None = None, *, after: str | None = None, limit: int = 50, ended: bool = False
    ) -> SessionPage:
        """One page, newest first, of a user or of the tenant; ``after`` is the ``next`` of the page before."""
        sessions, next = await wait(self._native.list(user, after, limit, ended))
        return SessionPage([Session(*session) for session in sessions], next)

    async def purge(self, user: str, id: str, *, dry_run: bool = False) -> Purged:
        """Deletes a session for good, with the user's artifacts in it, or says what would go.

        A ``RefusedError`` if somebody holds its history: it has ended then all the same, unless it was a dry run. What
        Penguiflow keeps of a session stays: see ``icecore.penguiflow.StateStore.delete_session``.
        """
        return Purged(*await wait(self._native.purge(user, id, dry_run)))

    async def purge_all(self, *, user: str | None, dry_run: bool = False) -> Purged:
        """Deletes every session of a user, or with ``None`` of the tenant; or says what would go."""
        return Purged(*await wait(self._native.purge_all(user, dry_run)))

    async def sweep(self, ended_for: timedelta) -> Swept:
        """Purges what ended at least so long ago, and repairs the lists. It looks at every entry of the tenant."""
        purged, repaired, removed = await wait(self._native.sweep(ended_for))
        return Swept(Purged(*purged), repaired, removed)

    async def limits(self) -> SessionLimits:
        """The tenant's limits."""
        return SessionLimits(*await wait(self._native.limits()))

    async def set_limits(self, limits: SessionLimits) -> None:
        """Sets the tenant's limits, for all processes and for sessions that are made from now on."""
        await wait(self._native.set_limits(*limits))

    async def issue_token(self, user: str, id: str, label: str = "", *, ttl: timedelta | None = None) -> IssuedToken:
        """Gives a secret that opens this session and no other, and touches it. The label has at most 256 bytes."""
        return IssuedToken(*await wait(self._native.issue_token(user, id, label, ttl)))

    async def open_token(self, token: str) -> Session:
        """The session that a token opens; a ``NotFoundError``, which does not say why, if it opens none."""
        return Session(*await wait(self._native.open_token(token)))

    async def tokens(self, user: str, id: str) -> builtins.list[SessionToken]:
        """The tokens that were given and not revoked, in order, without their secrets."""
        return [SessionToken(*token) for token in await wait(self._native.tokens(user, id))]

    async def revoke_token(self, user: str, id: str, token_id: str) -> None:
        """Revokes a token by its id: from when this returns it opens nothing."""
        await wait(self._native.revoke_token(user, id, token_id))

    def log(self, user: str, id: str, part: str) -> Log:
        """A log of this session and of no other, whatever its ids are. It is purged with it."""
        return Log(self._native.log(user, id, part))

    def __repr__(self) -> str:
        return f"Sessions({self.tenant!r})"
