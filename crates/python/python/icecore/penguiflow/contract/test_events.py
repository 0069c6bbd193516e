"""The audit log: what a flow did, once, in order."""

import dataclasses
import types
from typing import Any

import pytest

from ._groups import judges, ours
from ._making import binding, event, fresh, kinds, started
from ._ours import LIVE
from ._penguiflow import StoredEvent
from ._values import same


@judges("events")
async def test_an_event_comes_back_with_every_field(state_store: Any) -> None:
    trace_id = fresh()
    payload = {
        "ts": 2.5,
        "kind": "other",
        "trace_id": None,
        "node_name": 7,
        "node_id": "x",
        "payload": {},
        "attempt": 1,
    }
    sent = event(trace_id, ts=1730000000.123456, kind="own.kind", node_name="a node", node_id="n-7", payload=payload)

    await state_store.save_event(sent)

    [found] = await state_store.load_history(trace_id)
    assert isinstance(found, StoredEvent)
    assert dataclasses.asdict(found) == dataclasses.asdict(sent)
    assert same(dict(found.payload), payload)


@judges("events")
@pytest.mark.parametrize(
    "fields", [{"node_name": None}, {"node_id": None}, {"node_name": ""}, {"kind": ""}, {"ts": 0.0}]
)
async def test_none_and_nothing_come_back_as_they_are(state_store: Any, fields: dict[str, Any]) -> None:
    trace_id = fresh()
    sent = event(trace_id, **fields)

    await state_store.save_event(sent)

    assert list(await state_store.load_history(trace_id)) == [sent]


@judges("events")
async def test_the_same_event_twice_is_one(state_store: Any) -> None:
    trace_id = fresh()

    for _ in range(3):
        await state_store.save_event(event(trace_id, payload={"a": [1, {"b": None}]}))

    assert await kinds(state_store, trace_id) == ["node_start"]


@judges("events")
async def test_the_order_of_keys_makes_no_other_event(state_store: Any) -> None:
    trace_id = fresh()

    await state_store.save_event(event(trace_id, payload={"a": 1, "b": {"c": 1, "d": [{"e": 1, "f": 2}]}}))
    await state_store.save_event(event(trace_id, payload={"b": {"d": [{"f": 2, "e": 1}], "c": 1}, "a": 1}))

    assert await kinds(state_store, trace_id) == ["node_start"]


@judges("events")
async def test_the_same_event_from_many_tasks_is_one(state_store: Any) -> None:
    trace_id = fresh()

    await started([state_store.save_event(event(trace_id, payload={"a": 1})) for _ in range(64)])

    assert await kinds(state_store, trace_id) == ["node_start"]


@judges("events")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"ts": 1.0}, {"ts": 1.0000001}),
        ({"kind": "a"}, {"kind": "b"}),
        ({"node_name": None}, {"node_name": "None"}),
        ({"node_name": None}, {"node_name": ""}),
        ({"node_id": None}, {"node_id": ""}),
        ({"node_name": "a", "node_id": "b"}, {"node_name": "b", "node_id": "a"}),
        ({"payload": {}}, {"payload": {"a": None}}),
        ({"payload": {"a": 1}}, {"payload": {"a": 1.0}}),
        ({"payload": {"a": 1}}, {"payload": {"a": True}}),
        ({"payload": {"a": 1}}, {"payload": {"a": "1"}}),
        ({"payload": {"a": None}}, {"payload": {"a": "null"}}),
        ({"payload": {"a": 2**53}}, {"payload": {"a": 2**53 + 1}}),
        ({"payload": {"a": [1, 2]}}, {"payload": {"a": [2, 1]}}),
        ({"payload": {"a": "ü"}}, {"payload": {"a": "u\u0308"}}),
        ({"payload": {"a": "x"}}, {"payload": {"a": "x "}}),
    ],
    ids=str,
)
async def test_events_that_differ_anywhere_are_two(
    state_store: Any, one: dict[str, Any], other: dict[str, Any]
) -> None:
    trace_id = fresh()

    await state_store.save_event(event(trace_id, **one))
    await state_store.save_event(event(trace_id, **other))

    assert len(await state_store.load_history(trace_id)) == 2


