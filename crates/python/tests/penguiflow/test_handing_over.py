"""What Penguiflow saves in tasks that nobody awaits is there after a flush, and after the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest
from icecore.penguiflow import StateStore
from penguiflow.state import StateUpdate, UpdateType

UPDATES = 200


def update(number: int) -> StateUpdate:
    return StateUpdate(
        session_id="s", task_id="t", update_id=f"u-{number}", update_type=UpdateType.PROGRESS, content={"n": number}
    )


async def saved(url: str) -> list[str]:
    async with StateStore(url, tenant="acme") as store:
        return [one.update_id for one in await store.list_updates("s", limit=0)]


@pytest.mark.parametrize("durability", ["buffered", "durable"])
@pytest.mark.parametrize("ends", [False, True], ids=["flush", "aclose"])
async def test_updates_that_nobody_awaits_are_kept(
    tmp_path: Path, durability: Literal["buffered", "durable"], ends: bool
) -> None:
    url = f"sqlite:{tmp_path}/store.db"
    store = StateStore(url, tenant="acme", durability=durability, buffer_bytes=10_000)
    tasks = [asyncio.ensure_future(store.save_update(update(number))) for number in range(UPDATES)]

    await (store.aclose() if ends else store.flush())

    assert await saved(url) == [f"u-{number}" for number in range(UPDATES)]
    await asyncio.gather(*tasks)
    if not ends:
        await store.aclose()


async def test_what_a_planner_is_about_to_save_is_waited_for(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/store.db"
    store = StateStore(url, tenant="acme")

    async def persist() -> None:
        await asyncio.sleep(0.05)
        await store.save_update(update(0))

    task = asyncio.create_task(persist(), name="penguiflow-persist-events")
    await store.flush()

    assert await saved(url) == ["u-0"]
    await task
    await store.aclose()


async def test_flushes_do_not_wait_for_one_another(tmp_path: Path) -> None:
    async with StateStore(f"file:{tmp_path}/store", tenant="acme") as store:
        flushes: list[Any] = [asyncio.ensure_future(store.flush()) for _ in range(3)]
        await asyncio.wait_for(asyncio.gather(*flushes), 5)
