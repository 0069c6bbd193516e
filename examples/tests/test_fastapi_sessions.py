"""Two worker processes share sessions: what one has, the other sees at once, and either may be killed."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from workers import EXAMPLES, SHARED, Process, place, rounds, seeded, unique, wait_until

KEY = "only-the-login-has-it"
LONG_ID = "é" * 512
PAGE = 50
HOSTILE = [
    "a",
    "A",
    "a ",
    "a/b",
    "a=2Fb",
    "/",
    "..",
    "~",
    "\0",
    "e\u0301",
    "é",
    "\u0430",
    "\u202ea",
    "a\n",
    LONG_ID,
    LONG_ID[1:] + "a",
]

pytestmark = pytest.mark.parametrize("kind", SHARED)


@pytest.fixture
def url(kind: str, tmp_path: Path) -> Iterator[str]:
    """Where two workers serve, under uvicorn, which begins another for one that died."""
    command = [
        "-m",
        "uvicorn",
        "--app-dir",
        str(EXAMPLES / "fastapi_sessions"),
        "app:app",
        "--workers",
        "2",
        "--port",
        "0",
    ]
    with Process(tmp_path, command, ICECORE_STORE=place(kind, tmp_path), CONVERSATIONS_KEY=KEY) as server:
        found = wait_until(lambda: re.search(r"running on (http://\S+)", server.text()), "the server begins")
        wait_until(lambda: server.text().count("Application startup complete") == 2, "both workers begin")
        yield found[1]
    assert server.process.returncode == 0, server.text()
    assert "Traceback" not in server.text(), server.text()


def login(tenant: str, user: str, id: str | None = None) -> dict[str, Any]:
    """The arguments of a request that makes a session."""
    new = {"tenant": tenant, "user": user} | ({} if id is None else {"id": id})
    return {"json": new, "headers": bearer(KEY)}


def bearer(token: str) -> dict[str, str]:
    """The header that a token goes into."""
    return {"Authorization": f"Bearer {token}"}


class Client:
    """One connection, and so one worker; another one when that has died."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = self._connected()
        self.failed = 0
        self.answered: list[tuple[float, str]] = []

    def _connected(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, limits=httpx.Limits(max_connections=1), timeout=20)

    async def close(self) -> None:
        """Hangs up."""
        await self.http.aclose()

    async def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Sends it until it is answered, as a browser would."""
        end = time.monotonic() + 60
        while True:
            try:
                answer = await self.http.request(method, path, **arguments)
                if answer.status_code not in (503, 504):
                    self.answered.append((time.monotonic(), answer.headers["X-Worker"]))
                    return answer
            except httpx.TransportError:
                await self.http.aclose()
                self.http = self._connected()
            self.failed += 1
            assert time.monotonic() < end, "nobody answers"
            await asyncio.sleep(0.01)

    async def got(self, path: str, token: str) -> Any:
        """What is there for a token."""
        answer = await self.ask("GET", path, headers=bearer(token))
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def worker(self) -> str:
        """Who answers."""
        return str((await self.ask("GET", "/health")).headers["X-Worker"])


@asynccontextmanager
async def clients(url: str, workers: int = 2) -> AsyncIterator[list[Client]]:
    """A client of each worker."""
    async with AsyncExitStack() as stack:
        found: dict[str, Client] = {}
        for _ in range(500):
            client = Client(url)
            stack.push_async_callback(client.close)
            found.setdefault(await client.worker(), client)
            if len(found) == workers:
                break
        assert len(found) == workers, found
        yield list(found.values())


async def logged_in(client: Client, tenant: str, user: str, id: str | None = None) -> str:
    """The token of a session."""
    answer = await client.ask("POST", "/sessions", **login(tenant, user, id))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


async def said(client: Client, token: str, id: str, text: str) -> Any:
    """What is answered to a message."""
    answer = await client.ask("POST", "/messages", json={"id": id, "text": text}, headers=bearer(token))
    assert answer.status_code == 201, answer.text
    return answer.json()


async def read(client: Client, token: str) -> tuple[list[str], int]:
    """All that was said, page by page, and how much that is."""
    texts: list[str] = []
    after = 0
    while True:
        page = await client.got(f"/messages?after={after}&limit={PAGE}", token)
        texts += [one["text"] for one in page["messages"]]
        if len(page["messages"]) < PAGE:
            return texts, page["count"]
        after = page["messages"][-1]["version"]


async def test_what_one_worker_did_the_other_sees_at_once(url: str) -> None:
    tenant = unique("at-once")
    async with clients(url) as (one, other):
        for number in range(rounds(20, 500)):
            token = await logged_in(one, tenant, "ann", f"s-{number}")
            assert (await other.got("/session", token))["id"] == f"s-{number}"
            assert await said(one, token, "m", "hé") == {"version": 1, "repeated": False}
            assert await said(other, token, "m", "hé") == {"version": 1, "repeated": True}
            assert await read(other, token) == (["hé"], 1)
            answer = await one.ask("POST", "/messages", json={"id": "m", "text": "ho"}, headers=bearer(token))
            assert (answer.status_code, answer.json()["error"]) == (409, "conflict")
            if number % 2:
                assert (await one.ask("DELETE", "/session", headers=bearer(token))).json()["status"] == "terminated"
                assert (await other.ask("GET", "/session", headers=bearer(token))).status_code == 401
                assert (await other.ask("POST", "/sessions", **login(tenant, "ann", f"s-{number}"))).status_code == 409
            one, other = other, one

        # What was sent again was not counted again.
        usage = await other.ask("GET", "/usage", params={"tenant": tenant}, headers=bearer(KEY))
        assert usage.json() == number + 1
        query = {"tenant": tenant, "user": "ann", "limit": "1000"}
        listed = (await other.ask("GET", "/sessions", params=query, headers=bearer(KEY))).json()["sessions"]
        assert [session["id"] for session in listed] == [f"s-{n}" for n in reversed(range(0, number + 1, 2))]


async def test_of_requests_that_race_to_make_a_session_one_does(url: str) -> None:
    tenant = unique("race")
    async with clients(url) as both:
        for number in range(rounds(10, 200)):
            asked = [client.ask("POST", "/sessions", **login(tenant, "ann", f"s-{number}")) for client in both * 3]
            answers = [answer.json() for answer in await asyncio.gather(*asked)]

            assert sum(answer["was_made"] for answer in answers) == 1
            assert len({answer["session"]["created_at"] for answer in answers}) == 1
            for client, answer in zip(both * 3, reversed(answers), strict=True):
                assert (await client.got("/session", answer["token"]))["id"] == f"s-{number}"


async def test_nobody_sees_what_is_of_another_whatever_the_ids(url: str) -> None:
    here = unique("hostile")
    # Tenants that look alike, or as if the user's id went on where the tenant's ends.
    whose = [(here, user) for user in HOSTILE]
    whose += [(f"{here}/a", "b"), (f"{here} ", "a"), (here.upper(), "a"), (f"{here}\0", "a"), (f"{here}=2Fa", "b")]
    async with clients(url) as (one, other):
        tokens = {}
        for tenant, user in whose:
            tokens[tenant, user] = await logged_in(one, tenant, user, "s")
            await said(one, tokens[tenant, user], "m", repr((tenant, user)))
        assert len(set(tokens.values())) == len(whose)

        for (tenant, user), token in tokens.items():
            assert await read(other, token) == ([repr((tenant, user))], 1)
            query = {"tenant": tenant, "user": user}
            listed = (await other.ask("GET", "/sessions", params=query, headers=bearer(KEY))).json()["sessions"]
            assert [(session["user"], session["id"]) for session in listed] == [(user, "s")]
        # Of a session that has ended, and of no other, the token opens nothing any more.
        assert (await one.ask("DELETE", "/session", headers=bearer(tokens[here, "a"]))).status_code == 200
        for (tenant, user), token in tokens.items():
            status = (await other.ask("GET", "/session", headers=bearer(token))).status_code
            assert status == (401 if (tenant, user) == (here, "a") else 200)


async def test_what_is_no_token_opens_nothing_and_what_is_no_request_is_refused(url: str) -> None:
    tenant = unique("refused")
    async with clients(url) as (one, other):
        token = await logged_in(one, tenant, "ann")
        of_another = await logged_in(one, unique("another"), "ann")
        prefix, _, secret = token.partition(".")
        last = "0" if secret[-1] != "0" else "1"
        tokens = [
            KEY,
            secret,
            f".{secret}",
            f"{prefix}.",
            f"{prefix}.{secret[:-1]}{last}",
            f"{token}0",
            "é.é",
            "====.x",
        ]
        tokens += [f"{of_another.partition('.')[0]}.{secret}", "a" * 10_000, prefix, "gICA.x"]
        for given in tokens:
            for method, path in (
                ("GET", "/session"),
                ("GET", "/messages"),
                ("DELETE", "/session"),
                ("POST", "/messages"),
            ):
                headers = {"Authorization": f"Bearer {given}".encode()}
                sent = {"json": {"id": "m", "text": "x"}} if method == "POST" else {}
                answer = await other.ask(method, path, headers=headers, **sent)
                assert answer.status_code == 401, (given, method, path, answer.text)
        for given in (token, KEY + "x", "é"):
            arguments = login(tenant, "ann") | {"headers": {"Authorization": f"Bearer {given}".encode()}}
            assert (await other.ask("POST", "/sessions", **arguments)).status_code == 401

        for user in ("", LONG_ID + "x", "x" * 1_000_000):
            assert (await one.ask("POST", "/sessions", **login(tenant, user))).status_code == 400
        for status, halves in ((400, b'{"tenant": "acme", "user": "\\ud800"}'), (422, b'{"tenant": "\\ud800"}')):
            arguments = {"content": halves, "headers": bearer(KEY) | {"Content-Type": "application/json"}}
            assert (await one.ask("POST", "/sessions", **arguments)).status_code == status
        for id in ("", "x" * 257):
            answer = await one.ask("POST", "/messages", json={"id": id, "text": "x"}, headers=bearer(token))
            assert answer.status_code == 400, answer.text
        for wrong in ("after=-1", "after=x", f"after={2**70}", "limit=0", f"limit={2**70}"):
            answer = await one.ask("GET", f"/messages?{wrong}", headers=bearer(token))
            assert answer.status_code in (400, 422), answer.text
        assert await read(other, token) == ([], 0)
        text = "\0 \u2028 é 𝄞 </script>" * 1_000
        await said(one, token, "\0", text)
        assert await read(other, token) == ([text], 1)
        assert await other.got("/messages?after=1", token) == {"messages": [], "count": 1}
        assert await other.got(f"/messages?after={2**60}", token) == {"messages": [], "count": 1}


async def converse(client: Client, token: str, many: int, acknowledged: Counter[str]) -> None:
    """Says so many things, one after the other, each until it is acknowledged."""
    for number in range(many):
        await said(client, token, f"m-{number}", f"{number}")
        acknowledged[token] += 1


def beside(worker: str) -> set[str]:
    """The other processes of a worker's server."""
    server = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1]
    return {*Path(f"/proc/{server}/task/{server}/children").read_text().split()} - {worker}


