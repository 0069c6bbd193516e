"""Artifacts: content under an id that follows from it, within a scope."""

import asyncio
import hashlib
from typing import Any

import pytest

from ._groups import judges, ours
from ._making import fresh
from ._ours import LIVE, SHARED_ID
from ._penguiflow import ArtifactRef, ArtifactScope, ArtifactStore, ScopedArtifacts, discover_artifact_store


def scope(**fields: Any) -> Any:
    return ArtifactScope(**{"session_id": fresh(), **fields})


def content() -> bytes:
    """What no other test has stored: equal content is one artifact."""
    return b"\x00\xff" + fresh().encode()


@pytest.fixture
def artifacts(state_store: Any) -> Any:
    return state_store.artifact_store


@judges("artifacts")
async def test_penguiflow_finds_the_artifacts(state_store: Any) -> None:
    assert isinstance(state_store.artifact_store, ArtifactStore)
    assert discover_artifact_store(state_store) is not None


@judges("artifacts")
async def test_an_artifact_comes_back_with_all_that_was_said_of_it(artifacts: Any) -> None:
    data, within = content(), scope(tenant_id="acme", user_id="ada", trace_id="t")
    meta = {"tool": "search", "more": {"n": 1, "x": 1.0, "none": None}}

    ref = await artifacts.put_bytes(
        data, mime_type="application/pdf", filename="a/ü.pdf", namespace="a.b/c", scope=within, meta=meta
    )

    digest = hashlib.sha256(data).hexdigest()
    assert ref == ArtifactRef(
        id=f"a_b_c_{digest[:12]}",
        mime_type="application/pdf",
        size_bytes=len(data),
        filename="a/ü.pdf",
        sha256=digest,
        scope=within,
        namespace="a.b/c",
        source=meta,
    )
    assert await artifacts.get(ref.id) == data
    assert await artifacts.get_ref(ref.id) == ref
    assert await artifacts.exists(ref.id) is True
    assert await artifacts.list(scope=within) == [ref]


@judges("artifacts")
@pytest.mark.parametrize(
    ("namespace", "prefix"),
    [
        (None, "art"),
        ("", "art"),
        ("tool", "tool"),
        ("observation.web fetch", "observation_web_fetch"),
        ("_-a-b_c-_", "a-b_c"),
        ("../..", "art"),
        ("日本", "art"),
        ("a日本b", "a_b"),
    ],
    ids=repr,
)
async def test_an_id_is_the_namespace_and_the_hash(artifacts: Any, namespace: str | None, prefix: str) -> None:
    data = content()

    ref = await artifacts.put_bytes(data, namespace=namespace, scope=scope())

    assert ref.id == f"{prefix}_{hashlib.sha256(data).hexdigest()[:12]}"
    assert ref.namespace == namespace


@judges("artifacts")
async def test_a_text_is_its_bytes(artifacts: Any) -> None:
    text, within = f"Grüße, 日本, {fresh()}", scope()

    ref = await artifacts.put_text(text, namespace="n", scope=within)

    assert (ref.mime_type, ref.size_bytes) == ("text/plain", len(text.encode()))
    assert await artifacts.get(ref.id) == text.encode()
    assert (await artifacts.put_bytes(text.encode(), namespace="n", scope=within)).id == ref.id


@judges("artifacts")
async def test_nothing_is_an_artifact_too(artifacts: Any) -> None:
    ref = await artifacts.put_bytes(b"", namespace=fresh(), scope=scope())

    assert (ref.size_bytes, await artifacts.get(ref.id)) == (0, b"")


@judges("artifacts")
async def test_equal_content_is_stored_once_and_the_first_reference_stays(artifacts: Any) -> None:
    data, within = content(), scope(trace_id="t-1")

    first = await artifacts.put_bytes(data, filename="first", scope=within, meta={"n": 1})
    second = await artifacts.put_bytes(data, filename="second", mime_type="x/y", scope=within, meta={"n": 2})

    assert second == first
    assert await artifacts.list(scope=within) == [first]


@judges("artifacts")
async def test_of_equal_content_that_is_stored_at_once_one_reference_is_there(artifacts: Any) -> None:
    data, within = content(), scope()

    refs = await asyncio.gather(*(artifacts.put_bytes(data, filename=str(n), scope=within) for n in range(16)))

    assert all(ref == refs[0] for ref in refs)
    assert await artifacts.list(scope=within) == [refs[0]]


@judges("artifacts")
async def test_many_that_are_stored_at_once_are_all_there(artifacts: Any) -> None:
    within = scope()
    contents = [content() for _ in range(24)]

    refs = await asyncio.gather(*(artifacts.put_bytes(data, scope=within) for data in contents))

    assert [await artifacts.get(ref.id) for ref in refs] == contents
    assert {ref.id for ref in await artifacts.list(scope=within)} == {ref.id for ref in refs}


