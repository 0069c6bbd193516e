"""What is read, one by one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from ._call import wait
from ._native import NativeStream

T = TypeVar("T")


class Stream(AsyncIterator[T], Generic[T]):
    """An asynchronous iterator. A wait for the next that is cancelled loses nothing: ask again."""

    __slots__ = ("_native",)

    def __init__(self, native: NativeStream[T]) -> None:
        self._native = native

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        while (item := self._native.take()) is None:
            if not await wait(self._native.fill()):
                raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Ends it, for everyone who waits. Dropping it does as well."""
        self._native.close()
