"""Durable queues: put once, leased, done, given back, dead."""

import asyncio
from datetime import timedelta
from pathlib import Path

import icecore
import pytest
from icecore import Message

MINUTE = timedelta(minutes=1)


async def test_messages_are_given_out_in_order_until_they_are_done(store: icecore.Store) -> None:
    queue = store.queue("acme", "jobs")
    first = await queue.put({"n": 1, "text": "hé"}, id="a")
    put = await queue.put_all([Message("b", b"1.50"), Message("a", {"n": 1, "text": "hé"})])

    leased = await queue.lease(9, MINUTE)

    assert (first.number, first.repeated) == (1, False)
    assert [(one.id, one.number, one.repeated) for one in put] == [("b", 2, False), ("a", 1, True)]
    assert [(one.id, one.attempts, one.fence) for one in leased] == [("a", 1, 1), ("b", 1, 1)]
    assert leased[0].json() == {"n": 1, "text": "hé"} and leased[1].raw == b"1.50"
    assert leased[0].until - leased[0].put_at > timedelta(seconds=50)
    assert await queue.lease() == []
    for one in leased:
        await queue.ack(one.id, one.fence)
        await queue.ack(one.id, one.fence)
    counts = await queue.statistics()
    assert (counts.ready, counts.delayed, counts.leased, counts.dead, counts.oldest_at) == (0, 0, 0, 0, None)


async def test_what_failed_too_often_is_dead_until_it_is_replayed_or_purged(store: icecore.Store) -> None:
    queue = store.queue("acme", "jobs")
    await queue.put_all([Message(id, None, attempts_max=1) for id in ("a", "b")])
    for one in await queue.lease(9, MINUTE):
        assert await queue.nack(one.id, one.fence, because="no model") == "dead"

    dead = await queue.dead()
    assert [(one.id, one.reason, one.attempts, one.json()) for one in dead] == [
        ("a", "no model", 1, None),
        ("b", "no model", 1, None),
    ]
    assert [one.id for one in await queue.dead(after=dead[0].number)] == ["b"]
    assert await queue.replay(["a"]) == 1
    with pytest.raises(icecore.NotFoundError):
        await queue.replay(["a"])
    assert (await queue.purge("dead", dry_run=True)).messages == 1
    assert (await queue.purge("dead")).messages == 1
    assert await queue.dead() == []
    [again] = await queue.lease()
    until = await queue.extend(again.id, again.fence, 10 * MINUTE)
    assert until > again.until
    assert await queue.nack(again.id, again.fence, delay=MINUTE) == "dead"
    assert await queue.replay() == 1


async def test_a_fence_that_counts_no_more_is_a_conflict(store: icecore.Store) -> None:
    queue = store.queue("acme", "jobs")
    await queue.put("work", id="a")
    [slow] = await queue.lease(length=timedelta(milliseconds=1))
    await asyncio.sleep(0.01)
    [quick] = await queue.lease()

    with pytest.raises(icecore.ConflictError):
        await queue.ack("a", slow.fence)
    with pytest.raises(icecore.ConflictError):
        await queue.nack("a", slow.fence)
    with pytest.raises(icecore.ConflictError):
        await queue.put("other work", id="a")
    with pytest.raises(icecore.NotFoundError):
        await queue.ack("b", quick.fence)
    await queue.ack("a", quick.fence)


async def test_a_worker_waits_for_what_comes(store: icecore.Store) -> None:
    queue = store.queue("acme", "jobs")
    waiting = asyncio.create_task(queue.lease(wait_for=MINUTE))
    await asyncio.sleep(0.02)
    put = await queue.put([1, 2])

    [leased] = await asyncio.wait_for(waiting, 20)

    assert leased.id == put.id and leased.json() == [1, 2]
    assert await queue.lease(wait_for=timedelta(milliseconds=20)) == []


async def test_of_many_workers_each_message_has_one(store: icecore.Store) -> None:
    queue = store.queue("acme", "jobs")
    await queue.put_all([Message(str(number), number) for number in range(100)])

    async def work() -> list[int]:
        done = []
        while leased := await queue.lease(7):
            for one in leased:
                await queue.ack(one.id, one.fence)
                done.append(one.json())
        return done

    done = await asyncio.gather(*(work() for _ in range(8)))

    assert sorted(number for each in done for number in each) == list(range(100))


async def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    async with icecore.Store(f"file:{tmp_path}/logs") as store:
        with pytest.raises(icecore.InvalidError):
            store.queue("", "jobs")
        with pytest.raises(icecore.InvalidError):
            await store.queue("acme", "").statistics()
        queue = store.queue("acme", "jobs")
        for refused in (
            [Message("a", float("nan"))],
            [Message("\ud800", 1)],
            [Message("x" * 1_025, 1)],
            [Message("a", 1, attempts_max=0)],
            [Message("a", 1, attempts_max=2**32)],
            [],
        ):
            with pytest.raises(icecore.InvalidError):
                await queue.put_all(refused)
        with pytest.raises(icecore.InvalidError):
            await queue.put(1, id="")
        for limit in (0, 1_001):
            with pytest.raises(icecore.InvalidError):
                await queue.lease(limit)
        with pytest.raises(icecore.InvalidError):
            await queue.lease(length=timedelta())
        with pytest.raises(icecore.InvalidError):
            await queue.purge("everything")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await queue.replay("a")
        assert [name async for name in store.logs()] == []
