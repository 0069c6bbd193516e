"""Tokens whose takers do not get as far as having them: a token that nobody got is still there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import icecore
import pytest
import pytest_asyncio
from icecore.penguiflow import StateStore, _planner
from worlds import place, rounds, seeded


@pytest_asyncio.fixture(params=["memory", "file", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StateStore]:
    url = "memory:" if request.param == "memory" else place(request.param, tmp_path)
    async with StateStore(url, tenant="takes") as store:
        yield store


async def put_back(store: StateStore, token: str) -> dict[str, Any]:
    """Takes it as soon as it is there again."""
    async with asyncio.timeout(30):
        while (payload := await store.load_planner_state(token)) is None:
            await asyncio.sleep(0.001)
    return payload


async def outcome(taking: asyncio.Task[Any]) -> Any:
    """What came of it: the exception, if that is what came."""
    await asyncio.wait([taking])
    return asyncio.CancelledError() if taking.cancelled() else taking.result()


async def test_a_take_that_is_cancelled_did_not_take(store: StateStore) -> None:
    """Nor does it later: one that went on by itself once took what the next turn saved, for a while."""
    rng = seeded("cancelled takes")
    got = 0
    for turn in range(rounds(150, 3_000)):
        await store.save_planner_state("token", {"turn": turn})
        taking = asyncio.create_task(store.load_planner_state("token"))
        if rng.random() < 0.5:
            await asyncio.sleep(rng.uniform(0.0, 0.003))
        else:
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
        taking.cancel()
        payload = await outcome(taking)

        if isinstance(payload, asyncio.CancelledError):
            assert await put_back(store, "token") == {"turn": turn}
        else:
            got += 1
            assert payload == {"turn": turn}
        assert await store.load_planner_state("token") is None
    print(f"{got} were taken before they were cancelled")


async def test_a_take_that_is_cancelled_with_its_answer_there_did_not_take(store: StateStore) -> None:
    """The caller may hold on to the exception, and by its traceback to all that the call had: also to the answer."""
    held = []
    for turn in range(20):
        await store.save_planner_state("token", {"turn": turn})
        taking = asyncio.create_task(store.load_planner_state("token"))
        await asyncio.sleep(0)
        waited_for: asyncio.Future[Any] = taking._fut_waiter  # type: ignore[attr-defined]
        while not waited_for.done():
            await asyncio.sleep(0)
        # The task has not seen it yet.
        taking.cancel()
        del waited_for
        try:
            await taking
        except asyncio.CancelledError as error:
            held.append(error)

        assert await put_back(store, "token") == {"turn": turn}
    assert len(held) == 20


async def test_a_take_that_cannot_be_read_did_not_take(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: bytes) -> Any:
        raise RecursionError("deep in a stack")

    await store.save_planner_state("token", {"turn": 1})
    with monkeypatch.context() as patched:
        patched.setattr(_planner, "decode", failing)
        with pytest.raises(RecursionError):
            await store.load_planner_state("token")

    assert await put_back(store, "token") == {"turn": 1}


async def test_a_token_that_is_saved_anew_while_a_take_is_given_up_is_the_new_one(store: StateStore) -> None:
    """What was put back once came behind the new one, if somebody had taken that meanwhile."""
    for turn in range(rounds(50, 1_000)):
        await store.save_planner_state("token", {"turn": turn, "is": "old"})
        taking = asyncio.create_task(store.load_planner_state("token"))
        await asyncio.sleep(0.0001 * (turn % 10))
        taking.cancel()
        await store.save_planner_state("token", {"turn": turn, "is": "new"})
        payload = await outcome(taking)

        if payload == {"turn": turn, "is": "new"}:
            continue
        # An old one that is put back goes nowhere.
        assert await put_back(store, "token") == {"turn": turn, "is": "new"}
        assert await store.load_planner_state("token") is None


async def test_of_all_that_take_or_discard_one_gets_it(store: StateStore) -> None:
    for turn in range(rounds(30, 500)):
        await store.save_planner_state("token", {"turn": turn})

        calls: list[Any] = [store.discard_planner_state("token") for _ in range(8)]
        if turn % 2:
            calls += [store.load_planner_state("token") for _ in range(8)]
        got = [one for one in await asyncio.gather(*calls) if one]

        assert got in ([True], [{"turn": turn}])
        assert await store.discard_planner_state("token") is False


@pytest.mark.parametrize("kind", ["memory", "file", "sqlite"])
async def test_of_two_savings_of_a_token_the_later_call_counts(kind: str, tmp_path: Path) -> None:
    # The first of them opens the store.
    store = StateStore("memory:" if kind == "memory" else place(kind, tmp_path), tenant="takes")
    for _ in range(20):
        await asyncio.gather(*(store.save_planner_state("token", {"number": number}) for number in range(20)))
        assert await store.load_planner_state("token") == {"number": 19}
    await store.aclose()


async def test_a_token_has_its_time_and_however_long_it_is() -> None:
    shared = icecore.Store("memory:")
    short, long = (StateStore(shared, tenant="takes", pause_ttl=ttl) for ttl in (0.05, 1e12))
    await short.save_planner_state("short", {})
    await long.save_planner_state("long", {})
    await asyncio.sleep(0.1)

    assert await long.load_planner_state("short") is None
    assert await short.load_planner_state("long") == {}
    await shared.aclose()