@judges("events")
async def test_the_same_event_in_two_traces_is_two(state_store: Any) -> None:
    traces = [fresh(), fresh()]

    for trace_id in traces:
        await state_store.save_event(event(trace_id))

    assert [[found.trace_id for found in await state_store.load_history(trace_id)] for trace_id in traces] == [
        [traces[0]],
        [traces[1]],
    ]


@judges("events")
async def test_history_is_in_order_of_time_and_then_of_saving(state_store: Any) -> None:
    trace_id = fresh()
    times = [5.0, 1.0, 5.0, -1.0, 1.0, 0.0, 1730000000.5, 1730000000.25, 5.0, 10.0, 2.0]

    for n, ts in enumerate(times):
        await state_store.save_event(event(trace_id, ts=ts, kind=str(n)))

    assert await kinds(state_store, trace_id) == [str(n) for _, n in sorted((ts, n) for n, ts in enumerate(times))]


@judges("events")
async def test_many_events_of_one_time_keep_their_order(state_store: Any) -> None:
    trace_id = fresh()

    for n in range(300):
        await state_store.save_event(event(trace_id, kind=str(n)))

    assert await kinds(state_store, trace_id) == [str(n) for n in range(300)]


@judges("events")
async def test_an_event_without_a_trace_is_under_global(state_store: Any) -> None:
    kind = fresh()

    await state_store.save_event(event(None, kind=kind))

    found = [found for found in await state_store.load_history("__global__") if found.kind == kind]
    assert [one.trace_id for one in found] == [None]
    assert kind not in await kinds(state_store, "None")


@judges("events")
async def test_an_event_of_a_trace_that_is_called_global_keeps_its_trace(state_store: Any) -> None:
    kind = fresh()

    await state_store.save_event(event("__global__", kind=kind))
    await state_store.save_event(event(None, kind=kind))

    found = [found for found in await state_store.load_history("__global__") if found.kind == kind]
    assert [one.trace_id for one in found] == ["__global__", None]


@judges("events")
async def test_a_trace_that_nobody_knows_has_an_empty_list(state_store: Any) -> None:
    assert await state_store.load_history(fresh()) == []


@judges("events")
async def test_a_payload_may_be_any_mapping(state_store: Any) -> None:
    trace_id = fresh()

    await state_store.save_event(event(trace_id, payload=types.MappingProxyType({"a": 1})))

    [found] = await state_store.load_history(trace_id)
    assert dict(found.payload) == {"a": 1}


@ours(LIVE)
@judges("events")
async def test_what_the_caller_changes_later_changes_no_event(state_store: Any) -> None:
    trace_id = fresh()
    sent = event(trace_id, payload={"a": 1, "b": {"c": [1]}})

    await state_store.save_event(sent)
    sent.payload["a"] = 2
    sent.payload["b"]["c"].append(2)
    sent.kind = "changed"

    assert list(await state_store.load_history(trace_id)) == [event(trace_id, payload={"a": 1, "b": {"c": [1]}})]


@ours(LIVE)
@judges("events")
async def test_what_a_reader_changes_changes_no_event(state_store: Any) -> None:
    trace_id = fresh()
    await state_store.save_event(event(trace_id, payload={"a": {"b": 1}}))

    [found] = await state_store.load_history(trace_id)
    found.kind = "changed"
    found.payload["a"]["b"] = 2

    assert list(await state_store.load_history(trace_id)) == [event(trace_id, payload={"a": {"b": 1}})]


@judges("events")
async def test_a_list_that_was_read_is_the_reader_s_own(state_store: Any) -> None:
    trace_id = fresh()
    await state_store.save_event(event(trace_id))

    (await state_store.load_history(trace_id)).clear()

    assert await kinds(state_store, trace_id) == ["node_start"]


@judges("events")
async def test_a_remote_binding_may_be_saved_again_and_by_many(state_store: Any) -> None:
    """Before Penguiflow 3.11 nothing reads them: the calls must only work."""
    trace_id = fresh()

    for context_id in (None, "", "c", None):
        await state_store.save_remote_binding(binding(trace_id, context_id=context_id))
    await started([state_store.save_remote_binding(binding(trace_id, agent_url=str(n))) for n in range(32)])
