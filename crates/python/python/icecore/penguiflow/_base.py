"""What all capabilities of a state store share: where it is, for whom, and what is on its way."""

from __future__ import annotations

import asyncio
import atexit
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar

from penguiflow.artifacts import ArtifactRetentionConfig

from .. import _native
from .._call import wait
from .._store import Store
from ._artifact_store import ArtifactStore
from ._lives import Lives

Durability: TypeAlias = Literal["buffered", "durable"]

_EXIT_SECONDS = 10.0
TOGETHER = 1_000
"""So many are handed over in one call to the native half."""

T = TypeVar("T")


class Base:
    """Opened on first use; it may be shared by event loops and threads, but not by a forked process.

    ``durability`` is of what a flow tells while it runs: its events, updates, planner events and trajectories. In
    ``"buffered"`` they are accepted into memory and written within ``linger`` seconds and a write; :meth:`flush` waits
    for that. In ``"durable"`` each call waits. All else is durable when it answers.

    ``buffer_bytes`` bounds what is accepted and not written: beyond it, callers wait. ``pause_ttl`` is for how many
    seconds a planner that waits can be resumed; ``None`` is for ever. No call takes longer than ``timeout`` seconds.
    ``artifact_retention`` has the limits of artifacts: without it, Penguiflow's own.
    """

    def __init__(
        self,
        store: str | Store,
        *,
        tenant: str,
        durability: Durability = "buffered",
        linger: float = 0.02,
        buffer_bytes: int = 32 << 20,
        pause_ttl: float | None = 86_400.0,
        timeout: float = 10.0,
        artifact_retention: ArtifactRetentionConfig | None = None,
    ) -> None:
        if durability not in ("buffered", "durable"):
            raise ValueError(f"durability is 'buffered' or 'durable', not {durability!r}")
        self._is_ours = isinstance(store, str)
        self._icecore = Store(store) if isinstance(store, str) else store
        self._tenant = tenant
        self._durability = durability
        self._pause_ttl = pause_ttl
        self._artifact_retention = artifact_retention or ArtifactRetentionConfig()
        self._timeout = timeout
        self._artifacts: ArtifactStore | None = None
        self._durable: Lives | None = None
        self._native = _native.NativeAgents(
            self._icecore._native, tenant, durability == "durable", linger, buffer_bytes, timeout
        )

    @property
    def icecore(self) -> Store:
        """The store of logs, for what Penguiflow does not ask for: history, time travel, verification."""
        return self._icecore

    @property
    def tenant(self) -> str:
        """Whose it is: it sees nothing of other tenants."""
        return self._tenant

    async def open(self) -> None:
        """Opens it now, so that what is wrong with its URL is told at once."""
        await self._icecore.open()

    async def flush(self, timeout: float = 30.0) -> None:
        """Waits until all that was accepted is durable; what never will be is an error.

        What Penguiflow saves in tasks of this loop that nobody awaits is waited for as well.
        """
        await self._handed_over(timeout)
        await self._settle_artifacts()
        await wait(self._native.flush(timeout))

    async def aclose(self, timeout: float = 30.0) -> None:
        """Flushes, accepts no more, and closes the store if it was given by its URL."""
        await self._handed_over(timeout)
        self._native.close()
        await self._settle_artifacts()
        try:
            await wait(self._native.flush(timeout))
        finally:
            if self._is_ours:
                await self._icecore.aclose()

    def _lives(self) -> Lives:
        if self._durable is None:
            self._durable = Lives(self._native)
        return self._durable

    async def _settle_artifacts(self) -> None:
        if self._artifacts is not None:
            await self._artifacts.settle()

    async def _handed_over(self, timeout: float) -> None:
        # Tasks that were made have begun after this, which is all that most of them need.
        await asyncio.sleep(0)
        saving = [task for task in asyncio.all_tasks() if self._is_saving(task)]
        if saving:
            await asyncio.wait(saving, timeout=timeout)

    def _is_saving(self, task: asyncio.Task[Any]) -> bool:
        if task is asyncio.current_task():
            return False
        if task.get_name().startswith("penguiflow-persist-"):
            return True
        frame = getattr(task.get_coro(), "cr_frame", None)
        return frame is not None and frame.f_code.co_name.startswith("save_") and frame.f_locals.get("self") is self

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._icecore._native.redacted()!r}, tenant={self._tenant!r})"


def some(items: Iterable[T]) -> Iterator[list[T]]:
    """So many at a time, in their order."""
    rest = iter(items)
    while found := list(islice(rest, TOGETHER)):
        yield found


def _at_exit() -> None:
    for told in _native._flush_at_exit(_EXIT_SECONDS):
        print(f"icecore: not written before the process ended: {told}", file=sys.stderr)


# It runs before what `icecore` itself registered, which ends the threads.
atexit.register(_at_exit)
