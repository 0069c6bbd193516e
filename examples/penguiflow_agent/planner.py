"""An agent that waits for a human, in one process, and goes on in another.

    export ICECORE_STORE=file:./icecore-data ICECORE_TENANT=acme
    python examples/penguiflow_agent/planner.py start            # prints a token, and ends
    python examples/penguiflow_agent/planner.py resume TOKEN     # later, in another process, wherever the store is seen

With --stay the first goes on living, as a server would, until it is killed.

It is asked for a refund, looks the order up, and stops until somebody has approved. The model is a script, so that
nothing is needed but this file; a real one is given to the planner in the same place.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from icecore.penguiflow import create_store
from penguiflow import ModelRegistry, Node
from penguiflow.catalog import build_catalog, tool
from penguiflow.planner import PlannerFinish, PlannerPause, ReactPlanner
from penguiflow.planner.memory import ShortTermMemoryConfig
from pydantic import BaseModel

QUERY = "Refund order 17, please."
# Trajectories and planner events are kept only of a run with a trace and a session, memory only of one with a session.
WHO = {"tenant_id": "acme", "user_id": "ada", "session_id": "s-1", "trace_id": "refund-17"}
MEMORY = "{tenant_id}:{user_id}:{session_id}".format(**WHO)


class Order(BaseModel):
    order: int


class Price(BaseModel):
    order: int
    euros: int


class Done(BaseModel):
    receipt: str


async def look_up(wanted: Order, _context: Any) -> Price:
    return Price(order=wanted.order, euros=40)


async def approval(price: Price, context: Any) -> Price:
    # The planner stops here, and what it has done so far goes to the store under a token.
    await context.pause("approval_required", {"order": price.order, "euros": price.euros})
    return price


async def refund(price: Price, _context: Any) -> Done:
    return Done(receipt=f"{price.euros} euros for order {price.order}")


class Script:
    """A model that always says the same: it knows where it is by what the conversation holds, as a real one does."""

    async def complete(
        self,
        *,
        messages: Sequence[Mapping[str, Any]],
        response_format: Mapping[str, Any] | None = None,
        stream: bool = False,
        on_stream_chunk: Callable[[str, bool], None] | None = None,
    ) -> str:
        # What it remembers of earlier conversations stands in the messages of the system.
        text = json.dumps([message.get("content") for message in messages if message["role"] != "system"])
        if "euros for order" in text:
            return action(None, raw_answer="You get 40 euros back.")
        if "approved" in text:
            return action("refund", order=17, euros=40)
        if "euros" in text:
            return action("approval", order=17, euros=40)
        return action("look_up", order=17)


def action(node: str | None, **args: Any) -> str:
    return json.dumps({"thought": "by the script", "next_node": node, "args": args})


def build(store: Any) -> ReactPlanner:
    registry = ModelRegistry()
    registry.register("look_up", Order, Price)
    registry.register("approval", Price, Price)
    registry.register("refund", Price, Done)
    nodes = [
        Node(tool(desc="What an order cost", side_effects="read")(look_up), name="look_up"),
        Node(tool(desc="Ask a human", side_effects="external")(approval), name="approval"),
        Node(tool(desc="Pay it back", side_effects="external")(refund), name="refund"),
    ]
    return ReactPlanner(
        llm_client=Script(),
        catalog=build_catalog(nodes, registry),
        state_store=store,
        short_term_memory=ShortTermMemoryConfig(strategy="truncation"),
    )


async def main(token: str | None, said: str, stay: bool) -> int:
    async with create_store() as store:
        planner = build(store)
        try:
            if token is None:
                result = await planner.run(QUERY, tool_context=WHO)
            else:
                result = await planner.resume(token, user_input=said, tool_context=WHO)
        except KeyError:
            print("Nobody waits under this token: it was used, or has expired, or never was")
            return 1
        # Penguiflow saves the run without waiting for it; this waits for that as well.
        await store.flush()
        if isinstance(result, PlannerPause):
            print("waits for", result.reason, json.dumps(dict(result.payload)), flush=True)
            print("token", result.resume_token, flush=True)
        elif isinstance(result, PlannerFinish):
            memory = await store.load_memory_state(MEMORY) or {}
            print("finished:", result.payload["raw_answer"])
            print("turns remembered:", len(memory.get("turns", [])))
        if stay:
            await asyncio.Event().wait()
        return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="ask, and print the token of the pause")
    start.add_argument("--stay", action="store_true", help="do not end")
    start.set_defaults(token=None, said="")
    resume = commands.add_parser("resume", help="go on where it waits")
    resume.add_argument("token")
    resume.add_argument("said", nargs="?", default="approved", help="what the human says (approved)")
    resume.set_defaults(stay=False)
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.token, given.said, given.stay)))
