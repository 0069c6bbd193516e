"""Documents: put, read as they were, changed in transactions."""

import asyncio
import decimal
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import icecore
import pytest
from icecore import Changes, State


async def test_a_document_is_kept_to_the_byte(log: icecore.Log) -> None:
    await log.put("cart", b'{"total": 3.50, "n": 12345678901234567890123}')

    state = await log.state()

    assert state.raw("cart") == b'{"total": 3.50, "n": 12345678901234567890123}'
    assert state["cart"] == {"total": 3.5, "n": 12345678901234567890123}
    assert await log.get("cart") == state["cart"]
    document = await log.document("cart")
    assert document is not None and document.version == 1 and document.json() == state["cart"]
    assert document.at == state.at and document.raw == state.raw("cart")


async def test_a_state_is_a_mapping(log: icecore.Log) -> None:
    await log.commit(Changes().put("a", 1).put("steps/1", None).put("steps/2", [2]))

    state = await log.state()

    assert dict(state) == {"a": 1, "steps/1": None, "steps/2": [2]}
    assert (len(state), list(state), state.version) == (3, ["a", "steps/1", "steps/2"], 1)
    assert state.under("steps/") == ["steps/1", "steps/2"]
    assert "a" in state and "b" not in state and "\ud800" not in state
    assert 3 not in state  # type: ignore[comparison-overlap]
    assert state.get("b", 7) == 7 and state.document("b") is None
    state["steps/2"].append(3)
    assert state["steps/2"] == [2]
    for missing in ("b", "\ud800"):
        with pytest.raises(KeyError):
            state[missing]
        with pytest.raises(KeyError):
            state.raw(missing)


async def test_documents_come_in_pages(log: icecore.Log) -> None:
    changes = Changes()
    for number in range(25):
        changes.put(f"step/{number:02}", number)
    await log.commit(changes.put("other", None))

    seen: dict[str, object] = {}
    after = None
    while True:
        page = await log.documents("step/", after=after, limit=10)
        seen |= {key: document.json() for key, document in page.documents.items()}
        assert page.version == 1 and list(page.documents) == sorted(page.documents)
        if not page.has_more:
            break
        assert len(page.documents) == 10
        after = list(page.documents)[-1]

    assert seen == {f"step/{number:02}": number for number in range(25)}
    assert list((await log.documents()).documents)[0] == "other"
    assert (await log.documents(limit=0)).has_more and await log.documents("none") == (1, {}, False)


async def test_a_large_document_that_changes_a_little_is_read_back_to_the_byte(log: icecore.Log) -> None:
    text = "".join(chr(97 + number * number % 26) for number in range(50_000))
    for turn in range(5):
        text = text[:30_000] + f"<turn {turn}>" + text[30_000:]
        await log.put("text", text)

        assert await log.get("text") == text

    events = [event async for event in log.read()]
    assert [event.kind for event in events] == ["icecore.document.put"] * 5
    assert [change.change async for change in log.history("text")] == ["put"] * 5
    assert (await log.state(at=2))["text"] == events[1].json()


async def test_a_state_before_the_first_commit_is_empty(log: icecore.Log) -> None:
    state = await log.state()

    assert (state.version, state.at, dict(state)) == (0, None, {})
    assert await log.get("cart") is None
    assert await log.get("cart", {}) == {}


async def test_a_state_is_read_as_it_was(log: icecore.Log) -> None:
    await log.put("n", 1)
    first = await log.state()
    await asyncio.sleep(0.01)
    await log.put("n", 2)
    assert first.at is not None

    assert (await log.state(1))["n"] == 1
    assert dict(await log.state(0)) == {}
    assert (await log.state(first.at))["n"] == 1
    assert (await log.state(first.at.astimezone()))["n"] == 1
    assert dict(await log.state(first.at - timedelta(seconds=1))) == {}
    assert (await log.state(datetime.now(UTC) + timedelta(days=1)))["n"] == 2
    with pytest.raises(icecore.NotFoundError):
        await log.state(3)
    with pytest.raises(icecore.InvalidError):
        await log.state(datetime.now())
    with pytest.raises(icecore.InvalidError):
        await log.state(datetime(1, 1, 1, tzinfo=UTC))
    with pytest.raises(TypeError):
        await log.state("1")  # type: ignore[arg-type]


