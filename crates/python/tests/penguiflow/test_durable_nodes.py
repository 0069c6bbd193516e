"""What durable nodes do within a flow: what is run again, what is passed on, what is refused."""

from __future__ import annotations

import asyncio
import enum
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import icecore
import pytest
from durables import looked
from icecore.penguiflow import StateStore, durable, resume, run
from icecore.penguiflow import _typed as typed
from penguiflow import (
    FlowError,
    Headers,
    Message,
    ModelRegistry,
    Node,
    NodePolicy,
    PenguiFlow,
    create,
    join_k,
    predicate_router,
)
from penguiflow.state import InMemoryStateStore
from pydantic import BaseModel, PrivateAttr

POLICY = NodePolicy(validate="none")
TRACE = "t-1"

Body = Callable[[Message, Any], Awaitable[Any]]


class Ran:
    """What has run, in order."""

    def __init__(self) -> None:
        self.nodes: list[str] = []

    def node(self, name: str, body: Body | None = None, **more: Any) -> Node:
        async def work(message: Message, context: Any) -> Any:
            self.nodes.append(name)
            if body is not None:
                return await body(message, context)
            return message.model_copy(update={"payload": f"{message.payload}/{name}"})

        return Node(work, name=name, policy=more.pop("policy", POLICY), **more)

    def again(self) -> list[str]:
        """What has run since this was last asked."""
        ran, self.nodes = self.nodes, []
        return ran


@pytest.fixture
def ran() -> Ran:
    return Ran()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[StateStore]:
    async with StateStore(f"file:{tmp_path}/store", tenant="acme") as store:
        yield store


def message(payload: Any = "q", trace: str = TRACE) -> Message:
    return Message(payload=payload, headers=Headers(tenant="acme"), trace_id=trace)


class Running:
    """A flow that runs."""

    def __init__(self, store: Any, *edges: Any, **options: Any) -> None:
        self.flow = create(*edges, state_store=store, **options)

    async def __aenter__(self) -> PenguiFlow:
        self.flow.run()
        return self.flow

    async def __aexit__(self, *_: object) -> None:
        await self.flow.stop()


async def test_only_the_branch_that_failed_runs_again(store: StateStore, ran: Ran) -> None:
    is_down = True

    async def archive(message: Message, _context: Any) -> Message:
        if is_down:
            raise ConnectionError("it hung up")
        return message.model_copy(update={"payload": "archive"})

    def edges() -> list[Any]:
        first, news, last = [durable(ran.node(name)) for name in ("first", "news", "last")]
        failing = durable(ran.node("archive", archive))
        together = durable(join_k("together", 2))
        return [first.to(news, failing), news.to(together), failing.to(together), together.to(last), last.to()]

    for is_told in (False, True):
        async with Running(store, *edges(), emit_errors_to_rookery=is_told) as flow:
            with pytest.raises(FlowError, match="it hung up"):
                await run(flow, message(), timeout=20)
            while "news" not in ran.nodes and not is_told:
                await asyncio.sleep(0.001)
            # What runs beside it comes to its end.
            while {one["state"] for one in (await looked(store, TRACE))["nodes"]} != {"finished", "failed"}:
                await asyncio.sleep(0.001)
    assert sorted(ran.again()) == ["archive", "archive", "first", "news"]
    record = await looked(store, TRACE)
    assert record["state"] == "failed"
    failed = next(one for one in record["nodes"] if one["node"] == "archive")
    assert [(error["attempt"], error["error"]) for error in failed["errors"]] == [
        (1, "ConnectionError('it hung up')"),
        (2, "ConnectionError('it hung up')"),
    ]

    is_down = False
    async with Running(store, *edges()) as flow:
        result = await resume(flow, TRACE, timeout=20)

    assert sorted(ran.again()) == ["archive", "last"]
    assert result.payload.startswith("[") and result.payload.endswith("]/last")
    assert (await looked(store, TRACE))["state"] == "finished"


