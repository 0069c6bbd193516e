"""Appending, reading, following."""

import asyncio
import gc
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import icecore
import pytest
from icecore import Event


async def test_an_append_is_read_as_it_was_given(log: icecore.Log) -> None:
    at = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    given = Event(
        "said",
        {"text": "hé\0", "n": [1, 2.5, True, None]},
        at=at,
        actor="ada",
        trace="t",
        node="n",
        correlation="c",
        causation="d",
        meta={"a": "b"},
        subjects=["p-1"],
        schema_version=3,
    )

    receipt = await log.append(given, id="m-1")
    [read] = [event async for event in log.read()]

    assert (receipt.log, receipt.version, receipt.entry, receipt.id) == (log.name, 1, 0, "m-1")
    assert not receipt.repeated
    assert read.data == '{"text":"hé\\u0000","n":[1,2.5,true,null]}'.encode()
    assert read.json() == {"text": "hé\0", "n": [1, 2.5, True, None]}
    assert read.at == at and read.at.tzinfo is UTC and read.at_ns % 1_000_000_000 == 123_456_000
    assert (read.kind, read.actor, read.trace, read.node) == ("said", "ada", "t", "n")
    assert (read.correlation, read.causation, read.meta, read.subjects) == ("c", "d", {"a": "b"}, ["p-1"])
    assert (read.content_type, read.schema_version) == ("application/json", 3)
    assert (read.version, read.index, read.id) == (1, 0, "m-1")


async def test_what_was_not_said_is_none(log: icecore.Log) -> None:
    event = Event("said", None)

    await log.append(event)
    [read] = [event async for event in log.read()]

    assert (event.at, event.actor, event.meta, event.subjects) == (None, None, {}, [])
    assert (read.actor, read.trace, read.node, read.id) == (None, None, None, None)
    assert read.at > datetime(2026, 1, 1, tzinfo=UTC)


async def test_a_retry_with_an_id_is_the_same_append(log: icecore.Log) -> None:
    first = await log.append({"kind": "said", "data": 1}, id="m-1")

    again = await log.append({"kind": "said", "data": 1}, id="m-1")

    assert again.repeated and again.version == first.version
    with pytest.raises(icecore.ConflictError):
        await log.append({"kind": "said", "data": 2}, id="m-1")
    resolved = await log.resolve("m-1")
    assert resolved is not None and resolved.version == 1
    assert await log.resolve("m-2") is None


async def test_several_events_are_one_append(log: icecore.Log) -> None:
    await log.append([Event("a", 1), {"kind": "b", "data": 2, "actor": "ada"}])

    read = [event async for event in log.read()]

    assert [(event.version, event.index, event.kind, event.json()) for event in read] == [
        (1, 0, "a", 1),
        (1, 1, "b", 2),
    ]


async def test_a_condition_that_does_not_hold_is_a_conflict(log: icecore.Log) -> None:
    await log.append(Event("a", 1), expect=0)

    with pytest.raises(icecore.ConflictError) as caught:
        await log.append(Event("a", 1), expect=0)

    assert caught.value.kind == "conflict"
    assert caught.value.fact("found") == "1"
    assert ("log", log.name) in caught.value.facts
    assert (await log.append(Event("a", 1), expect=1)).version == 2


async def test_parts_of_a_log_are_read_in_both_directions(log: icecore.Log) -> None:
    for n in range(1, 6):
        await log.append([Event("n", n), Event("n", -n)])

    async def numbers(from_: int | None = None, to: int | None = None, reverse: bool = False) -> list[int]:
        return [event.json() async for event in log.read(from_, to, reverse)]

    assert await numbers(2, 3) == [2, -2, 3, -3]
    assert await numbers(4) == [4, -4, 5, -5]
    assert await numbers(4, reverse=True) == [-5, 5, -4, 4]
    assert await numbers(to=1) == [1, -1]
    assert await numbers(9) == []