async def test_patch_and_delete(log: icecore.Log) -> None:
    await log.put("cart", {"items": ["tea"], "total": 3}, actor="ada", trace="t-1", id="p-1")
    await log.patch("cart", {"total": None, "paid": True}, actor="bob")
    assert await log.get("cart") == {"items": ["tea"], "paid": True}
    await log.delete("cart")
    assert await log.get("cart") is None

    changes = [change async for change in log.history("cart")]

    assert [(change.change, change.value, change.version) for change in changes] == [
        ("delete", None, 3),
        ("patch", {"total": None, "paid": True}, 2),
        ("put", {"items": ["tea"], "total": 3}, 1),
    ]
    assert [(change.actor, change.trace, change.id) for change in changes] == [
        (None, None, None),
        ("bob", None, None),
        ("ada", "t-1", "p-1"),
    ]
    assert changes[0].at >= changes[2].at
    assert (await log.put("cart", {"items": ["tea"], "total": 3}, actor="ada", trace="t-1", id="p-1")).repeated


async def test_merges_of_many_tasks_are_all_there_once(log: icecore.Log) -> None:
    async def some(task: int) -> None:
        for number in range(10):
            name = f"{task}-{number}"
            await log.merge("run", add=b"0.1", pointer="/usage/cost")
            await log.merge("run", append=[{"by": name}], pointer="/messages", id=name)
            assert (await log.merge("run", append=[{"by": name}], pointer="/messages", id=name)).repeated
            await log.commit(Changes().merge("big", add=2**70).merge("all", union=[name, "same"]))

    await log.put("run", None)
    with pytest.raises(icecore.InvalidError):
        await log.merge("run", add=True)
    await asyncio.gather(*(some(task) for task in range(8)))

    run = await log.get("run")
    assert run["usage"]["cost"] == 8.0
    names = {f"{task}-{number}" for task in range(8) for number in range(10)}
    assert len(run["messages"]) == 80 and {message["by"] for message in run["messages"]} == names
    every = await log.get("all")
    assert len(every) == 81 and set(every) == names | {"same"}
    assert await log.get("big") == 80 * 2**70
    told = {(change.change, change.pointer, change.applied) async for change in log.history("run")}
    assert told == {("put", "", True), ("add", "/usage/cost", True), ("append", "/messages", True)}


async def test_what_cannot_be_merged_is_refused_where_it_is_seen(log: icecore.Log) -> None:
    await log.put("n", "five")
    for changes in (Changes().merge("n", add=1), Changes().merge("n", append=[1], pointer="/a")):
        with pytest.raises(icecore.ConflictError):
            await log.check_merges(changes)
        with pytest.raises(icecore.ConflictError):
            await log.commit(changes.only_if_exists("n"))
    with pytest.raises(icecore.ConflictError):
        await log.transact(lambda state: Changes().merge("n", add=1))
    wrongs: list[dict[str, Any]] = [
        {},
        {"add": 1, "append": [1]},
        {"append": "ab"},
        {"union": {}},
        {"add": "1"},
        {"add": float("nan")},
    ]
    for wrong in wrongs:
        with pytest.raises(icecore.InvalidError):
            await log.merge("n", **wrong)
        with pytest.raises(icecore.InvalidError):
            Changes().merge("n", **wrong)
    with pytest.raises(icecore.InvalidError):
        await log.merge("n", add=1, pointer="n")

    assert [(change.change, change.applied) async for change in log.history("n")] == [("put", True)]


async def test_sums_are_those_of_the_decimal_module(log: icecore.Log) -> None:
    chance = random.Random(7)
    with decimal.localcontext(prec=2_000, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN):
        for case in range(60):
            total, behind = decimal.Decimal(0), 0
            changes = Changes()
            for _ in range(chance.randrange(1, 8)):
                digits = "".join(chance.choice("0123456789") for _ in range(chance.randrange(1, 40)))
                number = chance.choice(["", "-"]) + (digits.lstrip("0") or "0")
                number += chance.choice(["", ".5", ".250", ".0"]) + chance.choice(["", "", "e5", "E-7", "e+300"])
                changes.merge(f"n-{case}", add=number.encode())
                total += decimal.Decimal(number)
                behind = max(behind, -int(decimal.Decimal(number).as_tuple().exponent))
            await log.commit(changes)
            document = await log.document(f"n-{case}")
            assert document is not None
            found = document.raw.decode()
            assert decimal.Decimal(found) == total
            assert len(found.partition(".")[2]) == behind


