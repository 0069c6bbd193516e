"""Penguiflow's artifact store: content under an id that follows from it, for as long as its limits say."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Any

from penguiflow.artifacts import ArtifactRef, ArtifactRetentionConfig, ArtifactScope

from .. import _native
from .._call import wait
from .._native import encode_any
from ._values import decode

DEFAULT_SESSION = "default"
"""Where Penguiflow keeps what belongs to no session."""

_FIELDS = ("tenant_id", "user_id", "session_id", "trace_id")


class ArtifactStore:
    """Made by a state store, as its ``artifact_store``.

    An artifact belongs to the tenant, the user and the session of its scope: nothing that is done in another one
    touches it. An id alone does not say whose it is: of several that have it, the one that stored it last is meant.
    """

    def __init__(
        self, store: _native.NativeStore, tenant: str, retention: ArtifactRetentionConfig, timeout: float
    ) -> None:
        self._native = _native.NativeArtifacts(store, tenant, retention, timeout)

    async def put_bytes(
        self,
        data: bytes | bytearray | memoryview,
        *,
        mime_type: str | None = None,
        filename: str | None = None,
        namespace: str | None = None,
        scope: ArtifactScope | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> ArtifactRef:
        """Stores content: it is durable when this returns. What its owner has already keeps its first reference."""
        content = data if isinstance(data, bytes) else bytes(memoryview(data))
        said = _said(mime_type, filename, namespace, scope, meta)
        return ref(await wait(self._native.put(*said, content)))

    async def put_text(
        self,
        text: str,
        *,
        mime_type: str = "text/plain",
        filename: str | None = None,
        namespace: str | None = None,
        scope: ArtifactScope | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> ArtifactRef:
        """Stores a text as UTF-8."""
        return await self.put_bytes(
            text.encode(), mime_type=mime_type, filename=filename, namespace=namespace, scope=scope, meta=meta
        )

    async def put_stream(
        self,
        pieces: AsyncIterable[bytes],
        *,
        mime_type: str | None = None,
        filename: str | None = None,
        namespace: str | None = None,
        scope: ArtifactScope | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> ArtifactRef:
        """Stores content that comes in pieces: a few MiB of it are in memory."""
        said = _said(mime_type, filename, namespace, scope, meta)
        upload = await wait(self._native.upload(*said))
        async for piece in pieces:
            await wait(upload.write(piece))
        return ref(await wait(upload.finish()))

    async def get(self, artifact_id: str) -> bytes | None:
        """The content; ``None`` if there is none, or it has expired. What is damaged is never returned."""
        return await wait(self._native.get(None, artifact_id))

    async def get_with_session_check(self, artifact_id: str, session_id: str) -> bytes | None:
        """The content, if this session has it."""
        return await wait(self._native.get(session_id, artifact_id))

    async def stream(self, artifact_id: str) -> AsyncIterator[bytes]:
        """The content in parts of a few MiB, each checked before it is given; a ``LookupError`` if there is none."""
        reading = await wait(self._native.read(artifact_id))
        if reading is None:
            raise LookupError(f"there is no artifact {artifact_id!r}")
        while (part := await wait(reading.next())) is not None:
            yield part

    async def get_ref(self, artifact_id: str) -> ArtifactRef | None:
        """What was said of it when it was stored."""
        found = await wait(self._native.find(artifact_id))
        return None if found is None else ref(found)

    async def delete(self, artifact_id: str) -> bool:
        """Deletes it; whether it was there."""
        return await wait(self._native.delete(artifact_id))

    async def exists(self, artifact_id: str) -> bool:
        """Whether it is there."""
        return await wait(self._native.find(artifact_id)) is not None

    async def list(self, *, scope: ArtifactScope | None = None) -> list[ArtifactRef]:
        """Those whose scope has all that is asked for; of a session in the order in which they came."""
        session = None if scope is None else scope.session_id
        refs = [ref(found) for found in await wait(self._native.list(session))]
        return refs if scope is None else [one for one in refs if _is_within(one.scope, scope)]

    async def clear_session(self, session_id: str) -> int:
        """Deletes all of a session; how many there were."""
        return await wait(self._native.clear(session_id))

    async def clear(self) -> int:
        """Deletes all of the tenant; how many there were."""
        return await wait(self._native.clear(None))

    async def sweep(self) -> int:
        """Deletes the content of what has expired, and what killed processes left; how many had expired."""
        return await wait(self._native.sweep())

    async def settle(self) -> None:
        """Waits until it is written which artifacts were read: that decides which one makes room."""
        await wait(self._native.settle())


_Said = tuple[tuple[str | None, str | None, str], str | None, str | None, bytes]


def _said(
    mime_type: str | None,
    filename: str | None,
    namespace: str | None,
    scope: ArtifactScope | None,
    meta: Mapping[str, Any] | None,
) -> _Said:
    fields = None if scope is None else {name: getattr(scope, name) for name in _FIELDS}
    about = {
        "mime_type": mime_type,
        "filename": filename,
        "namespace": namespace,
        "scope": fields,
        "source": dict(meta or {}),
    }
    scope = scope or ArtifactScope()
    session = DEFAULT_SESSION if scope.session_id is None else scope.session_id
    return (scope.tenant_id, scope.user_id, session), namespace, scope.trace_id, encode_any(about)


def ref(found: tuple[str, int, str, bytes]) -> ArtifactRef:
    """A reference, as it is stored."""
    artifact_id, size, sha256, about = found
    said = decode(about)
    return ArtifactRef(
        id=artifact_id,
        mime_type=said["mime_type"],
        size_bytes=size,
        filename=said["filename"],
        sha256=sha256,
        scope=None if said["scope"] is None else ArtifactScope(**said["scope"]),
        namespace=said["namespace"],
        source=said["source"],
    )


def _is_within(own: ArtifactScope | None, asked: ArtifactScope) -> bool:
    wanted: builtins.list[tuple[str, str]] = [(name, getattr(asked, name)) for name in _FIELDS]
    return all(value is None or getattr(own, name, None) == value for name, value in wanted)
