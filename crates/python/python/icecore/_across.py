"""Several logs at once: looked at as of one moment, changed together or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from . import _native
from ._call import wait
from ._log import Log
from ._native import Changes, NativeLog, NativeStates, NativeStore, Receipt
from ._state import State
from ._trying import until_first


class States(Mapping[str, State]):
    """The states of several logs, as they were at one moment: by the logs, or by their escaped names, in order."""

    __slots__ = ("_native", "_opened")

    def __init__(self, store: NativeStore, native: NativeStates) -> None:
        self._opened = store
        self._native = native

    def __getitem__(self, log: str | Log) -> State:
        return State(self._native.of(named(self._opened, log)))

    def __contains__(self, log: object) -> bool:
        return (log.name if isinstance(log, Log) else log) in self._native.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._native.names())

    def __len__(self) -> int:
        return len(self._native.names())

    def __repr__(self) -> str:
        return f"States({', '.join(self)})"


Decided: TypeAlias = Mapping[str, Changes] | Mapping[Log, Changes] | Mapping[str | Log, Changes]
"""What is to be committed, by its log or its log's name."""


def named(store: NativeStore, log: str | Log) -> NativeLog:
    """A log, whether it is given itself or by its name."""
    return log._native if isinstance(log, Log) else store.log(log)


def given(store: NativeStore, changes: Decided) -> list[tuple[NativeLog, Changes]]:
    """The changes with their logs."""
    if not isinstance(changes, Mapping):
        raise TypeError(f"changes of several logs are a mapping of logs to Changes, not {type(changes).__name__}")
    return [(named(store, log), one) for log, one in changes.items()]


async def look(store: NativeStore, logs: Iterable[str | Log]) -> States:
    """The states of these logs."""
    if isinstance(logs, str | Log):
        raise TypeError("several logs are a list of them")
    return States(store, await wait(_native.states(store, [named(store, log) for log in logs])))


async def transact(
    store: NativeStore, logs: Iterable[str | Log], decide: Callable[[States], Decided], id: str | None
) -> list[Receipt]:
    """Looks, decides and commits until no log went on meanwhile."""
    logs = logs if isinstance(logs, str | Log) else list(logs)

    async def attempt() -> list[Receipt] | None:
        states = await look(store, logs)
        return await wait(_native.commit_behind(store, states._native, given(store, decide(states)), id))

    return await until_first(attempt, "changing several logs", [])