@judges("artifacts")
async def test_what_is_not_there_is_none(artifacts: Any) -> None:
    missing = f"art_{fresh()}"

    assert await artifacts.get(missing) is None
    assert await artifacts.get_ref(missing) is None
    assert await artifacts.exists(missing) is False
    assert await artifacts.delete(missing) is False
    assert await artifacts.list(scope=scope()) == []


@judges("artifacts")
async def test_what_is_deleted_is_gone_and_may_come_again(artifacts: Any) -> None:
    data, within = content(), scope()
    ref = await artifacts.put_bytes(data, scope=within)

    assert await artifacts.delete(ref.id) is True
    assert await artifacts.delete(ref.id) is False
    assert (await artifacts.get(ref.id), await artifacts.get_ref(ref.id)) == (None, None)
    assert await artifacts.list(scope=within) == []

    await artifacts.put_bytes(data, filename="again", scope=within)
    assert (await artifacts.get_ref(ref.id)).filename == "again"


@judges("artifacts")
async def test_a_list_is_of_all_whose_scope_has_what_was_asked(artifacts: Any) -> None:
    tenant, session, other = fresh(), fresh(), fresh()
    scopes = {
        "full": ArtifactScope(tenant_id=tenant, user_id="u", session_id=session, trace_id="t"),
        "other user": ArtifactScope(tenant_id=tenant, user_id="v", session_id=session),
        "other session": ArtifactScope(tenant_id=tenant, user_id="u", session_id=other),
        "tenant alone": ArtifactScope(tenant_id=tenant),
        "none": None,
    }
    refs = {name: await artifacts.put_bytes(content(), scope=within) for name, within in scopes.items()}
    names = {ref.id: name for name, ref in refs.items()}

    async def listed(within: Any) -> list[str]:
        return sorted(names[ref.id] for ref in await artifacts.list(scope=within) if ref.id in names)

    assert await listed(ArtifactScope(tenant_id=tenant)) == ["full", "other session", "other user", "tenant alone"]
    assert await listed(ArtifactScope(tenant_id=tenant, user_id="u")) == ["full", "other session"]
    assert await listed(ArtifactScope(session_id=session)) == ["full", "other user"]
    assert await listed(ArtifactScope(session_id=session, trace_id="t")) == ["full"]
    assert await listed(ArtifactScope(session_id=fresh())) == []
    assert await listed(None) == sorted(scopes)
    assert await listed(ArtifactScope()) == sorted(scopes)


@judges("artifacts")
async def test_the_facade_for_tools_sees_its_own_session(artifacts: Any) -> None:
    """Penguiflow's own facade trusts the scope that the store kept."""
    session, data = fresh(), content()
    own = ScopedArtifacts(artifacts, tenant_id="acme", user_id="ada", session_id=session, trace_id="t-1")
    later = ScopedArtifacts(artifacts, tenant_id="acme", user_id="ada", session_id=session, trace_id="t-2")
    stranger = ScopedArtifacts(artifacts, tenant_id="acme", user_id="eve", session_id=fresh(), trace_id="t-1")

    ref = await own.upload(data)

    assert await later.download(ref.id) == data
    assert await stranger.download(ref.id) is None
    assert await stranger.delete(ref.id) is False
    assert await own.download(ref.id) == data


@judges("artifacts")
async def test_the_wrong_session_gets_no_content(artifacts: Any) -> None:
    if not hasattr(artifacts, "get_with_session_check"):
        pytest.skip("the artifact store has no get_with_session_check")
    data, within = content(), scope()
    ref = await artifacts.put_bytes(data, scope=within)

    assert await artifacts.get_with_session_check(ref.id, within.session_id) == data
    assert await artifacts.get_with_session_check(ref.id, fresh()) is None
    assert await artifacts.get_with_session_check(f"art_{fresh()}", within.session_id) is None


@ours(SHARED_ID)
@judges("artifacts")
async def test_two_sessions_with_equal_content_do_not_touch_each_other(artifacts: Any) -> None:
    data, first, second = content(), scope(), scope()
    one = await artifacts.put_bytes(data, filename="of the first", scope=first)
    other = await artifacts.put_bytes(data, filename="of the second", scope=second)

    assert (one.scope, other.scope) == (first, second)
    assert [ref.filename for ref in await artifacts.list(scope=first)] == ["of the first"]
    assert [ref.filename for ref in await artifacts.list(scope=second)] == ["of the second"]
    if hasattr(artifacts, "get_with_session_check"):
        for within in (first, second):
            assert await artifacts.get_with_session_check(one.id, within.session_id) == data


@ours(LIVE)
@judges("artifacts")
async def test_what_callers_and_readers_change_changes_no_reference(artifacts: Any) -> None:
    within, meta = scope(), {"a": {"b": 1}}

    ref = await artifacts.put_bytes(content(), scope=within, meta=meta)
    meta["a"]["b"] = 2
    ref.source["a"]["b"] = 3
    ref.filename = "changed"
    (await artifacts.get_ref(ref.id)).filename = "changed"

    found = await artifacts.get_ref(ref.id)
    assert (found.source, found.filename) == ({"a": {"b": 1}}, None)
