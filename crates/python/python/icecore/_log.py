"""One log of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from ._call import wait
from ._native import (
    Change,
    Changes,
    Diff,
    Document,
    Event,
    Head,
    NativeLog,
    Receipt,
    RecordedEvent,
    Trimmed,
    trim,
)
from ._state import DocumentPage, State
from ._stream import Stream
from ._trying import until_first

EventLike: TypeAlias = Event | dict[str, Any]
"""An event, or a dict with the names of its arguments."""


class Log:
    """One log, whether it exists or not. Made by :meth:`Store.log`."""

    __slots__ = ("__weakref__", "_native")

    def __init__(self, native: NativeLog) -> None:
        self._native = native

    @property
    def name(self) -> str:
        """``tenant/kind/key``, escaped."""
        return self._native.name

    @property
    def tenant(self) -> str:
        """The tenant, unescaped."""
        return self._native.tenant

    @property
    def kind(self) -> str:
        """The kind, unescaped."""
        return self._native.kind

    @property
    def key(self) -> str:
        """The key, unescaped."""
        return self._native.key

    def __repr__(self) -> str:
        return f"Log({self.name!r})"

    async def append(
        self, events: EventLike | Iterable[EventLike], id: str | None = None, expect: int | None = None
    ) -> Receipt:
        """Appends one event or several, all or nothing. When it answers, they are as durable as the system declares.

        With an ``id`` a retry is harmless: the first receipt comes back. ``expect`` is the log's last version, 0 if it
        has none; if it is another by then, that is a ConflictError. A call that is cancelled is withdrawn if it was not
        sent yet; if it was, it may be there. Of an open store, appends that are begun in one thread without waiting in
        between are committed in that order.
        """
        return await wait(self._native.append(events, id, expect))

    async def resolve(self, id: str) -> Receipt | None:
        """Whether the entry with this id is in the log, for certain: after an UnknownOutcomeError."""
        return await wait(self._native.resolve(id))

    async def head(self) -> Head | None:
        """Where the log ends; ``None`` if it has no commit."""
        return await wait(self._native.head())

    def read(self, from_: int | None = None, to: int | None = None, reverse: bool = False) -> Stream[RecordedEvent]:
        """The events from one version through another, as the log is when the first is asked for.

        Changes of documents are events too: their kinds begin with ``icecore.``. A NotFoundError if nothing was ever
        put into the log.
        """
        return Stream(self._native.read(from_, to, reverse))

    def tail(self, from_: int | None = None) -> Stream[RecordedEvent]:
        """The events from this version on, by default from the first, and those that come: it has no end."""
        return Stream(self._native.tail(from_))

    async def put(
        self, key: str, value: Any, *, id: str | None = None, actor: str | None = None, trace: str | None = None
    ) -> Receipt:
        """Sets a document, whatever it was. ``bytes`` are taken as JSON text, and kept as they are."""
        return _receipt(await wait(self._native.put(key, value, id, actor, trace)))

    async def patch(
        self, key: str, patch: Any, *, id: str | None = None, actor: str | None = None, trace: str | None = None
    ) -> Receipt:
        """Patches a document by a JSON merge patch (RFC 7396), in which ``None`` removes a member."""
        return _receipt(await wait(self._native.patch(key, patch, id, actor, trace)))

    async def merge(
        self,
        key: str,
        *,
        add: float | bytes | None = None,
        append: Sequence[Any] | bytes | None = None,
        union: Sequence[Any] | bytes | None = None,
        pointer: str | None = None,
        id: str | None = None,
        actor: str | None = None,
        trace: str | None = None,
    ) -> Receipt:
        """Adds a number to a number, exactly, or puts items behind those of a list; with ``union`` those that it lacks.

        ``pointer`` names a part of the document, such as ``"/usage/tokens"``. Where there is nothing yet, or ``None``,
        it begins with 0 or an empty list. Others may do so at the same time: none is lost, and none waits for another.
        Where there is something else, that is a ConflictError, if it is seen; if nobody looked, nothing is changed, and
        ``history`` says so. ``check_merges`` looks beforehand.
        """
        return _receipt(await wait(self._native.merge(key, add, append, union, pointer, id, actor, trace)))

    async def check_merges(self, changes: Changes) -> None:
        """Looks whether every merge finds what it can be merged into; a ConflictError names those that do not."""
        await wait(self._native.check_merges(changes))

    async def reduce(
        self, key: str, reducer: Callable[[Any, Any], Any], operand: Any, *, id: str | None = None
    ) -> Receipt | None:
        """Puts what ``reducer(value, operand)`` makes of a document's value, or of ``None``.

        It is called again if somebody else was first, so that no change is lost: see :meth:`transact`.
        """
        return await self.transact(lambda state: Changes().put(key, reducer(state.get(key), operand)), id)

    async def delete(
        self, key: str, *, id: str | None = None, actor: str | None = None, trace: str | None = None
    ) -> Receipt:
        """Deletes a document, if it is there."""
        return _receipt(await wait(self._native.delete(key, id, actor, trace)))

    async def expire(
        self, key: str, *, at: datetime | None = None, sliding: timedelta | None = None, pinned: bool = False
    ) -> Receipt:
        """Says when a document is gone by itself: at a time, or so long after its last change or touch.

        ``pinned`` keeps it, also when its log expires; nothing at all takes back what was said. It is absent the moment
        that it is due. If there is no such document, that is a ConflictError. ``Changes().put(…).expire(…)`` says it in
        the same commit as the value.
        """
        changes = Changes().only_if_exists(key).expire(key, at=at, sliding=sliding, pinned=pinned)
        return _receipt(await self.commit(changes))

    async def touch(self, key: str) -> Receipt:
        """Renews a document whose expiry is sliding. If there is no such document, that is a ConflictError."""
        return _receipt(await self.commit(Changes().only_if_exists(key).touch(key)))

    async def expire_log(self, *, at: datetime | None = None, sliding: timedelta | None = None) -> Receipt:
        """Says when the whole log is gone by itself, but for what is pinned; ``sliding`` counts from the last append.

        A pass of maintenance then deletes it for good. Nothing at all takes back what was said.
        """
        return _receipt(await self.commit(Changes().expire_log(at=at, sliding=sliding)))

    async def state(self, at: int | datetime | None = None) -> State:
        """The documents as they are, behind a version, or as they were at a time."""
        return State(await wait(self._native.state(at)))

    async def document(self, key: str, at: int | datetime | None = None) -> Document | None:
        """One document, with its exact text and the commit that changed it last.

        Of a large state only a part is read, if it is asked for as it is now.
        """
        if at is None:
            return await wait(self._native.document(key))
        return (await self.state(at)).document(key)

    async def documents(self, prefix: str = "", after: str | None = None, limit: int = 100) -> DocumentPage:
        """At most ``limit`` documents whose keys begin so, in their order; of a large state only these are read.

        The next page is behind the last key of this one: ``after=[*page.documents][-1]``.
        """
        version, documents, has_more = await wait(self._native.documents(prefix, after, limit))
        return DocumentPage(version, dict(documents), has_more)

    async def get(self, key: str, default: Any = None) -> Any:
        """The value of one document."""
        document = await self.document(key)
        return default if document is None else document.json()

    async def commit(self, changes: Changes) -> Receipt | None:
        """Commits changes, all of them or none, if every condition holds; ``None`` if there are none."""
        return await wait(self._native.change(changes))

    async def transact(self, decide: Callable[[State], Changes], id: str | None = None) -> Receipt | None:
        """Reads the state, has ``decide`` say what to change, and commits that if nothing was appended meanwhile.

        Else it decides again, on the state as it is then. It is called in this thread, perhaps several times, so it
        should do nothing but decide. With an ``id`` it is committed once. If others are first for 30 seconds, that is
        an UnavailableError.
        """

        async def attempt() -> tuple[Receipt | None] | None:
            state = await self.state()
            changes = decide(state)
            if not isinstance(changes, Changes):
                raise TypeError(f"a transaction's function returns Changes, not {type(changes).__name__}")
            if id is not None:
                changes.with_id(id)
            done, receipt = await wait(self._native.change_at(changes, state.version))
            return (receipt,) if done else None

        return (await until_first(attempt, "changing a log's state", [("log", self.name)]))[0]

    async def diff(self, a: int | datetime, b: int | datetime | None = None) -> Diff:
        """What differs between the documents at two moments; the second is now by default."""
        return await wait(self._native.diff(a, b))

    async def rollback(self, to: int | datetime) -> Receipt | None:
        """Makes the documents what they were, by a new commit; ``None`` if they are."""
        return await wait(self._native.rollback(to))

    async def fork(self, new: str | Log, at: int | datetime | None = None) -> Receipt:
        """Begins a new log with the documents of this one, as they are or were."""
        name = new.name if isinstance(new, Log) else new
        return await wait(self._native.fork(name, at))

    async def trim(
        self,
        keep_commits: int | None = None,
        keep_since: datetime | None = None,
        keep_bytes: int | None = None,
        from_: int | None = None,
        kinds: Iterable[str] = (),
        dry_run: bool = False,
    ) -> Trimmed:
        """Makes the log shorter; its documents stay as they are. What any of the limits keeps is kept.

        With kinds, only the bodies of commits that hold nothing but events of these kinds go.
        """
        return await wait(trim(self._native, from_, keep_commits, keep_since, keep_bytes, set(kinds), dry_run))

    def watch(self, key: str) -> Stream[tuple[int, Document | None]]:
        """Follows a document: first as it is now, then after each commit that changes it, with the log's version."""
        return Stream(self._native.watch(key))

    def history(self, key: str) -> Stream[Change]:
        """Who changed a document, when, in which commit: newest first."""
        return Stream(self._native.history(key))


def _receipt(receipt: Receipt | None) -> Receipt:
    if receipt is None:
        raise AssertionError("a change was committed without a receipt")
    return receipt
