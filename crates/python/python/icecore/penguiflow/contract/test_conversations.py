"""Which remote agent a conversation goes on with. Since Penguiflow 3.11."""

import dataclasses
from typing import Any

import pytest

from ._groups import judges, ours
from ._making import binding, fresh
from ._ours import SHALLOW
from ._penguiflow import RemoteBinding

URL, SKILL = "https://agent.example", "echo"


def ours_in(session_id: str, **fields: Any) -> Any:
    given = {"trace_id": fresh(), "context_id": "c", "agent_url": URL, "remote_skill": SKILL, **fields}
    return binding(router_session_id=session_id, **given)


async def find(store: Any, session_id: str, **fields: Any) -> Any:
    given = {"router_session_id": session_id, "agent_url": URL, "remote_skill": SKILL, **fields}
    return await store.find_binding(**given)


@judges("conversations")
async def test_a_binding_comes_back_with_every_field(state_store: Any) -> None:
    session_id = fresh()
    sent = ours_in(
        session_id,
        tenant_id="acme",
        user_id="ada",
        last_remote_task_id="r-9",
        metadata={"a": [1, {"b": None}], "c": 1.0},
    )

    await state_store.save_remote_binding(sent)

    found = await find(state_store, session_id, tenant_id="acme", user_id="ada")
    assert isinstance(found, RemoteBinding)
    assert dataclasses.asdict(found) == dataclasses.asdict(sent)
    assert list(await state_store.list_bindings(router_session_id=session_id)) == [sent]


@judges("conversations")
async def test_what_nobody_knows_is_none_and_an_empty_list(state_store: Any) -> None:
    assert await find(state_store, fresh()) is None
    assert await state_store.list_bindings(router_session_id=fresh()) == []


@judges("conversations")
@pytest.mark.parametrize("other", [{"agent_url": "https://other.example"}, {"remote_skill": "other"}])
async def test_a_binding_is_found_by_session_agent_and_skill(state_store: Any, other: dict[str, str]) -> None:
    session_id = fresh()
    await state_store.save_remote_binding(ours_in(session_id))

    assert await find(state_store, session_id) is not None
    assert await find(state_store, session_id, **other) is None
    assert await find(state_store, fresh()) is None


@judges("conversations")
async def test_a_binding_outside_conversations_is_in_none(state_store: Any) -> None:
    session_id, trace_id = fresh(), fresh()

    await state_store.save_remote_binding(binding(trace_id, agent_url=URL))
    await state_store.save_remote_binding(binding(trace_id, task_id="r-2", router_session_id=session_id, agent_url=URL))

    assert await find(state_store, session_id) is None
    assert [found.task_id for found in await state_store.list_bindings(router_session_id=session_id)] == ["r-2"]


@judges("conversations")
@pytest.mark.parametrize("field", ["tenant_id", "user_id"])
@pytest.mark.parametrize("stored", [None, "a", "b", ""])
@pytest.mark.parametrize("asked", [None, "a", "b", ""])
async def test_tenant_and_user_must_be_the_same_and_none_is_one_of_them(
    state_store: Any, field: str, stored: str | None, asked: str | None
) -> None:
    session_id = fresh()
    await state_store.save_remote_binding(ours_in(session_id, **{field: stored}))

    found = await find(state_store, session_id, **{field: asked})

    assert (found is not None) == (stored == asked)


@judges("conversations")
async def test_each_tenant_finds_its_own(state_store: Any) -> None:
    session_id = fresh()
    for tenant_id in ("a", None, "b"):
        await state_store.save_remote_binding(ours_in(session_id, tenant_id=tenant_id, task_id=f"of {tenant_id}"))

    found = [await find(state_store, session_id, tenant_id=tenant_id) for tenant_id in (None, "a", "b")]

    assert [one.task_id for one in found] == ["of None", "of a", "of b"]


@judges("conversations")
async def test_the_newest_is_found(state_store: Any) -> None:
    session_id = fresh()

    for n in range(5):
        await state_store.save_remote_binding(ours_in(session_id, task_id=str(n)))
        found = await find(state_store, session_id)
        assert found.task_id == str(n)


@judges("conversations")
async def test_a_terminal_one_is_listed_and_not_found(state_store: Any) -> None:
    session_id = fresh()
    older, newer = ours_in(session_id, task_id="1"), ours_in(session_id, task_id="2")
    await state_store.save_remote_binding(older)
    await state_store.save_remote_binding(newer)

    key = {"trace_id": newer.trace_id, "context_id": newer.context_id, "task_id": newer.task_id}
    await state_store.mark_binding_terminal(**key)
    await state_store.mark_binding_terminal(**key)

    assert await find(state_store, session_id) == older
    found = await state_store.list_bindings(router_session_id=session_id)
    assert [(one.task_id, one.is_terminal) for one in found] == [("1", False), ("2", True)]
    assert found[1] == dataclasses.replace(newer, is_terminal=True)


