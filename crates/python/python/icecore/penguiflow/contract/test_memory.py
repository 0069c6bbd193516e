"""Short-term memory, and the rows of `ctx.kv`: a document under a name."""

import asyncio
from typing import Any

from ._groups import judges, ours
from ._making import fresh
from ._ours import SHALLOW
from ._values import same

TURN = {
    "user_message": "Grüße, 👩‍🚀",
    "assistant_response": "日本",
    "trajectory_digest": {"tools_invoked": ["a"], "observations_summary": "", "reasoning_summary": None},
    "artifacts_shown": {},
    "artifacts_hidden_refs": [],
    "ts": 1730000000.123456,
}
MEMORY: dict[str, Any] = {
    "version": 1,
    "health": "degraded",
    "summary": "",
    "turns": [TURN, {**TURN, "trajectory_digest": None}],
    "pending": [TURN],
    "backlog": [],
    "config_snapshot": {"strategy": "rolling_summary", "budget": {"total": 10000, "share": 0.25}, "none": None},
}
ROW: dict[str, Any] = {
    "schema_version": 1,
    "etag": "5a",
    "updated_at": "2026-01-01T00:00:00+00:00",
    "deleted": False,
    "value": {"inline": {"n": 2**60, "x": 1.0}, "hash": "0", "artifact_ref": None, "mime_type": None},
    "redaction": {"fields": ["token"]},
}


@judges("memory")
async def test_a_memory_comes_back_equal_and_again(state_store: Any) -> None:
    key = f"acme:ada:{fresh()}"

    await state_store.save_memory_state(key, MEMORY)

    assert same(await state_store.load_memory_state(key), MEMORY)
    assert same(await state_store.load_memory_state(key), MEMORY)


@judges("memory")
async def test_a_row_of_kv_stands_beside_the_memory(state_store: Any) -> None:
    session = fresh()
    memory, row = (f"acme:ada:{session}", f"kv:v1:acme:ada:{session}:session:tool:search:a/b:c")

    await state_store.save_memory_state(memory, MEMORY)
    await state_store.save_memory_state(row, ROW)

    assert same(await state_store.load_memory_state(memory), MEMORY)
    assert same(await state_store.load_memory_state(row), ROW)


@judges("memory")
async def test_a_key_that_nobody_knows_is_none(state_store: Any) -> None:
    assert await state_store.load_memory_state(fresh()) is None


@judges("memory")
async def test_an_empty_memory_is_not_a_missing_one(state_store: Any) -> None:
    key = fresh()

    await state_store.save_memory_state(key, {})

    assert await state_store.load_memory_state(key) == {}


@judges("memory")
async def test_a_save_replaces_all_that_was_there(state_store: Any) -> None:
    key = fresh()

    await state_store.save_memory_state(key, {"a": {"b": 1, "c": 2}, "d": 3, "e": [1, 2]})
    await state_store.save_memory_state(key, {"a": {"b": None}, "e": []})

    assert same(await state_store.load_memory_state(key), {"a": {"b": None}, "e": []})


@judges("memory")
async def test_every_read_sees_the_write_before_it(state_store: Any) -> None:
    """Penguiflow replaces what it has by what it reads: a stale read would erase turns of a conversation."""
    key = fresh()

    for n in range(50):
        await state_store.save_memory_state(key, {"n": n})
        assert await state_store.load_memory_state(key) == {"n": n}


@judges("memory")
async def test_every_read_of_another_object_sees_the_write_before_it(state_store: Any, other_state_store: Any) -> None:
    key = fresh()

    for n in range(20):
        await state_store.save_memory_state(key, {"n": n})
        assert await other_state_store.load_memory_state(key) == {"n": n}
        await other_state_store.save_memory_state(key, {"n": -n})
        assert await state_store.load_memory_state(key) == {"n": -n}


@judges("memory")
async def test_a_megabyte_comes_back(state_store: Any) -> None:
    key, state = (fresh(), {"turns": [{"user_message": "x" * 1024, "n": n} for n in range(1024)]})

    await state_store.save_memory_state(key, state)

    assert same(await state_store.load_memory_state(key), state)


@judges("memory")
async def test_the_caller_s_memory_is_read_when_the_call_begins(state_store: Any) -> None:
    key, state = fresh(), {"n": 1}

    saving = asyncio.create_task(state_store.save_memory_state(key, state))
    await asyncio.sleep(0)
    state["n"] = 2
    await saving

    assert await state_store.load_memory_state(key) == {"n": 1}


@judges("memory")
async def test_what_callers_and_readers_change_changes_no_memory(state_store: Any) -> None:
    key, state = fresh(), {"n": 1}

    await state_store.save_memory_state(key, state)
    state["n"] = 2
    (await state_store.load_memory_state(key))["n"] = 3

    assert await state_store.load_memory_state(key) == {"n": 1}


@ours(SHALLOW)
@judges("memory")
async def test_what_the_caller_changes_deep_within_changes_no_memory(state_store: Any) -> None:
    key, state = fresh(), {"turns": [{"a": {"b": [1]}}]}

    await state_store.save_memory_state(key, state)
    state["turns"][0]["a"]["b"].append(2)

    assert await state_store.load_memory_state(key) == {"turns": [{"a": {"b": [1]}}]}


@ours(SHALLOW)
@judges("memory")
async def test_what_a_reader_changes_deep_within_changes_no_memory(state_store: Any) -> None:
    key = fresh()
    await state_store.save_memory_state(key, {"turns": [{"a": {"b": [1]}}]})

    (await state_store.load_memory_state(key))["turns"][0]["a"]["b"].append(2)

    assert await state_store.load_memory_state(key) == {"turns": [{"a": {"b": [1]}}]}