async def test_a_reducer_of_ones_own_loses_no_update(log: icecore.Log) -> None:
    def newest(now: Any, operand: Any) -> Any:
        return operand if now is None or operand["at"] >= now["at"] else now

    times = [(number * 11) % 16 for number in range(16)]
    await asyncio.gather(*(log.reduce("register", newest, {"at": at}) for at in times))
    first = await log.reduce("n", lambda now, operand: (now or 0) + operand, 5, id="once")
    again = await log.reduce("n", lambda now, operand: (now or 0) + operand, 5, id="once")

    assert await log.get("register") == {"at": 15}
    assert first is not None and again is not None and again.version == first.version
    assert await log.get("n") == 5


async def test_conditions(log: icecore.Log) -> None:
    done = await log.commit(Changes().put("a", 1).only_if_absent("a").only_if_new().only_if_log(0))
    assert done is not None and done.version == 1
    await log.commit(Changes().put("b", 1).only_if_exists("a").only_if_document("a", 1))

    failing = Changes().put("a", 2).only_if_absent("a").only_if_document("b", 1).only_if_exists("c")
    with pytest.raises(icecore.ConflictError) as caught:
        await log.commit(failing)

    failed = [value for name, value in caught.value.facts if name == "failed"]
    assert failed == ["a absent", "b at 1", "c exists"]
    assert caught.value.advice is not None and caught.value.advice in str(caught.value)
    assert await log.get("a") == 1


async def test_changes_hold_events_too_and_are_committed_once(log: icecore.Log) -> None:
    changes = Changes().put("a", 1).event({"kind": "noted", "data": 1}).delete("b").patch("c", {"d": 1})
    changes = changes.with_id("c-1").by("ada").in_trace("t")

    first = await log.commit(changes)
    again = await log.commit(changes)

    assert first is not None and again is not None and again.repeated
    events = [event async for event in log.read()]
    assert {(event.actor, event.trace, event.id) for event in events} == {("ada", "t", "c-1")}
    assert [event.kind for event in events][1] == "noted"
    assert await log.commit(Changes()) is None
    assert not Changes() and changes


async def test_transactions_of_many_tasks_lose_no_update(log: icecore.Log) -> None:
    def more(state: State) -> Changes:
        return Changes().put("n", state.get("n", 0) + 1)

    async def some() -> None:
        for _ in range(5):
            await log.transact(more)

    await asyncio.gather(*(some() for _ in range(10)))

    assert await log.get("n") == 50


async def test_a_transaction_with_an_id_is_committed_once(log: icecore.Log) -> None:
    def more(state: State) -> Changes:
        return Changes().put("n", state.get("n", 0) + 1)

    first = await log.transact(more, id="t-1")
    await log.put("other", 1)
    again = await log.transact(more, id="t-1")

    assert first is not None and again is not None
    assert again.repeated and again.version == first.version
    assert await log.get("n") == 1


