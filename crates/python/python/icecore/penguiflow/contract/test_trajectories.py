"""What a planner did in a run."""

import asyncio
from typing import Any

import pytest

from ._groups import judges, ours
from ._making import event, fresh, planner_event, step, trajectory
from ._ours import LIVE, SHALLOW, TRACE_ALONE
from ._penguiflow import BackgroundTaskResult, PlannerEvent, Trajectory, TrajectorySummary
from ._values import same


def full() -> Any:
    background = BackgroundTaskResult(task_id="b-1", group_id="g", summary="s", payload={"a": [1.0]}, completed_at=2.5)
    return trajectory(
        "Tea?",
        llm_context={"a": [1, {"b": None}]},
        tool_context={"session_id": "s", "trace_id": "t"},
        artifacts={"art_1": {"id": "art_1"}},
        sources=[{"url": "https://example", "n": 1}],
        metadata={"cost": 0.1, "ü": "日本"},
        steps=[
            step({"found": [1, 1.0]}, streams={"s-1": ({"text": "a", "seq": 0}, {"text": "b", "seq": 1})}),
            step(None, error="no", failure={"reason": "timeout"}, llm_observation={"short": True}),
        ],
        summary=TrajectorySummary(goals=["g"], facts={"n": 1}, pending=["p"], last_output_digest="d", note="n"),
        hint_state={"h": 1},
        resume_user_input="yes",
        steering_inputs=["faster"],
        background_results={"b-1": background},
    )


@judges("trajectories")
async def test_a_trajectory_comes_back_equal_and_again(state_store: Any) -> None:
    trace_id, session_id = fresh(), fresh()

    await state_store.save_trajectory(trace_id, session_id, full())

    for _ in range(2):
        found = await state_store.get_trajectory(trace_id, session_id)
        assert isinstance(found, Trajectory)
        assert same(found.serialise(), full().serialise())


@judges("trajectories")
async def test_an_empty_trajectory_comes_back_equal(state_store: Any) -> None:
    trace_id, session_id = fresh(), fresh()

    await state_store.save_trajectory(trace_id, session_id, trajectory(""))

    found = await state_store.get_trajectory(trace_id, session_id)
    wanted = Trajectory.from_serialised(trajectory("").serialise())
    assert same(found.serialise(), wanted.serialise())


@judges("trajectories")
async def test_a_tool_context_that_is_no_json_is_no_reason_to_lose_the_rest(state_store: Any) -> None:
    trace_id, session_id = fresh(), fresh()

    await state_store.save_trajectory(trace_id, session_id, trajectory("q", tool_context={"client": object()}))

    assert (await state_store.get_trajectory(trace_id, session_id)).query == "q"


@judges("trajectories")
async def test_a_large_trajectory_comes_back_equal(state_store: Any) -> None:
    trace_id, session_id = fresh(), fresh()
    large = trajectory("q", steps=[step({"text": "x" * 10_000, "n": n}) for n in range(200)])

    await state_store.save_trajectory(trace_id, session_id, large)

    found = await state_store.get_trajectory(trace_id, session_id)
    assert same(found.to_history(), large.to_history())


@judges("trajectories")
async def test_the_wrong_session_sees_nothing(state_store: Any) -> None:
    """This is how Penguiflow's HTTP layer checks who may see it."""
    trace_id, session_id = fresh(), fresh()
    await state_store.save_trajectory(trace_id, session_id, trajectory())

    assert await state_store.get_trajectory(trace_id, fresh()) is None
    assert await state_store.get_trajectory(fresh(), session_id) is None
    assert await state_store.get_trajectory(session_id, trace_id) is None
    assert await state_store.list_traces(fresh()) == []


@judges("trajectories")
async def test_a_save_replaces_what_was_there(state_store: Any) -> None:
    trace_id, session_id = fresh(), fresh()

    await state_store.save_trajectory(trace_id, session_id, full())
    await state_store.save_trajectory(trace_id, session_id, trajectory("new"))

    found = await state_store.get_trajectory(trace_id, session_id)
    assert (found.query, found.steps, found.metadata) == ("new", [], {})
    assert await state_store.list_traces(session_id) == [trace_id]


@judges("trajectories")
async def test_traces_are_by_their_last_save_newest_first(state_store: Any) -> None:
    session_id, (a, b, c) = fresh(), (fresh(), fresh(), fresh())

    for trace_id in (a, b, c, a, b):
        await state_store.save_trajectory(trace_id, session_id, trajectory())

    assert await state_store.list_traces(session_id) == [b, a, c]
    assert await state_store.list_traces(session_id, limit=2) == [b, a]
    assert await state_store.list_traces(session_id, 1) == [b]
    assert await state_store.list_traces(session_id, limit=100) == [b, a, c]


@judges("trajectories")
async def test_without_a_limit_it_is_50_traces(state_store: Any) -> None:
    session_id, traces = fresh(), [fresh() for _ in range(53)]

    for trace_id in traces:
        await state_store.save_trajectory(trace_id, session_id, trajectory())

    assert await state_store.list_traces(session_id) == traces[:2:-1]


