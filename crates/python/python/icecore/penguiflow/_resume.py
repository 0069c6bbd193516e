"""Flows that go on in another process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from penguiflow import FlowError, Message, Node, PenguiFlow, StreamChunk
from penguiflow.core import OPEN_SEA
from penguiflow.metrics import FlowEvent

from .._call import wait
from .._errors import InvalidError
from . import _typed
from ._base import Base
from ._durable import is_chunk, lives_of
from ._lives import Lives
from ._values import decode

OnChunk = Callable[[StreamChunk], None]


async def run(
    flow: PenguiFlow,
    message: Message,
    *,
    store: Base | None = None,
    timeout: float | None = None,
    on_chunk: OnChunk | None = None,
) -> Any:
    """Sends a message through a flow that runs, and gives what comes out of it first. That is durable then.

    What comes out of a trace that came to its end before is given without running anything, and one that did not is
    gone on with: so it may be called again with the same message. With another message it is a ``ConflictError``.

    ``on_chunk`` gets the pieces of streams on their way. After ``timeout`` seconds it is a ``TimeoutError``, and the
    flow goes on by itself. A node that fails for good is Penguiflow's ``FlowError``: the trace can be resumed.
    """
    lives, trace = lives_of(flow, store), message.trace_id
    async with lives.turn(flow, trace):
        opened = await lives.begin(flow, trace, _typed.write(message), _typed.key(message))
        return await _through(flow, lives, trace, opened, timeout, on_chunk)


async def resume(
    flow: PenguiFlow,
    trace_id: str,
    *,
    store: Base | None = None,
    timeout: float | None = None,
    on_chunk: OnChunk | None = None,
) -> Any:
    """Goes on with a trace, in this process: as :func:`run`, with the message that it began with.

    What its durable nodes made is passed on, and only those run of which nothing is recorded. Whoever ran it before
    begins no durable node any more. A ``NotFoundError`` if nothing is recorded of it. A trace that was not begun by
    :func:`run` is known by what its first durable node was given, if that is one at which the flow begins.
    """
    lives = lives_of(flow, store)
    async with lives.turn(flow, trace_id):
        opened = await lives.resume(flow, trace_id)
        return await _through(flow, lives, trace_id, opened, timeout, on_chunk)


async def _through(
    flow: PenguiFlow,
    lives: Lives,
    trace: str,
    opened: tuple[bytes | None, bytes | None],
    timeout: float | None,
    on_chunk: OnChunk | None,
) -> Any:
    finished, began = opened
    if finished is not None:
        return _typed.read(finished)
    native = await lives.of(flow, trace).native(lives)
    message, to = await _first_given(flow, lives, trace) if began is None else (_typed.read(began), None)
    try:
        async with asyncio.timeout(timeout):
            result = await _out_of(flow, trace, message, to, on_chunk)
    except FlowError as error:
        await wait(native.fail(str(error)))
        raise
    return _typed.read(await wait(native.end(_typed.write(result))))


async def _first_given(flow: PenguiFlow, lives: Lives, trace: str) -> tuple[Any, Node]:
    """What a trace began with, as the node tells at which it did, and that node."""
    begins = {node.name: node for node in flow._contexts[OPEN_SEA]._outgoing if isinstance(node, Node)}
    found = await wait(lives.flows.look(trace))
    for one in [] if found is None else decode(found)["nodes"]:
        if one["node"] in begins and one["input"] is not None:
            return _typed.of(one["input"]), begins[one["node"]]
    advice = "Begin traces by run(flow, message), or make the node durable at which the flow begins"
    raise InvalidError(f"It is not recorded what the trace began with. {advice}", [("trace", trace)], advice)


async def _out_of(flow: PenguiFlow, trace: str, message: Message, to: Node | None, on_chunk: OnChunk | None) -> Any:
    """What comes out of a flow first that is no piece of a stream.

    ``fetch`` of a trace gives one thing, and hands what else there is to whoever asks for any trace. So its queue is
    read here, as ``fetch`` does it.
    """
    failed = _watch(flow, trace)
    await flow.emit(message, to, trace_id=trace)
    queue = flow._fetch_trace_queues[trace]
    try:
        while True:
            getting = asyncio.ensure_future(queue.get())
            try:
                await asyncio.wait({getting, failed}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not getting.done():
                    getting.cancel()
            if not getting.done():
                raise failed.result()
            item = getting.result()
            await flow._finalize_message(item)
            item = flow._unwrap_rookery_result(item)
            if isinstance(item, FlowError):
                raise item
            if not is_chunk(item):
                return item
            if on_chunk is not None:
                on_chunk(item.payload)
    finally:
        _WATCHED.get(flow, {}).pop(trace, None)
        await flow._release_trace_roundtrip(trace)


_WATCHED: WeakKeyDictionary[PenguiFlow, dict[str, asyncio.Future[FlowError]]] = WeakKeyDictionary()


def _watch(flow: PenguiFlow, trace: str) -> asyncio.Future[FlowError]:
    """What a node of the trace fails with for good, where the flow does not hand that out."""
    failed: asyncio.Future[FlowError] = asyncio.get_running_loop().create_future()
    if getattr(flow, "_emit_errors_to_rookery", False):
        return failed
    if flow not in _WATCHED:
        waiting = _WATCHED[flow] = {}

        async def look(event: FlowEvent) -> None:
            told = waiting.get(event.trace_id or "")
            if event.event_type == "node_failed" and told is not None and not told.done():
                said = dict(event.extra.get("flow_error", {}))
                said = {name: said.get(name) for name in ("code", "message", "node_name", "node_id", "metadata")}
                told.set_result(FlowError(trace_id=event.trace_id, **said))

        flow.add_middleware(look)
    _WATCHED[flow][trace] = failed
    return failed
