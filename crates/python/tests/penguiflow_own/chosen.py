"""Which of Penguiflow's own tests run on our store: the files, and the tests of them that do not, with the reason.

A file is in the list if a test of it calls the store that `swap.py` puts there; the run fails if none does.
"""

from __future__ import annotations

from typing import NamedTuple

FILES = frozenset(
    {
        # The store by its name: its own methods.
        "test_state_unified_store.py",
        "test_session_state_store_retention.py",
        "test_sessions_persistence.py",
        # Sessions: tasks, updates, steering, background tasks, and what is read again when a session begins.
        "test_agui_adapter_penguiflow.py",
        "test_bidirectional_session.py",
        "test_context_merge.py",
        "test_planner_task_pipeline_pause.py",
        "test_proactive_reports.py",
        "test_session_telemetry.py",
        "test_sessions_transport.py",
        "test_task_lifecycle.py",
        "test_task_service.py",
        "test_tool_jobs.py",
        # Flows: an event for each step of a node, saved while the flow waits for it; bindings of remote calls.
        "test_a2a_server.py",
        "test_budgets.py",
        "test_cancel.py",
        "test_controller.py",
        "test_core.py",
        "test_distribution_hooks.py",
        "test_errors.py",
        "test_examples_roadmap.py",
        "test_metadata.py",
        "test_middlewares.py",
        "test_patterns.py",
        "test_property_based.py",
        "test_remote.py",
        "test_routing_policy.py",
        "test_streaming.py",
        "test_testkit.py",
        # Planners: pauses that another process resumes, memory, trajectories and planner events.
        "test_guardrails_integration.py",
        "test_parallel_edge_cases.py",
        "test_react_planner.py",
        # Artifacts, with Penguiflow's own two stores of them replaced. test_common_tools_web.py needs aiohttp.
        "test_artifacts.py",
        "test_playground_phase3.py",
    }
)

# Files in which earlier versions have no test that calls a store.
SINCE = {"test_agui_adapter_penguiflow.py": (3, 11)}

# Stores that test modules bring along, by their names there.
RECORDERS = {
    "test_a2a_server.py": "RecordingStateStore",
    "test_distribution_hooks.py": "RecordingStateStore",
    "test_remote.py": "RecordingStateStore",
    "test_sessions_persistence.py": "InMemoryStateStore",
}


class Left(NamedTuple):
    """A test that does not run; one that is no longer there fails the run."""

    file: str
    name: str
    reason: str
    since: tuple[int, ...] = (3, 6)


LEFT_OUT = (
    Left(
        "test_artifacts.py",
        "TestInMemoryArtifactStoreList::test_list_expired_artifacts_excluded",
        "Makes an artifact old by changing what Penguiflow's own store keeps within.",
    ),
    Left(
        "test_task_service.py",
        "test_inprocess_task_service_controls_and_patch_flow",
        "Looks for a task's patch as soon as the task is complete in memory, while it is being saved: who waits for a"
        " disk may lose that race.",
    ),
    Left(
        "test_session_state_store_retention.py",
        "test_inmemory_session_state_store_prunes_updates",
        "Wants the oldest updates dropped beyond a cap. Ours keeps everything: what is dropped, a rule drops.",
    ),
    Left(
        "test_react_planner.py",
        "test_react_planner_rolling_summary_uses_llm_summarizer",
        "Fails with Penguiflow's own store, too: memory is saved before its summary is made, then loaded.",
    ),
)


def files(version: str) -> frozenset[str]:
    return frozenset(file for file in FILES if SINCE.get(file, (0,)) <= parts(version))


def left_out(version: str) -> frozenset[tuple[str, str]]:
    return frozenset((left.file, left.name) for left in LEFT_OUT if left.since <= parts(version))


def parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
