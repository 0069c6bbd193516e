"""How Penguiflow finds what a store can do: by the names of its methods, when it needs them."""

import inspect
from typing import Any

import pytest

from ._groups import CAPABILITIES, judges, lacks
from ._penguiflow import protocol

METHODS = [name for names in CAPABILITIES.values() for name in names if name != "artifact_store"]

PROTOCOLS = {
    "StateStore": "events",
    "SupportsConversationBindings": "conversations",
    "SupportsPlannerState": "pauses",
    "SupportsMemoryState": "memory",
    "SupportsTasks": "tasks",
    "SupportsSteering": "steering",
    "SupportsTrajectories": "trajectories",
    "SupportsPlannerEvents": "planner events",
    "SupportsArtifacts": "artifacts",
}

# What Penguiflow passes by keyword, and sometimes looks for in the signature first.
KEYWORDS = {
    "find_binding": ("router_session_id", "agent_url", "remote_skill", "tenant_id", "user_id"),
    "list_bindings": ("router_session_id",),
    "mark_binding_terminal": ("trace_id", "context_id", "task_id"),
    "list_updates": ("task_id", "since_id", "limit"),
    "list_steering": ("task_id", "since_id", "limit"),
    "list_task_updates": ("task_id", "since_id", "limit"),
    "list_traces": ("limit",),
}


@judges("shape")
@pytest.mark.parametrize("name", CAPABILITIES["events"])
async def test_what_every_store_must_have_is_there(state_store: Any, name: str) -> None:
    assert hasattr(state_store, name)


@judges("shape")
@pytest.mark.parametrize("name", METHODS)
async def test_every_method_is_a_coroutine_function(state_store: Any, name: str) -> None:
    """Penguiflow gives what they return to `asyncio.create_task`, which takes coroutines only."""
    if not hasattr(state_store, name):
        pytest.skip(f"the store has no {name}")

    assert inspect.iscoroutinefunction(getattr(state_store, name))


@judges("shape")
@pytest.mark.parametrize("name", [*METHODS, "artifact_store"])
async def test_every_method_is_a_real_attribute(state_store: Any, name: str) -> None:
    """From Python 3.12 on, `isinstance` with a protocol does not see what only `__getattr__` gives."""
    if not hasattr(state_store, name):
        pytest.skip(f"the store has no {name}")

    inspect.getattr_static(state_store, name)


@judges("shape")
async def test_there_is_no_attribute_that_penguiflow_unwraps(state_store: Any) -> None:
    """Penguiflow's background jobs take `_store` for the store within an adapter, and use that instead."""
    assert not hasattr(state_store, "_store")


@judges("shape")
@pytest.mark.parametrize("name", PROTOCOLS)
async def test_penguiflow_sees_the_capability(state_store: Any, name: str) -> None:
    reason = lacks(state_store, PROTOCOLS[name])
    if reason is not None:
        pytest.skip(reason)
    if name == "SupportsTasks" and lacks(state_store, "updates") is not None:
        pytest.fail("tasks without updates: Penguiflow would use them all the same")

    assert isinstance(state_store, getattr(protocol, name))


@judges("shape")
@pytest.mark.parametrize("capability", [name for name in CAPABILITIES if name != "older names"])
async def test_a_capability_is_there_as_a_whole_or_not_at_all(state_store: Any, capability: str) -> None:
    present = [name for name in CAPABILITIES[capability] if hasattr(state_store, name)]

    assert present in ([], list(CAPABILITIES[capability]))


@judges("shape")
async def test_who_keeps_tasks_keeps_updates_and_steering(state_store: Any) -> None:
    """Penguiflow looks for `save_task` alone, and then calls all six."""
    if not hasattr(state_store, "save_task"):
        pytest.skip("the store has no save_task")

    assert [lacks(state_store, name) for name in ("tasks", "updates", "steering")] == [None, None, None]


@judges("shape")
@pytest.mark.parametrize("name", KEYWORDS)
async def test_arguments_have_the_names_that_penguiflow_uses(state_store: Any, name: str) -> None:
    if not hasattr(state_store, name):
        pytest.skip(f"the store has no {name}")
    parameters = inspect.signature(getattr(state_store, name)).parameters
    by_keyword = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

    assert [word for word in KEYWORDS[name] if word not in parameters] == []
    assert all(parameters[word].kind in by_keyword for word in KEYWORDS[name])
