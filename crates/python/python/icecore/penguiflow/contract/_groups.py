"""The groups that a store is judged in, and what a store must have to be judged in each."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from ._penguiflow import HAS_CONVERSATIONS, VERSION

# The methods of each capability. Penguiflow looks for them by name when it needs them.
CAPABILITIES: dict[str, tuple[str, ...]] = {
    "events": ("save_event", "load_history", "save_remote_binding"),
    "conversations": ("find_binding", "list_bindings", "mark_binding_terminal"),
    "pauses": ("save_planner_state", "load_planner_state"),
    "memory": ("save_memory_state", "load_memory_state"),
    "tasks": ("save_task", "list_tasks"),
    "updates": ("save_update", "list_updates"),
    "steering": ("save_steering", "list_steering"),
    "trajectories": ("save_trajectory", "get_trajectory", "list_traces"),
    "planner events": ("save_planner_event", "list_planner_events"),
    "artifacts": ("artifact_store",),
    # What Penguiflow's follow-up RFC asks for, under the names that Icecore gives it: no store must have these.
    "deletion": ("delete_session",),
    "listing": ("list_sessions",),
    "checked memory": ("load_memory_state_with_etag", "save_memory_state_if"),
    "many at once": ("save_events", "save_updates"),
    "pages": ("page_history", "page_updates"),
    "older names": ("save_task_update", "list_task_updates", "get_events"),
}

# The groups: the capabilities, and what goes across them.
GROUPS = ("shape", *CAPABILITIES, "retention", "values", "exactness", "ids", "two objects", "loops", "runtime")

Test = TypeVar("Test", bound=Callable[..., Any])


def judges(group: str) -> Callable[[Test], Test]:
    """Marks a test as one of `group`, and a coroutine as one for pytest-asyncio, in its strict mode too."""
    assert group in GROUPS, group

    def mark(test: Test) -> Test:
        test = pytest.mark.judges(group)(test)
        return pytest.mark.asyncio(loop_scope="function")(test) if inspect.iscoroutinefunction(test) else test

    return mark


def ours(reason: str) -> pytest.MarkDecorator:
    """Marks a rule that Penguiflow's own reference store does not keep, with the reason why it is a rule all the same.

    The table of them is in `README.md`, beside this file.
    """
    return pytest.mark.ours(reason)


def lacks(store: object, capability: str) -> str | None:
    """Says why `store` cannot be judged in `capability`, or nothing if it can."""
    if capability == "conversations" and not HAS_CONVERSATIONS:
        return f"Penguiflow {VERSION} has no conversation bindings"
    missing = [name for name in CAPABILITIES.get(capability, ()) if not hasattr(store, name)]
    if missing:
        return f"the store has no {', '.join(missing)}"
    if capability == "artifacts" and getattr(store, "artifact_store", None) is None:
        return "the store's artifact_store is None"
    return None


def require(store: object, *capabilities: str) -> None:
    """Skips the test, naming the reason, if `store` lacks one of `capabilities`."""
    for capability in capabilities:
        reason = lacks(store, capability)
        if reason is not None:
            pytest.skip(reason)
