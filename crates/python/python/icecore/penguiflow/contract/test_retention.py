"""How long artifacts stay. For stores whose limits a test can set: see `open_retaining_store`."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from ._groups import judges, lacks, ours
from ._making import fresh
from ._ours import EXPIRED, FIFO, TRACE_LIMITS
from ._penguiflow import ArtifactRetentionConfig, ArtifactScope
from ._plugin import close

Limited = Callable[..., Awaitable[Any]]


@pytest_asyncio.fixture(loop_scope="function")
async def limited(open_retaining_store: Callable[[Any], Any] | None) -> AsyncIterator[Limited]:
    """Opens a store with limits, and returns its artifacts."""
    if open_retaining_store is None:
        pytest.skip("the limits of its artifacts cannot be set: there is no open_retaining_store")
    stores: list[Any] = []

    async def open_limited(**limits: Any) -> Any:
        store = open_retaining_store(ArtifactRetentionConfig(**limits))
        stores.append(await store if asyncio.iscoroutine(store) else store)
        reason = lacks(stores[-1], "artifacts")
        if reason is not None:
            pytest.skip(reason)
        return stores[-1].artifact_store

    yield open_limited
    for store in stores:
        await close(store)


def content(within: Any, name: str, size: int = 10) -> bytes:
    return hashlib.shake_128(f"{within.session_id} {name}".encode()).digest(size)


async def put(artifacts: Any, within: Any, name: str, size: int = 10) -> str:
    """Stores `size` bytes that are those of `name` in this session alone, and returns the id."""
    ref = await artifacts.put_bytes(content(within, name, size), filename=name, scope=within)
    artifact_id: str = ref.id
    return artifact_id


async def left(artifacts: Any, within: Any) -> list[str]:
    return sorted(ref.filename for ref in await artifacts.list(scope=within))


def session(**fields: Any) -> Any:
    return ArtifactScope(session_id=fresh(), **fields)


@judges("retention")
async def test_what_is_too_large_is_refused_and_both_sizes_are_named(limited: Limited) -> None:
    artifacts, within = await limited(max_artifact_bytes=100), session()

    with pytest.raises(ValueError, match=r"(?s)101.*100|100.*101"):
        await artifacts.put_bytes(b"x" * 101, scope=within)

    await artifacts.put_bytes(b"x" * 100, scope=within)
    with pytest.raises(ValueError):
        await artifacts.put_text("ü" * 51, scope=within)


@judges("retention")
async def test_what_is_past_its_time_is_gone(limited: Limited) -> None:
    artifacts, within = await limited(ttl_seconds=1), session()
    artifact_id = await put(artifacts, within, "a")
    assert await artifacts.exists(artifact_id)

    await asyncio.sleep(1.1)

    assert await artifacts.get(artifact_id) is None
    assert await artifacts.get_ref(artifact_id) is None
    assert await artifacts.exists(artifact_id) is False
    assert await artifacts.list(scope=within) == []


@ours(EXPIRED)
@judges("retention")
async def test_what_is_past_its_time_is_stored_again(limited: Limited) -> None:
    artifacts, within = await limited(ttl_seconds=1), session()
    await put(artifacts, within, "a")
    await asyncio.sleep(1.1)

    artifact_id = await put(artifacts, within, "a")

    assert await artifacts.get(artifact_id) == content(within, "a")


@judges("retention")
async def test_storing_again_does_not_make_it_younger(limited: Limited) -> None:
    artifacts, within = await limited(ttl_seconds=1), session()
    artifact_id = await put(artifacts, within, "a")
    await asyncio.sleep(0.4)
    await put(artifacts, within, "a")
    await asyncio.sleep(0.7)

    assert await artifacts.get(artifact_id) is None


@judges("retention")
async def test_without_a_time_it_stays(limited: Limited) -> None:
    artifacts, within = await limited(ttl_seconds=0), session()
    artifact_id = await put(artifacts, within, "a")

    await asyncio.sleep(0.05)

    assert await artifacts.exists(artifact_id)


@judges("retention")
async def test_the_least_recently_used_makes_room(limited: Limited) -> None:
    artifacts, within = await limited(max_artifacts_per_session=3), session()
    ids = {name: await put(artifacts, within, name) for name in "abc"}
    await artifacts.get(ids["a"])
    await put(artifacts, within, "b")
    # Looking at a reference is no use of the content.
    await artifacts.get_ref(ids["c"])
    await artifacts.exists(ids["c"])

    await put(artifacts, within, "d")
    assert await left(artifacts, within) == ["a", "b", "d"]
    await put(artifacts, within, "e")
    assert await left(artifacts, within) == ["b", "d", "e"]


@ours(FIFO)
@judges("retention")
async def test_the_first_that_came_makes_room_however_it_is_used(limited: Limited) -> None:
    artifacts, within = (await limited(max_artifacts_per_session=3, cleanup_strategy="fifo"), session())
    ids = {name: await put(artifacts, within, name) for name in "abc"}
    await artifacts.get(ids["a"])

    await put(artifacts, within, "d")

    assert await left(artifacts, within) == ["b", "c", "d"]


@judges("retention")
async def test_bytes_make_room_too(limited: Limited) -> None:
    artifacts, within = await limited(max_session_bytes=100), session()
    for name in "abc":
        await put(artifacts, within, name, 30)

    await put(artifacts, within, "d", 50)

    assert await left(artifacts, within) == ["c", "d"]


@judges("retention")
async def test_where_nothing_is_cleaned_up_nothing_goes(limited: Limited) -> None:
    limits = {"max_artifacts_per_session": 2, "max_session_bytes": 20, "cleanup_strategy": "none"}
    artifacts, within = await limited(**limits), session()

    for name in "abcd":
        await put(artifacts, within, name)

    assert await left(artifacts, within) == ["a", "b", "c", "d"]


@judges("retention")
async def test_one_session_makes_no_room_in_another(limited: Limited) -> None:
    artifacts, first, second = (await limited(max_artifacts_per_session=2), session(), session())

    for name in "ab":
        await put(artifacts, first, name)
    for name in "cdef":
        await put(artifacts, second, name)

    assert await left(artifacts, first) == ["a", "b"]
    assert await left(artifacts, second) == ["e", "f"]


@ours(TRACE_LIMITS)
@judges("retention")
@pytest.mark.parametrize("limit", [{"max_artifacts_per_trace": 2}, {"max_trace_bytes": 20}], ids=str)
async def test_a_trace_has_limits_of_its_own(limited: Limited, limit: dict[str, int]) -> None:
    artifacts, session_id = await limited(**limit), fresh()
    first = ArtifactScope(session_id=session_id, trace_id="t-1")
    second = ArtifactScope(session_id=session_id, trace_id="t-2")

    await put(artifacts, second, "z")
    for name in "abc":
        await put(artifacts, first, name)

    assert await left(artifacts, first) == ["b", "c"]
    assert await left(artifacts, second) == ["z"]
