"""Sessions: made once, listed, limited, opened by tokens, purged."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import icecore
import pytest
from icecore import SessionLimits, Sessions

HOUR = timedelta(hours=1)
LONG = "é" * 512
# As they stand, no two are equal; looked at carelessly, many are.
IDS = [
    "a",
    "A",
    "a ",
    "a/",
    "/a",
    "a/b",
    "a=2Fb",
    "a\0",
    ".",
    "..",
    "~",
    "~a",
    "record",
    "a/record",
    "é",
    "e\u0301",
    "\u0430",
    "\u202ea",
    "a\n",
    "..=2F..",
    "{}",
    "' OR 1=1 --",
    LONG,
    LONG[1:],
]


@pytest.fixture
def sessions(store: icecore.Store) -> Sessions:
    return Sessions(store, "acme")


async def everything(sessions: Sessions, user: str | None = None, limit: int = 7) -> list[tuple[str, str]]:
    """All that is listed, page by page."""
    listed: list[tuple[str, str]] = []
    after = None
    while True:
        page = await sessions.list(user, after=after, limit=limit)
        assert len(page.sessions) <= limit
        listed += [(session.user, session.id) for session in page.sessions]
        if (after := page.next) is None:
            return listed


async def test_a_session_is_made_touched_and_ended(sessions: Sessions) -> None:
    began = datetime.now(UTC)
    made = await sessions.create("ann", "s-1", idle=HOUR, lifetime=timedelta(days=1))

    assert (made.user, made.id, made.status, made.idle) == ("ann", "s-1", "live", HOUR)
    assert timedelta(0) <= made.created_at - began < timedelta(minutes=1)
    assert (made.expires_at, made.ended_at) == (made.touched_at + HOUR, None)
    assert await sessions.get("ann", "s-1") == made == await sessions.find("ann", "s-1")
    touched = await sessions.touch("ann", "s-1")
    assert touched.touched_at > made.touched_at and touched.created_at == made.created_at
    assert await sessions.get_or_create("ann", "s-1") == (touched, False)
    ended = await sessions.terminate("ann", "s-1", "logged out")
    assert (ended.status, ended.ended_at) == ("terminated", ended.touched_at)
    assert await sessions.terminate("ann", "s-1") == ended == await sessions.find("ann", "s-1")
    with pytest.raises(icecore.NotFoundError, match="terminated"):
        await sessions.get("ann", "s-1")
    with pytest.raises(icecore.NotFoundError):
        await sessions.touch("ann", "s-1")
    with pytest.raises(icecore.ConflictError) as caught:
        await sessions.create("ann", "s-1")
    assert caught.value.fact("state") == "terminated"
    assert await sessions.find("bob", "s-1") is None
    assert (await sessions.list()).sessions == []
    assert (await sessions.list(ended=True)).sessions == [ended]


async def test_of_all_that_create_a_session_one_does(sessions: Sessions) -> None:
    made = await asyncio.gather(*(sessions.get_or_create("ann", "s-1") for _ in range(16)))

    assert sum(was_made for _, was_made in made) == 1
    assert len({session.created_at for session, _ in made}) == 1
    assert await everything(sessions) == [("ann", "s-1")]
    creates = [sessions.create("ann", "s-2") for _ in range(16)]
    outcomes = await asyncio.gather(*creates, return_exceptions=True)
    assert sum(isinstance(outcome, icecore.Session) for outcome in outcomes) == 1
    with pytest.raises(icecore.ConflictError) as caught:
        await sessions.create("ann", "s-2")
    assert caught.value.fact("state") == "live"


async def test_what_nobody_waits_for_any_more_is_listed_once_or_not_at_all(sessions: Sessions) -> None:
    for number in range(40):
        task = asyncio.ensure_future(sessions.create("ann", f"s-{number}"))
        await asyncio.sleep(number * 0.0002)
        task.cancel()
        await asyncio.wait([task])

    # What was sent may come to be there while this looks.
    listed = [id for _, id in await everything(sessions)]
    assert len(listed) == len(set(listed))
    for id in listed:
        assert (await sessions.get("ann", id)).id == id
    for number in range(40):
        await sessions.get_or_create("ann", f"s-{number}")
    assert sorted(await everything(sessions)) == sorted(("ann", f"s-{number}") for number in range(40))


async def test_an_expired_session_is_absent_at_once(sessions: Sessions) -> None:
    made = await sessions.create("ann", "s-1", idle=timedelta(milliseconds=1))
    await asyncio.sleep(0.01)

    with pytest.raises(icecore.NotFoundError, match="expired"):
        await sessions.get("ann", "s-1")
    found = await sessions.find("ann", "s-1")
    assert found is not None
    assert (found.status, found.ended_at) == ("expired", made.touched_at + timedelta(milliseconds=1))
    assert await everything(sessions) == []
    swept = await sessions.sweep(timedelta(0))
    assert (swept.purged.sessions, swept.purged.held) == (1, 0)
    assert await sessions.find("ann", "s-1") is None


async def test_what_is_listed_is_newest_first_and_on_one_page(sessions: Sessions) -> None:
    for number in range(25):
        await sessions.create("ann" if number % 5 else "bob", f"s-{number}")

    assert await everything(sessions) == [("ann" if n % 5 else "bob", f"s-{n}") for n in reversed(range(25))]
    assert await everything(sessions, "bob", limit=2) == [("bob", f"s-{n}") for n in (20, 15, 10, 5, 0)]
    assert await everything(sessions, "nobody") == []
    assert await sessions.list(limit=0) == ([], None)
    with pytest.raises(icecore.InvalidError, match="cursor"):
        await sessions.list(after="s-3")
    for limit in (-1, 2**64):
        with pytest.raises(icecore.InvalidError):
            await sessions.list(limit=limit)


@pytest.mark.parametrize("url", ["memory", "sqlite"], indirect=True)
async def test_no_id_reaches_what_is_of_another(sessions: Sessions, store: icecore.Store) -> None:
    logs = {sessions.log(user, id, "memory").name for user in IDS for id in IDS}
    assert len(logs) == len(IDS) ** 2
    for user in IDS:
        for id in (user, "s"):
            made = await sessions.create(user, id)
            assert (made.user, made.id) == (user, id)
            await sessions.log(user, id, "memory").put("whose", [user, id])

    assert sorted(await everything(sessions)) == sorted((user, id) for user in IDS for id in (user, "s"))
    assert await everything(Sessions(store, "ACME")) == await everything(Sessions(store, "acme ")) == []
    for number, user in enumerate(IDS):
        assert sorted(await everything(sessions, user)) == sorted([(user, user), (user, "s")])
        assert (await sessions.purge(user, user)).sessions == 1
        # Of the others nothing went.
        assert await sessions.find(user, user) is None
        for other in IDS[number + 1 :]:
            assert (await sessions.get(other, other)).user == other
            assert await sessions.log(other, other, "memory").get("whose") == [other, other]
        assert await sessions.log(user, "s", "memory").get("whose") == [user, "s"]


@pytest.mark.parametrize("id", ["", LONG + "x", "x" * 1_000_000, "\ud800", "a\udfff"])
async def test_an_id_that_names_nobody_is_refused(sessions: Sessions, id: str) -> None:
    for user, session in ((id, "s-1"), ("ann", id)):
        calls: list[Callable[[str, str], Awaitable[object]]] = [sessions.create, sessions.get_or_create]
        calls += [sessions.get, sessions.find, sessions.touch, sessions.terminate]
        calls += [sessions.purge, sessions.issue_token, sessions.tokens]
        for call in calls:
            with pytest.raises(icecore.InvalidError):
                await call(user, session)
        with pytest.raises(icecore.InvalidError):
            sessions.log(user, session, "memory")
    with pytest.raises(icecore.InvalidError):
        await sessions.list(id)
    with pytest.raises(icecore.InvalidError):
        await sessions.purge_all(user=id)
    assert await everything(sessions) == []


async def test_what_is_of_another_type_is_refused(sessions: Sessions, store: icecore.Store) -> None:
    for wrong in (None, 1, b"ann", ["ann"]):
        with pytest.raises(TypeError):
            await sessions.create(wrong, "s-1")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await sessions.get("ann", wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await sessions.create("ann", "s-1", idle=60)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await sessions.purge_all()  # type: ignore[call-arg]
    for length in (timedelta(0), timedelta(microseconds=-1), timedelta.min):
        with pytest.raises(icecore.InvalidError):
            await sessions.create("ann", "s-1", idle=length)
    for tenant in ("", "x" * 129, "\ud800"):
        with pytest.raises(icecore.InvalidError):
            Sessions(store, tenant)
    assert await everything(sessions) == []


async def test_the_longest_time_is_as_good_as_none(sessions: Sessions) -> None:
    made = await sessions.create("ann", "s-1", idle=timedelta.max, lifetime=timedelta.max)

    assert made.status == "live" and made.idle is not None and made.idle > timedelta(days=999_999_998)
    assert made.expires_at is not None and made.expires_at.year == 2262
    assert (await sessions.touch("ann", "s-1")).status == "live"


async def test_there_are_no_more_than_the_limits_allow(sessions: Sessions, store: icecore.Store) -> None:
    assert await sessions.limits() == SessionLimits()
    limits = SessionLimits(per_tenant=3, per_user=2, idle=HOUR, lifetime=24 * HOUR)
    await sessions.set_limits(limits)

    assert await Sessions(store, "acme").limits() == limits
    assert await Sessions(store, "other").limits() == SessionLimits()
    made = await sessions.create("ann", "s-1")
    assert (made.idle, made.expires_at) == (HOUR, made.touched_at + HOUR)
    await sessions.create("ann", "s-2")
    with pytest.raises(icecore.RefusedError) as caught:
        await sessions.create("ann", "s-3")
    assert (caught.value.fact("limit_of"), caught.value.fact("sessions_max")) == ("user", "2")
    await sessions.create("bob", "s-3")
    with pytest.raises(icecore.RefusedError, match="tenant"):
        await sessions.create("bob", "s-4")
    await sessions.terminate("ann", "s-1")
    await sessions.create("bob", "s-4")
    with pytest.raises(icecore.InvalidError):
        await sessions.set_limits(SessionLimits(idle=timedelta(0)))
    with pytest.raises(icecore.InvalidError):
        await sessions.set_limits(SessionLimits(per_user=-1))


async def test_a_token_opens_one_session_until_it_is_revoked(sessions: Sessions, store: icecore.Store) -> None:
    await sessions.create("ann", "s-1")
    await sessions.create("bob", "s-1")
    issued = await sessions.issue_token("ann", "s-1", "browser")
    other = await sessions.issue_token("bob", "s-1", ttl=timedelta(milliseconds=1))

    opened = await sessions.open_token(issued.token)
    assert (opened.user, opened.id) == ("ann", "s-1")
    assert issued.token not in repr(issued) and issued.token not in f"{issued}"
    assert pickle.loads(pickle.dumps(issued)) == issued
    [known] = await sessions.tokens("ann", "s-1")
    assert (known.id, known.label, known.expires_at) == (issued.id, "browser", None)
    await asyncio.sleep(0.01)
    last = "0" if issued.token[-1] != "0" else "1"
    nothing = ["", "x", "\ud800", "\0" * 1_000_000, issued.id, other.token]
    nothing += [issued.token[:-1] + last, issued.token + "0", issued.token.upper()]
    for token in nothing:
        with pytest.raises(icecore.NotFoundError, match="opens no session") as caught:
            await sessions.open_token(token)
        # Why, and what was given, is not told.
        assert caught.value.facts == []
    with pytest.raises(icecore.NotFoundError):
        await Sessions(store, "other").open_token(issued.token)
    with pytest.raises(icecore.NotFoundError):
        await sessions.revoke_token("bob", "s-1", issued.id)
    await sessions.revoke_token("ann", "s-1", issued.id)
    with pytest.raises(icecore.NotFoundError):
        await sessions.open_token(issued.token)
    assert await sessions.tokens("ann", "s-1") == []
    with pytest.raises(icecore.InvalidError, match="label"):
        await sessions.issue_token("ann", "s-1", "x" * 257)


async def test_a_purge_says_what_would_go_and_then_it_goes(sessions: Sessions) -> None:
    for user, id in (("ann", "s-1"), ("ann", "s-2"), ("bob", "s-1")):
        await sessions.create(user, id)
        await sessions.log(user, id, "memory").put("a", 1)

    planned = await sessions.purge("ann", "s-1", dry_run=True)
    assert (planned.sessions, planned.logs, planned.held, planned.artifacts) == (1, 2, 0, 0)
    assert (await sessions.get("ann", "s-1")).status == "live"
    assert await sessions.log("ann", "s-1", "memory").get("a") == 1
    assert await sessions.purge("ann", "s-1") == planned
    with pytest.raises(icecore.NotFoundError):
        await sessions.purge("ann", "s-1")
    with pytest.raises(icecore.ConflictError, match="purged"):
        await sessions.create("ann", "s-1")
    assert await sessions.purge_all(user="ann", dry_run=True) == (1, 2, 0, 0)
    assert len(await everything(sessions)) == 2
    assert await sessions.purge_all(user="ann") == (1, 2, 0, 0)
    assert await everything(sessions) == [("bob", "s-1")]
    assert await sessions.purge_all(user=None) == (1, 2, 0, 0)
    assert await everything(sessions) == []


async def test_what_is_held_is_not_purged(sessions: Sessions, store: icecore.Store) -> None:
    await sessions.create("ann", "s-1")
    memory = sessions.log("ann", "s-1", "memory")
    await memory.put("a", 1)
    await store.retention.hold("case 7", memory)

    with pytest.raises(icecore.RefusedError, match="case 7"):
        await sessions.purge("ann", "s-1")
    # It has ended, and what is held is there.
    found = await sessions.find("ann", "s-1")
    assert found is not None and found.status == "terminated"
    assert await memory.get("a") == 1
    assert await sessions.purge_all(user="ann") == (0, 0, 1, 0)
    assert await memory.get("a") == 1
    await store.retention.release("case 7")
    assert (await sessions.purge("ann", "s-1")).sessions == 1
    with pytest.raises(icecore.NotFoundError):
        await memory.state()
