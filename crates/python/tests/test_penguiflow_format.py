"""The bytes that Penguiflow's things are stored as: `docs/formats/penguiflow.md`, `artifacts.md`, and the file here.

``ICECORE_BLESS=1`` writes the file anew. What stands in it must stay readable: it is read back below.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import icecore
from icecore.penguiflow import StateStore, _artifact_store, _codec
from penguiflow.artifacts import ArtifactScope
from penguiflow.planner import PlannerEvent, Trajectory
from penguiflow.state import (
    RemoteBinding,
    StateUpdate,
    SteeringEvent,
    SteeringEventType,
    StoredEvent,
    TaskContextSnapshot,
    TaskState,
    TaskStatus,
    TaskType,
    UpdateType,
)

GOLDEN = Path(__file__).parent / "golden/penguiflow.ndjson"
THEN = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
VALUES = {
    "numbers": [0, -1, 2**64, 0.1, 1.0, 1e300, float("nan"), float("-inf"), True, None],
    "texts": ["", "é\0", "\ud800", "$serde_json::private::x"],
    "bytes": b"\xff\0",
    "keys": {1: "a", (2, None): "b"},
    "one": {"$bytes": "not bytes"},
}


async def save_all(store: StateStore) -> None:
    task = TaskState(
        "t-1", "s-1", TaskStatus.RUNNING, TaskType.BACKGROUND, 2, snapshot(), created_at=THEN, updated_at=THEN
    )
    await store.save_event(StoredEvent("trace-1", 1764030000.25, "node_success", "archive", "n-1", VALUES))
    await store.save_event(StoredEvent(None, 1764030000.5, "", None, None, {}))
    await store.save_event(StoredEvent("~" * 3 + "x" * 400, 0.0, "icecore.odd", "", "n-2", {"deep": nested(120)}))
    await store.save_planner_event("trace-1", PlannerEvent("step_start", 1764030000.25, 0, extra={"a": 1}))
    update = StateUpdate(
        session_id="s-1", task_id="t-1", update_id="u-1", update_type=UpdateType.PROGRESS, content=[1], created_at=THEN
    )
    await store.save_update(update)
    await store.save_task(task)
    steering = SteeringEvent(
        session_id="s-1",
        task_id="t-1",
        event_id="e-1",
        event_type=SteeringEventType.INJECT_CONTEXT,
        payload={"text": "faster"},
        created_at=THEN,
    )
    await store.save_steering(steering)
    await store.save_memory_state("acme:ada:s-1", {"version": 1, "turns": []})
    await store.save_planner_state("token-1", {"reason": "approval_required"})
    await store.save_trajectory("trace-1", "s-1", Trajectory(query="Refund order 17"))
    binding = RemoteBinding(
        trace_id="trace-1",
        context_id=None,
        task_id="r-1",
        agent_url="http://127.0.0.1/a",
        router_session_id="s-1",
        remote_skill="refund",
    )
    await store.save_remote_binding(binding)
    scope = ArtifactScope(tenant_id="t", user_id="ada", session_id="s-1", trace_id="trace-1")
    await store.artifact_store.put_text("tea", filename="é.txt", namespace="n.a", scope=scope, meta={"b": b"\xff"})
    await store.flush()


def snapshot() -> TaskContextSnapshot:
    return TaskContextSnapshot(session_id="s-1", task_id="t-1", query="Why?", spawned_at=THEN)


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else "the end"


def line(log: str, event: icecore.RecordedEvent) -> dict[str, Any]:
    own = event.id if event.id and not event.id.startswith("~") else None
    data = event.data.decode()
    if event.meta.get("key") == "pause":
        before, _, behind = data.partition(",")
        assert before.removeprefix('{"expires_at_ms":').isdigit()
        data = '{"expires_at_ms":0,' + behind
    # When it was stored, and what nobody can guess.
    data = re.sub(r'"(created_at_ms|expires_at_ms)":\d+', r'"\1":0', re.sub(r'"body":"[^"]*"', '"body":""', data))
    found = {
        "log": log,
        "id": own,
        "kind": event.kind,
        "node": event.node,
        "trace": event.trace,
        "correlation": event.correlation,
        "meta": event.meta,
        "data": data,
    }
    return {name: value for name, value in found.items() if value}


async def test_the_bytes_are_those_of_the_golden_file() -> None:
    lines = []
    async with StateStore("memory:", tenant="acme") as store:
        await save_all(store)
        async for name in store.icecore.logs("acme/"):
            async for event in store.icecore.log(name).read():
                lines.append(json.dumps(line(name, event), ensure_ascii=False) + "\n")
    if os.environ.get("ICECORE_BLESS"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text("".join(lines))

    assert lines == GOLDEN.read_text().splitlines(keepends=True)


def test_what_the_golden_file_has_is_read() -> None:
    rows = [json.loads(row) for row in GOLDEN.read_text().splitlines()]
    [event] = [row for row in rows if row["kind"] == "node_success"]
    [task] = [row for row in rows if row["log"] == "acme/tasks/s-1"]
    [deep] = [row for row in rows if row["kind"] == "event" and row.get("trace", "").startswith("~~~")]

    read = _codec.event("trace-1", (event["data"].encode(), event["kind"], event["node"]))

    [artifact] = [row for row in rows if row["log"] == "acme/artifacts/s-1" and '"about"' in row["data"]]
    record = json.loads(artifact["data"])
    about = json.dumps(record["about"]).encode()
    ref = _artifact_store.ref((record["id"], record["bytes"], record["sha256"], about))

    assert ref.scope is not None and ref.scope.user_id == "ada"
    assert (ref.filename, ref.mime_type, ref.source) == ("é.txt", "text/plain", {"b": b"\xff"})
    # NaN is not equal to itself.
    assert repr(read.payload) == repr({**VALUES, "keys": {1: "a", (2, None): "b"}})
    assert _codec.task(task["data"].encode()).context_snapshot == snapshot()
    assert _codec.event("x", (deep["data"].encode(), "event", "")).payload == {"deep": nested(120)}
