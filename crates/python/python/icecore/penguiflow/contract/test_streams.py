"""Updates and steering: in order of saving, and read after a cursor."""

import itertools
from typing import Any

import pytest

from ._groups import ours
from ._making import fresh, started
from ._ours import ONCE
from ._penguiflow import StateUpdate, SteeringEvent, SteeringEventType, UpdateType
from ._streams import Stream, expected

both = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.judges(name)) for name in ("updates", "steering")]
)
on_a_loop = pytest.mark.asyncio(loop_scope="function")

# Names, and the tasks that they are of.
SAVED = [("a", "t-1"), ("b", "t-2"), ("c", "t-1"), ("d", "t-2"), ("e", "t-3"), ("f", "t-1")]


@pytest.fixture
def stream(state_store: Any, name: str) -> Stream:
    return Stream(name, state_store)


async def saved(stream: Stream) -> Stream:
    for name, task_id in SAVED:
        await stream.save(stream.make(name, task_id))
    return stream


@both
@on_a_loop
async def test_they_come_back_in_order_and_equal(stream: Stream) -> None:
    kinds: list[Any] = list(UpdateType if stream.name == "updates" else SteeringEventType)
    field = "update_type" if stream.name == "updates" else "event_type"
    sent = [stream.make(str(n), trace_id="tr", **{field: kind}) for n, kind in enumerate(kinds)]

    for item in sent:
        await stream.save(item)

    found = await stream.items()
    assert list(found) == sent
    assert {type(item) for item in found} == {StateUpdate if stream.name == "updates" else SteeringEvent}
    assert [getattr(item, field) for item in found] == kinds
    assert {type(getattr(item, field)) for item in found} == {type(kinds[0])}


@both
@on_a_loop
async def test_nothing_of_a_session_that_nobody_knows(stream: Stream) -> None:
    await stream.save(stream.make("a"))

    stream.session_id = fresh()

    assert await stream.items() == []
    assert await stream.items(task_id="t-1", since_id="x", limit=5) == []


@both
@on_a_loop
async def test_a_cursor_is_exclusive(stream: Stream) -> None:
    await saved(stream)

    assert await stream.names(since="c") == ["d", "e", "f"]
    assert await stream.names(since="f") == []


@both
@on_a_loop
async def test_a_cursor_is_looked_up_in_the_whole_session(stream: Stream) -> None:
    """Also one of another task: the task's filter comes after it."""
    await saved(stream)

    assert await stream.names(since="b", task_id="t-1") == ["c", "f"]
    assert await stream.names(since="f", task_id="t-2") == []
    assert await stream.names(since="d", task_id="t-4") == []


@both
@on_a_loop
async def test_a_cursor_that_is_not_there_is_none(stream: Stream) -> None:
    await saved(stream)
    everything = [name for name, _ in SAVED]

    assert await stream.names(since="unknown") == everything
    assert await stream.names(since="") == everything
    assert await stream.names(since="unknown", task_id="t-2", limit=1) == ["d"]


@both
@on_a_loop
async def test_a_cursor_of_another_session_is_none(stream: Stream) -> None:
    await saved(stream)
    other = Stream(stream.name, stream.store)
    await other.save(other.make("x"))
    [elsewhere] = await other.items()
    cursor = elsewhere.update_id if stream.name == "updates" else elsewhere.event_id

    assert [stream.name_of(item) for item in await stream.items(since_id=cursor)] == [name for name, _ in SAVED]


@both
@on_a_loop
async def test_a_limit_keeps_the_newest_oldest_first(stream: Stream) -> None:
    await saved(stream)

    assert await stream.names(limit=2) == ["e", "f"]
    assert await stream.names(limit=2, since="a") == ["e", "f"]
    assert await stream.names(limit=2, task_id="t-1") == ["c", "f"]
    assert await stream.names(limit=100) == [name for name, _ in SAVED]


@both
@on_a_loop
async def test_a_limit_of_nothing_is_no_limit(stream: Stream) -> None:
    """As the reference has it: who asks for none gets all."""
    await saved(stream)

    assert await stream.names(limit=0) == [name for name, _ in SAVED]
    assert await stream.names(limit=0, since="d") == ["e", "f"]


@both
@on_a_loop
async def test_without_a_limit_it_is_500(stream: Stream) -> None:
    for n in range(520):
        await stream.save(stream.make(str(n)))

    assert await stream.names() == [str(n) for n in range(20, 520)]
    assert await stream.names(since="9") == [str(n) for n in range(20, 520)]
    assert await stream.names(since="29") == [str(n) for n in range(30, 520)]


@both
@on_a_loop
async def test_all_rules_together(stream: Stream) -> None:
    await saved(stream)

    tasks, cursors = ((None, "t-1", "t-2", "t-4"), (None, "", "a", "b", "e", "f", "unknown"))
    for task_id, since, limit in itertools.product(tasks, cursors, (0, 1, 2, 6, 7, 500)):
        found = await stream.names(task_id=task_id, since=since, limit=limit)
        assert found == expected(SAVED, task_id, since, limit), (task_id, since, limit)


@ours(ONCE)
@both
@on_a_loop
async def test_what_is_saved_again_is_there_once_where_it_was_first(stream: Stream) -> None:
    await saved(stream)

    await stream.save(stream.make("b", "t-2"))
    await stream.save(stream.make("f"))

    assert await stream.names() == [name for name, _ in SAVED]
    assert await stream.names(since="b") == ["c", "d", "e", "f"]


@ours(ONCE)
@both
@on_a_loop
async def test_what_is_saved_twice_at_once_is_there_once(stream: Stream) -> None:
    items = [stream.make(str(n // 3)) for n in range(150)]

    await started([stream.save(item) for item in items])

    assert await stream.names() == [str(n) for n in range(50)]


@both
@on_a_loop
async def test_two_sessions_do_not_see_each_other(stream: Stream) -> None:
    other = Stream(stream.name, stream.store)

    for n in range(10):
        await stream.save(stream.make(f"s{n}"))
        await other.save(other.make(f"o{n}"))

    assert await stream.names() == [f"s{n}" for n in range(10)]
    assert await other.names() == [f"o{n}" for n in range(10)]


@both
@on_a_loop
async def test_what_callers_and_readers_change_changes_nothing(stream: Stream) -> None:
    field = "content" if stream.name == "updates" else "payload"
    sent = stream.make("a")
    setattr(sent, field, {"a": {"b": [1]}})
    await stream.save(sent)

    [found] = await stream.items()
    for changed in (sent, found):
        changed.task_id = "changed"
        getattr(changed, field)["a"]["b"].append(2)
        getattr(changed, field)["c"] = 1

    [again] = await stream.items()
    assert (again.task_id, getattr(again, field)) == ("t-1", {"a": {"b": [1]}})
