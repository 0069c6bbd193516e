"""Waiting for a call of the native half."""

from __future__ import annotations

import threading
from asyncio import AbstractEventLoop, get_running_loop
from typing import TypeVar
from weakref import ref

from ._errors import made
from ._native import Call, Finished

T = TypeVar("T")


class _Last(threading.local):
    """The loop that this thread ran last, and where its calls go when they are finished.

    It is held weakly, so that a loop that is done with can go.
    """

    loop: ref[AbstractEventLoop] | None = None
    finished: Finished


_last = _Last()


async def wait(call: Call[T]) -> T:
    """Waits; whoever stops waiting drops the call, and with it what was not sent yet."""
    loop = get_running_loop()
    if _last.loop is None or _last.loop() is not loop:
        _last.loop, _last.finished = ref(loop), Finished()
    future = loop.create_future()
    call.start(future, _last.finished)
    try:
        result: T = await future
    except BaseException:
        call.cancel()
        # What came all the same goes now, not when somebody lets go of the exception.
        del future
        raise
    return result


def complete(finished: Finished) -> None:
    """Completes all that is finished. The loop calls it once a batch."""
    for future, value, error in finished.take():
        if future.done():  # Cancelled meanwhile, most likely.
            continue
        if error is None:
            future.set_result(value)
        elif isinstance(error, BaseException):
            future.set_exception(error)
        else:
            future.set_exception(made(*error))
