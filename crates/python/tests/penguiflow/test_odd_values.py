"""Values that raise, that are nested, or whose classes say something else than what they are."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from icecore.penguiflow import StateStore
from penguiflow.state import StoredEvent


@pytest_asyncio.fixture
async def store() -> AsyncIterator[StateStore]:
    async with StateStore("memory:", tenant="values") as store:
        yield store


async def kept(store: StateStore, value: Any) -> Any:
    """What is read back."""
    await store.save_memory_state("key", {"value": value})
    found = await store.load_memory_state("key")
    assert found is not None
    return found["value"]


class Point(tuple[int, int]):
    pass


@dataclasses.dataclass(frozen=True)
class Pair:
    left: Any
    right: Any


class Colour(enum.Enum):
    RED = "red"


async def test_a_key_that_stands_as_an_object_or_an_array_is_read_as_a_tuple(store: StateStore) -> None:
    value = {
        Pair(1, (2, "x")): "pair",
        (1, (2, (3,))): "tuple",
        Point((4, 5)): "point",
        frozenset([7]): "set",
        Colour.RED: "enum",
        b"\xff": "bytes",
        1.5: "float",
        None: "none",
        "s": "text",
    }

    found = await kept(store, value)

    assert found == {
        (("left", 1), ("right", (2, "x"))): "pair",
        (1, (2, (3,))): "tuple",
        (4, 5): "point",
        (7,): "set",
        "red": "enum",
        b"\xff": "bytes",
        1.5: "float",
        None: "none",
        "s": "text",
    }


async def test_a_pause_with_such_a_key_can_be_taken(store: StateStore) -> None:
    await store.save_planner_state("token", {"seen": {Pair(1, 2): True}})

    assert await store.load_planner_state("token") == {"seen": {(("left", 1), ("right", 2)): True}}


@pytest.mark.parametrize("depth", [10, 60, 200])
async def test_keys_that_are_no_text_may_be_nested(store: StateStore, depth: int) -> None:
    """Each level was once written twice, as its last key says that it is no object: 2^60 for 60 of them."""
    value: Any = "in the middle"
    for level in range(depth):
        value = {"inner": value, level: None}

    assert await kept(store, value) == value


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {1: value}, lambda value: {(1,): {"a": value}}])
async def test_what_is_nested_too_deep_to_be_read_is_not_written_so(store: StateStore, wrap: Any) -> None:
    """Such keys stand in two arrays more: what had 300 of them was kept, and reading it raised for ever."""
    value: Any = "in the middle"
    for _ in range(2_000):
        value = wrap(value)

    await store.save_planner_state("token", {"value": value})
    await store.save_event(StoredEvent("t", 1.0, "k", None, None, {"value": value}))

    assert await store.load_planner_state("token") is not None
    assert len(await store.load_history("t")) == 1


class Stop:
    """What somebody interrupts."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error


class StopsDumping(Stop):
    def model_dump(self, **_: Any) -> Any:
        raise self.error

    def __str__(self) -> str:
        return "its text"


class StopsMapping(Stop, Mapping[str, Any]):
    def __getitem__(self, name: str) -> Any:
        raise self.error

    def __iter__(self) -> Any:
        raise self.error

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize("kind", [Stop, StopsDumping, StopsMapping])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_who_stops_the_program_while_a_value_is_written_is_heard(
    store: StateStore, kind: type[Stop], error: type[BaseException]
) -> None:
    # `is` is not asked of it: the event is as if it had not been told.
    with pytest.raises(error):
        await store.save_event(StoredEvent("t", 1.0, "k", None, None, {"a": [{"b": kind(error())}]}))

    assert await store.load_history("t") == []
    await store.save_event(StoredEvent("t", 1.0, "k", None, None, {"a": 1}))
    assert len(await store.load_history("t")) == 1


@pytest.mark.parametrize("kind", [Stop, StopsDumping, StopsMapping])
@pytest.mark.parametrize("depth", [1, 98, 99, 100, 101, 102, 250, 650])
async def test_a_value_that_raises_deep_within_takes_nothing_with_it(
    store: StateStore, kind: type[Stop], depth: int
) -> None:
    """What was written of what is around it once was lost where it became a text in the text."""
    value: Any = ["before", kind(ValueError("no")), "behind"]
    for level in range(depth):
        value = [level, value, -level]

    found = await kept(store, value)

    for level in reversed(range(depth)):
        first, found, last = found
        assert (first, last) == (level, -level)
    before, raising, behind = found
    assert (before, behind) == ("before", "behind")
    assert isinstance(raising, str) and ("no str" in raising or raising == "its text")


class Text(str):
    """Says of itself what it is not."""

    def encode(self, *_: Any, **__: Any) -> bytes:
        return b"something else"

    def __str__(self) -> str:
        return "something else"


@pytest.mark.parametrize("text", ["plain", "half \ud800", "", "$serde_json::private::x"])
async def test_a_text_is_what_it_is_whatever_its_class_says(store: StateStore, text: str) -> None:
    name = Text(text)

    await store.save_event(StoredEvent(name, 1.0, name, name, name, {name: name}))
    await store.save_memory_state(name, {"key": name})

    assert await store.load_history(text) == [StoredEvent(text, 1.0, text, text, text, {text: text})]
    assert await store.load_memory_state(text) == {"key": text}
    assert await store.load_memory_state("something else") is None
