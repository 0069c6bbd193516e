"""Calls that begin one after the other, and of which none waits for another: the last one wins."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import pytest
from icecore.penguiflow import StateStore
from penguiflow.planner import Trajectory
from worlds import rounds


@pytest.mark.parametrize("durability", ["buffered", "durable"])
async def test_of_trajectories_that_are_saved_together_the_last_one_stays(
    tmp_path: Path, durability: Literal["buffered", "durable"]
) -> None:
    """A save is written in two logs, and whoever has the first place in one must not have the last in the other."""
    async with (
        asyncio.timeout(300),
        StateStore(f"file:{tmp_path}/store", tenant="order", durability=durability) as store,
    ):
        for n in range(rounds(40, 1_000)):
            saves = [
                store.save_trajectory(f"trace {trace}", "session", Trajectory(query=f"{n}.{save}"))
                for save in range(4)
                for trace in range(8)
            ]
            await asyncio.gather(*[asyncio.create_task(save) for save in saves])

            for trace in range(8):
                found = await store.get_trajectory(f"trace {trace}", "session")
                assert found is not None and found.query == f"{n}.3"
            assert await store.list_traces("session") == [f"trace {trace}" for trace in reversed(range(8))]
