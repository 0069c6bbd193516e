"""Flows of durable nodes whose process is killed again and again, and that go on."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from durables import BRANCHES, EXPECTED, ROUNDS, effects, finished, looked
from flows import Notes, Told, known, left_of
from icecore.penguiflow import StateStore
from worlds import URLS, Child, place, rounds, seeded, unique

RUNS = [("begin", "Tea"), *((branch, "tea") for branch in BRANCHES)]
RUNS += [*(("polish", str(number)) for number in range(ROUNDS)), ("end", str(ROUNDS))]
"""What is to be done, each once."""


@pytest.mark.parametrize("kind", URLS)
async def test_what_had_finished_before_a_kill_runs_once_and_what_was_under_way_twice_at_most(
    kind: str, tmp_path: Path
) -> None:
    rng = seeded(f"durable {kind}")
    url, tenant = place(kind, tmp_path), unique("durable")
    kills = twice = 0
    for number in range(rounds(4, 60)):
        trace, notes = f"trace-{number}", tmp_path / f"notes-{number}"
        done: set[tuple[str, str]] = set()
        before = effects([])
        said = None
        while said is None:
            with Child("durable", url, tenant, notes, trace, rng.random()) as child:
                assert child.hear() == "going"
                # Later and later, so that it comes to its end.
                time.sleep(rng.uniform(0.0, 0.02 + 0.01 * kills))
                if child.process.poll() is None and rng.random() < 0.9:
                    child.kill()
                    kills += 1
                else:
                    said = child.hear()
            async with StateStore(url, tenant=tenant) as store:
                record = await looked(store, trace)
            now = effects(Notes.read(notes))
            # What had finished before this life was not run in it, and all else once.
            assert [one for one in done if now[one] != before[one]] == []
            assert max((now - before).values(), default=0) <= 1
            assert done <= finished(record)
            # Nothing is recorded that was not done.
            assert finished(record) <= now.keys()
            done, before = finished(record), now
        assert json.loads(said) == EXPECTED
        assert (record["state"], sorted(done)) == ("finished", sorted(RUNS))
        twice += sum(count > 1 for count in before.values())

        # All lives are under one trace, with all that was acknowledged, and no event twice.
        told = Told(Notes.read(notes))
        async with StateStore(url, tenant=tenant) as store:
            history = [known(event) for event in await store.load_history(trace)]
        assert history == left_of(told, trace, history)
        assert told.kept <= set(history)
        assert len(set(history)) == len(history)
    print(f"durable {kind}: {kills} kills, {twice} runs were under way and ran again")
