"""Artifacts: calls at random, of ours and of Penguiflow's own; pieces; processes that are killed, or race."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import icecore
import pytest
from artifacts import ArtifactCalls, Reference, answer
from icecore.penguiflow import StateStore
from penguiflow.artifacts import ArtifactRef, ArtifactRetentionConfig, ArtifactScope
from worlds import URLS, Board, Child, place, rounds, seeded, unique, wait_until


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_artifacts_answer_as_penguiflow_s_own(kind: str, tmp_path: Path) -> None:
    rng = seeded(f"artifacts {kind}")
    url = "memory:" if kind == "memory" else f"file:{tmp_path}/store"
    shared = icecore.Store(url)
    for _ in range(rounds(6, 60)):
        calls, tenant = ArtifactCalls(rng), unique("artifacts")
        retention = calls.retention()
        store = StateStore(shared, tenant=tenant, artifact_retention=retention)
        reference = Reference(retention)
        for step in range(rounds(150, 400)):
            chance = rng.random()
            if chance < 0.02:
                await store.aclose()
                if kind == "file":
                    await shared.aclose()
                    shared = icecore.Store(url)
                store = StateStore(shared, tenant=tenant, artifact_retention=retention)
                continue
            call = calls.put() if chance < 0.5 else calls.other()
            wanted = await answer(call, reference)
            found = await answer(call, store.artifact_store)
            if isinstance(wanted, ArtifactRef):
                calls.ids.append(wanted.id)
            assert found == wanted, (step, retention)
        await store.aclose()
    await shared.aclose()


async def test_content_comes_and_goes_in_pieces() -> None:
    async with StateStore("memory:", tenant="acme") as store:
        whole = bytes(range(256)) * 40_000

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(whole), 1_000_000):
                yield whole[start : start + 1_000_000]

        ref = await store.artifact_store.put_stream(pieces(), filename="a", scope=ArtifactScope(session_id="s"))

        assert ref.sha256 == hashlib.sha256(whole).hexdigest()
        parts = [part async for part in store.artifact_store.stream(ref.id)]
        assert len(parts) > 1 and b"".join(parts) == whole
        assert await store.artifact_store.get(ref.id) == whole
        # Any bytes will do.
        assert (await store.artifact_store.put_bytes(bytearray(whole), scope=ref.scope)) == ref
        with pytest.raises(LookupError):
            await anext(store.artifact_store.stream("art_none"))


async def test_a_capability_that_is_not_wanted_is_absent() -> None:
    async with StateStore.without("artifacts")("memory:", tenant="acme") as store:
        assert not hasattr(store, "artifact_store")


async def test_a_cancelled_put_leaves_all_of_it_or_nothing() -> None:
    async with StateStore("memory:", tenant="acme") as store:
        artifacts = store.artifact_store
        for number in range(60):
            data = f"{number}".encode() * 100_000
            scope = ArtifactScope(session_id=f"s-{number}")
            put = asyncio.create_task(artifacts.put_bytes(data, scope=scope))
            await asyncio.sleep(number / 20_000)
            put.cancel()
            await asyncio.wait([put])
            for ref in await artifacts.list(scope=scope):
                assert await artifacts.get(ref.id) == data
            # What was begun stands in nobody's way.
            ref = await artifacts.put_bytes(data, scope=scope)
            assert await artifacts.get(ref.id) == data


@pytest.mark.parametrize("kind", URLS)
async def test_what_a_killed_process_was_told_is_there(kind: str, tmp_path: Path) -> None:
    rng = seeded(f"artifacts killed {kind}")
    for number in range(rounds(3, 25)):
        folder = tmp_path / str(number)
        folder.mkdir()
        url, tenant, board = place(kind, folder), unique("artifacts"), Board(folder / "board")
        with Child("artifacts", url, tenant, folder / "board") as child:
            wait_until(lambda board=board: board.count > 0, "the first artifact")
            time.sleep(rng.uniform(0.0, 0.3))
            child.kill()
        async with StateStore(url, tenant=tenant) as store:
            refs = await store.artifact_store.list()
            for ref in refs:
                data = await store.artifact_store.get(ref.id)
                assert data is not None and hashlib.sha256(data).hexdigest() == ref.sha256
            # All of which it was told, and at most the one that was under way.
            assert sorted(int(ref.filename or -1) for ref in refs) in (
                list(range(board.count)),
                list(range(board.count + 1)),
            )


@pytest.mark.parametrize("kind", [kind for kind in URLS if kind != "file"])
async def test_processes_that_store_at_once_never_exceed_the_limits(kind: str, tmp_path: Path) -> None:
    url, tenant = place(kind, tmp_path), unique("artifacts")
    limits = ArtifactRetentionConfig(max_artifacts_per_session=5, cleanup_strategy="fifo")
    async with StateStore(url, tenant=tenant, artifact_retention=limits) as store:
        await store.artifact_store.put_bytes(b"first", filename="first", scope=ArtifactScope(session_id="s"))
        children = [Child("limited", url, tenant, worker, 15) for worker in range(3)]
        try:
            most = 0
            while any(child.process.poll() is None for child in children):
                most = max(most, len(await store.artifact_store.list()))
                await asyncio.sleep(0.005)
            assert most <= 5
            told = [child.end()[0].split() for child in children]
        finally:
            for child in children:
                child.__exit__(None, None, None)
        assert [len(one) for one in told] == [15, 15, 15]
        left = {ref.filename for ref in await store.artifact_store.list()}
        assert len(left) == 5
        # Each that is left is newer than any of the same process that is gone.
        for one in told:
            places = [place for place, name in enumerate(one) if name in left]
            assert places == list(range(15 - len(places), 15))
