"""Values that stores find hard, and how they are compared."""

import base64
import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import threading
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import create_model


class Colour(enum.Enum):
    RED = "red"


class Word(enum.StrEnum):
    YES = "yes"


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


class Unshowable:
    """An object whose text cannot be had either."""

    def __repr__(self) -> str:
        raise RuntimeError("this object cannot be shown")


def model(value: Any) -> Any:
    return create_model("Model", n=(int, 1), value=(Any, None))(n=2, value=value)


def nested(depth: int, wrap: Callable[[Any], Any] = lambda inner: [inner]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


def looped() -> Any:
    value: list[Any] = []
    value.append({"again": value})
    return value


def looped_dict() -> Any:
    value: dict[str, Any] = {}
    value["again"] = {"deep": value}
    return value


# What JSON can carry, in every reading of it: it must come back equal.
PLAIN: dict[str, Any] = {
    "null": None,
    "booleans": [True, False],
    "ints": [0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)],
    "floats": [0.0, -0.0, 1.0, 0.1, 1e16, 1e22, 5e-324, 1.7976931348623157e308, 1730000000.123456],
    "int and float": [1, 1.0, 100, 1e2],
    "strings": ["", " ", "ü", "u\u0308", "日本", "👩‍🚀", "\u2028\ufeff\u200b", '"\\/\b\f\n\r\t\x1f\x7f', "null", "1"],
    "NUL": ["\0", "a\0b", {"\0": 1, "a\0": 2}],
    "empty": [[], {}, "", [[]], [{}], {"": {}}],
    "nulls within": {"a": None, "b": [None, {"c": None}]},
    "keys": {"": 1, ".": 2, "a.b": 3, "$": 4, "A": 5, "a": 6, "a ": 7, "'": 8, "ü": 9, "u\u0308": 10, "0": 11},
    "what looks like a tag": [{"$bytes": "aGk="}, {"$type": "float", "value": "nan"}, {"~": 1}, {"__class__": "x"}],
    "what looks like a tag alone": {"$bytes": "aGk="},
    "texts of numbers": ["NaN", "Infinity", "1.0", "1e5", "2026-01-01T00:00:00Z"],
    "a long text": "0123456789abcdef" * 65536,
    "a long list": list(range(10_000)),
    "many keys": {f"key {n}": n for n in range(2_000)},
}

DEEP: dict[str, Any] = {"nested lists": nested(500), "nested objects": nested(500, lambda inner: {"a": inner})}

# What JSON cannot carry, or not in every reading of it. Made anew for each use: some can be used once only.
# Nothing may be raised because of them.
HOSTILE: dict[str, Callable[[], Any]] = {
    "object": object,
    "unshowable object": Unshowable,
    "exception": lambda: ValueError("no"),
    "function": lambda: nested,
    "class": lambda: Point,
    "generator": lambda: (n for n in [1, 2]),
    "lock": threading.Lock,
    "pydantic": lambda: model({"a": [Point(1)]}),
    "pydantic with object": lambda: model(object()),
    "dataclass": lambda: Point(1, {"a": [Point(2)]}),
    "datetime": lambda: datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC),
    "naive datetime": lambda: datetime.datetime(2026, 1, 2),
    "date": lambda: datetime.date(2026, 1, 2),
    "timedelta": lambda: datetime.timedelta(seconds=1),
    "uuid": lambda: uuid.UUID(int=7),
    "decimal": lambda: decimal.Decimal("1.10"),
    "complex": lambda: 1 + 2j,
    "path": lambda: pathlib.PurePosixPath("/a/b"),
    "enum": lambda: Colour.RED,
    "text enum": lambda: Word.YES,
    "bytes": lambda: b"\x00\xff\x80hi",
    "bytearray": lambda: bytearray(b"\x00\xff"),
    "NaN": lambda: math.nan,
    "infinities": lambda: [math.inf, -math.inf],
    "int of 65 bits": lambda: 2**64,
    "int of 31 digits": lambda: -(10**30),
    "int of 5001 digits": lambda: 10**5000,
    "lone surrogate": lambda: "a\ud800b",
    "lone surrogate key": lambda: {"\udfff": 1},
    "int keys": lambda: {1: "a", 2: {3: "b"}},
    "odd keys": lambda: {1: "a", "1": "b", None: "c", False: "d", 1.5: "e", (1, 2): "f", b"k": "g"},
    "set": lambda: {1},
    "frozenset of tuples": lambda: frozenset({(1, "a")}),
    "tuple": lambda: (1, (2, [3])),
    "ordered dict": lambda: OrderedDict(b=1, a=2),
    "defaultdict": lambda: defaultdict(list, a=[1]),
    "list within itself": looped,
    "object within itself": looped_dict,
    "nested 5000 deep": lambda: nested(5_000),
}