@judges("conversations")
async def test_one_that_is_saved_as_terminal_is_not_found(state_store: Any) -> None:
    session_id = fresh()
    sent = ours_in(session_id)

    await state_store.save_remote_binding(sent)
    await state_store.save_remote_binding(dataclasses.replace(sent, is_terminal=True))

    assert await find(state_store, session_id) is None


@judges("conversations")
async def test_marking_what_nobody_knows_changes_nothing(state_store: Any) -> None:
    session_id = fresh()
    sent = ours_in(session_id, context_id="c")
    await state_store.save_remote_binding(sent)

    for other in ({"trace_id": fresh()}, {"context_id": None}, {"context_id": ""}, {"task_id": "other"}):
        key = {"trace_id": sent.trace_id, "context_id": "c", "task_id": sent.task_id, **other}
        await state_store.mark_binding_terminal(**key)

    assert await find(state_store, session_id) == sent


@judges("conversations")
async def test_trace_context_and_task_are_the_key_and_no_context_is_one_of_its_own(state_store: Any) -> None:
    session_id, trace_id, other_trace = fresh(), fresh(), fresh()
    contexts = [None, "", "None", "c"]
    for context_id in contexts:
        await state_store.save_remote_binding(ours_in(session_id, trace_id=trace_id, context_id=context_id))
    await state_store.save_remote_binding(ours_in(session_id, trace_id=trace_id, context_id=None, task_id="other"))
    await state_store.save_remote_binding(ours_in(session_id, trace_id=other_trace, context_id=None))

    # Each is replaced where it stands.
    for context_id in contexts:
        again = ours_in(session_id, trace_id=trace_id, context_id=context_id, last_remote_task_id="again")
        await state_store.save_remote_binding(again)

    found = await state_store.list_bindings(router_session_id=session_id)
    assert [(one.context_id, one.task_id, one.last_remote_task_id) for one in found] == [
        *[(context_id, "remote-1", "again") for context_id in contexts],
        (None, "other", None),
        (None, "remote-1", None),
    ]


@judges("conversations")
async def test_marking_is_by_the_whole_key(state_store: Any) -> None:
    session_id, trace_id = fresh(), fresh()
    for context_id in (None, "", "c"):
        await state_store.save_remote_binding(ours_in(session_id, trace_id=trace_id, context_id=context_id))

    await state_store.mark_binding_terminal(trace_id=trace_id, context_id=None, task_id="remote-1")

    found = await state_store.list_bindings(router_session_id=session_id)
    assert [(one.context_id, one.is_terminal) for one in found] == [(None, True), ("", False), ("c", False)]


@judges("conversations")
async def test_a_binding_may_move_to_another_conversation(state_store: Any) -> None:
    first, second = fresh(), fresh()
    sent = ours_in(first)

    await state_store.save_remote_binding(sent)
    await state_store.save_remote_binding(dataclasses.replace(sent, router_session_id=second))

    assert await find(state_store, first) is None
    assert await state_store.list_bindings(router_session_id=first) == []
    assert (await find(state_store, second)).trace_id == sent.trace_id


@judges("conversations")
async def test_what_callers_and_readers_change_changes_no_binding(state_store: Any) -> None:
    session_id = fresh()
    sent = ours_in(session_id, metadata={"a": 1})

    await state_store.save_remote_binding(sent)
    sent.metadata["a"] = 2
    sent.agent_url = "changed"
    found = await find(state_store, session_id)
    found.metadata["a"] = 3
    found.is_terminal = True
    [listed] = await state_store.list_bindings(router_session_id=session_id)
    listed.metadata["a"] = 4
    listed.remote_skill = "changed"

    again = await find(state_store, session_id)
    assert (again.agent_url, again.is_terminal, dict(again.metadata)) == (URL, False, {"a": 1})


@ours(SHALLOW)
@judges("conversations")
async def test_what_is_within_metadata_is_the_store_s_own(state_store: Any) -> None:
    session_id = fresh()
    sent = ours_in(session_id, metadata={"a": {"b": 1}})

    await state_store.save_remote_binding(sent)
    sent.metadata["a"]["b"] = 2
    found = await find(state_store, session_id)
    found.metadata["a"]["b"] = 3

    assert (await find(state_store, session_id)).metadata == {"a": {"b": 1}}
