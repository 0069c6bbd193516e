"""The flows of a store that this process runs, each in a life of its own."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

from penguiflow import PenguiFlow

from .. import _native
from .._call import wait

LIVES_MAX = 1_024
"""The most traces of a flow that are remembered when nothing of them is in it any more."""


def _by() -> str:
    """Who this is, for people."""
    return f"{socket.gethostname()}/{os.getpid()}"


class Life:
    """A trace on its way through a flow: from the first message of it in the flow until there is none."""

    def __init__(self, flow: PenguiFlow, trace: str, native: _native.NativeRun | None = None) -> None:
        self.trace = trace
        self._flow = ref(flow)
        # Penguiflow has one event for a trace as long as anything of it is in the flow.
        self._event = flow.ensure_trace_event(trace)
        self._native = native
        self._turn = asyncio.Lock()

    @property
    def goes_on(self) -> bool:
        """Whether something of it is still in the flow."""
        flow = self._flow()
        return flow is not None and flow._trace_events.get(self.trace) is self._event

    async def native(self, lives: Lives) -> _native.NativeRun:
        """What records it; from the first time on this is the trace's last life."""
        async with self._turn:
            if self._native is None:
                self._native = await wait(lives.flows.join(self.trace, _by()))
            return self._native

    @contextmanager
    def inside(self) -> Iterator[None]:
        """While a node runs: what it calls belongs to this life."""
        token = _INSIDE.set(self)
        try:
            yield
        finally:
            _INSIDE.reset(token)


_INSIDE: ContextVar[Life | None] = ContextVar("icecore_life", default=None)


class Lives:
    """Those of a store."""

    def __init__(self, agents: _native.NativeAgents) -> None:
        self.flows = _native.NativeFlows(agents)
        self._by_flow: WeakKeyDictionary[PenguiFlow, OrderedDict[str, Life]] = WeakKeyDictionary()
        self._last: WeakValueDictionary[str, Life] = WeakValueDictionary()
        self._turns: WeakKeyDictionary[PenguiFlow, dict[str, tuple[asyncio.Lock, list[None]]]] = WeakKeyDictionary()

    def of(self, flow: PenguiFlow, trace: str) -> Life:
        """The life that a node belongs to: one that goes on, also of a flow around this one, or a new one."""
        own = self._by_flow.get(flow)
        found = None if own is None else own.get(trace)
        for life in (_INSIDE.get(), found, self._last.get(trace)):
            if life is not None and life.trace == trace and life.goes_on:
                return self._remember(flow, life)
        return self._remember(flow, Life(flow, trace))

    async def begin(
        self, flow: PenguiFlow, trace: str, message: bytes, key: bytes
    ) -> tuple[bytes | None, bytes | None]:
        """Begins a trace, or goes on with it: what came out, or what it began with."""
        return self._opened(flow, trace, *await wait(self.flows.begin(trace, message, key, _by())))

    async def resume(self, flow: PenguiFlow, trace: str) -> tuple[bytes | None, bytes | None]:
        """Goes on with a trace: what came out, or what it began with."""
        return self._opened(flow, trace, *await wait(self.flows.resume(trace, _by())))

    @asynccontextmanager
    async def turn(self, flow: PenguiFlow, trace: str) -> AsyncIterator[None]:
        """A trace goes through a flow once at a time."""
        turns = self._turns.setdefault(flow, {})
        lock, waiting = turns.setdefault(trace, (asyncio.Lock(), []))
        waiting.append(None)
        try:
            async with lock:
                yield
        finally:
            waiting.pop()
            if not waiting:
                turns.pop(trace, None)

    def _opened(
        self,
        flow: PenguiFlow,
        trace: str,
        finished: bytes | None,
        native: _native.NativeRun | None,
        message: bytes | None,
    ) -> tuple[bytes | None, bytes | None]:
        if native is not None:
            self._remember(flow, Life(flow, trace, native))
        return finished, message

    def _remember(self, flow: PenguiFlow, life: Life) -> Life:
        lives = self._by_flow.setdefault(flow, OrderedDict())
        lives[life.trace] = self._last[life.trace] = life
        lives.move_to_end(life.trace)
        while len(lives) > LIVES_MAX and not next(iter(lives.values())).goes_on:
            lives.popitem(last=False)
        return life
