"""The documents of a log at a version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ._native import Document, NativeState


class DocumentPage(NamedTuple):
    """Some documents of a log, in order of their keys."""

    version: int
    """The version at which they were read; 0 of a log without commits."""
    documents: dict[str, Document]
    """The documents by their keys."""
    has_more: bool
    """Whether there may be more behind the last."""


class State(Mapping[str, Any]):
    """A mapping from keys to values.

    A value is parsed when it is asked for, anew each time: changing it changes nothing here.
    """

    __slots__ = ("_native",)

    def __init__(self, native: NativeState) -> None:
        self._native = native

    @property
    def version(self) -> int:
        """The version; 0 before the first commit."""
        return self._native.version

    @property
    def at(self) -> datetime | None:
        """When its last commit was made."""
        return self._native.at

    @property
    def expires_at(self) -> datetime | None:
        """From when on the whole log is gone, if nothing is appended before; ``None`` if it stays."""
        return self._native.expires_at

    @property
    def sliding(self) -> timedelta | None:
        """How long after its last append the log is gone, if that was said of it."""
        return self._native.sliding

    def document(self, key: str) -> Document | None:
        """A document, with the commit that changed it last."""
        return self._native.document(key)

    def raw(self, key: str) -> bytes:
        """The JSON text of a document: as it was put, to the byte."""
        return self._existing(key).raw

    def under(self, prefix: str) -> list[str]:
        """The keys that begin so, in their order."""
        return self._native.keys(prefix)

    def __getitem__(self, key: str) -> Any:
        return self._existing(key).json()

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._native.document(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._native.keys(""))

    def __len__(self) -> int:
        return len(self._native)

    def __repr__(self) -> str:
        return f"State(version={self.version}, <{len(self)} documents>)"

    def _existing(self, key: str) -> Document:
        document = self._native.document(key)
        if document is None:
            raise KeyError(key)
        return document
