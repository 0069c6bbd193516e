"""Penguiflow's own artifact stores, but for what ours does otherwise on purpose; and calls of them, made at random."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from penguiflow.artifacts import ArtifactRef, ArtifactRetentionConfig, ArtifactScope, InMemoryArtifactStore

Call: TypeAlias = Callable[[Any], Coroutine[Any, Any, Any]]
Owner: TypeAlias = tuple[str | None, str | None, str]


class Owned(InMemoryArtifactStore):
    """One owner's, by Penguiflow's store: but fifo is the order in which they came, and a trace has its limits."""

    def __init__(self, retention: ArtifactRetentionConfig) -> None:
        super().__init__(retention)
        self.came: list[str] = []

    async def put_bytes(self, data: bytes, **said: Any) -> ArtifactRef:
        probe: ArtifactRef = await InMemoryArtifactStore(self._retention).put_bytes(data, namespace=said["namespace"])
        scope = said["scope"]
        if probe.id not in self._artifacts and scope is not None and scope.trace_id is not None:
            await self.make_room(scope.trace_id, len(data))
        ref: ArtifactRef = await super().put_bytes(data, **said)
        self.came = [one for one in self.came if one in self._artifacts]
        if ref.id not in self.came:
            self.came.append(ref.id)
        self.order()
        return ref

    async def make_room(self, trace: str, incoming: int) -> None:
        limits = self._retention
        while limits.cleanup_strategy != "none":
            own = [one for one in self._artifacts.values() if one.ref.scope and one.ref.scope.trace_id == trace]
            size = incoming + sum(len(one.data) for one in own)
            if not own or (len(own) < limits.max_artifacts_per_trace and size <= limits.max_trace_bytes):
                return
            await self.delete(own[0].ref.id)

    async def get(self, artifact_id: str) -> bytes | None:
        data: bytes | None = await super().get(artifact_id)
        self.order()
        return data

    async def delete(self, artifact_id: str) -> bool:
        if artifact_id in self.came:
            self.came.remove(artifact_id)
        was_there: bool = await super().delete(artifact_id)
        return was_there

    def order(self) -> None:
        if self._retention.cleanup_strategy == "fifo":
            for artifact_id in self.came:
                self._artifacts.move_to_end(artifact_id)


class Reference:
    """Those of all owners: nobody touches what is another's, and of an id the last that stored it is meant."""

    def __init__(self, retention: ArtifactRetentionConfig) -> None:
        self.retention = retention
        self.stores: dict[Owner, Owned] = {}
        self.holders: dict[str, list[Owner]] = {}

    async def put_bytes(self, data: bytes, *, scope: ArtifactScope | None = None, **said: Any) -> ArtifactRef:
        own = scope or ArtifactScope()
        owner = (own.tenant_id, own.user_id, own.session_id if own.session_id is not None else "default")
        store = self.stores.setdefault(owner, Owned(self.retention))
        ref = await store.put_bytes(data, scope=scope, **said)
        holders = self.holders.setdefault(ref.id, [])
        if owner in holders:
            holders.remove(owner)
        holders.append(owner)
        return ref

    async def put_text(self, text: str, **said: Any) -> ArtifactRef:
        return await self.put_bytes(text.encode(), **{"mime_type": "text/plain", **said})

    async def of(self, artifact_id: str) -> Owned | None:
        for owner in reversed(self.holders.get(artifact_id, [])):
            if await self.stores[owner].exists(artifact_id):
                return self.stores[owner]
        return None

    async def get(self, artifact_id: str) -> bytes | None:
        store = await self.of(artifact_id)
        return None if store is None else await store.get(artifact_id)

    async def get_ref(self, artifact_id: str) -> ArtifactRef | None:
        store = await self.of(artifact_id)
        return None if store is None else await store.get_ref(artifact_id)

    async def exists(self, artifact_id: str) -> bool:
        return await self.of(artifact_id) is not None

    async def delete(self, artifact_id: str) -> bool:
        store = await self.of(artifact_id)
        return store is not None and await store.delete(artifact_id)

    async def get_with_session_check(self, artifact_id: str, session_id: str) -> bytes | None:
        stores = [store for owner, store in self.stores.items() if owner[2] == session_id]
        for store in stores:
            if await store.exists(artifact_id):
                return await store.get(artifact_id)
        return None

    async def list(self, *, scope: ArtifactScope | None = None) -> list[ArtifactRef]:
        return [ref for store in self.stores.values() for ref in await store.list(scope=scope)]

    async def clear_session(self, session_id: str) -> int:
        count = 0
        for owner, store in self.stores.items():
            if owner[2] == session_id:
                count += store.count
                store.clear()
        return count


class ArtifactCalls:
    """Calls that meet one another: few owners, few contents."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.ids = ["art_000000000000", ""]

    def retention(self) -> ArtifactRetentionConfig:
        some = self.rng.choice
        return ArtifactRetentionConfig(
            ttl_seconds=some([0, 3600]),
            max_artifact_bytes=some([1_000, 40]),
            max_session_bytes=some([10_000, 100, 30]),
            max_trace_bytes=some([10_000, 60, 20]),
            max_artifacts_per_trace=some([100, 3, 1]),
            max_artifacts_per_session=some([1_000, 5, 2]),
            cleanup_strategy=some(["lru", "lru", "fifo", "none"]),
        )

    def scope(self) -> ArtifactScope | None:
        some = self.rng.choice
        if self.rng.random() < 0.1:
            return None
        return ArtifactScope(
            tenant_id=some([None, "a"]),
            user_id=some([None, None, "u", "u/ü"]),
            session_id=some([None, "default", "s", "s:é\0"]),
            trace_id=some([None, "t-1", "t-2"]),
        )

    def put(self) -> Call:
        some, scope = self.rng.choice, self.scope()
        text = some("abcdefgh") * some([0, 1, 10, 20, 30, 41])
        said = {
            "filename": some([None, "a", "\ud800"]),
            "namespace": some([None, "", "n.a", "n-a"]),
            "meta": some([None, {"a": [1, 1.0, None, {"$": "é"}]}]),
            "scope": scope,
        }
        if self.rng.random() < 0.2:
            return lambda store: store.put_text(text, **said)
        return lambda store: store.put_bytes(text.encode(), mime_type="x/y", **said)

    def other(self) -> Call:
        some, scope, artifact_id = self.rng.choice, self.scope(), self.rng.choice(self.ids)
        session = some(["default", "s", "s:é\0", "nobody"])
        calls: list[Call] = [
            *[lambda store: store.get(artifact_id)] * 4,
            lambda store: store.get_ref(artifact_id),
            lambda store: store.exists(artifact_id),
            lambda store: store.delete(artifact_id),
            lambda store: store.get_with_session_check(artifact_id, session),
            *[lambda store: store.list(scope=scope)] * 3,
        ]
        if self.rng.random() < 0.03:
            return lambda store: store.clear_session(session)
        call: Call = some(calls)
        return call


async def answer(call: Call, store: Any) -> Any:
    """What a call answers, also if it is refused: of a list what is in it, whatever its order."""
    try:
        found = await call(store)
    except ValueError:
        return "ValueError"
    if isinstance(found, list):
        return sorted((ref.model_dump() for ref in found), key=repr)
    return found
