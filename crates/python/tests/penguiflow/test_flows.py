"""A flow whose process is killed again and again: its history is what it told, up to the kill."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from flows import Notes, known
from icecore.penguiflow import StateStore
from worlds import URLS, Child, place, rounds, seeded, unique


class Told:
    """What a flow has told in all its lives."""

    def __init__(self, notes: list[list[Any]]) -> None:
        self.lives: list[dict[str, list[str]]] = []
        """By life and trace: what was begun, in order."""
        self.kept: set[str] = set()
        begun: list[str] = []
        for what, *said in notes:
            match what:
                case "life":
                    begun = []
                    self.lives.append(defaultdict(list))
                case "begun":
                    trace, event = said
                    begun.append(event)
                    self.lives[-1][trace].append(event)
                case "kept":
                    self.kept.update(begun[slice(*said)])

    @property
    def traces(self) -> set[str]:
        return {trace for life in self.lives for trace in life}


def left_of(told: Told, trace: str, history: list[str]) -> list[str]:
    """What must be in a history, given how much of each life is there."""
    wanted = []
    for life in told.lives:
        begun = life.get(trace, [])
        wanted += begun[: sum(event in history for event in begun)]
    return sorted(wanted, key=lambda event: json.loads(event)[1])


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
