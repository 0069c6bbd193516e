"""Our artifact store as Penguiflow's tests meet its own two: made alone, and asked for sums without awaiting."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from icecore.penguiflow import ArtifactStore
from penguiflow.artifacts import ArtifactRef, ArtifactRetentionConfig, ArtifactScope


def swapped_artifacts(state_store: Any) -> Any:
    """A class for the place of Penguiflow's artifact stores; each belongs to a state store, which is counted."""

    class SwappedArtifacts(ArtifactStore):
        def __init__(
            self,
            retention: ArtifactRetentionConfig | None = None,
            scope_filter: ArtifactScope | None = None,
            state: Any = None,
        ) -> None:
            self.state = state_store(artifact_retention=retention) if state is None else state
            self.state._artifacts = self
            self.scope_filter = scope_filter
            super().__init__(self.state.icecore._native, self.state.tenant, self.state._artifact_retention, 10.0)

        async def put_bytes(self, data: Any, *, scope: ArtifactScope | None = None, **said: Any) -> ArtifactRef:
            self.state.swap_given.calls += 1
            return await super().put_bytes(data, scope=scope or self.scope_filter, **said)

        async def get(self, artifact_id: str) -> bytes | None:
            self.state.swap_given.calls += 1
            return await super().get(artifact_id)

        # What is no coroutine function there is asked in a loop and a thread of its own.

        def all(self) -> list[ArtifactRef]:
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(lambda: asyncio.run(self.list())).result(20)

        @property
        def count(self) -> int:
            return len(self.all())

        @property
        def total_bytes(self) -> int:
            return sum(ref.size_bytes or 0 for ref in self.all())

        def clear(self) -> int:  # type: ignore[override]
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(lambda: asyncio.run(ArtifactStore.clear(self))).result(20)

        def clear_session(self, session_id: str) -> int:  # type: ignore[override]
            with ThreadPoolExecutor(1) as thread:
                clear = ArtifactStore.clear_session
                return thread.submit(lambda: asyncio.run(clear(self, session_id))).result(20)

    return SwappedArtifacts
