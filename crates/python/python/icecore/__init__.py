"""Icecore: logs whose commits are created once and never changed, over any storage system.

Everything that waits is a coroutine, for whichever event loop runs it: a store, and what comes from it, may be shared
by loops and threads.
"""

import atexit
import os

from ._across import States
from ._errors import (
    ConflictError,
    CorruptError,
    Error,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    UnknownOutcomeError,
)
from ._log import EventLike, Log
from ._native import (
    Change,
    Changes,
    Copied,
    DeadLetter,
    Diff,
    Difference,
    Document,
    Event,
    Head,
    Leased,
    Maintained,
    QueueStatistics,
    Receipt,
    RecordedEvent,
    Trimmed,
    Verified,
    _after_fork,
    _at_exit,
    encode_json,
)
from ._queue import Message, PurgedMessages, Put, Queue
from ._retention import Hold, Policy, Retention
from ._sessions import (
    IssuedToken,
    Purged,
    Session,
    SessionLimits,
    SessionPage,
    Sessions,
    SessionToken,
    Swept,
)
from ._state import DocumentPage, State
from ._store import Store, copy, open
from ._stream import Stream

__all__ = [
    "Change",
    "Changes",
    "ConflictError",
    "Copied",
    "CorruptError",
    "DeadLetter",
    "Diff",
    "Difference",
    "Document",
    "DocumentPage",
    "Error",
    "Event",
    "EventLike",
    "Head",
    "Hold",
    "InvalidError",
    "IssuedToken",
    "Leased",
    "Log",
    "Maintained",
    "Message",
    "NotFoundError",
    "Policy",
    "Purged",
    "PurgedMessages",
    "Put",
    "Queue",
    "QueueStatistics",
    "Receipt",
    "RecordedEvent",
    "RefusedError",
    "Retention",
    "Session",
    "SessionLimits",
    "SessionPage",
    "SessionToken",
    "Sessions",
    "State",
    "States",
    "Store",
    "Stream",
    "Swept",
    "Trimmed",
    "UnavailableError",
    "UnknownOutcomeError",
    "Verified",
    "copy",
    "encode_json",
    "open",
]

atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
