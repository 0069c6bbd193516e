"""Trying again for as long as others are first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ._errors import UnavailableError

_SECONDS = 30.0
_ADVICE = "Others were always first. Nothing was written: retry"

T = TypeVar("T")


async def until_first(attempt: Callable[[], Awaitable[T | None]], doing: str, facts: list[tuple[str, str]]) -> T:
    """What the first attempt gives that nobody came before; ``None`` of one says that somebody did."""
    until = time.monotonic() + _SECONDS
    while (done := await attempt()) is None:
        if time.monotonic() > until:
            told = "".join(f", {name}={value}" for name, value in facts)
            raise UnavailableError(f"Unavailable while {doing}{told}. {_ADVICE}", facts, _ADVICE)
        await asyncio.sleep(0)
    return done
