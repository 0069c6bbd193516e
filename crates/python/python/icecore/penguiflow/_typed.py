"""Python values as what is stored and back, each as what it was: classes come back as themselves.

What JSON has no word for is an object with the member ``$is``. What would not come back equal is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from penguiflow.types import Message
from pydantic import BaseModel

from .._errors import CorruptError, InvalidError
from .._native import encode_any
from ._values import decode as plain

IS = "$is"
DEPTH_MAX = 200
"""How deep a value may be nested."""

_AS_THEY_ARE: tuple[type, ...] = (type(None), bool, int, float, str, bytes)
_SEQUENCES: dict[type, str] = {tuple: "tuple", set: "set", frozenset: "frozenset"}
_TEXTS: dict[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]] = {
    datetime: ("datetime", datetime.isoformat, datetime.fromisoformat),
    date: ("date", date.isoformat, date.fromisoformat),
    time: ("time", time.isoformat, time.fromisoformat),
    Decimal: ("decimal", str, Decimal),
    UUID: ("uuid", str, UUID),
}
_FROM_TEXT = {name: read for name, _, read in _TEXTS.values()}
_FROM_ITEMS = {name: kind for kind, name in _SEQUENCES.items()}


def write(value: Any) -> bytes:
    """A value, as it is stored; an ``InvalidError`` if it would not come back equal."""
    return encode_any(_Writer().value(value, "the value", 0))


def read(text: bytes) -> Any:
    """The value of a stored text."""
    return of(plain(text))


def key(value: Any) -> bytes:
    """What a value says, without when its messages were made: that is another time when they are made again."""
    return encode_any(_Writer(with_times=False).value(value, "the value", 0))


class _Writer:
    def __init__(self, with_times: bool = True) -> None:
        self.with_times = with_times

    def value(self, value: Any, where: str, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise _refused(where, f"it is nested more than {DEPTH_MAX} deep, or holds itself")
        kind, depth = type(value), depth + 1
        if kind in _AS_THEY_ARE:
            return value
        if kind is list:
            return self.items(value, where, depth)
        if kind is dict:
            return self.mapping(value, where, depth)
        if kind in _SEQUENCES:
            items = self.items(value, where, depth)
            # A set has no order. What is equal is to be written alike.
            return {IS: _SEQUENCES[kind], "items": items if kind is tuple else sorted(items, key=encode_any)}
        if kind in _TEXTS:
            name, text, _ = _TEXTS[kind]
            return {IS: name, "text": text(value)}
        if kind is timedelta:
            return {IS: "timedelta", "parts": [value.days, value.seconds, value.microseconds]}
        if isinstance(value, Enum):
            return {IS: "enum", "of": self.name(kind, where), "value": self.value(value.value, where, depth)}
        if isinstance(value, BaseModel):
            return self.model(value, where, depth)
        if is_dataclass(value):
            found = {field.name: getattr(value, field.name) for field in fields(value)}
            return {IS: "dataclass", "of": self.name(kind, where), "fields": self.members(found, where, depth)}
        raise _refused(where, f"it is a {kind.__qualname__}")

    def items(self, items: Iterable[Any], where: str, depth: int) -> list[Any]:
        return [self.value(item, f"{where}[{place}]", depth) for place, item in enumerate(items)]

    def members(self, members: dict[str, Any], where: str, depth: int) -> dict[str, Any]:
        return {name: self.value(member, f"{where}.{name}", depth) for name, member in members.items()}

    def mapping(self, value: dict[Any, Any], where: str, depth: int) -> Any:
        if all(type(name) is str for name in value) and IS not in value:
            # What keys there are is data, which no error tells.
            return {name: self.value(item, f"{where}{{}}", depth) for name, item in value.items()}
        pairs = [[self.value(name, where, depth), self.value(item, where, depth)] for name, item in value.items()]
        return {IS: "dict", "items": pairs}

    def model(self, value: BaseModel, where: str, depth: int) -> dict[str, Any]:
        found = dict(value.__dict__)
        if not self.with_times and isinstance(value, Message):
            del found["ts"]
        written = {IS: "model", "of": self.name(type(value), where), "fields": self.members(found, where, depth)}
        parts = {"extra": value.__pydantic_extra__, "private": value.__pydantic_private__}
        written |= {name: self.members(part, where, depth) for name, part in parts.items() if part}
        # Which of them were given makes no difference to what it is equal to, but to what is dumped of it.
        if self.with_times and value.__pydantic_fields_set__ != value.__dict__.keys():
            written["given"] = sorted(value.__pydantic_fields_set__)
        return written

    def name(self, kind: type[Any], where: str) -> str:
        name = f"{kind.__module__}:{kind.__qualname__}"
        try:
            found = _find(name)
        except CorruptError:
            found = None
        if found is not kind:
            raise _refused(where, f"its class {kind.__qualname__} is not found by its name in its module")
        return name


def _refused(where: str, why: str) -> InvalidError:
    advice = "What a durable node is given and makes is of classes that are listed in the guide to Penguiflow"
    return InvalidError(f"{where} cannot be recorded: {why}. {advice}", [("where", where)], advice)


def _find(name: str) -> Any:
    """A class by its module and name. No module is imported for this: what is stored must not say what code is run."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        advice = "Import its module before the flow is resumed"
        raise CorruptError(f"There is no class {name}, which is recorded. {advice}", [("class", name)], advice)
    return found


