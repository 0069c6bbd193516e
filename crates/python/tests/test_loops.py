"""Loops, threads, processes: who may do what at once, and what is left when somebody goes."""

import asyncio
import concurrent.futures
import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path

import icecore
import pytest
from icecore import Event


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in a process of its own, where every warning is an error."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(script), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    # What asyncio says on a busy machine is no fault of anybody's.
    told = [line for line in ended.stderr.splitlines(True) if not re.match(r"Executing <.* took .* seconds$", line)]
    ended.stderr = "".join(told)
    return ended


def test_one_store_serves_the_loops_of_several_threads(url: str) -> None:
    store = icecore.Store(url)
    log = store.log("acme", "session", "s-1")
    together = threading.Barrier(3)

    async def work(thread: int) -> None:
        await asyncio.gather(*(log.append(Event("n", [thread, n]), id=f"{thread}/{n}") for n in range(50)))

    def run_loop(thread: int) -> None:
        together.wait()  # The store is opened by all of them at once.
        asyncio.run(work(thread))

    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        list(threads.map(run_loop, range(3)))

    async def check() -> list[object]:
        seen: list[object] = [event.json() async for event in log.read()]
        await store.aclose()
        return seen

    seen = asyncio.run(check())
    assert sorted(map(str, seen)) == sorted(str([thread, n]) for thread in range(3) for n in range(50))


def test_nothing_is_bound_to_a_loop() -> None:
    store = icecore.Store("memory:")
    log = store.log("acme/session/s-1")
    tail = log.tail()

    for n in range(3):
        asyncio.run(wait_for_append(log, n))
    seen = [asyncio.run(wait_for_next(tail)) for _ in range(3)]

    assert seen == [0, 1, 2]


async def wait_for_append(log: icecore.Log, n: int) -> None:
    await log.append(Event("n", n))


async def wait_for_next(tail: icecore.Stream[icecore.RecordedEvent]) -> object:
    return (await anext(tail)).json()


async def test_a_thousand_appends_of_64_tasks(log: icecore.Log) -> None:
    left = iter(range(1000))

    async def some() -> None:
        for n in left:
            await log.append(Event("n", n))

    await asyncio.gather(*(some() for _ in range(64)))

    assert sorted([event.json() async for event in log.read()]) == list(range(1000))


async def test_an_append_that_is_cancelled_is_whole_or_not_there(log: icecore.Log) -> None:
    tasks = [asyncio.create_task(log.append(Event("n", n), id=str(n))) for n in range(200)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()

    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    await log.append(Event("last", None))

    done = {n for n, outcome in enumerate(outcomes) if isinstance(outcome, icecore.Receipt)}
    cancelled = {n for n, outcome in enumerate(outcomes) if isinstance(outcome, asyncio.CancelledError)}
    there = [event.json() async for event in log.read() if event.kind == "n"]
    assert cancelled == set(range(0, 200, 2)) and done == set(range(1, 200, 2))
    assert done <= set(there) and len(there) == len(set(there))


async def test_a_cancelled_wait_leaves_the_others_alone(log: icecore.Log) -> None:
    tail = log.tail()
    for _ in range(20):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(tail), 0.001)

    await log.append(Event("n", 1))

    assert (await anext(tail)).json() == 1


async def test_opening_that_is_cancelled_goes_on_for_the_next(tmp_path: Path) -> None:
    store = icecore.Store(f"file:{tmp_path}/logs")
    for _ in range(10):
        opening = asyncio.create_task(store.open())
        await asyncio.sleep(0)
        opening.cancel()

    await store.log("a/b/c").append(Event("n", 1))

    await store.aclose()


async def test_a_store_is_collected_with_calls_under_way() -> None:
    store = icecore.Store("memory:")
    log = store.log("acme/session/s-1")
    tail = log.tail()
    waiting = asyncio.create_task(anext(tail))
    appends = [asyncio.create_task(log.append(Event("n", n))) for n in range(100)]
    await asyncio.sleep(0)
    known = weakref.ref(store)

    del store, log, tail
    gc.collect()

    assert known() is None
    assert len(await asyncio.gather(*appends)) == 100
    assert (await waiting).json() in range(100)  # The store was not open yet: they come in any order.


