"""What the processes do that tests start, kill and race. The first argument says which."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from durables import run_trace
from flows import Noting, run_messages
from icecore.penguiflow import StateStore
from penguiflow.artifacts import ArtifactRetentionConfig, ArtifactScope
from penguiflow.state import StateUpdate, TaskContextSnapshot, TaskState, TaskStatus, TaskType, UpdateType
from worlds import Board, numbered


async def _line() -> str:
    line: str = await asyncio.to_thread(sys.stdin.readline)
    return line.rstrip("\n")


async def events(url: str, tenant: str, board: str, how: str, pace: str) -> None:
    """Saves one event after the other until it is killed, and counts those of which it was told that they are kept."""
    accepted, kept = Board(Path(board)), Board(Path(f"{board}.kept"))
    store = StateStore(url, tenant=tenant, durability="durable" if how == "durable" else "buffered")
    await store.open()
    rng = random.Random(pace)
    number = 0
    while True:
        for _ in range(rng.randrange(1, 30)):
            await store.save_event(numbered(number))
            number += 1
            accepted.add()
        if how == "durable":
            kept.add(number - kept.count)
        elif how == "flushed" and rng.random() < 0.2:
            await store.flush()
            kept.add(number - kept.count)
        elif how == "buffered":
            await asyncio.sleep(rng.choice([0, 0.001, 0.005]))


async def take(url: str, tenant: str, count: str, seed: str) -> None:
    """Takes what it can of some tokens, and says which it got."""
    async with StateStore(url, tenant=tenant) as store:
        tokens = [f"token-{number}" for number in range(int(count))]
        random.Random(seed).shuffle(tokens)
        print("ready", flush=True)
        await _line()
        found = await asyncio.gather(*(store.load_planner_state(token) for token in tokens))
        print(*(payload["token"] for payload in found if payload is not None), flush=True)


def update(session: str, task: str, name: str) -> StateUpdate:
    return StateUpdate(
        session_id=session, task_id=task, update_id=name, update_type=UpdateType.PROGRESS, content={"from": task}
    )


def task(session: str, name: str, by: str) -> TaskState:
    return TaskState(
        task_id=name,
        session_id=session,
        status=TaskStatus.RUNNING,
        task_type=TaskType.BACKGROUND,
        priority=1,
        context_snapshot=TaskContextSnapshot(session_id=session, task_id=name),
        description=by,
    )


async def updates(url: str, tenant: str, count: str, worker: str) -> None:
    """Saves updates of its own, and those that every worker saves."""
    async with StateStore(url, tenant=tenant) as store:
        print("ready", flush=True)
        await _line()
        for number in range(int(count)):
            await store.save_update(update("s", worker, f"{worker}/{number}"))
            await store.save_update(update("s", "all", f"all/{number}"))
            if number % 20 == 0:
                await store.save_task(task("s", f"task-{number}", worker))
        await store.flush()
        print("done", flush=True)
        # One task after the other, as it is told.
        while line := await _line():
            await asyncio.gather(*(store.save_task(task("s", "turns", f"{line}/{step}")) for step in range(5)))
            print("saved", flush=True)


async def flow(url: str, tenant: str, notes: str, how: str, pace: str) -> None:
    """Runs a flow until it is killed, and notes what was begun and what was acknowledged."""
    durability = "durable" if how == "durable" else "buffered"
    store = Noting(url, Path(notes), tenant=tenant, durability=durability)
    await run_messages(store, random.Random(pace), how == "flushed")


async def durable(url: str, tenant: str, notes: str, trace: str, pace: str) -> None:
    """Runs a trace through durable nodes to its end, if it is not killed before, and says what came out."""
    async with Noting(url, Path(notes), tenant=tenant) as store:
        print(await run_trace(store, trace, random.Random(pace)), flush=True)


async def artifacts(url: str, tenant: str, board: str) -> None:
    """Stores one artifact after the other until it is killed, and counts those of which it was told so."""
    told = Board(Path(board))
    async with StateStore(url, tenant=tenant) as store:
        while True:
            number = told.count
            data = f"{number} ".encode() * (1_200_000 if number % 3 == 2 else 10)
            await store.artifact_store.put_bytes(data, filename=f"{number}", scope=ArtifactScope(session_id="s"))
            told.add()


async def limited(url: str, tenant: str, worker: str, count: str) -> None:
    """Stores artifacts in a session where few have room, and says which were stored."""
    limits = ArtifactRetentionConfig(max_artifacts_per_session=5, cleanup_strategy="fifo")
    async with StateStore(url, tenant=tenant, artifact_retention=limits) as store:
        for number in range(int(count)):
            name, scope = f"{worker}/{number}", ArtifactScope(session_id="s")
            await store.artifact_store.put_bytes(name.encode(), filename=name, scope=scope)
            print(name, flush=True)


def main() -> None:
    doing = {
        "artifacts": artifacts,
        "durable": durable,
        "events": events,
        "flow": flow,
        "limited": limited,
        "take": take,
        "updates": updates,
    }
    asyncio.run(doing[sys.argv[1]](*sys.argv[2:]))  # type: ignore[operator]


if __name__ == "__main__":
    main()
