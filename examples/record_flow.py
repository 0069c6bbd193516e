"""Records the events of a real Penguiflow run as NDJSON, for `icecore import`.

    python3 -m venv venv && venv/bin/pip install penguiflow==3.11.2
    venv/bin/python examples/record_flow.py > examples/recorded-flow.ndjson

The flow answers questions: a plan, three look-ups side by side, one of which fails now and then and is retried,
and an answer. Everything that Penguiflow gives to its state store is written, in the order in which it came.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from penguiflow import Headers, Message, Node, NodePolicy, create
from penguiflow.state import RemoteBinding, StoredEvent

QUESTIONS = 40
LOOK_UPS = ("search", "weather", "calendar")


class Recorder:
    """Penguiflow's state store, as far as a flow needs one: it remembers what it is told."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []

    async def save_event(self, event: StoredEvent) -> None:
        self.events.append(event)

    async def load_history(self, trace_id: str) -> Sequence[StoredEvent]:
        return [event for event in self.events if event.trace_id == trace_id]

    async def save_remote_binding(self, binding: RemoteBinding) -> None:
        raise NotImplementedError("this flow calls no remote agent")


def line(sequence: int, event: StoredEvent) -> str:
    """One event in the form that `icecore import` reads."""
    at = datetime.fromtimestamp(event.ts, tz=UTC).isoformat()
    data: dict[str, Any] = {
        "trace_id": event.trace_id,
        "ts": event.ts,
        "node_name": event.node_name,
        "payload": dict(event.payload),
    }
    fields: dict[str, Any] = {"id": f"{event.trace_id}-{sequence}", "kind": event.kind, "at": at, "data": data}
    if event.trace_id is not None:
        fields["trace"] = event.trace_id
    if event.node_name is not None:
        fields["node"] = event.node_name
    return json.dumps(fields, default=str)


async def record() -> list[StoredEvent]:
    recorder = Recorder()
    tries: dict[str, int] = {}
    none = NodePolicy(validate="none")

    async def plan(message: Message, _context: Any) -> Message:
        return message.model_copy(update={"payload": {**message.payload, "plan": list(LOOK_UPS)}})

    def look_up(name: str) -> Node:
        async def look(message: Message, _context: Any) -> Message:
            key = f"{name} {message.payload['question']}"
            tries[key] = tries.get(key, 0) + 1
            if name == "weather" and message.payload["question"] % 5 == 0 and tries[key] == 1:
                raise ConnectionError("the weather service did not answer")
            found = f"what {name} knows of question {message.payload['question']}"
            return message.model_copy(update={"payload": {**message.payload, "found": found}})

        policy = NodePolicy(validate="none", max_retries=2, backoff_base=0.001)
        return Node(look, name=name, policy=policy)

    async def answer(message: Message, _context: Any) -> Message:
        return message.model_copy(update={"payload": {"answer": message.payload["found"]}})

    planner = Node(plan, name="plan", policy=none)
    look_ups = [look_up(name) for name in LOOK_UPS]
    answerer = Node(answer, name="answer", policy=none)
    flow = create((planner, look_ups), *((node, [answerer]) for node in look_ups), (answerer, []), state_store=recorder)
    flow.run()
    for number in range(1, QUESTIONS + 1):
        headers = Headers(tenant="acme", topic="questions")
        await flow.emit(Message(payload={"question": number}, headers=headers, trace_id=f"question-{number:03}"))
        for _ in LOOK_UPS:
            await flow.fetch()
    await flow.stop()
    return recorder.events


def main() -> None:
    events = asyncio.run(record())
    for sequence, event in enumerate(events, start=1):
        sys.stdout.write(line(sequence, event) + "\n")


if __name__ == "__main__":
    main()