async def test_a_finished_trace_gives_its_result_and_runs_nothing(store: StateStore, ran: Ran) -> None:
    async with Running(store, durable(ran.node("a")).to()) as flow:
        result = await run(flow, message())
    assert ran.again() == ["a"]

    async with Running(store, durable(ran.node("a")).to()) as flow:
        for again in (await resume(flow, TRACE), await run(flow, message())):
            assert again == result
            assert type(again) is Message
        with pytest.raises(icecore.ConflictError):
            await run(flow, message("another"))
        with pytest.raises(icecore.NotFoundError):
            await resume(flow, "nobody's")
    assert ran.again() == []


async def test_a_trace_that_was_only_emitted_is_resumed_from_its_first_node(store: StateStore, ran: Ran) -> None:
    stuck = asyncio.Event()

    async def wait(message: Message, _context: Any) -> Message:
        await stuck.wait()
        return message

    async with Running(store, durable(ran.node("a")).to(b := durable(ran.node("b", wait))), b.to()) as flow:
        await flow.emit(message())
        while "b" not in ran.nodes:
            await asyncio.sleep(0.001)
    assert ran.again() == ["a", "b"]
    stuck.set()

    async with Running(store, durable(ran.node("a")).to(b := durable(ran.node("b", wait))), b.to()) as flow:
        assert (await resume(flow, TRACE, timeout=20)).payload == "q/a"
    assert ran.again() == ["b"]

    # Where the flow begins with a node that records nothing, nobody knows with what.
    async with Running(store, ran.node("first").to(c := durable(ran.node("c"))), c.to()) as flow:
        await flow.emit(message(trace="t-2"))
        await flow.fetch()
        with pytest.raises(icecore.InvalidError, match="not recorded what the trace began with"):
            await resume(flow, "t-2")


async def test_the_same_message_twice_is_two_runs_and_a_retry_is_one(store: StateStore, ran: Ran) -> None:
    tries = 0

    async def twice(message: Message, context: Any) -> None:
        for _ in range(2):
            await context.emit(message)

    async def failing(message: Message, _context: Any) -> Message:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ConnectionError("once")
        return message.model_copy(update={"payload": tries})

    def edges() -> list[Any]:
        policy = NodePolicy(validate="none", max_retries=1, backoff_base=0.001)
        first, both = durable(ran.node("twice", twice)), durable(ran.node("both", failing, policy=policy))
        together = durable(join_k("together", 2))
        return [first.to(both), both.to(together), together.to(last := durable(ran.node("last"))), last.to()]

    async with Running(store, *edges()) as flow:
        result = await run(flow, message(), timeout=20)
    assert ran.again() == ["twice", "both", "both", "both", "last"]
    record = await looked(store, TRACE)
    both = [one for one in record["nodes"] if one["node"] == "both"]
    assert [(one["number"], len(one["attempts"])) for one in both] == [(1, 2), (2, 1)]

    # The same trace by hand, which does not know that there is a result.
    async with Running(store, *edges()) as flow:
        await flow.emit(message())
        assert (await flow.fetch()).payload == result.payload
    assert ran.again() == []


async def test_a_router_s_choice_is_recorded_and_nothing_is_passed_on_before(store: StateStore, ran: Ran) -> None:
    chosen = "left"
    unrecorded: list[str] = []

    async def look(message: Message, _context: Any) -> Message:
        record = await looked(store, TRACE)
        unrecorded.extend(one["node"] for one in record["nodes"] if one["state"] != "finished")
        return message.model_copy(update={"payload": "seen"})

    def edges() -> list[Any]:
        router = durable(predicate_router("router", lambda _: [chosen]))
        left, right = durable(ran.node("left", look)), durable(ran.node("right", look))
        return [router.to(left, right), left.to(), right.to()]

    async with Running(store, *edges()) as flow:
        assert (await run(flow, message(), timeout=20)).payload == "seen"
    assert (ran.again(), unrecorded) == (["left"], ["left"])
    chosen = "right"
    async with Running(store, *edges()) as flow:
        await flow.emit(message())
        assert (await flow.fetch()).payload == "seen"
    assert ran.again() == []


