"""What of a log goes, what is held, and what is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import icecore
import pytest
from icecore import Hold, Policy


async def filled(store: icecore.Store, name: str = "acme/session/s-1", count: int = 20) -> icecore.Log:
    log = store.log(name)
    for number in range(count):
        await log.put(f"k{number % 3}", {"n": number})
    return log


async def test_a_trim_leaves_the_documents_and_takes_the_rest(tmp_path: Path) -> None:
    async with icecore.Store(f"file:{tmp_path}/store") as store:
        log = await filled(store)
        before = await log.state()
        planned = await log.trim(keep_commits=5, dry_run=True)
        assert (planned.through, planned.commits, planned.writes_base) == (15, 15, True)

        trimmed = await log.trim(keep_commits=5)

        assert (trimmed.through, trimmed.bytes) == (15, planned.bytes)
        after = await log.state()
        for key in before:
            assert (repr(after.document(key)), after.raw(key)) == (repr(before.document(key)), before.raw(key))
        assert [event.version async for event in log.read()][0] == 16
        with pytest.raises(icecore.NotFoundError, match="trimmed"):
            await log.state(at=10)
        assert [change.change async for change in log.history("k0")] == ["put", "put"]
        with pytest.raises(icecore.InvalidError, match="kept"):
            await log.trim()


async def test_what_is_held_stays(tmp_path: Path) -> None:
    async with icecore.Store(f"file:{tmp_path}/store") as store:
        log = await filled(store)
        until = datetime.now(UTC) + timedelta(days=1)
        await store.retention.hold("consumer", log, from_=10, until=until, reason="it has read so far")
        await store.retention.hold("case 7", prefix="other/")

        with pytest.raises(icecore.RefusedError, match="consumer"):
            await log.trim(keep_commits=1)
        with pytest.raises(icecore.RefusedError):
            await store.retention.delete_log(log)
        assert (await log.trim(from_=10)).through == 9
        assert await store.retention.holds() == [
            Hold("case 7", None, "other/", None, None, ""),
            Hold("consumer", "acme/session/s-1", None, 10, until, "it has read so far"),
        ]
        assert await store.retention.release("consumer")
        assert not await store.retention.release("consumer")
        with pytest.raises(icecore.RefusedError, match="gone"):
            await store.retention.hold("late", log, from_=3)
        with pytest.raises(icecore.InvalidError):
            await store.retention.hold("x")
        with pytest.raises(icecore.InvalidError):
            await store.retention.hold("x", log, prefix="acme/")


async def test_policies_are_applied_and_a_deleted_log_is_gone(tmp_path: Path) -> None:
    async with icecore.Store(f"file:{tmp_path}/store", maintain=False) as store:
        log = await filled(store)
        await filled(store, "acme/session/s-2")
        await store.retention.set_policy("acme/", keep_commits=4, keep_for=timedelta(days=0), kinds=[])
        await store.retention.set_policy("acme/session/s-2", delete_idle=timedelta(days=30))
        assert await store.retention.policies() == [
            Policy("acme/", 4, timedelta(0)),
            Policy("acme/session/s-2", delete_idle=timedelta(days=30)),
        ]

        done = await store.retention.maintain()

        assert done is not None
        assert (done.trimmed, done.deleted, done.failed, done.error) == (1, 0, 0, None)
        head = await log.head()
        assert head is not None and head.boundary > 10
        assert await store.retention.remove_policy("acme/")
        with pytest.raises(icecore.InvalidError):
            await store.retention.set_policy("acme/", keep_for=timedelta(days=-1))
        # Never less is kept than was asked for.
        await store.retention.set_policy("other/", keep_for=timedelta(milliseconds=1))
        assert (await store.retention.policies())[-1] == Policy("other/", None, timedelta(seconds=1))
        assert await store.retention.delete_log("acme/session/s-2") == 21
        with pytest.raises(icecore.NotFoundError, match="deleted"):
            await store.log("acme/session/s-2").state()
        with pytest.raises(icecore.RefusedError, match="deleted"):
            await store.log("acme/session/s-2").put("a", 1)
