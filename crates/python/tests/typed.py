"""Everything public, with its types spelled out. It is checked by `mypy --strict`, and run by `test_types.py`."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import icecore


def decide(state: icecore.State) -> icecore.Changes:
    return icecore.Changes().put("n", int(state.get("n", 0)) + 1)


async def logs(store: icecore.Store, log: icecore.Log, at: datetime) -> None:
    event = icecore.Event("said", {"a": [1]}, at=at, actor="a", trace="t", node="n", correlation="c", causation="d")
    other = icecore.Event("said", b"1", meta={"a": "b"}, subjects=["p"], content_type="text/plain", schema_version=1)
    assert_type(await log.append(event), icecore.Receipt)
    receipt = await log.append([event, other, {"kind": "said", "data": None}], id="m-1", expect=1)
    assert_type((receipt.log, receipt.version, receipt.entry), tuple[str, int, int])
    assert_type((receipt.id, receipt.repeated), tuple[str | None, bool])
    assert_type(await log.resolve("m-1"), icecore.Receipt | None)
    head = await log.head()
    assert head is not None
    assert_type((head.version, head.hash, head.at, head.events), tuple[int, str, datetime, int])
    assert_type((head.boundary, head.sealed), tuple[int, bool])

    events: AsyncIterator[icecore.RecordedEvent] = log.read(from_=1, to=2, reverse=True)
    async for read in events:
        assert_type((read.version, read.index, read.id, read.at), tuple[int, int, str | None, datetime])
        assert_type((read.at_ns, read.kind, read.data), tuple[int, str, bytes])
        assert_type((read.actor, read.trace, read.node), tuple[str | None, str | None, str | None])
        assert_type((read.correlation, read.causation), tuple[str | None, str | None])
        assert_type((read.meta, read.subjects), tuple[dict[str, str], list[str]])
        assert_type((read.content_type, read.schema_version), tuple[str, int])
        value: Any = read.json()
        assert value in (None, 1, {"a": [1]})
    tail = log.tail(1)
    assert_type(tail, icecore.Stream[icecore.RecordedEvent])
    assert_type(await anext(tail), icecore.RecordedEvent)
    await tail.aclose()
    assert_type([name async for name in store.logs(prefix="acme/")], list[str])
    assert_type((log.name, log.tenant, log.kind, log.key), tuple[str, str, str, str])


async def documents(log: icecore.Log) -> None:
    assert_type(await log.put("n", 1, id="p-1", actor="a", trace="t"), icecore.Receipt)
    assert_type(await log.patch("m", {"a": None}, id="p-2", actor="a", trace="t"), icecore.Receipt)
    assert_type(await log.merge("k", add=1, pointer="/a", id="m-1", actor="a", trace="t"), icecore.Receipt)
    assert_type(await log.merge("l", append=[1]), icecore.Receipt)
    assert_type(await log.merge("l", union=b"[1]"), icecore.Receipt)
    assert_type(await log.reduce("o", lambda now, operand: operand, 1, id="r-1"), icecore.Receipt | None)
    await log.check_merges(icecore.Changes().merge("l", append=[]).merge("n", add=0.5).merge("l", union=[]))
    assert_type(await log.delete("m", id="p-3", actor="a", trace="t"), icecore.Receipt)
    assert_type(await log.transact(decide, id="t-1"), icecore.Receipt | None)
    changes = icecore.Changes().put("a", 1).patch("a", 2).delete("a").event(icecore.Event("said", 1))
    changes.only_if_exists("n").only_if_absent("b").with_id("c-1").by("a").in_trace("t")
    assert_type(await log.commit(changes), icecore.Receipt | None)
    changes.expire("a", sliding=timedelta(hours=1)).touch("a").expire_log(at=datetime.now(UTC))
    unmet = icecore.Changes().put("a", 1).only_if_new().only_if_log(1).only_if_document("n", 1)
    try:
        await log.commit(unmet)
    except icecore.ConflictError as conflict:
        assert_type((conflict.kind, conflict.facts), tuple[str, list[tuple[str, str]]])
        assert_type((conflict.advice, conflict.fact("log")), tuple[str | None, str | None])

    state = await log.state()
    mapping: Mapping[str, Any] = state
    assert mapping["n"] == 2
    assert_type((state.version, state.at), tuple[int, datetime | None])
    assert_type((state.raw("n"), state.under("")), tuple[bytes, list[str]])
    document = await log.document("n", at=state.version)
    assert document is not None
    assert_type((document.raw, document.version, document.at), tuple[bytes, int, datetime])
    assert document.json() == await log.get("n", default=None)
    page = await log.documents("n", after="m", limit=1)
    assert_type((page.version, page.documents, page.has_more), tuple[int, dict[str, icecore.Document], bool])
    assert_type(state.document("b"), icecore.Document | None)

    diff = await log.diff(0, state.at)
    assert_type((diff.from_version, diff.to_version, len(diff)), tuple[int, int, int])
    assert_type(diff.json_patch(), list[dict[str, Any]])
    for difference in diff.differences:
        assert_type((difference.key, difference.change), tuple[str, str])
        assert (difference.from_, difference.to) != (1, 1)
    async for change in log.history("n"):
        assert_type((change.version, change.at, change.actor), tuple[int, datetime, str | None])
        assert_type((change.trace, change.id, change.change), tuple[str | None, str | None, str])
        assert change.value in (1, 2)
    assert_type(await log.fork("acme/session/fork", at=state.version), icecore.Receipt)
    assert_type(await log.rollback(0), icecore.Receipt | None)


async def several(store: icecore.Store, log: icecore.Log) -> None:
    states = await store.states([log, "acme/session/s-2"])
    assert_type((states[log], states["acme/session/s-2"]), tuple[icecore.State, icecore.State])
    assert_type(list(states), list[str])
    receipts = await store.commit({log: icecore.Changes().put("cart", 1)}, id="a-1")
    assert_type(receipts, list[icecore.Receipt])

    def decide(states: icecore.States) -> dict[icecore.Log, icecore.Changes]:
        return {log: icecore.Changes().put("cart", len(states))}

    assert_type(await store.transact([log], decide, id="a-2"), list[icecore.Receipt])


async def sessions(store: icecore.Store) -> None:
    all = icecore.Sessions(store, "acme")
    assert_type(all.tenant, str)
    await all.set_limits(icecore.SessionLimits(per_tenant=9, per_user=3, idle=timedelta(hours=1), lifetime=None))
    limits = await all.limits()
    assert_type((limits.per_tenant, limits.per_user), tuple[int | None, int | None])
    assert_type((limits.idle, limits.lifetime), tuple[timedelta | None, timedelta | None])
    session = await all.create("ann", "s-1", idle=timedelta(minutes=1), lifetime=timedelta(days=1))
    assert_type((session.user, session.id, session.status), tuple[str, str, str])
    assert_type((session.created_at, session.touched_at), tuple[datetime, datetime])
    assert_type((session.idle, session.expires_at), tuple[timedelta | None, datetime | None])
    assert_type(session.ended_at, datetime | None)
    assert_type(await all.get_or_create("ann", "s-1"), tuple[icecore.Session, bool])
    assert_type(await all.get("ann", "s-1"), icecore.Session)
    assert_type(await all.find("ann", "s-2"), icecore.Session | None)
    assert_type(await all.touch("ann", "s-1"), icecore.Session)
    assert_type(all.log("ann", "s-1", "memory"), icecore.Log)
    page = await all.list("ann", after=None, limit=1, ended=True)
    assert_type((page.sessions, page.next), tuple[list[icecore.Session], str | None])
    issued = await all.issue_token("ann", "s-1", "browser", ttl=timedelta(hours=1))
    assert_type((issued.id, issued.token), tuple[str, str])
    assert_type(await all.open_token(issued.token), icecore.Session)
    for token in await all.tokens("ann", "s-1"):
        assert_type((token.id, token.label), tuple[str, str])
        assert_type((token.issued_at, token.expires_at), tuple[datetime, datetime | None])
    await all.revoke_token("ann", "s-1", issued.id)
    assert_type(await all.terminate("ann", "s-1", because="done"), icecore.Session)
    assert_type(await all.purge("ann", "s-1", dry_run=True), icecore.Purged)
    purged = await all.purge_all(user=None, dry_run=False)
    assert_type((purged.sessions, purged.logs, purged.held, purged.artifacts), tuple[int, int, int, int])
    swept = await all.sweep(timedelta(days=30))
    assert_type((swept.purged, swept.repaired, swept.removed), tuple[icecore.Purged, int, int])


async def main() -> None:
    store = await icecore.open("memory:", read_only=False)
    log = store.log("acme/session/s-1")
    await logs(store, log, datetime.now().astimezone())
    await documents(store.log("acme", "session", "any text"))
    await several(store, log)
    await sessions(store)
    verified = await store.verify(prefix="acme/")
    assert_type((verified.logs, verified.commits, verified.dropped), tuple[int, int, int])
    assert_type((verified.events, verified.bytes, verified.damage), tuple[int, int, list[icecore.Error]])
    async with icecore.Store("memory:") as other:
        await other.open()
        copied = await icecore.copy(store, other, prefix="acme/")
        assert_type((copied.logs, copied.unchanged, copied.commits, copied.bytes), tuple[int, int, int, int])
    assert_type(icecore.encode_json([1]), bytes)
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main())