async def test_a_stream_is_passed_on_at_once_and_again_when_it_is_resumed(store: StateStore, ran: Ran) -> None:
    seen: list[str] = []
    is_recorded: list[str] = []

    async def speak(message: Message, context: Any) -> Message:
        for text in ("a", "b", "c"):
            await context.emit_chunk(parent=message, text=text, done=text == "c")
        while len(seen) < 3:
            await asyncio.sleep(0.001)
        is_recorded.extend(one["state"] for one in (await looked(store, TRACE))["nodes"])
        return message.model_copy(update={"payload": "abc"})

    async with Running(store, durable(ran.node("speak", speak)).to()) as flow:
        result = await run(flow, message(), on_chunk=lambda chunk: seen.append(chunk.text), timeout=20)
    assert (result.payload, seen, is_recorded) == ("abc", ["a", "b", "c"], ["running"])

    async with Running(store, durable(ran.node("speak", speak)).to()) as flow:
        await flow.emit(message())
        again = [(await flow.fetch()).payload for _ in range(4)]
    assert [*(chunk.text for chunk in again[:3]), again[3]] == ["a", "b", "c", "abc"]
    assert ran.again() == ["speak"]


async def test_whoever_resumes_last_runs_the_flow_and_what_both_ran_counts_once(tmp_path: Path, ran: Ran) -> None:
    urls = f"sqlite:{tmp_path}/store"
    go = [asyncio.Event(), asyncio.Event()]

    async def slow(message: Message, _context: Any) -> Message:
        number = len(ran.nodes)
        await go[number - 1].wait()
        return message.model_copy(update={"payload": number})

    def edges() -> list[Any]:
        return [durable(ran.node("a", slow)).to(b := durable(ran.node("b"))), b.to()]

    async with (
        StateStore(urls, tenant="acme") as one,
        StateStore(urls, tenant="acme") as two,
        Running(one, *edges()) as first,
        Running(two, *edges()) as second,
    ):
        before = asyncio.create_task(run(first, message(), timeout=20))
        while len(ran.nodes) < 1:
            await asyncio.sleep(0.001)
        after = asyncio.create_task(resume(second, TRACE, timeout=20))
        while len(ran.nodes) < 2:
            await asyncio.sleep(0.001)
        # The first was under way, and ends. It begins nothing more, as it is told.
        go[0].set()
        with pytest.raises(FlowError, match="Another process has taken this flow over"):
            await before
        # The second ran the same node. What the first made was recorded before, and counts for both.
        go[1].set()
        assert (await after).payload == "1/b"
        assert (await resume(first, TRACE)).payload == "1/b"
        assert (await looked(one, TRACE))["error"] is None
    assert ran.nodes == ["a", "a", "b"]


async def test_a_playbook_s_nodes_belong_to_the_trace_around_them(store: StateStore, ran: Ran) -> None:
    is_down = True

    def playbook() -> tuple[PenguiFlow, None]:
        inner = durable(ran.node("inner"))
        return create(inner.to(), state_store=store), None

    async def call(message: Message, context: Any) -> Message:
        found = await context.call_playbook(playbook, message)
        if is_down:
            raise ConnectionError("behind it")
        return message.model_copy(update={"payload": found})

    for make in (durable, lambda node: node):
        is_down, trace = True, f"t-{make is durable}"
        for _ in range(2):
            async with Running(store, make(ran.node("a", call)).to(b := durable(ran.node("b"))), b.to()) as flow:
                if is_down:
                    with pytest.raises(FlowError, match="behind it"):
                        await run(flow, message(trace=trace), timeout=20)
                else:
                    assert (await resume(flow, trace, timeout=20)).payload == "q/inner/b"
            is_down = False
        assert ran.again() == ["a", "inner", "a", "b"]
        assert (await looked(store, trace))["life"] == 2


async def test_a_node_that_is_validated_gets_and_makes_what_its_models_say(store: StateStore, ran: Ran) -> None:
    registry = ModelRegistry()
    registry.register("a", Message, Message)
    flow = create(durable(ran.node("a", policy=NodePolicy())).to(), state_store=store)
    flow.run(registry=registry)
    assert (await run(flow, message(), timeout=20)).payload == "q/a"
    await flow.stop()


