"""What is held of a store's history, and what is kept."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from ._call import wait
from ._errors import InvalidError
from ._native import NativeRetention, NativeStore

if TYPE_CHECKING:
    from ._log import Log
    from ._native import Maintained


class Hold(NamedTuple):
    """A reason why history stays: of one log, or of all whose names begin so."""

    name: str
    log: str | None
    prefix: str | None
    from_: int | None
    """From this version on; ``None`` for all that is left."""
    until: datetime | None
    """Later it counts no more; ``None`` until it is released."""
    reason: str


class Policy(NamedTuple):
    """What is kept of the logs whose names begin so. What any of its limits keeps is kept."""

    prefix: str
    keep_commits: int | None = None
    keep_for: timedelta | None = None
    keep_bytes: int | None = None
    kinds: frozenset[str] = frozenset()
    """If any are named, only the bodies of commits that hold nothing but events of these kinds go."""
    delete_idle: timedelta | None = None
    """A log to which nothing was appended for so long is deleted."""


class Retention:
    """What all processes that use a store agree on. Had as ``store.retention``."""

    __slots__ = ("_native",)

    def __init__(self, store: NativeStore) -> None:
        self._native = NativeRetention(store)

    async def hold(
        self,
        name: str,
        log: str | Log | None = None,
        prefix: str | None = None,
        from_: int | None = None,
        until: datetime | None = None,
        reason: str = "",
    ) -> None:
        """Holds history under a name, or moves the hold of that name: from when this returns, none of it is trimmed."""
        if (log is None) == (prefix is None):
            raise InvalidError("a hold is of a log, or of a prefix: name one of them")
        id = log if log is None or isinstance(log, str) else log.name
        await wait(self._native.hold(name, id, prefix or "", from_, until, reason))

    async def release(self, name: str) -> bool:
        """Lets go what is held under a name; whether there was such a hold."""
        return await wait(self._native.release(name))

    async def holds(self) -> list[Hold]:
        """Every hold, in order of the names."""
        return [Hold(*hold) for hold in await wait(self._native.holds())]

    async def set_policy(
        self,
        prefix: str,
        keep_commits: int | None = None,
        keep_for: timedelta | None = None,
        keep_bytes: int | None = None,
        kinds: Iterable[str] = (),
        delete_idle: timedelta | None = None,
    ) -> None:
        """Sets what is kept of the logs whose names begin so."""
        ages = _seconds(keep_for), _seconds(delete_idle)
        await wait(self._native.set_policy(prefix, keep_commits, ages[0], keep_bytes, set(kinds), ages[1]))

    async def remove_policy(self, prefix: str) -> bool:
        """Takes back the policy of a prefix; whether there was one."""
        return await wait(self._native.remove_policy(prefix))

    async def maintain(self) -> Maintained | None:
        """Does what the policies say, and finishes what others left; ``None`` if another process is at it."""
        return await wait(self._native.maintain())

    async def delete_log(self, log: str | Log) -> int:
        """Deletes a log for good; the version of the commit that says so, which stays."""
        return await wait(self._native.delete_log(log if isinstance(log, str) else log.name))

    async def policies(self) -> list[Policy]:
        """Every policy, in order of the prefixes."""
        return [
            Policy(prefix, commits, _age(age), bytes_, frozenset(kinds), _age(idle))
            for prefix, commits, age, bytes_, kinds, idle in await wait(self._native.policies())
        ]


def _seconds(age: timedelta | None) -> int | None:
    if age is not None and age < timedelta():
        raise InvalidError("a length of time is not negative")
    # Never less than was asked for.
    return None if age is None else -(-age // timedelta(seconds=1))


def _age(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
