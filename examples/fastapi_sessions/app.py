"""Conversations of users, kept by as many worker processes as you like, each of which may be killed.

    export ICECORE_STORE=postgres://postgres@127.0.0.1/postgres CONVERSATIONS_KEY=some-secret
    uvicorn --app-dir examples/fastapi_sessions app:app --workers 2

Your login has the key, and makes sessions; it hands the token that it gets to the browser. The token opens that session
and nothing else. A message has an id that the browser chose: whoever hears no answer sends it again, to any worker.
"""

import base64
import hashlib
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import icecore
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from icecore import Changes, Event, Sessions
from pydantic import BaseModel, Field

IDLE, LIFETIME = timedelta(minutes=30), timedelta(days=1)
STATUS = {
    "invalid": 400,
    "refused": 403,
    "not_found": 404,
    "conflict": 409,
    "corrupt": 500,
    "unavailable": 503,
    "unknown": 504,
}


class NewSession(BaseModel):
    tenant: str
    user: str
    # Choose it, and the request may be sent again.
    id: str = Field(default_factory=lambda: secrets.token_hex(16))


class NewMessage(BaseModel):
    id: str
    text: str = Field(max_length=100_000)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # One store a process, opened in it: uvicorn does not fork its workers. What is away for a moment is asked again.
    async with icecore.Store(os.environ["ICECORE_STORE"], retry=True) as store:
        app.state.store = store
        app.state.key = os.environ["CONVERSATIONS_KEY"]
        yield


app = FastAPI(lifespan=lifespan)
Bearer = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


@app.middleware("http")
async def name_the_worker(request: Request, call_next: Any) -> Any:
    response = await call_next(request)
    response.headers["X-Worker"] = str(os.getpid())
    return response


@app.exception_handler(icecore.Error)
async def failed(_: Request, error: icecore.Error) -> JSONResponse:
    # The kind says what to do next: 503 and 504 are sent again, as they were.
    return JSONResponse({"error": error.kind, "detail": str(error)}, STATUS[error.kind])


@app.exception_handler(RequestValidationError)
async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    # Without what was given, as FastAPI has it: half of a surrogate pair cannot be sent back.
    detail = "; ".join(f"{'/'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    return JSONResponse({"error": "invalid", "detail": ascii(detail)[1:-1]}, 422)


def sessions_of(request: Request, tenant: str) -> Sessions:
    return Sessions(request.app.state.store, tenant)


def login(request: Request, given: Bearer) -> None:
    if not secrets.compare_digest(given.credentials.encode(), request.app.state.key.encode()):
        raise HTTPException(401, "this is not the key")


class Opened:
    """The session that a request's token opens."""

    def __init__(self, sessions: Sessions, session: icecore.Session) -> None:
        self.sessions, self.user, self.id = sessions, session.user, session.id
        self.messages = sessions.log(session.user, session.id, "messages")


async def opened(request: Request, given: Bearer) -> Opened:
    try:
        tenant, _, token = given.credentials.partition(".")
        sessions = sessions_of(request, base64.urlsafe_b64decode(tenant).decode())
        session = await sessions.open_token(token)
        # A touch is a commit: one is enough for a while.
        if datetime.now(UTC) - session.touched_at > IDLE / 10:
            session = await sessions.touch(session.user, session.id)
    except (ValueError, icecore.NotFoundError):
        raise HTTPException(401, "this token opens no session") from None
    return Opened(sessions, session)


Login = Depends(login)
Mine = Annotated[Opened, Depends(opened)]


def shown(session: icecore.Session) -> dict[str, Any]:
    return {"user": session.user, "id": session.id, "status": session.status, "created_at": session.created_at}


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "up"}


@app.post("/sessions", dependencies=[Login], status_code=201)
async def create(request: Request, new: NewSession) -> dict[str, Any]:
    sessions = sessions_of(request, new.tenant)
    session, was_made = await sessions.get_or_create(new.user, new.id, idle=IDLE, lifetime=LIFETIME)
    issued = await sessions.issue_token(session.user, session.id)
    # A token opens its session within its tenant, and does not say which: that goes before it.
    tenant = base64.urlsafe_b64encode(new.tenant.encode()).decode()
    return {"session": shown(session), "was_made": was_made, "token": f"{tenant}.{issued.token}"}


@app.get("/sessions", dependencies=[Login])
async def list_sessions(
    request: Request, tenant: str, user: str | None = None, after: str | None = None, limit: int = 50
) -> dict[str, Any]:
    page = await sessions_of(request, tenant).list(user, after=after, limit=limit)
    return {"sessions": [shown(session) for session in page.sessions], "next": page.next}


@app.get("/usage", dependencies=[Login])
async def usage(request: Request, tenant: str) -> Any:
    log = request.app.state.store.log(tenant, "usage", "all")
    return await log.get("messages", 0)


@app.get("/session")
async def look(mine: Mine) -> dict[str, Any]:
    return shown(await mine.sessions.get(mine.user, mine.id))


@app.delete("/session")
async def log_out(mine: Mine) -> dict[str, Any]:
    return shown(await mine.sessions.terminate(mine.user, mine.id, "logged out"))


@app.post("/messages", status_code=201)
async def say(request: Request, mine: Mine, new: NewMessage) -> dict[str, Any]:
    # The message and the count are one commit. With its id it is made once, however often it is sent.
    changes = Changes().event(Event("said", new.text, actor=mine.user)).merge("count", add=1).with_id(new.id)
    receipt = await mine.messages.commit(changes)
    # What is in another log has an id of its own. If this process dies in between, the one that is asked again does it.
    once = hashlib.sha256(json.dumps([mine.user, mine.id, new.id]).encode()).hexdigest()
    await request.app.state.store.log(mine.sessions.tenant, "usage", "all").merge("messages", add=1, id=once)
    assert receipt is not None
    return {"version": receipt.version, "repeated": receipt.repeated}


@app.get("/messages")
async def read(
    mine: Mine, after: Annotated[int, Query(ge=0, lt=1 << 63)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    said: list[dict[str, Any]] = []
    # To read a log that nothing was put into yet is an error; it has no documents, and no head.
    if await mine.messages.head() is None:
        return {"messages": said, "count": 0}
    async for event in mine.messages.read(after + 1):
        # Changes of documents are events too.
        if event.kind == "said":
            said.append({"version": event.version, "id": event.id, "text": event.json(), "at": event.at})
            if len(said) == limit:
                break
    return {"messages": said, "count": await mine.messages.get("count", 0)}
