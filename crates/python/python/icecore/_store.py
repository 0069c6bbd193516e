"""A store of logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import overload

from . import _across, _native
from ._across import Decided, States
from ._call import wait
from ._log import Log
from ._native import Copied, NativeStore, Receipt, Verified
from ._queue import Queue
from ._retention import Retention
from ._stream import Stream


class Store:
    """Logs in one storage system, opened on first use.

    It may be shared by event loops and threads, but not by a forked process. While it is open it is maintained, every
    ten minutes by one of the processes that use it: what policies say is done. ``maintain=False`` leaves it to others.

    With ``retry=True``, what fails because the system is away for a moment, opening included, is tried again for up to
    ten seconds.
    """

    __slots__ = ("__weakref__", "_native")

    def __init__(self, url: str, read_only: bool = False, maintain: bool = True, retry: bool = False) -> None:
        self._native = NativeStore(url, read_only, maintain, retry)

    async def open(self) -> None:
        """Opens it now, if it is not open. A store that was closed is not opened again."""
        await wait(self._native.open())

    async def aclose(self) -> None:
        """Closes it: locks are released. Calls after that are refused."""
        await wait(self._native.close())

    async def __aenter__(self) -> Store:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @overload
    def log(self, name: str, /) -> Log: ...
    @overload
    def log(self, tenant: str, kind: str, key: str, /) -> Log: ...
    def log(self, *name: str) -> Log:
        """A log, by its escaped name such as ``acme/session/s-1``, or by tenant, kind and key, each any text."""
        return Log(self._native.log(*name))

    def queue(self, tenant: str, name: str) -> Queue:
        """A durable queue of a tenant, whether it exists or not."""
        return Queue(self._native, tenant, name)

    async def states(self, logs: Iterable[Log | str]) -> States:
        """The states of several logs, as they were at one moment: at most 1,000, all of one tenant."""
        return await _across.look(self._native, logs)

    async def commit(self, changes: Decided, id: str | None = None) -> list[Receipt]:
        """Commits changes of several logs, all or none, if every condition holds; receipts in the order of the names.

        With an ``id`` a retry is harmless. A system that cannot commit to several logs at once is a RefusedError.
        """
        return await wait(_native.commit_all(self._native, _across.given(self._native, changes), id))

    async def transact(
        self, logs: Iterable[Log | str], decide: Callable[[States], Decided], id: str | None = None
    ) -> list[Receipt]:
        """Has ``decide`` say what to change in which of these logs, and commits that if none went on meanwhile.

        Else it decides again, on the states as they are then. It is called in this thread, perhaps several times, so it
        should do nothing but decide. A log that is named and not changed gets an empty commit, which says that it still
        ended there. With an ``id`` it is committed once. If others are first for 30 seconds, that is an
        UnavailableError.
        """
        return await _across.transact(self._native, logs, decide, id)

    def logs(self, prefix: str = "") -> Stream[str]:
        """The escaped names of the logs that begin so."""
        return Stream(self._native.logs(prefix))

    async def verify(self, prefix: str = "") -> Verified:
        """Reads all that is under a prefix, and checks it."""
        return await wait(self._native.verify(prefix))

    def metrics(self) -> str:
        """What it has asked of its storage system so far, as the text that Prometheus scrapes (format 0.0.4)."""
        return self._native.metrics()

    @property
    def retention(self) -> Retention:
        """What is held of its history, what is kept, and who sees to it."""
        return Retention(self._native)

    def __repr__(self) -> str:
        return f"Store({self._native.redacted()!r})"


async def open(url: str, read_only: bool = False) -> Store:
    """Opens a store: ``memory:``, ``file:PATH``, ``sqlite:PATH``, or that of a server or a bucket.

    Servers are ``postgres://…``, ``mysql://…``, ``redis://…``, ``mongodb://…`` and ``dynamodb://…``; buckets
    ``s3://…``, ``gs://…`` and ``az://…``.
    """
    store = Store(url, read_only)
    await store.open()
    return store


async def copy(from_store: Store, to_store: Store, prefix: str = "") -> Copied:
    """Copies logs from one store to another, byte for byte. A second call copies what is new."""
    return await wait(_native.copy(from_store._native, to_store._native, prefix))
