"""A process that is killed while it saves: what is there, what is lost, and that the run can go on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from icecore.penguiflow import StateStore
from worlds import (
    TRACES,
    URLS,
    Board,
    Child,
    all_of,
    kept,
    numbered,
    of_trace,
    place,
    rounds,
    seeded,
    spread,
    unique,
    wait_until,
)

LOST_MS = 50
"""What a kill may lose on a file, in milliseconds before it."""


@pytest.mark.parametrize("how", ["buffered", "flushed", "durable"])
@pytest.mark.parametrize("kind", URLS)
async def test_what_a_kill_leaves_is_a_prefix_and_the_run_goes_on(kind: str, how: str, tmp_path: Path) -> None:
    rng = seeded(f"kill {kind} {how}")
    windows: list[float] = []
    lost_events: list[int] = []
    enough = rounds(2 if kind == "file" else 1, 25)
    for number in range(10 * enough):
        # Where something else keeps the disk or the processors busy, some lose more: then it is tried again.
        if number >= enough and (kind != "file" or min(windows) <= LOST_MS):
            break
        folder = tmp_path / str(number)
        folder.mkdir()
        url, tenant = place(kind, folder), unique("kills")
        accepted, acknowledged = Board(folder / "board"), Board(folder / "board.kept")
        with Child("events", url, tenant, folder / "board", how, rng.random()) as child:
            wait_until(lambda accepted=accepted: accepted.count > 0, "the first event")
            time.sleep(rng.uniform(0.02, 0.5))
            killed = child.kill()
        count = accepted.count
        found = await kept(url, tenant)

        # Of each trace a prefix in the order of the calls: no gap, nothing twice. One call was under way.
        for trace in range(TRACES):
            assert found[trace] == of_trace(trace, count + 1)[: len(found[trace])], (number, trace)
        present = {one for trace in found for one in trace}
        lost = [one for one in range(count) if one not in present]
        # All of which it was told so are there.
        assert not [one for one in lost if one < acknowledged.count]
        windows.append(max(((killed - accepted.at(one)) / 1e6 for one in lost), default=0.0))
        lost_events.append(len(lost))

        # The run goes on in another process, this one, and saves all of it again.
        async with StateStore(url, tenant=tenant) as store:
            for one in range(count + 5):
                await store.save_event(numbered(one))
        assert await kept(url, tenant) == all_of(count + 5)
    print(f"kill {kind} {how}: ms lost: {spread(windows)}; events lost: {spread(lost_events)}")
    if how == "durable":
        assert max(lost_events) == 0
    elif kind == "file":
        assert min(windows) <= LOST_MS
        if os.environ.get("ICECORE_STRICT"):
            assert max(windows) <= LOST_MS
