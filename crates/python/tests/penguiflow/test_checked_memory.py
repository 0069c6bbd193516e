"""Memory that is saved only over what its writer knows: of changes in any number of processes none is lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import icecore
import pytest
from icecore.penguiflow import StateConflictError, StateStore
from penguiflow.sessions.session_kv import SessionKVFacade
from worlds import URLS, place, rounds, run, unique

KEY = "acme:ada:s-1"
WHO = {"tenant_id": "acme", "user_id": "ada", "session_id": "s-1", "task_id": "t-1", "trace_id": "r-1"}


@pytest.fixture(params=["memory", *URLS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory" else place(request.param, tmp_path)


async def test_a_state_is_saved_only_over_what_is_expected(url: str) -> None:
    async with StateStore(url, tenant=unique("acme")) as store:
        assert await store.load_memory_state_with_etag(KEY) is None
        first = await store.save_memory_state_if(KEY, {"n": 1, "text": "é" * 5_000}, expect=None)
        found = await store.load_memory_state_with_etag(KEY)
        assert found == ({"n": 1, "text": "é" * 5_000}, first)
        second = await store.save_memory_state_if(KEY, {"n": 2, "text": "é" * 5_000}, expect=first)
        assert await store.load_memory_state_with_etag(KEY) == ({"n": 2, "text": "é" * 5_000}, second)
        for stale in (None, first):
            with pytest.raises(StateConflictError) as conflict:
                await store.save_memory_state_if(KEY, {"n": 3}, expect=stale)
            assert conflict.value.found == ({"n": 2, "text": "é" * 5_000}, second)
            assert isinstance(conflict.value, icecore.ConflictError)
        # Of another key, whatever there is.
        with pytest.raises(StateConflictError) as conflict:
            await store.save_memory_state_if("other", {}, expect=second)
        assert conflict.value.found is None
        # A plain save is another state too, also of the same value; and so is one behind a deletion.
        await store.save_memory_state(KEY, {"n": 2, "text": "é" * 5_000})
        with pytest.raises(StateConflictError):
            await store.save_memory_state_if(KEY, {"n": 3}, expect=second)
        await store.delete_session("s-1")
        with pytest.raises(StateConflictError):
            await store.save_memory_state_if(KEY, {"n": 3}, expect=second)
        again = await store.save_memory_state_if(KEY, {"n": 1, "text": "é" * 5_000}, expect=None)
        assert again not in (first, second)


@pytest.mark.parametrize(
    "etag", ["", "1", "-", "1-", "x-0123456789abcdef", "1-0123", "\ud800", f"{1 << 70}-{'0' * 16}"]
)
async def test_what_is_no_etag_is_refused(etag: str) -> None:
    async with StateStore("memory:", tenant="acme") as store:
        await store.save_memory_state(KEY, {"n": 1})
        with pytest.raises(icecore.InvalidError):
            await store.save_memory_state_if(KEY, {"n": 2}, expect=etag)
        assert await store.load_memory_state(KEY) == {"n": 1}


async def test_a_plain_save_at_the_same_moment_is_seen(url: str) -> None:
    async with StateStore(url, tenant=unique("acme")) as store:
        for number in range(rounds(20, 200)):
            key = f"a:b:{number}"
            etag, _ = await asyncio.gather(
                store.save_memory_state_if(key, {"by": "one"}, expect=None),
                store.save_memory_state(key, {"by": "another"}),
                return_exceptions=True,
            )
            found = await store.load_memory_state_with_etag(key)
            assert found is not None
            if isinstance(etag, str):
                # It was saved; if it is not there any more, its etag says so, though both came in one commit.
                assert (found.etag == etag) == (found.state == {"by": "one"})
            else:
                assert isinstance(etag, StateConflictError) and found.state == {"by": "another"}


WORKER = """
import asyncio, sys
from icecore.penguiflow import StateConflictError, StateStore
from penguiflow.sessions.session_kv import SessionKVFacade

async def main(url, tenant, name, count):
    who = {"tenant_id": "acme", "user_id": "ada", "session_id": "s-1", "task_id": "t-1", "trace_id": "r-1"}
    async with StateStore(url, tenant=tenant) as store:
        for number in range(count):
            await store.update_memory_state("acme:ada:s-1", lambda state: {**(state or {}), f"{name}-{number}": number})
            while True:
                kv = SessionKVFacade(
                    state_store=store.checked_memory(), artifacts=store.artifact_store, tool_context=dict(who)
                )
                try:
                    await kv.patch("cart", {f"{name}-{number}": number}, namespace="shop")
                except StateConflictError:
                    continue
                break

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
"""


@pytest.mark.parametrize("kind", URLS[1:])
async def test_of_two_processes_that_change_one_key_no_change_is_lost(kind: str, tmp_path: Path) -> None:
    url, tenant, count = place(kind, tmp_path), unique("acme"), rounds(20, 200)
    async with StateStore(url, tenant=tenant) as store:
        await store.open()
        await asyncio.gather(
            *(asyncio.to_thread(run, WORKER, url, tenant, name, count) for name in ("one", "two")),
        )
        everything = {f"{name}-{number}": number for name in ("one", "two") for number in range(count)}
        assert await store.load_memory_state(KEY) == everything
        kv = SessionKVFacade(state_store=store, artifacts=store.artifact_store, tool_context=dict(WHO))
        assert await kv.get("cart", namespace="shop") == everything


CART = Path(__file__).parents[4] / "examples/session_kv/cart.py"


@pytest.mark.parametrize("kind", URLS[1:])
def test_the_example_loses_nothing_with_two_processes(kind: str, tmp_path: Path) -> None:
    environment = {**os.environ, "ICECORE_STORE": place(kind, tmp_path), "ICECORE_TENANT": unique("shop")}
    count = rounds(20, 100)

    def start(worker: str, count: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", str(CART), worker, str(count)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    # So that both begin with a store that is there.
    start("none", 1).communicate(timeout=60)
    workers = [start(worker, count) for worker in ("one", "two")]
    for worker in workers:
        worker.communicate(timeout=120)
        assert worker.returncode == 0
    told, _ = start("last", 0).communicate(timeout=60)
    assert told == f"last put 0 in, 0 of them again; there are {2 * count + 1}, counted {2 * count + 1}\n"


async def test_a_change_of_a_session_value_that_another_was_between_is_refused() -> None:
    async with StateStore("memory:", tenant="acme") as store:

        def kv(memory: Any) -> SessionKVFacade:
            return SessionKVFacade(state_store=memory, artifacts=store.artifact_store, tool_context=dict(WHO))

        await kv(store.checked_memory()).set("cart", {"tea": 1}, namespace="shop")
        checked = store.checked_memory()
        key = "kv:v1:acme:ada:s-1:session:shop:cart"
        row = await checked.load_memory_state(key)
        assert row is not None
        await kv(store).patch("cart", {"milk": 1}, namespace="shop")
        with pytest.raises(StateConflictError) as conflict:
            await checked.save_memory_state(key, row)
        assert conflict.value.found is not None
        assert conflict.value.found.state["value"]["inline"] == {"tea": 1, "milk": 1}
        with pytest.raises(ValueError, match="load"):
            await store.checked_memory().save_memory_state(key, row)
