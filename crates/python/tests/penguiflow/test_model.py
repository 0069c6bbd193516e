"""Calls at random, of our store and of Penguiflow's own: both answer alike."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from pathlib import Path
from typing import Any

import icecore
import pytest
from calls import Calls, Reference
from icecore.penguiflow import StateStore
from penguiflow.planner import Trajectory
from pydantic import BaseModel
from worlds import rounds, seeded, unique

OPTIONS: list[dict[str, Any]] = [
    {},
    {"durability": "durable"},
    {"linger": 0.0},
    {"buffer_bytes": 20_000, "linger": 10.0},
]


def shown(answer: Any) -> str:
    """All that an answer says: 1 is not 1.0, members have an order, and UTC may have two classes."""
    match answer:
        case list():
            return f"[{', '.join(map(shown, answer))}]"
        case dict():
            return f"{{{', '.join(f'{name!r}: {shown(value)}' for name, value in answer.items())}}}"
        case datetime():
            return answer.isoformat()
        case Trajectory():
            return f"Trajectory {shown(answer.serialise())}"
        case BaseModel():
            return f"{type(answer).__name__} {shown(answer.model_dump())}"
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        return f"{type(answer).__name__} {shown(dataclasses.asdict(answer))}"
    return repr(answer)


@pytest.mark.parametrize("options", OPTIONS, ids=["buffered", "durable", "at once", "full"])
@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_it_answers_as_penguiflow_s_own_store(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    rng = seeded(f"model {kind} {options}")
    url = "memory:" if kind == "memory" else f"file:{tmp_path}/store"
    for _ in range(rounds(3, 60)):
        calls, tenant = Calls(rng), unique("model")
        # What is in memory goes with its store of logs.
        shared = icecore.Store(url)
        reference, store = Reference(), StateStore(shared, tenant=tenant, **options)
        for step in range(rounds(250, 400)):
            chance = rng.random()
            if chance < 0.01:
                await store.aclose()
                if kind == "file":
                    await shared.aclose()
                    shared = icecore.Store(url)
                store = StateStore(shared, tenant=tenant, **options)
            elif chance < 0.03:
                await store.flush()
            elif chance < 0.45:
                read = calls.read()
                wanted, found = await read(reference), await read(store)
                assert shown(found) == shown(wanted), step
            elif chance < 0.5:
                burst = calls.burst()
                await burst(reference)
                await burst(store)
            else:
                call = calls.write()
                await call(reference)
                await call(store)
        await store.aclose()
        await shared.aclose()