@ours(TRACE_ALONE)
@judges("trajectories")
async def test_two_sessions_may_have_a_trace_of_one_name(state_store: Any) -> None:
    trace_id, first, second = fresh(), fresh(), fresh()

    await state_store.save_trajectory(trace_id, first, trajectory("of the first"))
    await state_store.save_trajectory(trace_id, second, trajectory("of the second"))

    found = [await state_store.get_trajectory(trace_id, session_id) for session_id in (first, second)]
    assert [one and one.query for one in found] == ["of the first", "of the second"]


@judges("trajectories")
async def test_the_caller_s_trajectory_is_read_when_the_call_begins(state_store: Any) -> None:
    trace_id, session_id, live = fresh(), fresh(), full()

    saving = asyncio.create_task(state_store.save_trajectory(trace_id, session_id, live))
    await asyncio.sleep(0)
    live.query = "changed"
    live.steps.append(step())
    live.metadata["new"] = 1
    await saving

    assert same((await state_store.get_trajectory(trace_id, session_id)).serialise(), full().serialise())


@judges("trajectories")
async def test_what_callers_and_readers_change_changes_no_trajectory(state_store: Any) -> None:
    trace_id, session_id, live = fresh(), fresh(), full()
    await state_store.save_trajectory(trace_id, session_id, live)

    for changed in (live, await state_store.get_trajectory(trace_id, session_id)):
        changed.query = "changed"
        changed.steps.pop()
        changed.metadata["new"] = 1
        changed.hint_state.clear()

    assert same((await state_store.get_trajectory(trace_id, session_id)).serialise(), full().serialise())


@ours(SHALLOW)
@judges("trajectories")
@pytest.mark.parametrize("who", ["caller", "reader"])
async def test_what_is_deep_within_a_trajectory_is_the_store_s_own(state_store: Any, who: str) -> None:
    trace_id, session_id, live = fresh(), fresh(), full()
    await state_store.save_trajectory(trace_id, session_id, live)

    changed = live if who == "caller" else await state_store.get_trajectory(trace_id, session_id)
    changed.llm_context["a"][1]["b"] = 2
    changed.steps[0].observation["found"].append(2)

    assert same((await state_store.get_trajectory(trace_id, session_id)).serialise(), full().serialise())


@judges("planner events")
async def test_planner_events_come_back_equal_and_in_order(state_store: Any) -> None:
    trace_id = fresh()
    sent = [
        planner_event("step_start", ts=12.5),
        planner_event("llm_call", ts=3.25, trajectory_step=1, thought="ü", latency_ms=0.1, token_estimate=7),
        planner_event("own.kind", ts=0.0, node_name="n", error="no", extra={"a": [1, 1.0, {"b": None}]}),
        planner_event("", ts=-1.0, trajectory_step=-1, thought="", extra={"ts": 1, "event_type": 2, "extra": {}}),
    ]

    for one in sent:
        await state_store.save_planner_event(trace_id, one)

    found = await state_store.list_planner_events(trace_id)
    assert found == sent
    assert {type(one) for one in found} == {PlannerEvent}
    assert [same(dict(one.extra), dict(other.extra)) for one, other in zip(found, sent, strict=True)] == [True] * 4


@judges("planner events")
async def test_equal_planner_events_are_all_kept(state_store: Any) -> None:
    """Two chunks of a stream may well be equal."""
    trace_id = fresh()
    chunk = planner_event("stream_chunk", extra={"text": " "})

    for _ in range(5):
        await state_store.save_planner_event(trace_id, chunk)

    assert await state_store.list_planner_events(trace_id) == [chunk] * 5


@judges("planner events")
async def test_a_long_run_keeps_its_order(state_store: Any) -> None:
    trace_id = fresh()

    for n in range(1_000):
        await state_store.save_planner_event(trace_id, planner_event("llm_stream_chunk", trajectory_step=n))

    found = await state_store.list_planner_events(trace_id)
    assert [one.trajectory_step for one in found] == list(range(1_000))


@judges("planner events")
async def test_planner_events_are_of_their_trace(state_store: Any) -> None:
    first, second = fresh(), fresh()

    await state_store.save_planner_event(first, planner_event("a"))
    await state_store.save_planner_event(second, planner_event("b"))
    await state_store.save_event(event(first))

    assert [one.event_type for one in await state_store.list_planner_events(first)] == ["a"]
    assert await state_store.list_planner_events(fresh()) == []
    assert [one.kind for one in await state_store.load_history(first)] == ["node_start"]


@ours(LIVE)
@judges("planner events")
async def test_what_callers_and_readers_change_changes_no_planner_event(state_store: Any) -> None:
    trace_id = fresh()
    sent = planner_event(extra={"a": {"b": 1}})

    await state_store.save_planner_event(trace_id, sent)
    sent.extra["a"]["b"] = 2
    [found] = await state_store.list_planner_events(trace_id)
    found.extra["a"]["b"] = 3

    assert await state_store.list_planner_events(trace_id) == [planner_event(extra={"a": {"b": 1}})]


@judges("older names")
async def test_planner_events_go_by_their_older_name_too(state_store: Any) -> None:
    trace_id = fresh()
    sent = planner_event()

    await state_store.save_planner_event(trace_id, sent)

    assert await state_store.get_events(trace_id) == [sent]
    assert await state_store.get_events(fresh()) == []
