"""What Penguiflow's calls cost, beside its own store in memory, and conversations beside LangGraph's savers.

Ratios of one run, medians.

    cargo xtask bench-penguiflow [ROUNDS] [URL]

The URL is of a new store; by default a folder of its own. On PostgreSQL it is that of a superuser, who makes a database
for LangGraph.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import icecore
from icecore.penguiflow import StateStore
from penguiflow import Headers, Message, Node, NodePolicy, create, join_k
from penguiflow.state import (
    InMemoryStateStore,
    StateUpdate,
    StoredEvent,
    TaskContextSnapshot,
    TaskState,
    TaskStatus,
    TaskType,
    UpdateType,
)

EVENTS = 10_000
MESSAGES = 300
BURST = 10_000
UPDATES = 100_000
CONVERSATIONS = 64
TURNS = 500


def payload(number: int) -> dict[str, Any]:
    """What a flow tells of a node."""
    return {
        "ts": 1764030000.25 + number,
        "event": "node_success",
        "node_name": "archive",
        "node_id": "96f33034782342fea18e9bedb4ff8fb1",
        "trace_id": "question-003",
        "latency_ms": 0.0961229,
        "q_depth_in": 0,
        "q_depth_out": 1,
        "q_depth_total": 1,
        "outgoing": 1,
        "queue_maxsize": 64,
        "attempt": 0,
        "trace_pending": 2,
        "trace_inflight": 0,
        "trace_cancelled": False,
    }


def events(trace: str) -> list[StoredEvent]:
    return [
        StoredEvent(trace, 1764030000.25 + n, "node_success", "archive", f"n-{n % 7}", payload(n))
        for n in range(EVENTS)
    ]


def update(session: str, number: int) -> StateUpdate:
    content = {"text": f"chunk {number}", "done": False}
    return StateUpdate(
        session_id=session,
        task_id=f"t-{number % 4}",
        update_id=f"{session}-{number}",
        update_type=UpdateType.PROGRESS,
        content=content,
    )


async def timed(work: Awaitable[Any]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


async def save_all(store: Any, trace: str) -> float:
    given = events(trace)
    started = time.perf_counter()
    for event in given:
        await store.save_event(event)
    return (time.perf_counter() - started) / EVENTS


def flow(store: Any) -> Any:
    """A fan-out to three nodes, and their results together: 5 nodes, 2 events each, a message."""

    async def passed(message: Message, _context: Any) -> Message:
        return message

    async def joined(message: Message, _context: Any) -> Message:
        return message.model_copy(update={"payload": len(message.payload)})

    policy = NodePolicy(validate="none")
    first = Node(passed, name="first", policy=policy)
    some = [Node(passed, name=f"some-{n}", policy=policy) for n in range(3)]
    together, last = join_k("together", 3), Node(joined, name="last", policy=policy)
    edges = [first.to(*some), *(one.to(together) for one in some), together.to(last), last.to()]
    return create(*edges, state_store=store)


async def run_flow(store: Any, name: str) -> float:
    """Seconds a message, of messages one after another."""
    running = flow(store)
    running.run()
    started = time.perf_counter()
    for number in range(MESSAGES):
        await running.emit(Message(payload=1, headers=Headers(tenant="acme"), trace_id=f"{name}-{number}"))
        await running.fetch()
    took = time.perf_counter() - started
    await running.stop()
    return took / MESSAGES


async def run_flow_together(store: Any, name: str) -> float:
    """Seconds a message, of as many messages at once as the flow takes."""
    running = flow(store)
    running.run()

    async def emit() -> None:
        for number in range(MESSAGES):
            await running.emit(Message(payload=1, headers=Headers(tenant="acme"), trace_id=f"{name}-{number}"))

    started = time.perf_counter()
    emitting = asyncio.create_task(emit())
    for _ in range(MESSAGES):
        await running.fetch()
    took = time.perf_counter() - started
    await emitting
    await running.stop()
    return took / MESSAGES


async def nothing() -> None:
    pass


async def started(work: Callable[[int], Awaitable[None]]) -> float:
    """Seconds until 10,000 tasks have begun: Penguiflow saves updates in tasks that nobody awaits."""
    begun = time.perf_counter()
    tasks = [asyncio.ensure_future(work(number)) for number in range(BURST)]
    await asyncio.sleep(0)
    took = time.perf_counter() - begun
    await asyncio.gather(*tasks)
    return took


async def one_by_one(store: StateStore, session: str) -> tuple[float, float]:
    """Seconds until 10,000 updates were accepted, and until all are durable."""
    given = [update(session, number) for number in range(BURST)]
    begun = time.perf_counter()
    for one in given:
        await store.save_update(one)
    accepted = time.perf_counter() - begun
    await store.flush()
    return accepted, time.perf_counter() - begun


async def in_tasks(store: StateStore, session: str) -> tuple[float, float]:
    """The same in tasks, and the tasks alone."""
    given = [update(session, number) for number in range(BURST)]
    alone = await started(lambda _: nothing())
    saving = await started(lambda number: store.save_update(given[number]))
    await store.flush()
    return saving, alone


def task(number: int) -> TaskState:
    snapshot = TaskContextSnapshot(session_id="s", task_id=f"t-{number}")
    return TaskState(f"t-{number}", "s", TaskStatus.RUNNING, TaskType.FOREGROUND, 0, snapshot)


async def save_tasks(store: StateStore, tasks: int) -> float:
    """Seconds an awaited call, of so many callers."""
    each = 4_096 // tasks if tasks > 1 else 300

    async def some(number: int) -> None:
        for _ in range(each):
            await store.save_memory_state(f"m-{number}", {"version": 1})

    return await timed(asyncio.gather(*(some(number) for number in range(tasks)))) / (each * tasks)


def documents() -> list[dict[str, Any]]:
    """Of about 200 bytes."""
    return [{"id": n, "topic": f"topic {n * 7919 % 997}", "notes": f"{n * 104729:x} " * 24} for n in range(50)]


async def conversations(store: icecore.Store, name: str, in_one: bool) -> float:
    """Turns a second of 64 at once: a document is put and an event appended, as LangGraph's put and put_writes.

    Each is awaited, or both in one commit.
    """
    given = documents()

    async def converse(number: int, turns: int) -> None:
        log = store.log(f"bench/conversation/{name}-{number}")
        for turn in range(turns):
            document = given[turn % len(given)]
            event = icecore.Event("wrote", json.dumps(document))
            if in_one:
                await log.commit(icecore.Changes().put("thread", document).event(event))
            else:
                await log.put("thread", document)
                await log.append(event)

    await asyncio.gather(*(converse(number, 1) for number in range(CONVERSATIONS)))
    took = await timed(asyncio.gather(*(converse(number, TURNS) for number in range(CONVERSATIONS))))
    return CONVERSATIONS * TURNS / took


def savers(url: str) -> dict[str, float]:
    """The same of LangGraph's savers, a thread each: turns a second, by which saver."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        with open(f"{folder}/small.jsonl", "w") as lines:
            lines.writelines(f"{json.dumps(document)}\n" for document in documents())
        place = ["--postgres", url] if url.startswith("postgres") else ["--sqlite", folder]
        script = [os.environ["ICECORE_BENCH_PEERS"], "bench/peers/langgraph_savers.py", "small", folder, *place]
        told = json.loads(subprocess.run(script, check=True, capture_output=True).stdout)
    return {name: of["turns"] / of["seconds"] for name, of in told.items() if isinstance(of, dict) and "turns" in of}