async def killed(
    talkers: list[Client], rng: random.Random, acknowledged: Counter[str], dead: set[str]
) -> tuple[set[str], float]:
    """Kills a worker that is busy, in the middle of what it does; which ones are left, and when."""
    before, wanted = acknowledged.total(), rng.randrange(20, 60)
    while acknowledged.total() < before + wanted:
        await asyncio.sleep(0.001)
    await asyncio.sleep(rng.uniform(0, 0.01))
    while not (workers := {client.answered[-1][1] for client in talkers} - dead):
        await asyncio.sleep(0.001)
    worker = rng.choice(sorted(workers))
    left = beside(worker)
    dead.add(worker)
    os.kill(int(worker), signal.SIGKILL)
    return left, time.monotonic()


@pytest.mark.timeout(900)
async def test_what_was_acknowledged_is_there_once_and_in_order_though_workers_are_killed(url: str, kind: str) -> None:
    rng, tenant = seeded("killed workers"), unique("killed")
    users, many, kills = 12, rounds(60, 400), rounds(3, 15)
    acknowledged: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        talkers = [Client(url) for _ in range(users)]
        for talker in talkers:
            stack.push_async_callback(talker.close)
        tokens = [await logged_in(talker, tenant, f"user-{n % 5}", f"s-{n}") for n, talker in enumerate(talkers)]
        talks = asyncio.gather(
            *(converse(talker, token, many, acknowledged) for talker, token in zip(talkers, tokens, strict=True))
        )

        deaths, dead = [], set[str]()
        for _ in range(kills):
            deaths.append(await killed(talkers, rng, acknowledged, dead))
        await talks

        answered = [answer for talker in talkers for answer in talker.answered]
        survived = [any(at > when and by in left for at, by in answered) for left, when in deaths]
        interrupted = sum(talker.failed for talker in talkers)
        by = Counter(worker for talker in talkers for _, worker in talker.answered)
        print(f"{kind}: {users * many} messages by {dict(by)}, {kills} kills, {interrupted} requests sent again")
        # The first of two that dies leaves the other one, and that goes on.
        assert survived[0] and interrupted and len(by) > 2

    async with clients(url) as both:
        for client in both:
            for token in tokens:
                assert await read(client, token) == ([str(number) for number in range(many)], many)
            usage = await client.ask("GET", "/usage", params={"tenant": tenant}, headers=bearer(KEY))
            assert usage.json() == users * many
