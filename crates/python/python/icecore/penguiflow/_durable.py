"""Nodes that a flow need not run again: what they made is recorded before it is passed on."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any, TypeAlias
from weakref import WeakSet

from penguiflow import Message, Node, PenguiFlow, StreamChunk
from penguiflow.core import Context, Endpoint

from .. import _native
from .._call import wait
from .._errors import InvalidError
from . import _typed
from ._base import Base
from ._lives import Life, Lives

Target: TypeAlias = Node | Endpoint | Sequence[Node | Endpoint] | None
Run: TypeAlias = Callable[[Any, Any], Awaitable[Any]]

_MARK = "__icecore_durable__"


def durable(node: Node, *, store: Base | None = None, key: Callable[[Any], Any] | None = None) -> Node:
    """Makes a node durable, and gives it back: the same node.

    What it is given is durable before it runs, and what it made before that is passed on. When a trace is gone on with,
    what it made is passed on without running it. Its name is its own within the trace.

    ``store`` is where this is recorded; without it, the flow's state store, which must be one of Icecore's. ``key``
    makes of a message by what it is known again; without it, that is all that the message says but the times at which
    messages were made. A node of ``penguiflow.join_k`` can be made durable too, and must be in front of a durable one.
    """
    if not hasattr(node.func, _MARK):
        chosen = _Chosen(node, store)
        run = _collecting(node.func, chosen) if _is_join(node.func) else _recording(node.func, chosen, key)
        setattr(run, _MARK, True)
        node.func = run
    return node


def lives_of(flow: PenguiFlow, store: Base | None) -> Lives:
    """Where the lives of a flow are recorded."""
    chosen = store if store is not None else getattr(flow, "_state_store", None)
    if not isinstance(chosen, Base):
        advice = "Give the flow a state store of icecore.penguiflow, or name one as store="
        raise InvalidError(f"There is no store for a durable node. {advice}", (), advice)
    return chosen._lives()


class _Chosen:
    """A durable node, and where it is recorded."""

    def __init__(self, node: Node, store: Base | None) -> None:
        self.node = node
        self.store = store
        self.checked: WeakSet[PenguiFlow] = WeakSet()

    @property
    def name(self) -> str:
        return self.node.name or ""

    async def life(self, message: Any, context: Any) -> tuple[Life, _native.NativeRun]:
        flow, trace = getattr(context, "runtime", None), getattr(message, "trace_id", None)
        if flow is None or not isinstance(trace, str):
            advice = "Give it messages with a trace_id, within a flow"
            raise InvalidError(f"A durable node belongs to a trace. {advice}", [("node", self.name)], advice)
        if flow not in self.checked:
            _check(flow, self.node)
            self.checked.add(flow)
        lives = lives_of(flow, self.store)
        life = lives.of(flow, trace)
        return life, await life.native(lives)


def _recording(run: Run, chosen: _Chosen, key: Callable[[Any], Any] | None) -> Run:
    @wraps(run)
    async def recorded(message: Any, context: Any) -> Any:
        life, native = await chosen.life(message, context)
        said = _typed.key(message)
        own, said_too = (said, None) if key is None else (_typed.key(key(message)), said)
        turn, made_before = await wait(native.begin(chosen.name, own, said_too, _typed.write(message)))
        if made_before is not None:
            return await _again(context, turn, made_before, with_chunks=True)
        emissions = _Emissions(context)
        try:
            with life.inside():
                output = await run(message, emissions)
            made = _typed.write({"output": output, "emitted": emissions.made()})
        except (Exception, asyncio.CancelledError) as error:
            with suppress(Exception):  # The store was closed: it is told below what failed.
                turn.failed(_say(error))
            raise
        counts, is_ours = await wait(turn.finish(made))
        if not is_ours:
            return await _again(context, turn, counts, with_chunks=False)
        for emitted, to in emissions.held:
            await context.emit(emitted, to=to)
        turn.done()
        return output

    return recorded


async def _again(context: Any, turn: _native.NativeTurn, made: bytes, *, with_chunks: bool) -> Any:
    """Passes on what is recorded of a node."""
    found = _typed.read(made)
    for emitted, names in found["emitted"]:
        if with_chunks or not is_chunk(emitted):
            await context.emit(emitted, to=_targets(context, names))
    turn.done()
    return found["output"]


class _Emissions(Context):
    """What a durable node sees: what it emits is held back until it is recorded, but for the pieces of a stream."""

    __slots__ = ("_all", "held")

    def __init__(self, context: Context) -> None:
        for name in Context.__slots__:
            setattr(self, name, getattr(context, name))
        self._all: list[tuple[Any, list[str] | None]] = []
        self.held: list[tuple[Any, Target]] = []

    def made(self) -> list[list[Any]]:
        return [[message, names] for message, names in self._all]

    async def emit(self, msg: Any, to: Target = None) -> None:
        self._keep(msg, to)
        if is_chunk(msg):
            self.held.pop()
            await super().emit(msg, to=to)

    def emit_nowait(self, msg: Any, to: Target = None) -> None:
        self._keep(msg, to)
        if is_chunk(msg):
            self.held.pop()
            super().emit_nowait(msg, to=to)

    def _keep(self, msg: Any, to: Target) -> None:
        targets = None if to is None else [to] if isinstance(to, (Node, Endpoint)) else list(to)
        # Now, as it would be without us, if there is none such.
        self._resolve_targets(targets, self._outgoing)
        self._all.append((msg, None if targets is None else [target.name or "" for target in targets]))
        self.held.append((msg, targets))


def _targets(context: Any, names: list[str] | None) -> list[Node | Endpoint] | None:
    if names is None:
        return None
    by_name = {target.name: target for target in context._outgoing}
    if missing := [name for name in names if name not in by_name]:
        advice = "Resume a trace with the flow that it began with"
        raise InvalidError(f"There is no node {missing[0]!r} behind this one. {advice}", [("node", missing[0])], advice)
    return [by_name[name] for name in names]


def _collecting(run: Run, chosen: _Chosen) -> Run:
    """A join: it runs again, with what it is given again, and what it makes of that is recorded, with its order."""
    given: defaultdict[str, list[bytes]] = defaultdict(list)

    @wraps(run)
    async def recorded(message: Any, context: Any) -> Any:
        _, native = await chosen.life(message, context)
        output = await run(message, context)
        keys = given[message.trace_id]
        keys.append(_typed.key(message))
        if output is None:
            return None
        del given[message.trace_id]
        made = _typed.write({"output": output, "emitted": []})
        return _typed.read(await wait(native.collect(chosen.name, keys, made)))["output"]

    return recorded


def _is_join(run: Run) -> bool:
    return run.__module__ == "penguiflow.patterns" and run.__qualname__.startswith("join_k.")


def is_chunk(message: Any) -> bool:
    """Whether it is a piece of a stream."""
    return isinstance(message, Message) and isinstance(message.payload, StreamChunk)


def _say(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception:
        return type(error).__name__


def _check(flow: PenguiFlow, node: Node) -> None:
    """What comes to a durable node must be the same when it comes again; a join gives it in the order of its coming."""
    behind: dict[Node, set[Node]] = getattr(flow, "_adjacency", {})
    alike = [other for other in behind if other.name == node.name]
    if len(alike) > 1:
        advice = "Give each durable node a name of its own"
        raise InvalidError(
            f"{len(alike)} nodes are called {node.name!r}. {advice}", [("node", node.name or "")], advice
        )
    before, looked = [node], set()
    while before:
        one = before.pop()
        looked.add(one)
        if _is_join(one.func) and not hasattr(one.func, _MARK):
            advice = "Make it durable as well: durable(join_k(…))"
            told = f"The join {one.name!r} is in front of the durable node {node.name!r}, and is not. {advice}"
            raise InvalidError(told, [("node", one.name or "")], advice)
        before.extend(other for other, nodes in behind.items() if one in nodes and other not in looked)
