"""A flow of durable nodes that is killed at any moment: what had finished is not done again."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from workers import EXAMPLES, SHARED, Process, place, rounds, seeded, unique, wait_until

TRIP = str(EXAMPLES / "durable_flow/trip.py")
CAME_OUT = ["a hotel in Paris and a train to Paris"]
BEFORE = {"plan": set(), "train": {"plan"}, "hotel": {"plan"}, "tell": {"plan", "train", "hotel"}}
"""Which nodes have finished when this one is at work."""

Trip = tuple[dict[str, str], list[str], Path]


def lines(journal: Path) -> list[str]:
    """What was done so far."""
    return journal.read_text().splitlines() if journal.exists() else []


@pytest.fixture(params=["file", *SHARED])
def trip(request: pytest.FixtureRequest, tmp_path: Path) -> Trip:
    """Where it is kept, how it is run, and the file in which it leaves what it did."""
    variables = {"ICECORE_STORE": place(request.param, tmp_path), "ICECORE_TENANT": unique("trips")}
    return variables, ["-W", "error", TRIP, "trip-1", "--journal", str(tmp_path / "journal")], tmp_path / "journal"


def test_what_had_finished_before_a_kill_is_not_done_again(trip: Trip) -> None:
    rng = seeded("durable flow")
    variables, words, journal = trip
    kills = 0
    for _ in range(rounds(6, 60)):
        before = lines(journal)
        finished = set().union(*(BEFORE[node] for node in before))
        with Process(journal.parent, [*words, "--pace", "0.1"], **variables) as life:
            # One in three is killed anywhere, also before it begins; the others when they have done something.
            if rng.random() < 0.6:
                wait_until(lambda: len(lines(journal)) > len(before) or life.lines(), "it does something")  # noqa: B023
            time.sleep(rng.uniform(0, 0.3))
            life.kill()
            ended = life.lines()
        kills += 1
        done = Counter(lines(journal)[len(before) :])
        # Of what was under way, once more; of what had finished, nothing.
        assert all(count == 1 for count in done.values()) and not finished & done.keys(), (before, done)
        if ended:
            assert ended == CAME_OUT
            break

    before = lines(journal)
    with Process(journal.parent, [*words, "--pace", "0"], **variables) as life:
        assert life.end().splitlines() == CAME_OUT
    total = Counter(lines(journal))
    print(f"{kills} kills, done: {dict(total)}")
    assert total.keys() == BEFORE.keys() and max(total.values()) <= kills + 1
    with Process(journal.parent, words, **variables) as life:
        assert life.end().splitlines() == CAME_OUT
    assert Counter(lines(journal)) == total