async def test_appends_that_were_begun_in_order_are_in_order(store: icecore.Store, log: icecore.Log) -> None:
    await store.open()

    await asyncio.gather(*(log.append(Event("n", n)) if n % 3 else log.put("n", n) for n in range(500)))

    assert [event.json() async for event in log.read()] == list(range(500))


async def test_the_head_of_a_log(log: icecore.Log) -> None:
    assert await log.head() is None

    await log.append([Event("a", 1), Event("a", 2)])
    head = await log.head()

    assert head is not None
    assert (head.version, head.events, head.boundary, head.sealed, len(head.hash)) == (1, 2, 0, False, 64)
    assert head.at > datetime(2026, 1, 1, tzinfo=UTC)


async def test_reading_a_log_that_is_not_there_is_not_found(log: icecore.Log) -> None:
    events = log.read()

    for _ in range(2):
        with pytest.raises(icecore.NotFoundError):
            await anext(events)


async def test_logs_are_named_by_one_text_or_by_parts(store: icecore.Store) -> None:
    named = store.log("acme", "session", "any text/é")
    same = store.log(named.name)

    assert named.name == "acme/session/any=20text=2F=C3=A9"
    assert (same.tenant, same.kind, same.key) == ("acme", "session", "any text/é")
    for wrong in ("acme", "a/b/c d", "", "a/b/\ud800"):
        with pytest.raises(icecore.InvalidError):
            store.log(wrong)
    with pytest.raises(TypeError):
        store.log("a", "b")  # type: ignore[call-overload]


async def test_logs_are_listed_by_prefix(store: icecore.Store) -> None:
    for tenant in ("a", "b"):
        for n in range(3):
            await store.log(tenant, "k", str(n)).append(Event("x", n))

    assert sorted([name async for name in store.logs("b/")]) == ["b/k/0", "b/k/1", "b/k/2"]
    assert len([name async for name in store.logs()]) == 6
    with pytest.raises(icecore.InvalidError):
        store.logs("a b")


async def test_a_tail_gives_what_is_there_and_what_comes(log: icecore.Log) -> None:
    await log.append(Event("n", 1))
    tail = log.tail()
    assert (await anext(tail)).json() == 1

    waiting = asyncio.create_task(anext(tail))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await log.append([Event("n", 2), Event("n", 3)])

    assert (await waiting).json() == 2
    assert (await anext(tail)).json() == 3


async def test_a_tail_whose_waits_are_cancelled_loses_nothing(log: icecore.Log) -> None:
    tail = log.tail()
    seen: list[int] = []

    async def write() -> None:
        for n in range(200):
            await log.append(Event("n", n))

    writing = asyncio.create_task(write())
    while len(seen) < 200:
        try:
            seen.append((await asyncio.wait_for(anext(tail), 0.0005)).json())
        except TimeoutError:
            continue
    await writing

    assert seen == list(range(200))


async def test_a_tail_that_is_closed_ends_for_who_waits(log: icecore.Log) -> None:
    tail = log.tail()
    waiting = asyncio.create_task(anext(tail, None))
    await asyncio.sleep(0.02)

    await tail.aclose()

    assert await asyncio.wait_for(waiting, 5) is None
    assert [event async for event in tail] == []


async def test_two_tasks_share_a_stream_without_loss(log: icecore.Log) -> None:
    for n in range(300):
        await log.append(Event("n", n))
    events = log.read()
    seen: list[int] = []

    async def take() -> None:
        async for event in events:
            seen.append(event.json())
            await asyncio.sleep(0)

    await asyncio.gather(take(), take(), take())

    assert sorted(seen) == list(range(300))


async def test_a_store_is_verified_and_copied(store: icecore.Store) -> None:
    for n in range(3):
        await store.log("a", "k", str(n)).append([Event("x", n), Event("y", n)])

    verified = await store.verify()
    other = icecore.Store("memory:")
    copied = await icecore.copy(store, other)
    again = await icecore.copy(store, other, "a/k/")

    assert (verified.logs, verified.commits, verified.events, verified.dropped) == (3, 3, 6, 0)
    assert verified.bytes > 0 and verified.damage == []
    assert (copied.logs, copied.commits, copied.unchanged) == (3, 3, 0)
    assert (again.logs, again.commits, again.unchanged) == (3, 0, 3)
    assert [event.json() async for event in other.log("a/k/2").read()] == [2, 2]
    await other.aclose()


