"""A real flow, and a store that notes outside the process what the flow has told it, and what is acknowledged."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

from icecore.penguiflow import StateStore
from penguiflow import FlowError, Headers, Message, Node, NodePolicy, PenguiFlow, create, join_k
from penguiflow.state import StoredEvent

# Penguiflow logs each error that a node raises.
logging.getLogger("penguiflow").setLevel(logging.CRITICAL)

MESSAGES_AT_ONCE = 4


def known(event: StoredEvent) -> str:
    """All that an event says, as text."""
    said = [event.trace_id, event.ts, event.kind, event.node_name, event.node_id, dict(event.payload)]
    return json.dumps(said, sort_keys=True)


class Notes:
    """Lines in a file that outlive the process: each is handed to the system before anything else happens."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def add(self, *line: object) -> None:
        os.write(self.file, json.dumps(line).encode() + b"\n")

    @staticmethod
    def read(path: Path) -> list[list[Any]]:
        whole, _, _ = path.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.split("\n")]


class Told:
    """What a flow has told in all its lives."""

    def __init__(self, notes: list[list[Any]]) -> None:
        self.lives: list[dict[str, list[str]]] = []
        """By life and trace: what was begun, in order."""
        self.kept: set[str] = set()
        begun: list[str] = []
        for what, *said in notes:
            match what:
                case "life":
                    begun = []
                    self.lives.append(defaultdict(list))
                case "begun":
                    trace, event = said
                    begun.append(event)
                    self.lives[-1][trace].append(event)
                case "kept":
                    self.kept.update(begun[slice(*said)])

    @property
    def traces(self) -> set[str]:
        return {trace for life in self.lives for trace in life}


def left_of(told: Told, trace: str, history: list[str]) -> list[str]:
    """What must be in a history, given how much of each life is there."""
    wanted = []
    for life in told.lives:
        begun = life.get(trace, [])
        wanted += begun[: sum(event in history for event in begun)]
    return sorted(wanted, key=lambda event: json.loads(event)[1])


class Noting(StateStore):
    """Notes ``begun`` and the event before it is saved, and ``kept`` and its number once that must be durable."""

    def __init__(self, url: str, notes: Path, **options: Any) -> None:
        super().__init__(url, **options)
        self.notes = Notes(notes)
        self.begun = 0
        self.is_durable = options.get("durability") == "durable"
        self.notes.add("life")

    async def save_event(self, event: StoredEvent) -> None:
        number = self.begun
        self.begun += 1
        self.notes.add("begun", event.trace_id, known(event))
        await super().save_event(event)
        if self.is_durable:
            self.notes.add("kept", number, number + 1)

    async def flush(self, timeout: float = 30.0) -> None:
        before = self.begun
        await super().flush(timeout)
        self.notes.add("kept", 0, before)


def build(store: StateStore, rng: random.Random) -> PenguiFlow:
    """One node, then two beside each other of which one fails at times, and both together."""

    async def first(message: Message, _context: Any) -> Message:
        return message

    async def failing(message: Message, _context: Any) -> Message:
        if rng.random() < 0.3:
            raise ConnectionError("it hung up")
        return message

    async def waiting(message: Message, _context: Any) -> Message:
        await asyncio.sleep(rng.choice([0, 0.001, 0.003]))
        return message

    async def last(message: Message, _context: Any) -> Message:
        return message.model_copy(update={"payload": len(message.payload)})

    policy = NodePolicy(validate="none", max_retries=2, backoff_base=0.001)
    begin, *beside = [Node(run, name=run.__name__, policy=policy) for run in (first, failing, waiting)]
    together, end = join_k("together", 2), Node(last, name="last", policy=policy)
    edges = [begin.to(*beside), *(node.to(together) for node in beside), together.to(end), end.to()]
    return create(*edges, state_store=store, emit_errors_to_rookery=True)


async def run_messages(store: Noting, rng: random.Random, is_flushed: bool) -> None:
    """Sends messages through the flow, a few at a time, until the process is killed."""
    await store.open()
    flow = build(store, rng)
    flow.run()
    number = 0
    while True:
        for message in range(number, number + MESSAGES_AT_ONCE):
            # The same names in each life: what a life adds to a trace comes behind what an earlier one left.
            await flow.emit(Message(payload=message, headers=Headers(tenant="acme"), trace_id=f"message-{message}"))
        for _ in range(MESSAGES_AT_ONCE):
            result = await flow.fetch()
            assert isinstance(result, (Message, FlowError)), result
        number += MESSAGES_AT_ONCE
        if is_flushed:
            await store.flush()
        if number == MESSAGES_AT_ONCE:
            print("going", flush=True)
