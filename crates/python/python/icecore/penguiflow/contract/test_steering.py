"""Steering is stored as Penguiflow's own sanitiser leaves it, whoever calls."""

import json
from typing import Any

import pytest

from ._groups import judges, ours
from ._making import fresh, steering
from ._ours import SANITISER
from ._penguiflow import SteeringEvent, sanitize_steering_event
from ._values import HOSTILE, nested, same

# Beyond each limit: bytes of all, depth, keys, items, characters of a text and of a key; and what is no JSON.
PAYLOADS: dict[str, Any] = {
    "a list of 10,000": {"items": list(range(10_000))},
    "50 items": {"items": list(range(50))},
    "51 items": {"items": list(range(51))},
    "64 keys": {str(n): n for n in range(64)},
    "65 keys": {str(n): n for n in range(65)},
    "200 keys": {str(n): n for n in range(200)},
    "a text of 4,096": {"text": "x" * 4_096},
    "a text of 4,097": {"text": "x" * 4_097},
    "a wide text": {"text": "日" * 5_000},
    "texts of 32,000 together": {str(n): "x" * 4_000 for n in range(8)},
    "a key of 64": {"k" * 64: 1},
    "a key of 65": {"k" * 65: 1},
    "5 deep": {"a": nested(4)},
    "6 deep": {"a": nested(5)},
    "objects 7 deep": {"a": nested(6, lambda inner: {"b": inner})},
    "500 deep": {"a": nested(500)},
    "tuples and bytes": {"a": (1, 2), "b": b"bytes", "c": {"d": (b"x",)}},
    "a set of one": {"a": {1}},
    "an object within": {"a": HOSTILE["uuid"](), "b": HOSTILE["datetime"]()},
    "an object within itself": HOSTILE["object within itself"](),
    "int keys within": {"a": {1: 2, None: 3}},
    "a NUL": {"a\0": "b\0"},
    "empty": {},
}


@judges("steering")
@pytest.mark.parametrize("name", PAYLOADS)
async def test_a_payload_is_stored_as_penguiflow_sanitises_it(state_store: Any, name: str) -> None:
    session_id = fresh()
    sent = steering(session_id, PAYLOADS[name])

    await state_store.save_steering(sent)

    [found] = await state_store.list_steering(session_id)
    assert same(found.payload, sanitize_steering_event(sent).payload)
    assert len(json.dumps(found.payload, ensure_ascii=False).encode()) <= 16_384


@judges("steering")
async def test_what_is_sanitised_already_stays_as_it_is(state_store: Any) -> None:
    session_id = fresh()
    sent = sanitize_steering_event(steering(session_id, {"items": list(range(100)), "text": "x" * 5_000}))

    await state_store.save_steering(sent)

    [found] = await state_store.list_steering(session_id)
    assert found == sent


@judges("steering")
async def test_the_caller_s_event_is_not_sanitised(state_store: Any) -> None:
    """Penguiflow goes on to act on it."""
    payload = {"items": list(range(100))}
    sent = steering(fresh(), payload)

    await state_store.save_steering(sent)

    assert sent.payload == {"items": list(range(100))}


@judges("steering")
@pytest.mark.parametrize("source", ["user", "system", "agent", "somebody else", ""])
async def test_a_source_may_be_anything(state_store: Any, source: str) -> None:
    session_id = fresh()
    sent = steering(session_id, source=source, trace_id="tr")

    await state_store.save_steering(sent)

    assert list(await state_store.list_steering(session_id)) == [sent]


@ours(SANITISER)
@judges("steering")
@pytest.mark.parametrize("name", ["lone surrogate", "lone surrogate key", "int of 5001 digits", "unshowable object"])
async def test_no_payload_makes_a_call_raise(state_store: Any, name: str) -> None:
    """A user's cancel must not be lost because of what came with it."""
    session_id = fresh()
    sent = steering(session_id, {"text": "stop", "v": HOSTILE[name]()})

    await state_store.save_steering(sent)

    [found] = await state_store.list_steering(session_id)
    assert isinstance(found, SteeringEvent)
    assert found.event_id == sent.event_id