async def test_damage_is_told_as_errors(tmp_path: Path) -> None:
    async with icecore.Store(f"file:{tmp_path}/logs") as store:
        await store.log("a/b/c").append(Event("x", "some text"))
    for file in (tmp_path / "logs").rglob("*"):
        if file.is_file() and (at := file.read_bytes().find(b"some text")) > 0:
            content = bytearray(file.read_bytes())
            content[at] ^= 1
            file.write_bytes(content)

    async with icecore.Store(f"file:{tmp_path}/logs", read_only=True) as store:
        try:
            damage = (await store.verify()).damage
        except icecore.CorruptError as error:
            damage = [error]

    assert damage and all(isinstance(error, icecore.CorruptError) for error in damage)


async def test_a_store_that_was_read_only_refuses(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/logs.db"
    with pytest.raises(icecore.NotFoundError):
        await icecore.open(url, read_only=True)
    async with icecore.Store(url) as store:
        await store.log("a/b/c").append(Event("x", 1))

    async with icecore.Store(url, read_only=True) as store:
        assert len([event async for event in store.log("a/b/c").read()]) == 1
        with pytest.raises(icecore.RefusedError):
            await store.log("a/b/c").append(Event("x", 2))


async def test_a_closed_store_refuses(store: icecore.Store, log: icecore.Log) -> None:
    await log.append(Event("x", 1))

    await store.aclose()
    await store.aclose()

    for call in (log.append(Event("x", 2)), log.head(), store.open(), store.verify(), anext(log.read())):
        with pytest.raises(icecore.RefusedError, match="closed"):
            await call


async def test_a_store_that_was_never_used_is_closed(tmp_path: Path) -> None:
    store = icecore.Store(f"file:{tmp_path}/logs")

    await store.aclose()

    assert not (tmp_path / "logs").exists()


async def test_a_file_store_lets_go_when_it_is_closed_or_dropped(tmp_path: Path) -> None:
    url = f"file:{tmp_path}/logs"
    first = await icecore.open(url)
    with pytest.raises(icecore.RefusedError):
        await icecore.open(url)

    await first.aclose()
    second = await icecore.open(url)
    await second.log("a/b/c").append(Event("x", 1))
    del second
    gc.collect()

    third = await icecore.open(url)
    assert len([event async for event in third.log("a/b/c").read()]) == 1
    await third.aclose()


async def test_secrets_are_not_shown() -> None:
    assert "hunter2" not in repr(icecore.Store("postgres://me:hunter2@localhost/db"))


async def test_every_system_is_in_the_wheel() -> None:
    with pytest.raises(icecore.Error) as caught:
        await icecore.open("nothing:")
    assert caught.value.kind == "invalid"
    for scheme in ["memory", "file", "sqlite", "postgres", "mysql", "s3", "gs", "az", "redis", "mongodb", "dynamodb"]:
        assert f"{scheme}:" in str(caught.value)


async def test_a_store_counts_what_it_asks_of_its_system(url: str) -> None:
    store = icecore.Store(url, retry=True)
    assert "icecore_backend_requests_total{" not in store.metrics()

    async with store:
        await store.log("acme", "session", "s-1").append(Event("said", {}))

    lines = dict(line.rsplit(" ", 1) for line in store.metrics().splitlines() if not line.startswith("#"))
    system = url.partition(":")[0]
    assert int(lines[f'icecore_backend_runs_total{{backend="{system}",outcome="won"}}']) >= 1
    assert lines[f'icecore_backend_requests_total{{backend="{system}",operation="shut_down",outcome="ok"}}'] == "1"
