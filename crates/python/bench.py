"""What an awaited append costs, in memory: `target/python/bin/python crates/python/bench.py`. Ratios, not absolutes."""

import asyncio
import json
import time

import icecore

DATA = {"text": "x" * 700, "numbers": list(range(20)), "nested": {"a": [1.5, None, True], "b": "é"}}
COUNT = 20_000


async def alone(log: icecore.Log) -> None:
    event = icecore.Event("said", DATA)
    for _ in range(COUNT // 10):
        await log.append(event)


async def together(log: icecore.Log, tasks: int) -> None:
    event = icecore.Event("said", DATA)

    async def some() -> None:
        for _ in range(COUNT // tasks):
            await log.append(event)

    await asyncio.gather(*(some() for _ in range(tasks)))


async def main() -> None:
    store = await icecore.open("memory:")
    for round_ in range(3):
        started = time.perf_counter()
        await alone(store.log("bench", "alone", str(round_)))
        print(f"alone: {(time.perf_counter() - started) / (COUNT // 10) * 1e6:.1f} µs an append")
        for tasks in (64, 1_000):
            started = time.perf_counter()
            await together(store.log("bench", str(tasks), str(round_)), tasks)
            print(f"{tasks} tasks: {(time.perf_counter() - started) / (COUNT // tasks * tasks) * 1e6:.1f} µs an append")
        started = time.perf_counter()
        read = [event async for event in store.log("bench", "64", str(round_)).read()]
        print(f"read: {(time.perf_counter() - started) / len(read) * 1e6:.2f} µs an event")
    started = time.perf_counter()
    for _ in range(COUNT):
        icecore.Event("said", DATA)
    ours = (time.perf_counter() - started) / COUNT * 1e6
    started = time.perf_counter()
    for _ in range(COUNT):
        json.dumps(DATA, ensure_ascii=False, allow_nan=False)
    print(f"Event(): {ours:.2f} µs; json.dumps: {(time.perf_counter() - started) / COUNT * 1e6:.2f} µs")
    await store.aclose()


asyncio.run(main())
