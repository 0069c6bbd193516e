"""Values that cannot be kept are errors, never something else."""

import copy
import enum
import json
import math
import pickle
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

import icecore
import pytest
from icecore import Changes, Event


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def looped() -> Any:
    value: list[Any] = []
    value.append({"again": value})
    return value


class Unwritable:
    pass


INVALID = {
    "nan": math.nan,
    "infinity": [math.inf],
    "a huge int": 10**5000,
    "a lone surrogate": "\ud800",
    "a lone surrogate as a key": {"\udfff": 1},
    "a key that is no str": {1: 2},
    "a key that is None": {"a": {None: 1}},
    "a set": {1, 2},
    "bytes within": [b"1"],
    "an object": Unwritable(),
    "a datetime": datetime(2026, 1, 1, tzinfo=UTC),
    "nested too deep": nested(128),
    "itself": looped(),
}


@pytest.mark.parametrize("value", INVALID.values(), ids=INVALID.keys())
async def test_what_cannot_be_kept_is_invalid(log: icecore.Log, value: Any) -> None:
    with pytest.raises(icecore.InvalidError) as caught:
        Event("x", value)
    with pytest.raises(icecore.InvalidError):
        await log.append({"kind": "x", "data": value})
    with pytest.raises(ValueError):
        await log.put("x", value)
    with pytest.raises(icecore.InvalidError):
        Changes().patch("x", value)

    assert caught.value.kind == "invalid" and caught.value.advice
    assert await log.head() is None


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Lying(float):
    def __repr__(self) -> str:
        return '"lie"'


VALID = [
    None, True, False, 0, -1, 2**63, -(2**64), 10**400, 0.1, -0.0, 1e300, 5e-324, 1e16, "", "\0\x1f\x7f\"\\/\u2028",
    "😀é", [], {}, (), (1, (2,)), [[], {}], {"": {"b": [None]}}, OrderedDict(z=1, a=2), Colour.RED,
    Level.HIGH, {Colour.RED: Level.HIGH}, Lying(1.5), nested(127), "x" * 100_000, {str(n): n for n in range(1000)},
]  # fmt: skip


@pytest.mark.parametrize("value", VALID, ids=range(len(VALID)))
def test_what_can_be_kept_is_written_as_json_dumps_does(value: Any) -> None:
    if isinstance(value, Lying):
        assert icecore.encode_json(value) == b"1.5"
        return
    expected = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

    assert icecore.encode_json(value) == expected
    assert Event("x", value).data == expected


async def test_text_that_is_no_json_is_no_document(log: icecore.Log) -> None:
    for text in (b"", b"{", b"nan", b"\xff", b"1 2", b'"\\ud800"', b"[" * 200 + b"]" * 200):
        with pytest.raises(icecore.InvalidError):
            await log.put("x", text)

    assert await log.head() is None


async def test_bytes_of_an_event_are_kept_as_they_are(log: icecore.Log) -> None:
    await log.append(Event("x", b"\xff\0", content_type="application/octet-stream"))

    [read] = [event async for event in log.read()]

    assert (read.data, read.content_type) == (b"\xff\0", "application/octet-stream")


async def test_five_megabytes(log: icecore.Log) -> None:
    text = "é" * (5 << 19)

    await log.append(Event("x", {"text": text}))
    await log.put("x", text)

    [read, _] = [event async for event in log.read()]
    assert read.json() == {"text": text}
    assert await log.get("x") == text


async def test_what_is_too_large_is_invalid(log: icecore.Log) -> None:
    with pytest.raises(icecore.InvalidError):
        await log.append(Event("x", b" " * (65 << 20)))


async def test_wrong_arguments(log: icecore.Log) -> None:
    wrong: list[dict[Any, Any]] = [
        {"kind": "x"},
        {"data": 1},
        {"kind": "x", "data": 1, "colour": "red"},
        {"kind": "x", "data": 1, 3: 4},
        {"kind": 1, "data": 1},
        {"kind": "\ud800", "data": 1},
        {"kind": "x", "data": 1, "meta": {"a": "\ud800"}},
        {"kind": "x", "data": 1, "at": datetime(2026, 1, 1)},
        {"kind": "x", "data": 1, "schema_version": -1},
        {"kind": "x", "data": 1, "schema_version": 2**32},
        {"kind": "icecore.unknown", "data": 1},
    ]
    for event in wrong:
        with pytest.raises(icecore.InvalidError):
            await log.append(event)
    for id in ("", "x" * 257, "\ud800"):
        with pytest.raises(icecore.InvalidError):
            await log.append(Event("x", 1), id=id)
    for version in (-1, 2**64, 10**400):
        with pytest.raises(icecore.InvalidError):
            await log.append(Event("x", 1), expect=version)
        with pytest.raises(icecore.InvalidError):
            log.read(version)
    for key in ("", "k" * 1025, "\ud800"):
        with pytest.raises(icecore.InvalidError):
            await log.put(key, 1)
    for events in (3, "text", [3], None):
        with pytest.raises(TypeError):
            await log.append(events)  # type: ignore[arg-type]
    with pytest.raises(icecore.InvalidError):
        await log.append([])

    assert await log.head() is None


def test_every_kind_has_its_class() -> None:
    classes = {
        "invalid": (icecore.InvalidError, ValueError),
        "conflict": (icecore.ConflictError, icecore.Error),
        "not_found": (icecore.NotFoundError, LookupError),
        "unavailable": (icecore.UnavailableError, icecore.Error),
        "unknown": (icecore.UnknownOutcomeError, icecore.Error),
        "refused": (icecore.RefusedError, icecore.Error),
        "corrupt": (icecore.CorruptError, icecore.Error),
    }
    for kind, (own, base) in classes.items():
        error = own("A sentence", [("log", "a/b/c")], "Do it")
        copies = [error, copy.copy(error), pickle.loads(pickle.dumps(error))]

        assert own.kind == kind and issubclass(own, icecore.Error) and issubclass(own, base)
        for one in copies:
            assert (type(one), str(one), one.facts, one.advice) == (own, "A sentence", [("log", "a/b/c")], "Do it")


def test_nothing_public_is_named_as_penguiflow_forbids() -> None:
    for name in icecore.__all__:
        assert not hasattr(getattr(icecore, name), "_store"), name