# What must come back exactly, although JSON as such cannot say it.
EXACT = (
    "NaN",
    "infinities",
    "int of 65 bits",
    "int of 31 digits",
    "int of 5001 digits",
    "lone surrogate",
    "lone surrogate key",
)

# What comes back as itself, or in one of these forms.
FORMS: dict[str, list[Any]] = {
    "pydantic": [{"n": 2, "value": {"a": [{"x": 1, "y": None}]}}],
    "dataclass": [{"x": 1, "y": {"a": [{"x": 2, "y": None}]}}],
    "datetime": ["2026-01-02T03:04:05.000006+00:00", "2026-01-02T03:04:05.000006Z"],
    "naive datetime": ["2026-01-02T00:00:00"],
    "date": ["2026-01-02"],
    "enum": ["red"],
    "text enum": ["yes"],
    "uuid": ["00000000-0000-0000-0000-000000000007"],
    "decimal": ["1.10"],
    "path": ["/a/b"],
    "int keys": [{"1": "a", "2": {"3": "b"}}],
    "set": [[1]],
    "tuple": [[1, [2, [3]]]],
    "ordered dict": [{"b": 1, "a": 2}],
    "defaultdict": [{"a": [1]}],
}

# Ends of names; each test puts a name that was never used before them.
NAMES: dict[str, str] = {
    "plain": "a",
    "upper case": "A",
    "space after": "a ",
    "NUL": "a\0",
    "colon": "a:b",
    "slash": "a/b",
    "dots": "/../a",
    "escaped slash": "a%2Fb",
    "tilde": "~a",
    "backslash": "a\\b",
    "wildcards": "a*_%?[",
    "quotes": "'\"`;--",
    "newline": "a\nb",
    "composed": "\u00fc",
    "decomposed": "u\u0308",
    "emoji": "👩‍🚀",
    "beyond UTF-16": "\U0010ffff",
    "10,000 characters": "x" * 10_000,
    "10,000 characters and one": "x" * 10_001,
    "10,000 wide characters": "日" * 10_000,
}

SURROGATES: dict[str, str] = {"lone surrogate": "a\ud800", "another lone surrogate": "a\udfff"}


def same(found: Any, wanted: Any) -> bool:
    """Equal as JSON tells values apart: 1 is neither 1.0 nor true, -0.0 is not 0.0, and NaN is NaN.

    Without recursion, for values that are nested deep.
    """
    pairs = [(found, wanted)]
    while pairs:
        left, right = pairs.pop()
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            if left.keys() != right.keys():
                return False
            pairs.extend((left[key], right[key]) for key in right)
        elif isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                return False
            pairs.extend(zip(left, right, strict=True))
        elif type(left) is not type(right):
            return False
        elif isinstance(left, float):
            if repr(left) != repr(right):
                return False
        elif left != right:
            return False
    return True


def holds_bytes(found: Any, wanted: bytes) -> bool:
    """Whether `found` is the bytes, or has them somewhere within as base64, as a tagged form would."""
    text = base64.b64encode(wanted).decode()
    pending = [found]
    while pending:
        value = pending.pop()
        if value in (wanted, text):
            return True
        if isinstance(value, Mapping):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return False
