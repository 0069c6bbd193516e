"""Durable queues."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias, cast

from ._call import wait
from ._native import DeadLetter, Leased, NativeQueue, NativeStore, QueueStatistics

_What: TypeAlias = Literal["dead", "waiting", "all"]
"""Dead letters; what waits to be given out; everything, also what workers have."""

_NONE = timedelta()


@dataclass(frozen=True, slots=True)
class Message:
    """A message to put. ``payload`` is any value that JSON has, or ``bytes`` of JSON text, kept as they are."""

    id: str
    payload: Any
    delay: timedelta = _NONE
    attempts_max: int | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """What became of a message: its id and number, and whether it was there before."""

    id: str
    number: int
    repeated: bool


@dataclass(frozen=True, slots=True)
class PurgedMessages:
    """What was deleted, or would be."""

    messages: int
    bytes: int


class Queue:
    """Messages that one worker at a time is given, until one says that it is done. Made by :meth:`Store.queue`.

    Each is given out at least once: again, if its worker is not heard of until its lease ends, or gives it back; and
    after ``attempts_max`` times it is a dead letter. Each lease has a fence, higher than all before it in this queue.
    Whoever was given a message before somebody else was can change nothing of it any more: a ConflictError.
    """

    __slots__ = ("__weakref__", "_native")

    def __init__(self, store: NativeStore, tenant: str, name: str) -> None:
        self._native = NativeQueue(store, tenant, name)

    @property
    def tenant(self) -> str:
        """The tenant."""
        return self._native.tenant

    @property
    def name(self) -> str:
        """Its name."""
        return self._native.name

    def __repr__(self) -> str:
        return f"Queue({self.tenant!r}, {self.name!r})"

    async def put(
        self, payload: Any, id: str | None = None, *, delay: timedelta = _NONE, attempts_max: int | None = None
    ) -> Put:
        """Puts a message; without an ``id`` under one that no other has.

        With one a retry is harmless: what is there, or was done within the last day, is not put again. If it says
        something else, that is a ConflictError. It is given out ``delay`` later, at most ``attempts_max`` times.
        """
        if id is None:
            id = secrets.token_hex(16)
        [put] = await self.put_all([Message(id, payload, delay, attempts_max)])
        return put

    async def put_all(self, messages: Iterable[Message]) -> list[Put]:
        """Puts up to 1,000 messages in this order, all of them or none."""
        messages = list(messages)
        given = [(one.id, one.payload, one.delay, one.attempts_max) for one in messages]
        put = await wait(self._native.put(given))
        return [Put(one.id, number, repeated) for one, (number, repeated) in zip(messages, put, strict=True)]

    async def lease(
        self, limit: int = 1, length: timedelta = timedelta(minutes=5), wait_for: timedelta = _NONE
    ) -> list[Leased]:
        """The first messages that are ready, at most 1,000, which nobody else is given for so long.

        If none is ready it waits for one, for at most ``wait_for``. A call that is cancelled may have been given some:
        they come back when their lease ends.
        """
        return await wait(self._native.lease(limit, length, wait_for))

    async def ack(self, id: str, fence: int) -> None:
        """Says that a message is done. Saying so again is no error; a fence that counts no more is a ConflictError."""
        await wait(self._native.ack(id, fence))

    async def nack(
        self, id: str, fence: int, *, delay: timedelta = _NONE, because: str = "given back"
    ) -> Literal["ready", "delayed", "dead"]:
        """Gives a message back, to be given out again after so long; what it is now."""
        given = await wait(self._native.nack(id, fence, delay, because))
        return cast(Literal["ready", "delayed", "dead"], given)

    async def extend(self, id: str, fence: int, length: timedelta) -> datetime:
        """Keeps a message for so long from now on; until when."""
        return await wait(self._native.extend(id, fence, length))

    async def statistics(self) -> QueueStatistics:
        """How many messages are ready, delayed, leased and dead, and when the first came of those not dead."""
        return await wait(self._native.statistics())

    async def dead(self, *, after: int | None = None, limit: int = 100) -> list[DeadLetter]:
        """Dead letters in the order in which they came, behind a number."""
        return await wait(self._native.dead(after, limit))

    async def replay(self, ids: Sequence[str] | None = None) -> int:
        """Makes these dead letters ready again, all or none; without ids, all that there are. How many."""
        if isinstance(ids, str):
            raise TypeError("a sequence of ids is needed, not one str")
        return await wait(self._native.replay(ids))

    async def purge(self, what: _What, *, dry_run: bool = False) -> PurgedMessages:
        """Deletes messages for good, and their ids; with ``dry_run`` only says how many that would be."""
        messages, size = await wait(self._native.purge(what, dry_run))
        return PurgedMessages(messages, size)