def test_a_loop_that_is_closed_with_calls_under_way_takes_nobody_with_it() -> None:
    script = """
        import asyncio, gc, icecore

        store = icecore.Store("memory:")
        log = store.log("acme/session/s-1")

        async def begin(calls):
            for call in calls:
                call.send(None)

        for round in range(30):
            loop = asyncio.new_event_loop()
            calls = [log.append(icecore.Event("n", n)) for n in range(20)] + [anext(log.tail(10_000))]
            loop.run_until_complete(begin(calls))
            if round % 2:
                loop.close()
            for call in calls:
                call.close()
            del calls, call
            loop.close()
            gc.collect()

        async def check():
            await log.append(icecore.Event("last", None))
            print("good")

        asyncio.run(check())
    """
    ended = run(script)

    assert (ended.stdout, ended.stderr, ended.returncode) == ("good\n", "", 0)


def test_a_process_ends_cleanly_with_calls_under_way() -> None:
    script = """
        import asyncio, icecore, threading, time

        store = icecore.Store("memory:")
        log = store.log("acme/session/s-1")

        async def busy():
            while True:
                await asyncio.gather(*(log.append(icecore.Event("n", n)) for n in range(64)))

        async def follow():
            async for event in log.tail():
                pass

        for work in (busy, busy, follow):
            threading.Thread(target=lambda work=work: asyncio.run(work()), daemon=True).start()
        time.sleep(0.3)
        print("good")
    """
    for _ in range(3):
        ended = run(script)
        assert (ended.stdout, ended.returncode) == ("good\n", 0), ended.stderr


def test_no_resource_is_left_open(tmp_path: Path) -> None:
    script = """
        import asyncio, gc, sys, icecore

        async def main():
            async with icecore.Store(sys.argv[1]) as store:
                log = store.log("acme/session/s-1")
                await log.append(icecore.Event("n", 1))
                async for event in log.tail():
                    break
                anext(log.read()).close()
            store = icecore.Store("memory:")
            await store.log("a/b/c").put("n", 1)

        asyncio.run(main())
        gc.collect()
        print("good")
    """
    for url in ("memory:", f"file:{tmp_path}/logs", f"sqlite:{tmp_path}/logs.db"):
        ended = run(script, url)
        assert (ended.stdout, ended.stderr, ended.returncode) == ("good\n", "", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_told_so() -> None:
    script = """
        import asyncio, gc, os, icecore

        store = icecore.Store("memory:")

        async def append():
            await store.log("acme/session/s-1").append(icecore.Event("n", 1))

        async def first():
            return await anext(tail)

        asyncio.run(append())
        tail = store.log("acme/session/s-1").tail()
        asyncio.run(first())
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(append())
            except icecore.RefusedError as error:
                assert "forked" in str(error), error
                del store, tail
                gc.collect()
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        asyncio.run(append())
        print("good")
    """
    ended = run(script)

    assert (ended.stdout, ended.returncode) == ("good\n", 0), ended.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_that_was_forked_before_the_first_call_works() -> None:
    script = """
        import asyncio, os, icecore

        store = icecore.Store("memory:")
        child = os.fork()

        async def append():
            await store.log("acme/session/s-1").append(icecore.Event("n", 1))

        asyncio.run(append())
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        print("good")
    """
    ended = run(script)

    assert (ended.stdout, ended.returncode) == ("good\n", 0), ended.stderr


WRITER = """
import asyncio, sys, icecore

async def main():
    store = await icecore.open(sys.argv[1])
    log = store.log("acme/session/s-1")

    async def some(task):
        for n in range(100_000):
            await log.append(icecore.Event("n", [task, n]), id=f"{task}/{n}")
            sys.stdout.write(f"{task}/{n}\\n")
            sys.stdout.flush()

    await asyncio.gather(*(some(task) for task in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("system", ["file", "sqlite"])
@pytest.mark.parametrize("patience", [0.05, 0.3])
async def test_what_was_acknowledged_survives_a_kill(system: str, patience: float, tmp_path: Path) -> None:
    url = f"{system}:{tmp_path}/logs"
    with subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(patience)
        os.kill(child.pid, signal.SIGKILL)
        printed = first + child.stdout.read()
    # What was cut by the kill was not said.
    acknowledged = printed[: printed.rindex("\n")].split("\n")

    async with icecore.Store(url) as store:
        there = [event.id async for event in store.log("acme/session/s-1").read()]
        verified = await store.verify()

    assert len(acknowledged) > 1
    assert set(acknowledged) <= set(there) and len(there) == len(set(there))
    assert verified.damage == []
