"""How long a call waits: for room, for others of its batch, for a system that is away."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icecore
import pytest
from calls import HAS_CONVERSATIONS
from icecore.penguiflow import StateStore
from penguiflow.state import RemoteBinding
from worlds import AWAY, numbered, numbers, of_trace, place, rounds


@pytest.mark.parametrize("linger", [0.0, 1e9, 1.8e19])
async def test_any_time_may_be_given_for_a_batch(linger: float) -> None:
    """A moment that is too far away to be counted once took the process's writer with it."""
    async with asyncio.timeout(30), StateStore("memory:", tenant="waiting", linger=linger) as store:
        for number in range(30):
            await store.save_event(numbered(number))
        await store.flush()
        for number in range(30, 60):
            await store.save_event(numbered(number))

        for trace in range(3):
            assert numbers(await store.load_history(f"trace/{trace}")) == of_trace(trace, 60)


@pytest.mark.parametrize("option", ["linger", "timeout", "pause_ttl"])
@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
async def test_what_is_no_time_is_refused(option: str, seconds: float) -> None:
    with pytest.raises(icecore.InvalidError, match="seconds"):
        store = StateStore("memory:", tenant="waiting", **{option: seconds})  # type: ignore[arg-type]
        await store.save_planner_state("token", {})


async def test_who_waits_for_room_does_not_wait_for_others_of_the_batch() -> None:
    """Whoever could add to it waits for room: nobody comes."""
    async with StateStore("memory:", tenant="waiting", linger=1_000.0, buffer_bytes=1_000) as store:
        async with asyncio.timeout(30):
            for number in range(300):
                await store.save_event(numbered(number))

        for trace in range(3):
            assert numbers(await store.load_history(f"trace/{trace}")) == of_trace(trace, 300)


async def test_while_the_system_is_away_callers_wait_and_then_are_told_so(tmp_path: Path) -> None:
    store = StateStore(AWAY, tenant="waiting", buffer_bytes=1_500, timeout=0.2)
    outcomes = []
    for number in range(20):
        try:
            await store.save_event(numbered(number))
            outcomes.append("accepted")
        except icecore.UnavailableError as error:
            assert "no-folder" in str(error)
            outcomes.append("kept" if "is kept" in str(error) else "refused")

    # First there is room; then they wait in vain, but are kept; then there is too much.
    assert [one for one, other in zip(outcomes, ["", *outcomes], strict=False) if one != other] == [
        "accepted",
        "kept",
        "refused",
    ]
    with pytest.raises(icecore.UnavailableError) as told:
        await store.aclose()
    assert told.value.fact("lost") == str(20 - outcomes.count("refused"))


READS: list[Callable[[StateStore], Any]] = [
    lambda store: store.load_history("t"),
    lambda store: store.load_memory_state("k"),
    lambda store: store.list_tasks("s"),
]


@pytest.mark.parametrize("read", READS)
async def test_a_read_that_takes_too_long_says_why_and_that_it_changed_nothing(
    read: Callable[[StateStore], Any],
) -> None:
    store = StateStore(AWAY, tenant="waiting", timeout=0.2)
    await store.save_event(numbered(0))

    with pytest.raises(icecore.UnavailableError, match="no-folder"):
        await read(store)

    with pytest.raises(icecore.UnavailableError):
        await store.aclose()


async def test_what_is_accepted_while_somebody_counts_is_counted() -> None:
    """What waits was once asked before what is written: more was written in between, and the difference was below 0."""
    store = StateStore("memory:", tenant="waiting", linger=0.0)
    is_over = threading.Event()
    counts: list[int] = []

    def count() -> None:
        while not is_over.is_set():
            counts.append(store._native.unsettled())

    counting = threading.Thread(target=count)
    counting.start()
    end = time.monotonic() + rounds(1, 20) * 0.5
    number = 0
    while time.monotonic() < end:
        for _ in range(20):
            await store.save_event(numbered(number))
            number += 1
        await asyncio.sleep(0)
    is_over.set()
    await asyncio.to_thread(counting.join)
    await store.aclose()

    assert min(counts) >= 0
    assert max(counts) <= number
    assert store._native.unsettled() == 0


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_of_calls_about_one_binding_the_last_counts(kind: str, tmp_path: Path) -> None:
    """A binding is in two logs: two calls at once must not leave one of each."""
    if not HAS_CONVERSATIONS:
        pytest.skip("Penguiflow 3.6 only saves bindings")
    for turn in range(rounds(20, 300)):
        # The calls open it.
        url = "memory:" if kind == "memory" else f"{place(kind, tmp_path)}-{turn}"
        store = StateStore(url, tenant="waiting")
        key: dict[str, Any] = {"trace_id": "trace", "context_id": None, "task_id": "task"}
        begun = RemoteBinding(**key, agent_url="agent", router_session_id="first", remote_skill="skill")
        moved = dataclasses.replace(begun, router_session_id="second", metadata={"turn": turn})
        calls = [store.save_remote_binding(begun) for _ in range(3)]
        calls += [store.save_remote_binding(moved)]
        if turn % 2:
            calls += [store.mark_binding_terminal(**key)]

        await asyncio.gather(*calls)

        assert await store.list_bindings(router_session_id="first") == []
        wanted = dataclasses.replace(moved, is_terminal=bool(turn % 2))
        assert await store.list_bindings(router_session_id="second") == [wanted]
        await store.aclose()
