"""Tenants, and ids within them, that look like one another: each finds its own and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import icecore
import pytest
from icecore.penguiflow import StateStore
from penguiflow.planner import PlannerEvent, Trajectory
from penguiflow.state import RemoteBinding, StateUpdate, SteeringEvent, SteeringEventType, StoredEvent, UpdateType
from worlds import URLS, place, unique

# Each with what a log's name is made of, or might be split or cut at.
TENANTS = (
    "t",
    "T",
    "t ",
    " t",
    "t/trace",
    "t/",
    "/t",
    "t=2Ftrace",
    "t%2Ftrace",
    "t\0",
    "~t",
    "..",
    "t:s",
    "é",
    "e\u0301",
)
TEXTS = (
    "s",
    "S",
    "s ",
    "/s",
    "trace/s",
    "../t/trace/s",
    "=2Fs",
    "=",
    "s\0",
    "\0",
    "~",
    "~s",
    ":s",
    "s:",
    "__global__",
    "é",
    "e\u0301",
    "😀",
    '["s"]',
    "x" * 300,
    "x" * 301,
    "x" * 302,
    "/" * 100_000,
    "/" * 100_001,
)
SURROGATES = ("s\ud800", "s\ud801", "\udfff", "\ud83d\ude00")
IDS = (*TEXTS, *SURROGATES)


@pytest.fixture(params=["memory", *URLS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory" else place(request.param, tmp_path)


def update(name: str, told: str) -> StateUpdate:
    return StateUpdate(session_id=name, task_id=name, update_id=name, update_type=UpdateType.RESULT, content=told)


def steering(name: str, told: str) -> SteeringEvent:
    return SteeringEvent(
        session_id=name,
        task_id=name,
        event_id=name,
        event_type=SteeringEventType.USER_MESSAGE,
        payload={"text": told},
    )


def mark(tenant: str, name: str) -> str:
    """Whose it is, and under which name."""
    return f"{TENANTS.index(tenant)}/{IDS.index(name)}"


async def save(store: StateStore, name: str, told: str) -> None:
    """Everything that can be saved under a name."""
    await store.save_event(StoredEvent(name, 1.0, "k", name, name, {"mark": told}))
    await store.save_memory_state(name, {"mark": told})
    await store.save_planner_state(name, {"mark": told})
    await store.save_planner_event(name, PlannerEvent(told, 1.0, 0))
    await store.save_trajectory(name, name, Trajectory(query=told))
    await store.save_remote_binding(RemoteBinding(name, name, name, told))
    if name not in SURROGATES:
        # Penguiflow's own classes refuse the others.
        await store.save_update(update(name, told))
        await store.save_steering(steering(name, told))


async def found(store: StateStore, name: str) -> list[Any]:
    """All that is there under a name, but for the pause."""
    trajectory = await store.get_trajectory(name, name)
    memory = await store.load_memory_state(name)
    return [
        *((event.trace_id, event.node_name, event.payload["mark"]) for event in await store.load_history(name)),
        *(event.event_type for event in await store.list_planner_events(name)),
        *await store.list_traces(name),
        trajectory and trajectory.query,
        memory and memory["mark"],
        *((update.update_id, update.content) for update in await store.list_updates(name, task_id=name)),
        *((event.event_id, event.payload["text"]) for event in await store.list_steering(name, task_id=name)),
    ]


def wanted(name: str, told: str) -> list[Any]:
    rest = [] if name in SURROGATES else [(name, told), (name, told)]
    return [(name, name, told), told, name, told, told, *rest]


async def test_tenants_and_ids_that_look_alike_never_meet(url: str) -> None:
    prefix = unique("tenants")
    async with icecore.Store(url) as shared:
        stores = {tenant: StateStore(shared, tenant=f"{prefix}{tenant}") for tenant in TENANTS}
        # Every third tenant has everything; the others have nothing, and must find nothing.
        full = TENANTS[::3]
        for tenant in full:
            for name in IDS:
                await save(stores[tenant], name, mark(tenant, name))

        for tenant in full:
            for name in IDS:
                assert await found(stores[tenant], name) == wanted(name, mark(tenant, name)), (tenant, name[:20])
        for tenant in set(TENANTS) - set(full):
            for name in IDS[:10]:
                assert await found(stores[tenant], name) == [None, None], (tenant, name[:20])

        # A token is taken from its own tenant only.
        for tenant in sorted(TENANTS, key=full.__contains__):
            for name in IDS:
                waiting = {"mark": mark(tenant, name)} if tenant in full else None
                assert await stores[tenant].load_planner_state(name) == waiting, (tenant, name[:20])


@pytest.mark.parametrize("tenant", ["", "x" * 129, "/" * 50, "é" * 65, "\ud800"])
def test_a_tenant_that_cannot_be_one_is_refused_when_the_store_is_made(tenant: str) -> None:
    with pytest.raises(icecore.InvalidError):
        StateStore("memory:", tenant=tenant)
