"""A pause is resumed once, by whoever comes first."""

import asyncio
from typing import Any

import pytest

from ._groups import judges, ours
from ._making import fresh, started
from ._ours import SHALLOW
from ._values import same

PAYLOAD: dict[str, Any] = {
    "trajectory": {"query": "q", "steps": [{"action": {"thought": "ü", "args": {"n": 1, "x": 1.0}}}]},
    "reason": "await_input",
    "payload": {"text": "approve?", "choices": ["yes", "no"]},
    "constraints": None,
    "tool_context": {"session_id": "s", "nothing": None},
}
TAKERS = 64


@judges("pauses")
async def test_a_pause_comes_back_once_and_equal(state_store: Any) -> None:
    token = fresh()

    await state_store.save_planner_state(token, PAYLOAD)

    assert same(await state_store.load_planner_state(token), PAYLOAD)
    assert await state_store.load_planner_state(token) is None
    assert await state_store.load_planner_state(token) is None


@judges("pauses")
async def test_a_token_that_nobody_knows_is_none(state_store: Any) -> None:
    assert await state_store.load_planner_state(fresh()) is None


@judges("pauses")
async def test_an_empty_payload_is_a_payload(state_store: Any) -> None:
    token = fresh()

    await state_store.save_planner_state(token, {})

    assert await state_store.load_planner_state(token) == {}
    assert await state_store.load_planner_state(token) is None


@judges("pauses")
async def test_the_payload_that_was_saved_last_is_the_one(state_store: Any) -> None:
    token = fresh()

    await state_store.save_planner_state(token, {"trajectory": {}, "old": 1})
    await state_store.save_planner_state(token, {"trajectory": {"query": "new"}})

    assert await state_store.load_planner_state(token) == {"trajectory": {"query": "new"}}
    assert await state_store.load_planner_state(token) is None


@judges("pauses")
async def test_a_token_may_be_saved_again_after_it_was_taken(state_store: Any) -> None:
    token = fresh()

    for n in range(3):
        await state_store.save_planner_state(token, {"n": n})
        assert await state_store.load_planner_state(token) == {"n": n}
        assert await state_store.load_planner_state(token) is None


@judges("pauses")
async def test_taking_one_pause_leaves_the_others(state_store: Any) -> None:
    tokens = [fresh() for _ in range(20)]
    for token in tokens:
        await state_store.save_planner_state(token, {"token": token})

    found = await started([state_store.load_planner_state(token) for token in tokens])

    assert found == [{"token": token} for token in tokens]


@judges("pauses")
@pytest.mark.parametrize("saved", [1, 2])
async def test_of_many_takers_one_gets_it(state_store: Any, saved: int) -> None:
    for n in range(5):
        token = fresh()
        for _ in range(saved):
            await state_store.save_planner_state(token, {"n": n})

        found = await started([state_store.load_planner_state(token) for _ in range(TAKERS)])

        assert [payload for payload in found if payload is not None] == [{"n": n}]


@judges("pauses")
async def test_of_many_takers_at_two_store_objects_one_gets_it(state_store: Any, other_state_store: Any) -> None:
    stores = [state_store, other_state_store]
    for n in range(5):
        token = fresh()
        await state_store.save_planner_state(token, {"n": n})

        found = await started([stores[taker % 2].load_planner_state(token) for taker in range(TAKERS)])

        assert [payload for payload in found if payload is not None] == [{"n": n}]
        assert await other_state_store.load_planner_state(token) is None


@judges("pauses")
async def test_the_caller_s_payload_is_read_when_the_call_begins(state_store: Any) -> None:
    token, payload = fresh(), {"n": 1}

    saving = asyncio.create_task(state_store.save_planner_state(token, payload))
    await asyncio.sleep(0)
    payload["n"] = 2
    await saving

    assert await state_store.load_planner_state(token) == {"n": 1}


@ours(SHALLOW)
@judges("pauses")
async def test_what_is_within_a_payload_is_the_store_s_own(state_store: Any) -> None:
    token, payload = fresh(), {"trajectory": {"steps": [1]}}

    await state_store.save_planner_state(token, payload)
    payload["trajectory"]["steps"].append(2)

    assert await state_store.load_planner_state(token) == {"trajectory": {"steps": [1]}}