def shown(name: str, values: list[float], unit: float, of: list[float] | None = None) -> None:
    median = statistics.median(values)
    line = f"{name}: {median * unit:.2f}"
    if of is not None:
        ratios = [value / other for value, other in zip(values, of, strict=True)]
        line += f" ({statistics.median(ratios):.2f}x)"
    print(line, flush=True)


async def main(count: int, url: str) -> None:
    # A flow that is stopped leaves tasks of Penguiflow behind, of which asyncio tells one by one.
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    ours, memory = StateStore(url, tenant="bench"), StateStore("memory:", tenant="bench")
    await ours.open()
    pairs = []
    for number in range(count):
        theirs = await save_all(InMemoryStateStore(), "t")
        own = await save_all(ours, f"events-{number}")
        await ours.flush()
        pairs.append((own, theirs))
    shown("save_event, Penguiflow's own store, µs", [theirs for _, theirs in pairs], 1e6)
    shown("save_event, buffered, µs", [own for own, _ in pairs], 1e6, [theirs for _, theirs in pairs])
    for name, run in (("one after another", run_flow), ("together", run_flow_together)):
        pairs = []
        for number in range(count):
            theirs = await run(InMemoryStateStore(), "t")
            own = await run(ours, f"{name}-{number}")
            await ours.flush()
            pairs.append((own, theirs))
        shown(f"a flow's message, {name}, Penguiflow's own store, µs", [theirs for _, theirs in pairs], 1e6)
        shown(f"a flow's message, {name}, µs", [own for own, _ in pairs], 1e6, [theirs for _, theirs in pairs])
    for tasks in (1, 64):
        calls = [await save_tasks(memory, tasks) for _ in range(count)]
        shown(f"save_memory_state in memory, {tasks} tasks, µs", calls, 1e6)
    bursts = [await one_by_one(ours, f"burst-{number}") for number in range(count)]
    shown("10,000 updates, accepted, ms", [accepted for accepted, _ in bursts], 1e3)
    shown("10,000 updates, durable, ms", [durable for _, durable in bursts], 1e3)
    bursts = [await in_tasks(ours, f"tasks-{number}") for number in range(count)]
    shown("10,000 tasks that do nothing, begun, ms", [alone for _, alone in bursts], 1e3)
    shown(
        "10,000 updates in tasks, accepted, ms", [saving for saving, _ in bursts], 1e3, [alone for _, alone in bursts]
    )
    for number in range(UPDATES):
        await ours.save_update(update("many", number))
    await ours.flush(120)
    middle = f"many-{UPDATES // 2}"
    for name, since in (
        ("", None),
        (", behind a cursor in the middle", middle),
        (", behind the last but ten", f"many-{UPDATES - 11}"),
    ):
        lists = [await timed(ours.list_updates("many", since_id=since)) for _ in range(count * 3)]
        shown(f"list_updates of 100,000, at most 500{name}, ms", lists, 1e3)
    beside: dict[str, list[float]] = {}
    two, one = [], []
    for number in range(count):
        for saver, rate in savers(url).items():
            beside.setdefault(saver, []).append(rate)
        two.append(await conversations(ours.icecore, f"two-{number}", in_one=False))
        one.append(await conversations(ours.icecore, f"one-{number}", in_one=True))
    for saver, of_it in beside.items():
        shown(f"{CONVERSATIONS} conversations, LangGraph's saver ({saver}), turns/s", of_it, 1)
        shown(f"{CONVERSATIONS} conversations, turns/s, and times that", two, 1, of_it)
        shown(f"{CONVERSATIONS} conversations, a commit a turn, turns/s, and times that", one, 1, of_it)
    again = StateStore(ours.icecore, tenant="bench")
    shown("list_updates with another store object, ms", [await timed(again.list_updates("many", since_id=middle))], 1e3)
    await ours.aclose()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=".") as folder:
        given = sys.argv[1:] + ["7", f"file:{folder}/store"][len(sys.argv) - 1 :]
        asyncio.run(main(int(given[0]), given[1]))