async def test_a_node_is_known_by_its_key_and_must_be_given_the_same_under_it(store: StateStore, ran: Ran) -> None:
    noise = 1

    async def noisy(message: Message, _context: Any) -> Message:
        return message.model_copy(update={"payload": {"order": 17, "noise": noise}})

    def edges(**how: Any) -> list[Any]:
        b = durable(ran.node("b"), **how)
        return [ran.node("a", noisy).to(b), b.to()]

    def by_order(message: Message) -> Any:
        return message.payload["order"]

    async with Running(store, *edges(key=by_order)) as flow:
        await flow.emit(message())
        await flow.fetch()
    assert ran.again() == ["a", "b"]
    # What it made is there, and is passed on, whatever it is given.
    noise = 2
    async with Running(store, *edges(key=by_order)) as flow:
        await flow.emit(message())
        assert (await flow.fetch()).payload == "{'order': 17, 'noise': 1}/b"
    assert ran.again() == ["a"]
    # Without a key it is another run.
    async with Running(store, *edges()) as flow:
        await flow.emit(message())
        await flow.fetch()
    assert ran.again() == ["a", "b"]


async def test_a_node_that_is_given_something_else_under_its_key_is_an_error(store: StateStore, ran: Ran) -> None:
    noise = 1

    async def noisy(message: Message, _context: Any) -> Message:
        return message.model_copy(update={"payload": noise})

    async def down(message: Message, _context: Any) -> Message:
        raise ConnectionError("it hung up")

    for given, told in ((1, "it hung up"), (1, "it hung up"), (2, "does not do again what it did")):
        noise = given
        b = durable(ran.node("b", down), key=lambda _: "the one")
        async with Running(store, ran.node("a", noisy).to(b), b.to(), emit_errors_to_rookery=True) as flow:
            await flow.emit(message())
            assert told in str(await flow.fetch())
    assert ran.again() == ["a", "b", "a", "b", "a"]


async def test_a_trace_that_is_sent_again_goes_on_where_it_failed(store: StateStore, ran: Ran) -> None:
    is_down = True

    async def failing(message: Message, _context: Any) -> Message:
        if is_down:
            raise ConnectionError("it hung up")
        return message

    a, b = durable(ran.node("a")), durable(ran.node("b", failing))
    async with Running(store, a.to(b), b.to(), emit_errors_to_rookery=True) as flow:
        for _ in range(2):
            await flow.emit(message())
            assert isinstance(await flow.fetch(), FlowError) is is_down
            is_down = False
    assert ran.again() == ["a", "b", "b"]
    assert (await looked(store, TRACE))["life"] == 2


@pytest.mark.parametrize("what", ["join", "name", "store", "trace"])
async def test_what_cannot_be_durable_is_refused_before_it_runs(what: str, store: StateStore, ran: Ran) -> None:
    a, b = durable(ran.node("a")), durable(ran.node("b"))
    edges: list[Any] = [a.to(b), b.to()]
    match what:
        case "join":
            edges = [a.to(join := join_k("join", 1)), join.to(b), b.to()]
        case "name":
            edges = [a.to(b), b.to(other := ran.node("b")), other.to()]
    kept: Any = InMemoryStateStore() if what == "store" else store
    told = {
        "join": "The join 'join' is in front of the durable node 'b'",
        "name": "2 nodes are called 'b'",
        "store": "There is no store for a durable node",
        "trace": "A durable node belongs to a trace",
    }
    async with Running(kept, *edges, emit_errors_to_rookery=True) as flow:
        if what == "trace":
            with pytest.raises(icecore.InvalidError, match=told[what]):
                await b.func("no message", None)
            return
        await flow.emit(message())
        error = await flow.fetch()
    assert told[what] in str(error)
    assert "b" not in ran.nodes


class Colour(enum.Enum):
    RED = 1


class Flags(enum.IntFlag):
    A = 1
    B = 2


class Inner(BaseModel):
    n: int
    at: datetime


