"""What the tests of the examples share: places for stores, seeds, and processes that are killed."""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

EXAMPLES = Path(__file__).parents[1]
LONG = bool(os.environ.get("ICECORE_LONG"))
POSTGRES = os.environ.get("ICECORE_TEST_POSTGRES")

SHARED = ["sqlite", *(["postgres"] if POSTGRES else [])]
"""Stores that several processes write at once. `cargo xtask test` starts the server."""


def place(kind: str, folder: Path) -> str:
    """The URL of a store of this kind."""
    return POSTGRES if kind == "postgres" and POSTGRES else f"{kind}:{folder}/store"


def unique(name: str) -> str:
    """A tenant that no other run has: a server is shared."""
    return f"{name}-{secrets.token_hex(6)}"


def rounds(short: int, long: int) -> int:
    """How often something is tried."""
    return long if LONG else short


def seeded(name: str) -> random.Random:
    """A generator whose seed is told: set ``ICECORE_SEED`` to it to have the same again."""
    seed = int(os.environ.get("ICECORE_SEED") or secrets.randbelow(1 << 32))
    print(f"{name}: ICECORE_SEED={seed}")
    return random.Random(f"{name} {seed}")


class Process:
    """A process of Python, whose standard output and errors go to a file. It ends with the test."""

    def __init__(self, folder: Path, arguments: list[str], **variables: str) -> None:
        self.said = folder / f"said-{secrets.token_hex(4)}"
        with self.said.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *arguments], stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **variables}
            )

    def text(self) -> str:
        """What it has said so far."""
        return self.said.read_text()

    def lines(self) -> list[str]:
        """The lines that it has said to their ends."""
        return self.text().split("\n")[:-1]

    def kill(self) -> None:
        """With a signal that nobody can catch."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def end(self, seconds: float = 60.0) -> str:
        """Waits until it has ended by itself, well; what it said."""
        assert self.process.wait(seconds) == 0, self.text()
        return self.text()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            # Not at once with -9: a server then ends its workers, too.
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
        if error is not None:
            print(self.text())


def wait_until(is_so: Any, what: str, seconds: float = 30.0) -> Any:
    """Waits for something that another process does, and gives it."""
    end = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < end, f"it takes too long: {what}"
        time.sleep(0.005)
    return found
