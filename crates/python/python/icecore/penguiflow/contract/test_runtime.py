"""Penguiflow itself, with the store: a flow, a planner, and the admin command."""

import asyncio
import json
import sys
import types
from typing import Any

import pytest
from pydantic import create_model

from ._groups import judges, require
from ._making import event, eventually, fresh, kinds
from ._penguiflow import (
    Headers,
    Message,
    ModelRegistry,
    Node,
    NodePolicy,
    PlannerPause,
    ReactPlanner,
    admin,
    build_catalog,
    create,
    tool,
)
from ._plugin import Factory, Open, opened

RETRIED = ["node_start", "node_error", "node_retry", "node_start", "node_success"]
FAILED = ["node_start", "node_error", "node_retry", "node_start", "node_error", "node_failed"]

Question = create_model("Question", question=(str, ...))


def message(payload: str) -> Any:
    return Message(payload=payload, headers=Headers(tenant="acme"), trace_id=fresh())


def node(name: str, work: Any, retries: int = 0) -> Any:
    return Node(work, name=name, policy=NodePolicy(validate="none", max_retries=retries, backoff_base=0.001))


async def upper(sent: Any, ctx: Any) -> Any:
    return sent.model_copy(update={"payload": sent.payload.upper()})


async def failing(sent: Any, ctx: Any) -> Any:
    raise ValueError("no")