def _class(name: str, base: type[Any]) -> Any:
    found = _find(name)
    if not issubclass(found, base):
        raise CorruptError(f"The class {name}, which is recorded, is another kind of class now", [("class", name)])
    return found


def of(value: Any) -> Any:
    """The value of what stands for it in JSON."""
    if type(value) is list:
        return [of(item) for item in value]
    if type(value) is not dict:
        return value
    what = value.get(IS)
    if what is None:
        return _members(value)
    if what in _FROM_TEXT:
        return _FROM_TEXT[what](value["text"])
    if what in _FROM_ITEMS:
        return _FROM_ITEMS[what](of(value["items"]))
    match what:
        case "dict":
            return {of(name): of(item) for name, item in value["items"]}
        case "timedelta":
            return timedelta(*value["parts"])
        case "enum":
            return _class(value["of"], Enum)(of(value["value"]))
        case "model":
            return _model(value)
        case "dataclass":
            return _dataclass(value)
    raise CorruptError(f"There is no kind of value {what!r}, which is recorded", [("kind", str(what))])


def _members(members: dict[str, Any]) -> dict[str, Any]:
    return {name: of(member) for name, member in members.items()}


def _model(value: dict[str, Any]) -> Any:
    kind = _class(value["of"], BaseModel)
    found = _members(value["fields"])
    # Without its validators: they have run, and may not give the same if they run again.
    made = kind.__new__(kind)
    object.__setattr__(made, "__dict__", found)
    object.__setattr__(made, "__pydantic_fields_set__", set(value.get("given", found)))
    extra = kind.model_config.get("extra") == "allow"
    object.__setattr__(made, "__pydantic_extra__", _members(value.get("extra", {})) if extra else None)
    private = _members(value.get("private", {})) if kind.__private_attributes__ else None
    object.__setattr__(made, "__pydantic_private__", private)
    return made


def _dataclass(value: dict[str, Any]) -> Any:
    kind = _find(value["of"])
    # Of any other class, what is stored could say what is done when the object goes.
    names = {field.name for field in fields(kind)} if is_dataclass(kind) else None
    if names is None or not names.issuperset(value["fields"]):
        told = f"The class {value['of']}, which is recorded, is no dataclass of these fields now"
        raise CorruptError(told, [("class", value["of"])])
    made = kind.__new__(kind)
    for name, member in value["fields"].items():
        # Also of a frozen one.
        object.__setattr__(made, name, of(member))
    return made
