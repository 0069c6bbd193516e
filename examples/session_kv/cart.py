"""A worker that puts things into the cart of a session. Any number may run at once: none loses what another put in.

python cart.py WORKER COUNT
"""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from icecore.penguiflow import StateConflictError, StateStore, create_store
from penguiflow.sessions.session_kv import SessionKVFacade

# What a tool's context says. It is the same for all workers: they serve one session.
CONTEXT = {"tenant_id": "acme", "user_id": "ada", "session_id": "s-1", "task_id": "shopping", "trace_id": "shopping-1"}


def kv(store: StateStore, memory: Any) -> SessionKVFacade:
    return SessionKVFacade(state_store=memory, artifacts=store.artifact_store, tool_context=dict(CONTEXT))


async def patch(store: StateStore, key: str, changes: Mapping[str, Any]) -> int:
    """Patches a session value; how often it was done again, because another worker was between load and save."""
    again = 0
    while True:
        try:
            # A new one each time: what it saves is over what it loaded, or not saved.
            await kv(store, store.checked_memory()).patch(key, changes, namespace="shop")
        except StateConflictError:
            again += 1
        else:
            return again


async def main(worker: str, count: int) -> None:
    async with create_store() as store:
        again = 0
        for number in range(count):
            again += await patch(store, "cart", {f"{worker}-{number}": 1})
            # The same without Penguiflow's facade: memory under a key of one's own.
            await store.update_memory_state("shop:all:count", lambda state: {"put": (state or {"put": 0})["put"] + 1})
        cart = await kv(store, store).get("cart", namespace="shop") or {}
        counted = await store.load_memory_state("shop:all:count") or {}
        print(f"{worker} put {count} in, {again} of them again; there are {len(cart)}, counted {counted['put']}")


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
