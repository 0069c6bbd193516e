"""A flow of durable nodes, each of which leaves a line in a file when it has done something."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from flows import Noting
from icecore._call import wait
from icecore.penguiflow import StateStore, durable, run
from icecore.penguiflow._values import decode
from penguiflow import Headers, Message, Node, NodePolicy, PenguiFlow, create, join_k
from pydantic import BaseModel

BRANCHES = ("archive", "news", "people")
ROUNDS = 3
"""How often the loop goes round."""


class Found(BaseModel):
    """What a branch finds."""

    topic: str
    by: str


@dataclass(frozen=True)
class Answer:
    """What the loop makes better."""

    found: tuple[Found, ...]
    round: int


EXPECTED = [[branch, "tea"] for branch in sorted(BRANCHES)] + [ROUNDS]
"""What comes out."""


def build(store: Noting, rng: random.Random) -> PenguiFlow:
    """One node, three beside each other of which one fails at times, all of them together, a loop, and one more."""

    async def work(node: str, about: str) -> None:
        await asyncio.sleep(rng.choice([0, 0.002, 0.01]))
        # What nobody can undo. Which run it belongs to is in what the node was given.
        store.notes.add("done", node, about)
        await asyncio.sleep(rng.choice([0, 0.002, 0.01]))

    async def begin(message: Message, _context: Any) -> Message:
        await work("begin", message.payload)
        # Another message than the one that it was given: its time is another in each life.
        return Message(payload=message.payload.lower(), headers=message.headers, trace_id=message.trace_id)

    def branch(name: str) -> Node:
        async def find(message: Message, _context: Any) -> Message:
            if name == "news" and rng.random() < 0.3:
                raise ConnectionError("it hung up")
            await work(name, message.payload)
            return message.model_copy(update={"payload": Found(topic=message.payload, by=name)})

        policy = NodePolicy(validate="none", max_retries=9, backoff_base=0.001, max_backoff=0.01)
        return durable(Node(find, name=name, policy=policy))

    async def polish(message: Message, context: Any) -> None:
        answer = message.payload if isinstance(message.payload, Answer) else Answer(tuple(message.payload), 0)
        await work("polish", str(answer.round))
        better = message.model_copy(update={"payload": Answer(answer.found, answer.round + 1)})
        await context.emit(better, to=last if better.payload.round == ROUNDS else polisher)

    async def end(message: Message, _context: Any) -> Message:
        await work("end", str(message.payload.round))
        found = sorted([found.by, found.topic] for found in message.payload.found)
        return message.model_copy(update={"payload": [*found, message.payload.round]})

    policy = NodePolicy(validate="none")
    first, last = durable(Node(begin, policy=policy)), durable(Node(end, policy=policy))
    polisher = durable(Node(polish, policy=policy, allow_cycle=True))
    together = durable(join_k("together", len(BRANCHES)))
    beside = [branch(name) for name in BRANCHES]
    edges = [first.to(*beside), *(node.to(together) for node in beside), together.to(polisher)]
    return create(*edges, polisher.to(polisher, last), last.to(), state_store=store, allow_cycles=True)


async def run_trace(store: Noting, trace: str, rng: random.Random) -> str:
    """Brings a trace to its end."""
    flow = build(store, rng)
    flow.run()
    print("going", flush=True)
    result = await run(flow, Message(payload="Tea", headers=Headers(tenant="acme"), trace_id=trace))
    await store.flush()
    await flow.stop()
    return json.dumps(result.payload)


def effects(notes: list[list[Any]]) -> Counter[tuple[str, str]]:
    """How often each run of a node has done what it does: by its node, and what it was given."""
    return Counter((node, about) for what, *rest in notes if what == "done" for node, about in [rest])


async def looked(store: StateStore, trace: str) -> dict[str, Any]:
    """All that is recorded of a trace."""
    found = await wait(store._lives().flows.look(trace))
    record: dict[str, Any] = {"nodes": []} if found is None else decode(found)
    return record


def finished(record: dict[str, Any]) -> set[tuple[str, str]]:
    """The runs of which is recorded what they made, named as :func:`effects` does."""
    done = [one for one in record["nodes"] if one["state"] == "finished" and one["node"] != "together"]
    return {(one["node"], about(one)) for one in done}


def about(one: dict[str, Any]) -> str:
    """What a node was given, as its line in the file says."""
    payload = one["input"]["fields"]["payload"]
    if one["node"] not in ("polish", "end"):
        return str(payload)
    return "0" if isinstance(payload, list) else str(payload["fields"]["round"])
