"""Stored JSON as Python values: what JSON has no word for is an object with one member whose name begins with ``$``."""

from __future__ import annotations

import base64
import json
from typing import Any


def decode(text: bytes) -> Any:
    """The value of a stored text."""
    if b'"$' not in text:
        return json.loads(text)
    return json.loads(text, object_hook=_plain)


def _plain(value: dict[str, Any]) -> Any:
    if len(value) != 1:
        return value
    ((name, inner),) = value.items()
    if not name.startswith("$"):
        return value
    match name:
        case "$bytes":
            return base64.b64decode(inner)
        case "$cycle":
            return "<itself>"
        case "$dict":
            return {_key(key): member for key, member in inner}
        case "$float":
            return float(inner)
        case "$int":
            return int(inner, 16)
        case "$json":
            return decode(inner.encode())
        case "$str":
            return base64.b64decode(inner).decode("utf-8", "surrogatepass")
    # A name that began so by itself has one more.
    return {name[1:]: inner}


def _key(key: Any) -> Any:
    """What a key was written as may be an array or an object, which are no keys: tuples of what is in them."""
    match key:
        case list():
            return tuple(_key(part) for part in key)
        case dict():
            return tuple((_key(name), _key(member)) for name, member in key.items())
    return key
