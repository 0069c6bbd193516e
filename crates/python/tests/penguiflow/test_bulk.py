"""Many in one call, pages that skip nothing, and what a store says that it can do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import icecore
import pytest
from icecore.penguiflow import EXTENSIONS, GROUPS, StateStore
from penguiflow.state import StateUpdate, StoredEvent, UpdateType
from worlds import URLS, all_of, kept, numbered, numbers, of_trace, place, unique


@pytest.fixture(params=["memory", *URLS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory" else place(request.param, tmp_path)


def update(number: int) -> StateUpdate:
    return StateUpdate(
        session_id="s",
        task_id=f"t-{number % 3}",
        update_id=f"u-{number}",
        update_type=UpdateType.RESULT,
        content=number,
    )


@pytest.mark.parametrize("durability", ["buffered", "durable"])
async def test_many_are_kept_in_their_order_and_once(url: str, durability: str) -> None:
    tenant = unique("bulk")
    async with icecore.Store(url) as shared:
        store = StateStore(shared, tenant=tenant, durability=durability)  # type: ignore[arg-type]
        await store.save_events([])
        await store.save_events(numbered(number) for number in range(2_500))
        await store.save_event(numbered(2_500))
        # What a call that failed left is told again.
        await store.save_events([numbered(number) for number in range(2_400, 2_600)])
        for trace in range(3):
            assert numbers(await store.load_history(f"trace/{trace}")) == of_trace(trace, 2_600)
        await store.save_updates(map(update, range(1_500)))
        await store.save_updates([update(1_499), update(1_500)])
        assert [found.content for found in await store.list_updates("s", limit=0)] == list(range(1_501))


async def test_of_a_call_with_something_wrong_nothing_is_kept() -> None:
    async with StateStore("memory:", tenant="acme") as store:
        with pytest.raises(AttributeError):
            await store.save_events([numbered(0), None])  # type: ignore[list-item]
        assert await store.load_history("trace/0") == []


async def test_a_durable_call_is_there_for_others_when_it_returns(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/store"
    async with StateStore(url, tenant="acme", durability="durable") as store:
        await store.save_events([numbered(number) for number in range(30)])
        assert await kept(url, "acme") == all_of(30)


async def test_pages_skip_nothing_and_give_nothing_twice(url: str) -> None:
    async with StateStore(url, tenant=unique("pages")) as store:
        empty = await store.page_updates("s")
        assert empty.updates == []
        await store.save_updates(map(update, range(700)))
        for limit in (1, 7, 500, 10_000):
            found, place = [], None
            while True:
                page = await store.page_updates("s", after=place, limit=limit)
                assert len(page.updates) <= limit
                place = page.next
                found += [update.content for update in page.updates]
                if not page.updates:
                    break
            assert found == list(range(700))
        # What comes later is behind the last place, also behind that of a log that was not there.
        await store.save_updates(map(update, range(700, 710)))
        assert [update.content for update in (await store.page_updates("s", after=place)).updates] == list(
            range(700, 710)
        )
        assert len((await store.page_updates("s", after=empty.next, limit=9_999)).updates) == 710


async def test_a_reader_beside_writers_sees_every_event_once(url: str) -> None:
    async with StateStore(url, tenant=unique("pages")) as store:

        async def write(writer: int) -> None:
            for number in range(100):
                await store.save_event(StoredEvent("r", 1.0, "k", f"{writer}", None, {"number": number}))
                await asyncio.sleep(0.001 if number % 10 == 0 else 0)

        writing = asyncio.gather(*map(write, range(4)))
        found: list[tuple[str | None, int]] = []
        place = None
        while len(found) < 400:
            page = await store.page_history("r", after=place, limit=7)
            found += [(event.node_name, event.payload["number"]) for event in page.events]
            place = page.next
        await writing
        for writer in range(4):
            assert [number for by, number in found if by == f"{writer}"] == list(range(100))


async def test_what_was_trimmed_is_told_and_not_skipped(url: str) -> None:
    async with StateStore(url, tenant=unique("pages")) as store:
        for number in range(10):
            await store.save_update(update(number))
            await store.flush()
        page = await store.page_updates("s", limit=3)
        end = await store.page_updates("s", limit=100)
        await store.delete_session("s")
        with pytest.raises(icecore.NotFoundError):
            await store.page_updates("s", after=page.next)
        # Who had read all of it missed nothing.
        await store.save_update(update(10))
        assert [update.content for update in (await store.page_updates("s", after=end.next)).updates] == [10]
        assert [update.content for update in (await store.page_updates("s")).updates] == [10]


@pytest.mark.parametrize("place", ["", "1", "0-0", "-1-0", "1-", "01-0", "a-b", "\ud800", f"{1 << 64}-0"])
async def test_what_is_no_place_is_refused(place: str) -> None:
    async with StateStore("memory:", tenant="acme") as store:
        with pytest.raises(icecore.InvalidError):
            await store.page_updates("s", after=place)
        with pytest.raises(ValueError, match="at least 1"):
            await store.page_updates("s", limit=0)
        with pytest.raises(ValueError, match="at least 1"):
            await store.page_history("s", limit=-1)


async def test_a_store_says_what_it_can_and_promises(url: str) -> None:
    async with StateStore(url, tenant=unique("acme"), timeout=7.0) as store:
        found = await store.capabilities()
        assert found.groups == {"events", *GROUPS} and found.extensions == set(EXTENSIONS)
        system = url.partition(":")[0]
        assert found.system == ("postgres" if system.startswith("postgres") else system)
        assert found.durability == {"memory": "process"}.get(found.system, "disk")
        assert found.many_writers == (found.system in ("sqlite", "postgres"))
        assert (found.saves, found.read_only, found.timeout) == ("buffered", False, 7.0)
        assert found.commit_bytes_max >= 1 << 20
    without = StateStore.without("memory", "tasks")
    async with without("memory:", tenant="acme", durability="durable") as store:
        found = await store.capabilities()
        assert found.groups == {"events", *GROUPS} - {"memory", "tasks"}
        gone = {name for name in EXTENSIONS if "memory" in name or name.endswith("_updates")}
        assert found.extensions == set(EXTENSIONS) - gone and found.saves == "durable"
