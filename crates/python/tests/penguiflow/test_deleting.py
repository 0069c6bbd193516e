"""All of a session goes, through Penguiflow's own calls, and there may be one of its id again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import icecore
import pytest
from icecore.penguiflow import DeletedSession, ExpiredSessions, KeptSession, StateStore
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
from worlds import URLS, place, unique

HAS_CONVERSATIONS = hasattr(RemoteBinding, "router_session_id")


@pytest.fixture(params=["memory", *URLS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory" else place(request.param, tmp_path)


def task(session: str, trace: str | None) -> TaskState:
    snapshot = TaskContextSnapshot(session_id=session, task_id="t-1", trace_id=f"{session}/asked")
    return TaskState("t-1", session, TaskStatus.RUNNING, TaskType.BACKGROUND, 0, snapshot, trace_id=trace)


async def fill(store: StateStore, session: str, life: str = "") -> None:
    """Everything that can be saved of a session, with ids of this life of it."""
    trace = f"{session}/run"
    await store.save_event(StoredEvent(trace, 1.0, "node_success", "n", None, {"life": life}))
    await store.save_event(StoredEvent(f"{session}/asked", 1.0, "node_success", "n", None, {"life": life}))
    await store.save_planner_event(trace, PlannerEvent("finish", 1.0, 0))
    await store.save_trajectory(trace, session, Trajectory(query="Why?"))
    await store.save_task(task(session, trace))
    await store.save_update(
        StateUpdate(
            session_id=session,
            task_id="t-1",
            update_id=f"u-1{life}",
            update_type=UpdateType.RESULT,
            content="because",
            trace_id=trace,
        )
    )
    await store.save_steering(
        SteeringEvent(
            session_id=session,
            task_id="t-1",
            event_id=f"e-1{life}",
            event_type=SteeringEventType.CANCEL,
            payload={"reason": "no"},
        )
    )
    of_session: dict[str, Any] = {"router_session_id": session, "remote_skill": "x"} if HAS_CONVERSATIONS else {}
    await store.save_remote_binding(RemoteBinding(trace, None, "r-1", "http://127.0.0.1/a", **of_session))
    await store.save_memory_state(f"acme:ada:{session}", {"version": 1})
    await store.save_memory_state(f"kv:v1:acme:ada:{session}:session:tool:search:cart", {"schema_version": 1})
    scope = ArtifactScope(user_id="ada", session_id=session, trace_id=trace)
    await store.artifact_store.put_text("tea", scope=scope)


async def found(store: StateStore, session: str) -> list[Any]:
    """How much of each there is."""
    trace = f"{session}/run"
    bindings = await store.list_bindings(router_session_id=session) if HAS_CONVERSATIONS else []
    lists = [
        await store.load_history(trace),
        await store.load_history(f"{session}/asked"),
        await store.list_planner_events(trace),
        await store.list_traces(session),
        await store.list_tasks(session),
        await store.list_updates(session),
        await store.list_steering(session),
        await store.artifact_store.list(scope=ArtifactScope(session_id=session)),
        bindings,
    ]
    values = [
        await store.get_trajectory(trace, session),
        await store.load_memory_state(f"acme:ada:{session}"),
        await store.load_memory_state(f"kv:v1:acme:ada:{session}:session:tool:search:cart"),
    ]
    return [*map(len, lists), *(value is not None for value in values)]


ALL = [1, 1, 1, 1, 1, 1, 1, 1, int(HAS_CONVERSATIONS), True, True, True]
NOTHING = [0, 0, 0, 0, 0, 0, 0, 0, 0, False, False, False]


async def test_all_of_a_session_goes_and_there_may_be_one_of_its_id_again(url: str) -> None:
    async with icecore.Store(url) as shared:
        store, other = (StateStore(shared, tenant=tenant) for tenant in (unique("acme"), unique("other")))
        for session in ("s-1", "s-2"):
            await fill(store, session)
            await fill(other, session)

        planned = await store.delete_session("s-1", dry_run=True)
        assert await found(store, "s-1") == ALL
        deleted = await store.delete_session("s-1")

        assert deleted == planned
        assert await found(store, "s-1") == NOTHING
        assert await found(store, "s-2") == await found(other, "s-1") == await found(other, "s-2") == ALL
        logs = {"trace": 2, "planner": 1, "trajectory": 1, "traces": 1, "tasks": 1, "updates": 1, "steering": 1}
        logs |= {"memory": 2, "artifacts": 1, "binding": 1}
        assert deleted.logs == logs | ({"conversation": 1} if HAS_CONVERSATIONS else {})
        assert (deleted.artifacts, deleted.artifact_bytes) == (1, 3)
        assert deleted.commits > 10 and deleted.bytes > 1_000
        assert (deleted.shared_traces, deleted.unsure_memory, deleted.hashed_memory) == ([], [], 0)
        assert await store.delete_session("s-1") == DeletedSession({}, 0, 0, 0, 0, [], [], 0)

        # What is repeated stays deleted, and what is new is there.
        await fill(store, "s-1")
        assert (await found(store, "s-1"))[:2] == [0, 0]
        await fill(store, "s-1", life="again")
        assert await found(store, "s-1") == [1, 1, 2, 1, 1, 1, 1, 1, *ALL[8:]]


async def test_what_is_held_is_refused_and_all_of_it_stays(url: str) -> None:
    async with StateStore(url, tenant=unique("acme")) as store:
        await fill(store, "s-1")
        retention = store.icecore.retention
        await retention.hold("dispute", log=f"{store.tenant}/tasks/s-1", reason="a dispute")
        for dry_run in (True, False):
            with pytest.raises(icecore.RefusedError) as refused:
                await store.delete_session("s-1", dry_run=dry_run)
            assert refused.value.fact("hold") == "dispute"
            assert refused.value.fact("logs_deleted") is None
        assert await found(store, "s-1") == ALL
        await retention.release("dispute")
        await store.delete_session("s-1")
        assert await found(store, "s-1") == NOTHING


async def test_what_cannot_be_told_or_is_another_s_is_named(url: str) -> None:
    async with StateStore(url, tenant=unique("acme")) as store:
        for session in ("s-1", "s-2"):
            await store.save_trajectory("both\ud800", session, Trajectory(query=session))
        await store.save_memory_state("a:b:c:s-1", {})
        await store.save_memory_state("x" * 400, {})

        deleted = await store.delete_session("s-1")

        assert deleted.shared_traces == ["both\ud800"]
        assert (deleted.unsure_memory, deleted.hashed_memory) == (["a:b:c:s-1"], 1)
        assert await store.get_trajectory("both\ud800", "s-1") is None
        trajectory = await store.get_trajectory("both\ud800", "s-2")
        assert trajectory is not None and trajectory.query == "s-2"


async def test_what_was_only_accepted_goes_too(tmp_path: Path) -> None:
    async with StateStore(f"file:{tmp_path}/store", tenant="acme", linger=5.0) as store:
        await fill(store, "s-1")
        await store.delete_session("s-1")
        await store.flush()
        assert await found(store, "s-1") == NOTHING


async def test_a_call_that_has_no_time_says_what_to_do(tmp_path: Path) -> None:
    async with StateStore(f"file:{tmp_path}/store", tenant="acme") as store:
        await fill(store, "s-1")
        await store.flush()
        with pytest.raises(icecore.UnknownOutcomeError, match="Call it again"):
            await store.delete_session("s-1", timeout=0.0)
        await store.delete_session("s-1")
        assert await found(store, "s-1") == NOTHING


async def test_sessions_are_listed_and_the_idle_ones_expire(url: str) -> None:
    async with StateStore(url, tenant=unique("acme")) as store:
        assert await store.list_sessions() == ([], None)
        for session in ("s-1", "s-2", "held"):
            await fill(store, session)
        await fill(store, "x" * 400)  # Only a hash is stored of it.
        await store.icecore.retention.hold("dispute", log=f"{store.tenant}/tasks/held", reason="a dispute")

        found = await listed(store)
        assert sorted(session.session_id or "" for session in found) == ["", "held", "s-1", "s-2"]
        kinds = {"updates", "steering", "tasks", "traces", "artifacts"} | (
            {"conversation"} if HAS_CONVERSATIONS else set()
        )
        assert all(set(session.kinds) == kinds for session in found if session.session_id)
        now = datetime.now(UTC)
        assert all(now - timedelta(minutes=5) < session.active_at <= now for session in found)

        assert await store.expire_sessions(timedelta(hours=1)) == ExpiredSessions([], 0, 0, 0, 0, [], 0)
        planned = await store.expire_sessions(0, dry_run=True)
        assert (sorted(planned.sessions), planned.held, planned.unnamed) == (["s-1", "s-2"], ["held"], 1)
        assert await found_all(store, ["s-1", "s-2", "held"])
        gone = await store.expire_sessions(0)

        assert gone == planned
        assert (gone.artifacts, gone.artifact_bytes) == (2, 6) and gone.bytes > 1_000
        assert await found_all(store, ["held"]) and not await found_all(store, ["s-1"])
        assert sorted(session.session_id or "" for session in await listed(store)) == ["", "held"]
        with pytest.raises(ValueError, match="negative"):
            await store.expire_sessions(-1)
        with pytest.raises(icecore.InvalidError):
            await store.list_sessions(limit=0)


async def test_growth_says_what_there_is_and_what_is_new(url: str) -> None:
    async with icecore.Store(url) as shared:
        store, other = (StateStore(shared, tenant=unique("acme")) for _ in range(2))
        empty = await store.growth()
        assert (empty.kinds, empty.largest, empty.bytes, empty.new_bytes) == ([], [], 0, 0)
        await fill(other, "s-1")
        for session in ("s-1", "s-2"):
            await fill(store, session)
        await store.save_memory_state("large", {"text": [str(number) * 9 for number in range(10_000)]})

        growth = await store.growth(timedelta(hours=1), largest=3)

        kinds = {kind.kind: kind for kind in growth.kinds}
        assert kinds["updates"].logs == 2 and kinds["trace"].logs == 4
        assert growth.kinds[0].kind == "memory" and growth.bytes == sum(kind.bytes for kind in growth.kinds)
        assert growth.largest[0].log == f"{store.tenant}/memory/large" and len(growth.largest) == 3
        assert 10_000 < growth.largest[0].new_bytes <= growth.new_bytes <= growth.bytes
        assert all(kind.new_commits == kind.commits for kind in growth.kinds)
        later = await store.growth(0)
        assert (later.bytes, later.new_bytes, later.largest[0].new_bytes) == (growth.bytes, 0, 0)
        with pytest.raises(ValueError, match="negative"):
            await store.growth(-1)


async def listed(store: StateStore) -> list[KeptSession]:
    found: list[KeptSession] = []
    page = await store.list_sessions(limit=2)
    while True:
        found += page.sessions
        if page.next is None:
            return found
        page = await store.list_sessions(after=page.next, limit=2)


async def found_all(store: StateStore, sessions: list[str]) -> bool:
    return all([await found(store, session) == ALL for session in sessions])
