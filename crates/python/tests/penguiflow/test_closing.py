"""Stores that are closed or dropped: what was accepted is written, and who comes later is told."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import icecore
import pytest
from children import task, update
from icecore.penguiflow import StateStore
from penguiflow.planner import PlannerEvent, Trajectory
from penguiflow.state import SteeringEvent, SteeringEventType
from worlds import AWAY, all_of, kept, numbered, place, unique


async def test_an_object_that_is_dropped_writes_what_it_accepted_and_lets_go_of_the_store(tmp_path: Path) -> None:
    url = place("file", tmp_path)
    store = StateStore(url, tenant="ends", linger=0.5)
    for number in range(300):
        await store.save_event(numbered(number))

    del store
    gc.collect()

    # The folder has one writer: another can open it once the first has written and is gone.
    async with asyncio.timeout(30):
        while True:
            try:
                assert await kept(url, "ends") == all_of(300)
                return
            except icecore.RefusedError:
                await asyncio.sleep(0.05)


CALLS: dict[str, Callable[[StateStore], Coroutine[Any, Any, Any]]] = {
    "save_event": lambda store: store.save_event(numbered(0)),
    "load_history": lambda store: store.load_history("t"),
    "save_planner_state": lambda store: store.save_planner_state("t", {}),
    "load_planner_state": lambda store: store.load_planner_state("t"),
    "discard_planner_state": lambda store: store.discard_planner_state("t"),
    "save_memory_state": lambda store: store.save_memory_state("k", {}),
    "load_memory_state": lambda store: store.load_memory_state("k"),
    "save_task": lambda store: store.save_task(task("s", "t", "")),
    "list_tasks": lambda store: store.list_tasks("s"),
    "save_update": lambda store: store.save_update(update("s", "t", "u")),
    "list_updates": lambda store: store.list_updates("s"),
    "save_steering": lambda store: store.save_steering(
        SteeringEvent(session_id="s", task_id="t", event_type=SteeringEventType.CANCEL)
    ),
    "list_steering": lambda store: store.list_steering("s"),
    "save_trajectory": lambda store: store.save_trajectory("t", "s", Trajectory(query="q")),
    "get_trajectory": lambda store: store.get_trajectory("t", "s"),
    "list_traces": lambda store: store.list_traces("s"),
    "save_planner_event": lambda store: store.save_planner_event("t", PlannerEvent("e", 1.0, 0)),
    "list_planner_events": lambda store: store.list_planner_events("t"),
    "list_bindings": lambda store: store.list_bindings(router_session_id="s"),
}


@pytest.mark.parametrize("durability", ["buffered", "durable"])
@pytest.mark.parametrize("name", CALLS)
async def test_a_store_that_was_closed_says_so(name: str, durability: Any) -> None:
    store = StateStore("memory:", tenant="ends", durability=durability)
    await CALLS[name](store)
    await store.aclose()
    await store.aclose()

    with pytest.raises(icecore.RefusedError, match="closed: open another"):
        await CALLS[name](store)


async def test_closing_a_store_whose_system_is_away_says_what_is_lost_and_ends() -> None:
    store = StateStore(AWAY, tenant="ends")
    for number in range(3):
        await store.save_event(numbered(number))

    async with asyncio.timeout(30):
        with pytest.raises(icecore.UnavailableError, match="no-folder") as told:
            await store.aclose()

    assert told.value.fact("lost") == "3"
    # It was told once.
    await store.flush()


async def test_what_was_accepted_for_a_store_that_was_closed_first_is_told(tmp_path: Path) -> None:
    shared = icecore.Store(place("file", tmp_path))
    store = StateStore(shared, tenant=unique("ends"))
    await store.save_event(numbered(0))
    await store.flush()
    await shared.aclose()
    await store.save_event(numbered(1))

    async with asyncio.timeout(30):
        with pytest.raises(icecore.RefusedError, match="closed") as told:
            await store.aclose()

    assert told.value.fact("lost") == "1"