@judges("runtime")
async def test_the_history_of_a_flow_has_every_step(state_store: Any) -> None:
    tries: list[int] = []

    async def flaky(sent: Any, ctx: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("not yet")
        return sent

    first, second = node("upper", upper), node("flaky", flaky, retries=1)
    flow = create(first.to(second), second.to(), state_store=state_store)
    flow.run()
    sent = message("hi")
    try:
        await flow.emit(sent)
        async with asyncio.timeout(30):
            result = await flow.fetch()
        assert result.payload == "HI"
        found = await eventually(lambda: flow.load_history(sent.trace_id), lambda found: len(found) == 7)
    finally:
        await flow.stop()

    assert [one.kind for one in found if one.node_name == "upper"] == ["node_start", "node_success"]
    assert [one.kind for one in found if one.node_name == "flaky"] == RETRIED
    assert {one.trace_id for one in found} == {sent.trace_id}
    assert [one.ts for one in found] == sorted(one.ts for one in found)
    assert all(one.payload["event"] == one.kind for one in found)
    # What an observer would draw from it.
    [error] = [one for one in found if one.kind == "node_error"]
    assert (error.payload["node_name"], error.payload["attempt"]) == ("flaky", 0)


@judges("runtime")
async def test_the_history_of_a_flow_that_fails_says_why(state_store: Any) -> None:
    flow = create(node("failing", failing, retries=1).to(), state_store=state_store)
    flow.run()
    sent = message("hi")
    try:
        await flow.emit(sent)
        found = await eventually(
            lambda: flow.load_history(sent.trace_id), lambda found: any(one.kind == "node_failed" for one in found)
        )
    finally:
        await flow.stop()

    assert [one.kind for one in found] == FAILED
    assert "no" in json.dumps(dict(found[-1].payload), default=str)


@judges("runtime")
async def test_many_messages_at_once_have_a_history_each(state_store: Any) -> None:
    flow = create(node("upper", upper).to(), state_store=state_store)
    flow.run()
    sent = [message(str(n)) for n in range(50)]
    try:
        for one in sent:
            await flow.emit(one)
        async with asyncio.timeout(60):
            for _ in sent:
                await flow.fetch()
        for one in sent:
            trace_id: str = one.trace_id

            async def read(trace_id: str = trace_id) -> list[str]:
                return await kinds(state_store, trace_id)

            assert await eventually(read, lambda found: len(found) == 2) == ["node_start", "node_success"]
    finally:
        await flow.stop()


@judges("runtime")
async def test_a_flow_that_stops_with_its_result_has_its_last_event(state_store: Any) -> None:
    """The result leaves a flow before its last event is saved, and stopping cancels who saves it.

    Whoever observes the flow hears of that event after it is saved: a store that waits within the call loses it for
    them as well.
    """
    for _ in range(20):
        heard: list[str] = []

        async def observe(event: Any, heard: list[str] = heard) -> None:
            heard.append(event.event_type)

        flow = create(node("upper", upper).to(), state_store=state_store)
        flow.add_middleware(observe)
        flow.run()
        sent = message("hi")
        trace_id: str = sent.trace_id
        await flow.emit(sent)
        async with asyncio.timeout(30):
            await flow.fetch()
        await flow.stop()

        async def read(trace_id: str = trace_id) -> list[str]:
            return await kinds(state_store, trace_id)

        found = await eventually(read, lambda found: "node_success" in found)
        assert found[:2] == ["node_start", "node_success"]
        assert heard[:2] == ["node_start", "node_success"]


@judges("runtime")
def test_penguiflow_admin_shows_a_history(
    open_state_store: Factory,
    close_state_stores: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command makes its store from a name, in a loop of its own."""
    store = close_state_stores(asyncio.run(opened(open_state_store)))
    trace_id, module = fresh(), types.ModuleType("penguiflow_contract_store")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(module, "factory", lambda: store, raising=False)
    for n in range(3):
        asyncio.run(store.save_event(event(trace_id, kind=f"own.{n}", ts=float(n), payload={"a": n})))
    spec = ["--state-store", "penguiflow_contract_store:factory"]

    assert admin(["history", *spec, "--tail", "2", trace_id]) == 0
    assert [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == ["own.1", "own.2"]
    assert admin(["replay", *spec, trace_id]) == 0
    assert "events=3" in capsys.readouterr().out


class Scripted:
    """A language model that says what it was told to."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = [json.dumps(answer) for answer in answers]

    async def complete(self, **_: Any) -> tuple[str, float]:
        return self.answers.pop(0), 0.0


async def ask(args: Any, ctx: Any) -> Any:
    await ctx.pause("approval_required", {"question": args.question})
    return args


def planner(store: Any, *answers: dict[str, Any], heard: list[Any] | None = None) -> Any:
    # Penguiflow resolves the types of a tool's arguments by name.
    ask.__annotations__.update(args=Question, **{"return": Question})
    registry = ModelRegistry()
    registry.register("ask", Question, Question)
    catalog = build_catalog([Node(tool(desc="Asks")(ask), name="ask")], registry)
    return ReactPlanner(
        llm_client=Scripted(*answers),
        catalog=catalog,
        pause_enabled=True,
        state_store=store,
        event_callback=None if heard is None else heard.append,
    )


ASKS = {"thought": "ask", "next_node": "ask", "args": {"question": "Tea?"}}
ANSWERS = {"thought": "done", "next_node": None, "args": {"raw_answer": "Tea."}}


async def paused(store: Any, context: dict[str, Any], heard: list[Any] | None = None) -> str:
    result = await planner(store, ASKS, heard=heard).run("Would you like something?", tool_context=context)
    assert isinstance(result, PlannerPause)
    token: str = result.resume_token
    return token


@judges("runtime")
@pytest.mark.parametrize("objects", [1, 2])
async def test_a_pause_is_resumed_elsewhere_and_once(
    state_store: Any, open_another_state_store: Open, state_stores_share: bool, objects: int
) -> None:
    """Another planner has nothing of the first one but the token, and what the store kept."""
    require(state_store, "pauses")
    if objects == 2 and not state_stores_share:
        pytest.skip("each store object has data of its own")
    token = await paused(state_store, {"session_id": fresh(), "trace_id": fresh()})
    elsewhere = state_store if objects == 1 else await open_another_state_store()

    result = await planner(elsewhere, ANSWERS).resume(token, user_input="yes")

    assert result.reason == "answer_complete"
    with pytest.raises(KeyError):
        await planner(elsewhere, ANSWERS).resume(token, user_input="yes")


@judges("runtime")
async def test_a_planner_s_run_leaves_its_trajectory_and_its_events(state_store: Any) -> None:
    require(state_store, "trajectories", "planner events")
    context, heard = {"session_id": fresh(), "trace_id": fresh()}, list[Any]()

    await paused(state_store, context, heard)

    found = await eventually(lambda: state_store.list_traces(context["session_id"]), bool)
    assert found == [context["trace_id"]]
    trajectory = await state_store.get_trajectory(context["trace_id"], context["session_id"])
    assert trajectory.query == "Would you like something?"
    # One write an event, one after another, after the run has ended.
    events = await eventually(
        lambda: state_store.list_planner_events(context["trace_id"]), lambda found: len(found) == len(heard)
    )
    assert events == heard != []