async def test_what_a_transaction_decides_on_is_its_own_affair(log: icecore.Log) -> None:
    class Mine(Exception):
        pass

    def fail(_: State) -> Changes:
        raise Mine

    with pytest.raises(Mine):
        await log.transact(fail)
    with pytest.raises(TypeError, match="returns Changes"):
        await log.transact(lambda _: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(icecore.ConflictError):
        await log.transact(lambda _: Changes().put("a", 1).only_if_exists("b"))
    assert await log.transact(lambda _: Changes()) is None
    assert await log.head() is None


async def test_what_differs(log: icecore.Log) -> None:
    await log.commit(Changes().put("a", {"x": 1}).put("b", None).put("d", 0))
    await log.commit(Changes().put("a", {"x": 2}).delete("b").put("c", [1]))

    diff = await log.diff(1)

    assert (diff.from_version, diff.to_version, len(diff)) == (1, 2, 3)
    assert [(one.key, one.change, one.from_, one.to) for one in diff.differences] == [
        ("a", "replace", {"x": 1}, {"x": 2}),
        ("b", "remove", None, None),
        ("c", "add", None, [1]),
    ]
    assert {(step["op"], step["path"]) for step in diff.json_patch()} == {
        ("replace", "/a/x"),
        ("remove", "/b"),
        ("add", "/c"),
    }
    assert len(await log.diff(1, 1)) == 0


async def test_rollback_and_fork(store: icecore.Store, log: icecore.Log) -> None:
    await log.put("n", 1)
    await log.put("n", 2)
    fork = store.log("acme", "session", "fork")

    back = await log.rollback(1)
    begun = await log.fork(fork, at=2)

    assert back is not None and back.version == 3
    assert await log.rollback(1) is None
    assert await log.get("n") == 1
    assert (begun.log, begun.version) == (fork.name, 1)
    assert await fork.get("n") == 2
    with pytest.raises(icecore.ConflictError):
        await log.fork(fork.name)
    with pytest.raises(icecore.InvalidError):
        await log.fork("no name")


async def test_a_watch_gives_a_document_as_it_is_and_as_it_changes(log: icecore.Log) -> None:
    watch = log.watch("cart")
    assert await anext(watch) == (0, None)
    waiting = asyncio.create_task(anext(watch))
    # A wait that is cancelled loses nothing.
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    await log.put("other", 1)
    await log.put("cart", {"total": 1.50})
    await log.patch("cart", {"total": 2})
    await log.delete("cart")

    found = [await anext(watch) for _ in range(3)]
    assert [(version, document and document.json()) for version, document in found] == [
        (2, {"total": 1.5}),
        (3, {"total": 2}),
        (4, None),
    ]
    await watch.aclose()


async def test_what_expires_is_absent_the_moment_it_is_due(log: icecore.Log) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    await log.commit(Changes().put("soon", 1).expire("soon", at=soon).put("stays", 2))
    await log.expire("stays", sliding=timedelta(hours=2))

    state = await log.state()
    document = state.document("stays")
    assert document is not None and document.expires_at == document.at + timedelta(hours=2)
    assert (document.sliding, document.pinned, state.expires_at) == (timedelta(hours=2), False, None)
    gone = state.document("soon")
    assert gone is not None and gone.expires_at == soon and gone.sliding is None
    while datetime.now(UTC) <= soon:
        await asyncio.sleep(0.05)
    assert list(await log.state()) == ["stays"] and await log.get("soon") is None
    for call in (log.touch("soon"), log.expire("soon", pinned=True)):
        with pytest.raises(icecore.ConflictError):
            await call


async def test_an_expiry_is_renewed_and_taken_back(log: icecore.Log) -> None:
    await log.put("cart", 1)
    await log.expire("cart", sliding=timedelta(hours=1))
    before = await log.document("cart")
    await log.touch("cart")
    after = await log.document("cart")
    assert before is not None and after is not None and before.expires_at is not None
    assert after.expires_at is not None and after.expires_at > before.expires_at
    await log.expire("cart", pinned=True)
    pinned = await log.document("cart")
    assert pinned is not None and (pinned.pinned, pinned.expires_at) == (True, None)
    await log.expire("cart")
    never = await log.document("cart")
    assert never is not None and (never.pinned, never.expires_at, never.sliding) == (False, None, None)

    await log.expire_log(sliding=timedelta(days=1))
    state = await log.state()
    assert state.sliding == timedelta(days=1) and state.expires_at is not None
    await log.expire_log()
    assert (await log.state()).expires_at is None


async def test_an_expiry_is_one_thing(log: icecore.Log) -> None:
    with pytest.raises(icecore.InvalidError, match="one of at, sliding and pinned"):
        Changes().expire("a", at=datetime.now(UTC), pinned=True)
    with pytest.raises(icecore.InvalidError, match="time zone"):
        Changes().expire("a", at=datetime(2126, 1, 1))
    with pytest.raises(ValueError, match="negative"):
        Changes().expire("a", sliding=timedelta(seconds=-1))
    with pytest.raises(icecore.InvalidError):
        await log.commit(Changes().put("a", 1).expire("a", sliding=timedelta(days=999_999)))
    assert await log.head() is None
