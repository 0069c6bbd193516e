"""What these tests share: seeds, events that are known by their number, and processes that are killed."""

from __future__ import annotations

import mmap
import os
import random
import re
import secrets
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from icecore.penguiflow import StateStore
from penguiflow.state import StoredEvent

LONG = bool(os.environ.get("ICECORE_LONG"))
POSTGRES = os.environ.get("ICECORE_TEST_POSTGRES")
CHILDREN = Path(__file__).with_name("children.py")

AWAY = "file:/dev/null/no-folder"
"""A store that can never be opened."""

TRACES = 3
"""Events go to this many traces in turn."""


def rounds(short: int, long: int) -> int:
    """How often something is tried."""
    return long if LONG else short


def seeded(name: str) -> random.Random:
    """A generator whose seed is told: set ``ICECORE_SEED`` to it to have the same again."""
    seed = int(os.environ.get("ICECORE_SEED") or secrets.randbelow(1 << 32))
    print(f"{name}: ICECORE_SEED={seed}")
    return random.Random(f"{name} {seed}")


def unique(name: str) -> str:
    """A tenant that no other run has: a server is shared."""
    return f"{name}-{secrets.token_hex(6)}"


URLS = ["file", "sqlite", *(["postgres"] if POSTGRES else [])]
"""Stores that a process leaves behind; all but the first serve several processes at once."""


def place(kind: str, folder: Path) -> str:
    """The URL of a store of this kind."""
    return POSTGRES if kind == "postgres" and POSTGRES else f"{kind}:{folder}/store"


def numbered(number: int) -> StoredEvent:
    """The event with this number: always the same. Some have the same time."""
    return StoredEvent(
        trace_id=f"trace/{number % TRACES}",
        ts=1_000.0 + (number // 7) * 0.25,
        kind="node_success",
        node_name=f"node-{number % 5}",
        node_id=None,
        payload={"number": number, "text": "é" * (number % 40), "nested": [{"a": number / 3}]},
    )


def numbers(history: Sequence[StoredEvent]) -> list[int]:
    """Which events a history has, each as it should be."""
    found = [event.payload["number"] for event in history]
    assert list(history) == [numbered(number) for number in found]
    return found


def of_trace(trace: int, count: int) -> list[int]:
    """The numbers below ``count`` that belong to a trace."""
    return [number for number in range(count) if number % TRACES == trace]


async def kept(url: str, tenant: str) -> list[list[int]]:
    """What a store has of each trace."""
    async with StateStore(url, tenant=tenant) as store:
        return [numbers(await store.load_history(f"trace/{trace}")) for trace in range(TRACES)]


def all_of(count: int) -> list[list[int]]:
    """What :func:`kept` finds when all events below ``count`` are there."""
    return [of_trace(trace, count) for trace in range(TRACES)]


class Board:
    """Memory that a process leaves behind when it is killed: a count, and when each was counted."""

    ROOM = 1 << 20

    def __init__(self, path: Path) -> None:
        if not path.exists():
            with path.open("wb") as file:
                file.truncate(8 * (self.ROOM + 1))
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)

    @property
    def count(self) -> int:
        count: int = struct.unpack_from("<q", self.memory)[0]
        return count

    def add(self, many: int = 1) -> None:
        """So many more, now. The count is last, so that what it counts is there."""
        count, now = self.count, time.monotonic_ns()
        struct.pack_into(f"<{many}q", self.memory, 8 * (count + 1), *[now] * many)
        struct.pack_into("<q", self.memory, 0, count + many)

    def at(self, number: int) -> int:
        """When this one was counted: nanoseconds of the machine's clock."""
        moment: int = struct.unpack_from("<q", self.memory, 8 * (number + 1))[0]
        return moment


class Child:
    """A process that does one of the things in ``children.py``."""

    def __init__(self, doing: str, *arguments: object) -> None:
        command = [sys.executable, "-W", "error", str(CHILDREN), doing, *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def say(self, line: str = "") -> None:
        """Gives it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"it ended: {self.process.communicate()}")
        return line.rstrip("\n")

    def kill(self) -> int:
        """Kills it with a signal that nobody can catch; when that was."""
        now = time.monotonic_ns()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        self._close()
        return now

    def end(self, seconds: float = 60.0) -> tuple[str, str]:
        """Waits until it has ended by itself: what it said, and what it complained about."""
        told, complained = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, (self.process.returncode, told, complained)
        return told, complained

    def _close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        self._close()


def run(script: str, *arguments: object) -> tuple[str, str]:
    """Runs a script, which finds what is here, in a process of its own: what it said, and what was complained of."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(script), *map(str, arguments)]
    path = os.pathsep.join([str(CHILDREN.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    # What asyncio says on a busy machine is no fault of anybody's.
    complained = [line for line in ended.stderr.splitlines(True) if not re.match(r"Executing <.* took ", line)]
    assert ended.returncode == 0, ended
    return ended.stdout, "".join(complained)


def wait_until(is_so: Any, what: str, seconds: float = 30.0) -> None:
    """Waits for something that another process does."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"it takes too long: {what}"
        time.sleep(0.002)


def spread(values: Iterable[float]) -> str:
    """Least, middle and most."""
    ordered = sorted(values)
    if not ordered:
        return "none"
    return f"least {ordered[0]:.1f}, middle {ordered[len(ordered) // 2]:.1f}, most {ordered[-1]:.1f}"
