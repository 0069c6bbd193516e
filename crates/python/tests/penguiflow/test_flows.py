"""A flow whose process is killed again and again: its history is what it told, up to the kill."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from flows import Notes, Told, known, left_of
from icecore.penguiflow import StateStore
from worlds import URLS, Child, place, rounds, seeded, unique


@pytest.mark.parametrize("how", ["buffered", "flushed", "durable"])
@pytest.mark.parametrize("kind", URLS)
async def test_a_killed_flow_s_history_is_what_it_told_up_to_the_kill(kind: str, how: str, tmp_path: Path) -> None:
    rng = seeded(f"flow {kind} {how}")
    url, tenant, notes = place(kind, tmp_path), unique("flows"), tmp_path / "notes"
    events = 0
    for _ in range(rounds(2, 15)):
        with Child("flow", url, tenant, notes, how, rng.random()) as child:
            child.hear()
            time.sleep(rng.uniform(0.0, 0.6))
            child.kill()
        told = Told(Notes.read(notes))

        async with StateStore(url, tenant=tenant) as store:
            found = {trace: [known(event) for event in await store.load_history(trace)] for trace in told.traces}

        for trace, history in found.items():
            assert history == left_of(told, trace, history), trace
        assert told.kept <= {event for history in found.values() for event in history}
        events = sum(map(len, found.values()))
    assert events > 0
    print(f"flow {kind} {how}: {events} events")
