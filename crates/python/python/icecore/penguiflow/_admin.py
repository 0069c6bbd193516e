"""A state store as the environment has it: for ``penguiflow-admin --state-store icecore.penguiflow:create_store``."""

from __future__ import annotations

import os

from .._errors import InvalidError
from ._state_store import StateStore


def create_store() -> StateStore:
    """The store that ``ICECORE_STORE`` names by its URL, of the tenant that ``ICECORE_TENANT`` names."""
    return StateStore(
        _setting("ICECORE_STORE", "the URL of the store, such as file:./store"),
        tenant=_setting("ICECORE_TENANT", "whose events these are, such as acme"),
    )


def _setting(name: str, meaning: str) -> str:
    value = os.environ.get(name)
    if not value:
        advice = f"Set it to {meaning}"
        raise InvalidError(f"The environment variable {name} is not set. {advice}", [("variable", name)], advice)
    return value
