"""Several logs at once: looked at as of one moment, changed together or not at all."""

import asyncio
import random
from pathlib import Path

import icecore
import pytest
from icecore import Changes, Log, States, Store


def accounts(store: Store, count: int) -> list[Log]:
    return [store.log("acme", "account", str(number)) for number in range(count)]


async def begin(store: Store, count: int = 2, each: int = 10) -> list[Log]:
    logs = accounts(store, count)
    receipts = await store.commit({log: Changes().put("credits", each) for log in logs})
    assert [(receipt.log, receipt.version) for receipt in receipts] == [(log.name, 1) for log in logs]
    return logs


async def test_states_are_a_mapping_by_name_and_by_log(store: Store) -> None:
    ann, bob = await begin(store)

    states = await store.states([bob, "acme/account/0", store.log("acme", "account", "none")])

    assert list(states) == ["acme/account/0", "acme/account/1", "acme/account/none"] and len(states) == 3
    assert states[ann]["credits"] == states["acme/account/1"]["credits"] == 10
    assert bob.name in states and "acme/account/2" not in states
    assert ann in states and 3 not in states  # type: ignore[comparison-overlap]
    assert states["acme/account/none"].version == 0 and not states["acme/account/none"]
    assert repr(states) == "States(acme/account/0, acme/account/1, acme/account/none)"
    with pytest.raises(icecore.InvalidError, match="Name it among"):
        states["acme/account/2"]
    assert len(await store.states([])) == 0


async def test_what_is_decided_on_several_is_committed_in_all_of_them(store: Store) -> None:
    ann, bob = await begin(store)

    def move(states: States) -> dict[Log, Changes]:
        return {
            ann: Changes().put("credits", states[ann]["credits"] - 4),
            bob: Changes().put("credits", states[bob]["credits"] + 4),
        }

    receipts = await store.transact([ann, bob, "acme/rule/limit"], move, id="move-1")

    assert [(receipt.version, receipt.repeated) for receipt in receipts] == [(2, False), (2, False)]
    again = await store.transact([ann, bob], move, id="move-1")
    assert [(receipt.version, receipt.repeated) for receipt in again] == [(2, True), (2, True)]
    assert (await ann.get("credits"), await bob.get("credits")) == (6, 14)
    limit = await store.log("acme/rule/limit").head()
    assert limit is not None and limit.version == 1, "it says that it was still so"
    assert await store.transact([ann, bob], lambda _: {}) == []


async def test_somebody_who_was_first_has_it_decided_again(store: Store) -> None:
    ann, bob = await begin(store)
    seen = []

    async def first() -> None:
        await bob.put("credits", 11)

    tasks = []

    def decide(states: States) -> dict[Log, Changes]:
        seen.append(states[bob]["credits"])
        if len(seen) == 1:
            tasks.append(asyncio.get_running_loop().create_task(first()))
        return {ann: Changes().put("saw", states[bob]["credits"])}

    for _ in range(20):
        await store.transact([ann, bob], decide)
        # Whoever was first, what was seen is what was there.
        assert await ann.get("saw") == seen[-1]
    await asyncio.gather(*tasks)
    await store.transact([ann, bob], decide)
    assert await ann.get("saw") == 11


async def test_racing_tasks_move_amounts_and_none_is_lost_or_made(store: Store) -> None:
    logs = await begin(store, count=4, each=100)

    async def mover(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(10):
            a, b = chance.sample(logs, 2)

            def move(states: States, a: Log = a, b: Log = b) -> dict[Log, Changes]:
                has, gets = states[a]["credits"], states[b]["credits"]
                return {a: Changes().put("credits", has - 1), b: Changes().put("credits", gets + 1)}

            assert len(await store.transact([a, b], move)) == 2
            states = await store.states(logs)
            assert sum(states[log]["credits"] for log in logs) == 400

    await asyncio.gather(*[mover(seed) for seed in range(8)])
    states = await store.states(logs)
    assert sum(states[log]["credits"] for log in logs) == 400


async def test_every_condition_that_does_not_hold_is_told_and_nothing_is_written(store: Store) -> None:
    ann, bob = await begin(store)

    changes: dict[str | Log, Changes] = {
        ann: Changes().put("credits", 1).only_if_document("credits", 7),
        bob.name: Changes().put("credits", 1).only_if_exists("nothing"),
    }
    with pytest.raises(icecore.ConflictError) as told:
        await store.commit(changes)

    assert [value for name, value in told.value.facts if name == "failed"] == ["credits at 7", "nothing exists"]
    assert (await ann.get("credits"), await bob.get("credits")) == (10, 10)


async def test_what_cannot_be_is_said_and_nothing_is_written(store: Store) -> None:
    ann, _ = await begin(store)
    other = store.log("other", "account", "0")
    one = Changes().put("credits", 1)

    wrong: list[dict[str | Log, Changes]] = [{ann: one, other: one}, {ann: one, ann.name: one}, {"acme/account": one}]
    for changes in wrong:
        with pytest.raises(icecore.InvalidError):
            await store.commit(changes)
    with pytest.raises(icecore.InvalidError):
        await store.commit({ann: one}, id="")
    with pytest.raises(icecore.InvalidError):
        await store.states([ann, ann])
    with pytest.raises(icecore.InvalidError):
        await store.transact([ann], lambda _: {other: one})
    with pytest.raises(TypeError):
        await store.states(ann.name)
    with pytest.raises(TypeError):
        await store.transact([ann], lambda _: one)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError):
        await store.commit([ann])  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        await store.transact([ann], lambda _: {ann: Changes().put("credits", 1 // 0)})
    head = await ann.head()
    assert head is not None and head.version == 1


async def test_a_commit_of_all_is_done_once_under_its_id(tmp_path: Path) -> None:
    for _ in range(2):
        async with Store(f"file:{tmp_path / 'store'}") as store:
            logs = accounts(store, 3)
            await store.commit({log: Changes().merge("credits", add=1) for log in logs}, id="once")
            states = await store.states(logs)
            assert [states[log]["credits"] for log in logs] == [1, 1, 1]
            with pytest.raises(icecore.ConflictError):
                await store.commit({logs[0]: Changes().put("credits", 7)}, id="once")
