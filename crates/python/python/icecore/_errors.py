"""The errors: one class a kind, and the kind says what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class Error(Exception):
    """What failed. ``str()`` is one sentence; it holds no stored value, no password and no key."""

    kind: ClassVar[str] = ""
    facts: list[tuple[str, str]]
    """Named facts, in order; a name may come several times."""
    advice: str | None
    """What to do."""

    def __init__(self, message: str, facts: Iterable[tuple[str, str]] = (), advice: str | None = None) -> None:
        super().__init__(message)
        self.facts = list(facts)
        self.advice = advice

    def fact(self, name: str) -> str | None:
        """The first fact of this name."""
        return next((value for known, value in self.facts if known == name), None)

    def __reduce__(self) -> tuple[type[Error], tuple[str, list[tuple[str, str]], str | None]]:
        return type(self), (str(self), self.facts, self.advice)


class InvalidError(Error, ValueError):
    """The request can never succeed as it is: correct the caller."""

    kind = "invalid"


class ConflictError(Error):
    """A condition does not hold: reload, decide again, retry."""

    kind = "conflict"


class NotFoundError(Error, LookupError):
    """There is no such store, log, document or version."""

    kind = "not_found"


class UnavailableError(Error):
    """Nothing was written: retry."""

    kind = "unavailable"


class UnknownOutcomeError(Error):
    """It may have been written: retry with the same id, or resolve it by its id."""

    kind = "unknown"


class RefusedError(Error):
    """A lock, a limit, a closed log or a missing capability forbids it: do not retry as it is."""

    kind = "refused"


class CorruptError(Error):
    """Stored bytes fail their checks: stop, and restore."""

    kind = "corrupt"


CLASSES: dict[str, type[Error]] = {
    error.kind: error
    for error in (
        InvalidError,
        ConflictError,
        NotFoundError,
        UnavailableError,
        UnknownOutcomeError,
        RefusedError,
        CorruptError,
    )
}


def made(kind: str, message: str, facts: list[tuple[str, str]], advice: str | None) -> Error:
    """The exception of an error of the native half."""
    return CLASSES[kind](message, facts, advice)
