"""Several processes at one store: what each says is there once, and what there is one of, one of them gets."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack
from pathlib import Path

import pytest
from icecore.penguiflow import StateStore
from worlds import URLS, Child, place, rounds, seeded, unique

pytestmark = pytest.mark.parametrize("kind", URLS[1:])


def begun(stack: ExitStack, workers: int, doing: str, *arguments: object) -> list[Child]:
    """So many processes, all of which are about to begin; each is told its number, last."""
    children = [stack.enter_context(Child(doing, *arguments, number)) for number in range(workers)]
    for child in children:
        assert child.hear() == "ready"
    for child in children:
        child.say("go")
    return children


@pytest.mark.parametrize("workers", [2, 4])
async def test_each_pause_is_taken_once(kind: str, workers: int, tmp_path: Path) -> None:
    url, tenant, count = place(kind, tmp_path), unique("takes"), rounds(60, 1_000)
    tokens = {f"token-{number}" for number in range(count)}
    async with StateStore(url, tenant=tenant) as store:
        await asyncio.gather(*(store.save_planner_state(token, {"token": token}) for token in tokens))

        with ExitStack() as stack:
            children = begun(stack, workers, "take", url, tenant, count)
            taken = [child.hear().split() for child in children]
            for child in children:
                child.end()

        assert sorted(token for some in taken for token in some) == sorted(tokens)
        assert await asyncio.gather(*(store.load_planner_state(token) for token in tokens)) == [None] * count
    print(f"{kind}, {workers} takers: {', '.join(str(len(some)) for some in taken)}")


@pytest.mark.parametrize("workers", [3])
async def test_a_taker_that_is_killed_takes_no_token_twice(kind: str, workers: int, tmp_path: Path) -> None:
    rng = seeded(f"killed takers {kind} {workers}")
    url, tenant, count = place(kind, tmp_path), unique("killed"), rounds(60, 1_000)
    tokens = [f"token-{number}" for number in range(count)]
    async with StateStore(url, tenant=tenant) as store:
        await asyncio.gather(*(store.save_planner_state(token, {"token": token}) for token in tokens))

        with ExitStack() as stack:
            children = begun(stack, workers, "take", url, tenant, count)
            await asyncio.sleep(rng.uniform(0.0, 0.05))
            children[0].kill()
            taken = [token for child in children[1:] for token in child.hear().split()]
            for child in children[1:]:
                child.end()
        left = await asyncio.gather(*(store.load_planner_state(token) for token in tokens))

    taken += [payload["token"] for payload in left if payload is not None]
    assert len(taken) == len(set(taken))
    assert set(taken) <= set(tokens)


@pytest.mark.parametrize("workers", [2, 4])
async def test_updates_are_neither_lost_nor_doubled_and_the_last_call_has_the_task(
    kind: str, workers: int, tmp_path: Path
) -> None:
    rng = random.Random(workers)
    url, tenant, count = place(kind, tmp_path), unique("updates"), rounds(60, 2_000)
    async with StateStore(url, tenant=tenant) as store:
        with ExitStack() as stack:
            children = begun(stack, workers, "updates", url, tenant, count)
            for child in children:
                assert child.hear() == "done"

            found = await store.list_updates("s", limit=0)
            ids = [update.update_id for update in found]
            assert len(ids) == (workers + 1) * count
            for name in ("all", *map(str, range(workers))):
                # Each process tells in order, so what all of them tell is in that order too.
                own = [update.update_id for update in found if update.task_id == name]
                assert own == [f"{name}/{number}" for number in range(count)]
                assert await store.list_updates("s", task_id=name, limit=0) == [
                    update for update in found if update.task_id == name
                ]

            tasks = await store.list_tasks("s")
            assert [task.task_id for task in tasks] == [f"task-{number}" for number in range(0, count, 20)]
            assert {task.description for task in tasks} <= set(map(str, range(workers)))

            # In turns, a few calls at once: the last call has it, in whichever process.
            for turn in range(rounds(6, 50)):
                child = rng.choice(children)
                child.say(str(turn))
                assert child.hear() == "saved"
                [last] = [task for task in await store.list_tasks("s") if task.task_id == "turns"]
                assert last.description == f"{turn}/4"
            for child in children:
                child.say()
                child.end()
