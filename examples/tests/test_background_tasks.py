"""Tasks whose workers are killed at any moment: each is done once, and what was said to be done is."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import icecore
import pytest
from workers import EXAMPLES, SHARED, Process, place, rounds, seeded, unique, wait_until

TASKS = str(EXAMPLES / "background_tasks/tasks.py")
STEPS = ["gather", "write", "send"]
LEASE_SECONDS = 2.0


class Place:
    """A store and a tenant, for processes of the example."""

    def __init__(self, url: str, tenant: str, folder: Path) -> None:
        self.url, self.tenant, self.folder = url, tenant, folder

    def start(self, *arguments: object) -> Process:
        """A process that does something there."""
        words = ["-W", "error", TASKS, *map(str, arguments)]
        return Process(self.folder, words, ICECORE_STORE=self.url, ICECORE_TENANT=self.tenant)

    def run(self, *arguments: object) -> list[str]:
        """What it says, of a process that ends by itself."""
        with self.start(*arguments) as process:
            process.end()
            return process.lines()

    async def check(self, count: int, said: list[str]) -> None:
        """That each of so many tasks was done once, whatever happened to its workers."""
        dead = {f"report-{number:03}" for number in range(count) if number % 10 == 9}
        wanted = {f"report-{number:03}" for number in range(count)} - dead
        async with icecore.Store(self.url) as store:
            done = [event async for event in store.log(self.tenant, "reports", "done").read() if event.kind == "done"]
            assert Counter(event.json()["report"] for event in done) == Counter(wanted)
            assert [event.id for event in done] == [event.json()["report"] for event in done]
            assert await store.log(self.tenant, "reports", "done").get("count") == len(wanted)
            # What is said to be done is, and was said once at most: a kill can come before.
            assert Counter(line.split()[1] for line in said if line.startswith("done ")) <= Counter(wanted)
            for task in wanted:
                log = store.log(self.tenant, "report", task)
                steps = [event async for event in log.read() if event.kind == "step"]
                assert [(event.id, event.node) for event in steps] == [(step, step) for step in STEPS], task
                assert {event.node: event.json() for event in steps} == dict(await log.state())
                [told] = [event.json()["sent"] for event in done if event.id == task]
                assert told == steps[-1].json() and told["idempotency_key"] == task
            queue = store.queue(self.tenant, "reports")
            counts = await queue.statistics()
            assert (counts.ready, counts.delayed, counts.leased, counts.dead) == (0, 0, 0, len(dead))
            assert {(one.id, one.attempts) for one in await queue.dead()} == {(task, 10) for task in dead}
            assert (await store.verify(f"{self.tenant}/")).damage == []


def seconds_alive(rng: random.Random) -> float:
    """How long a worker may live, once it is at work: most die in the middle of something."""
    return rng.choice([rng.uniform(0, 0.05), rng.uniform(0, 0.6)])


@pytest.mark.parametrize("kind", ["file", *SHARED])
@pytest.mark.timeout(600)
async def test_a_worker_that_is_killed_and_started_again_does_each_task_once(kind: str, tmp_path: Path) -> None:
    rng = seeded("one worker")
    where = Place(place(kind, tmp_path), unique("restarted"), tmp_path)
    count = 12
    with where.start("put", count) as putting:
        time.sleep(rng.uniform(0.1, 0.5))
        putting.kill()
    assert where.run("put", count) in (["put 0"], [f"put {count}"])

    said: list[str] = []
    for _ in range(rounds(5, 40)):
        with where.start("work", "--pace", 0.02) as worker:
            wait_until(worker.lines, "it does something", LEASE_SECONDS + 30)
            time.sleep(seconds_alive(rng))
            worker.kill()
            said += worker.lines()
            if where.run("show")[0].startswith(f"{count - count // 10} done, 0 wait, 0 "):
                break
    said += where.run("work", "--pace", 0.02, "--idle", LEASE_SECONDS + 1)

    print(f"{kind}: {dict(Counter(line.split()[0] for line in said))}")
    await where.check(count, said)
    assert where.run("put", count) == ["put 0"]
    assert where.run("show")[0] == f"{count - count // 10} done, 0 wait, 0 under way"


@pytest.mark.parametrize("kind", SHARED)
@pytest.mark.timeout(600)
async def test_of_workers_that_race_and_are_killed_and_stopped_one_does_a_task(kind: str, tmp_path: Path) -> None:
    rng = seeded("workers that race")
    where = Place(place(kind, tmp_path), unique("raced"), tmp_path)
    count, pace = rounds(40, 300), 0.03
    assert where.run("put", count) == [f"put {count}"]

    with ExitStack() as stack:
        workers = [stack.enter_context(where.start("work", "--pace", pace)) for _ in range(2)]
        everybody = list(workers)
        for _ in range(rounds(4, 30)):
            unlucky = rng.randrange(2)
            wait_until(workers[unlucky].lines, "it does something", LEASE_SECONDS + 30)
            time.sleep(seconds_alive(rng))
            workers[unlucky].kill()
            workers[unlucky] = stack.enter_context(where.start("work", "--pace", pace))
            everybody.append(workers[unlucky])
        # One that sleeps for longer than it has the task, and then goes on as if nothing were.
        worker = workers[0]
        wait_until(worker.lines, "it does something", LEASE_SECONDS + 30)
        worker.process.send_signal(signal.SIGSTOP)
        time.sleep(LEASE_SECONDS + 0.5)
        worker.process.send_signal(signal.SIGCONT)
        last = stack.enter_context(where.start("work", "--pace", pace, "--idle", LEASE_SECONDS + 1))
        last.end(300)
        said = [line for one in [*everybody, last] for line in one.lines()]

    by = [sum(line.startswith("done ") for line in one.lines()) for one in [*everybody, last]]
    print(f"{kind}: {dict(Counter(line.split()[0] for line in said))}, by each worker {by}")
    assert sum(of_one > 0 for of_one in by) > 1
    await where.check(count, said)


@pytest.mark.parametrize("kind", SHARED)
async def test_a_worker_whose_task_is_purged_drops_it_and_goes_on(kind: str, tmp_path: Path) -> None:
    where = Place(place(kind, tmp_path), unique("purged"), tmp_path)
    where.run("put", 1)
    async with icecore.Store(where.url) as store:
        queue = store.queue(where.tenant, "reports")
        with where.start("work", "--pace", 0.5, "--idle", 2) as worker:
            while not (await queue.statistics()).leased:
                await asyncio.sleep(0.01)
            assert (await queue.purge("all")).messages == 1
            await queue.put({"customer": 1}, id="report-001")
            worker.end()

            assert worker.lines() == ["lost report-000", "done report-001"]
        assert await store.log(where.tenant, "reports", "done").get("count") == 1