class Odd(BaseModel, extra="allow"):
    inner: Inner
    given: int = 3
    colour: Colour = Colour.RED
    _secret: list[int] = PrivateAttr(default_factory=lambda: [1])


@dataclass(frozen=True, slots=True)
class Frozen:
    pair: tuple[int, str]
    made: int = field(init=False, default=4)


def odd() -> Odd:
    made = Odd.model_validate({"inner": Inner(n=1, at=datetime(2026, 1, 1, tzinfo=UTC)), "more": {"a": (1, 2)}})
    made._secret.append(2)
    return made


VALUES: list[Any] = [
    *[None, True, 7, 2**80, -0.0, 1e300, "é\0", "\ud800", b"\xff", [1, [2]], {"a": {"b": None}}, ()],
    *[(1, (2,)), {1, 2}, frozenset({"a"}), {1: "a", (2, 3): "b"}, {"$is": "model"}, {"$bytes": "x"}],
    *[{"$is": {"$is": 1}}, datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1), date(2026, 1, 1)],
    *[timedelta(days=-1, microseconds=3), Decimal("1.50"), UUID(int=5), Colour.RED, Flags.A | Flags.B],
    *[odd(), Frozen((1, "a")), message({"found": [odd()]}), [Headers(tenant="a"), {"x": odd()}]],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_recorded_comes_back_equal_and_of_its_class(value: Any) -> None:
    found = typed.read(typed.write(value))

    assert found == value
    assert repr(found) == repr(value)
    assert type(found) is type(value)
    if isinstance(value, BaseModel):
        assert found.model_fields_set == value.model_fields_set
    # And what is equal is known by the same.
    assert typed.key(found) == typed.key(value)


def test_not_a_number_comes_back_and_the_time_of_a_message_is_not_in_its_key() -> None:
    assert math.isnan(typed.read(typed.write(math.nan)))
    first, second = message([odd()]), message([odd()])
    second.ts += 1
    assert typed.key(first) == typed.key(second)
    assert typed.key(first) != typed.key(message([1]))
    assert typed.key({1, 2, 3, "a"}) == typed.key({"a", 3, 2, 1})


class Text(str):
    pass


def local() -> Any:
    class Local(BaseModel):
        n: int

    return Local(n=1)


@pytest.mark.parametrize("value", [object(), Text("a"), local(), lambda: 1, bytearray(b"a"), {"a": [random.Random()]}])
async def test_what_would_not_come_back_is_refused(value: Any, store: StateStore, ran: Ran) -> None:
    with pytest.raises(icecore.InvalidError, match="cannot be recorded"):
        typed.write(value)
    holds_itself: list[Any] = []
    holds_itself.append(holds_itself)
    with pytest.raises(icecore.InvalidError, match="holds itself"):
        typed.write(holds_itself)

    async def make(message: Message, _context: Any) -> Message:
        return message.model_copy(update={"payload": value})

    async with Running(store, durable(ran.node("a", make)).to()) as flow:
        with pytest.raises(FlowError, match="cannot be recorded"):
            await run(flow, message(), timeout=20)


def test_a_class_is_only_looked_for_in_what_was_imported() -> None:
    stored = typed.write(Colour.RED).replace(b"test_durable_nodes:Colour", b"antigravity:Colour")
    assert b"antigravity" in stored
    with pytest.raises(icecore.CorruptError, match="Import its module"):
        typed.read(stored)


def test_what_is_stored_makes_no_object_of_a_class_that_is_none_of_these() -> None:
    """Some classes do something when an object of theirs goes, by what is in it: such as deleting a file."""
    import tempfile

    assert tempfile is not None
    for of, kind in [
        ("tempfile:_TemporaryFileCloser", "dataclass"),
        ("tempfile:_TemporaryFileCloser", "model"),
        ("tempfile:_TemporaryFileCloser", "enum"),
        (f"{Frozen.__module__}:{Frozen.__qualname__}", "dataclass"),
    ]:
        stored = {"$is": kind, "of": of, "fields": {"name": "x", "unlink": None}, "value": 1}
        with pytest.raises(icecore.CorruptError, match="which is recorded"):
            typed.of(stored)
