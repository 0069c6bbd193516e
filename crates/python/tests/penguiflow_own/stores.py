"""Our store as Penguiflow's tests meet it: made without arguments, counted, and looked through when a test is over."""

from __future__ import annotations

import asyncio
import functools
import inspect
import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifact_stores import swapped_artifacts

TENANT = "own-tests"
# A store that does not come back fails its test, and not the whole run.
SECONDS_TO_SETTLE = 20

Method = Callable[..., Awaitable[Any]]
# From the arguments of a call: its trace or session, and what is looked for again.
Shown = Callable[..., tuple[str, tuple[Any, ...]]]


class Places:
    """Gives each store a place of its own, and knows the stores that a test has made."""

    def __init__(self, url: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="icecore-swap-"))
        self.patterns = {
            "memory:": "memory:",
            "file:": f"file:{self.folder}/%d",
            "sqlite:": f"sqlite:{self.folder}/%d.db",
        }
        if url not in self.patterns:
            raise ValueError(f"ICECORE_SWAP_URL is {url!r}: it is one of {', '.join(self.patterns)}")
        self.pattern = self.patterns[url]
        self.count = 0
        self.stores: list[Any] = []

    def fresh(self) -> str:
        self.count += 1
        return self.pattern.replace("%d", str(self.count))

    def take(self) -> list[Any]:
        made, self.stores = self.stores, []
        return made

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(eq=False)
class Note:
    """Something that was given to a store, as far as it is looked for again."""

    shown: tuple[Any, ...]
    # The call has returned. Some are still under way when their test is over, and are cancelled with its loop.
    is_done: bool = False


class Given:
    """What a store was given by its test: how many calls, and what a method was given for a trace or session."""

    def __init__(self) -> None:
        self.calls = 0
        self.notes: dict[tuple[str, str], list[Note]] = defaultdict(list)


def swapped(ours: Any, places: Places) -> Any:
    """A class for the place of Penguiflow's stores; but for artifacts, caps mean nothing: ours keeps everything."""

    def __init__(self: Any, **caps: Any) -> None:
        unknown = [name for name in caps if not name.startswith("max_") and name != "artifact_retention"]
        if unknown:
            raise TypeError(f"Penguiflow's stores do not take {', '.join(unknown)}")
        self.swap_given = Given()
        retention = caps.get("artifact_retention")
        ours.__init__(self, places.fresh(), tenant=TENANT, artifact_retention=retention)
        places.stores.append(self)

    def artifact_store(self: Any) -> Any:
        return self._artifacts or made.artifacts(state=self)

    members: dict[str, Any] = {"__init__": __init__, "artifact_store": property(artifact_store)}
    for name, method in inspect.getmembers(ours, inspect.iscoroutinefunction):
        if not name.startswith("_") and name not in ("aclose", "flush", "open"):
            members[name] = noted(method, name) if name in SHOWN else counted(method)
    made: Any = type("Swapped", (ours,), members)
    made.artifacts = swapped_artifacts(made)
    return made


def counted(method: Method) -> Method:
    @functools.wraps(method)
    async def call(self: Any, *arguments: Any, **options: Any) -> Any:
        self.swap_given.calls += 1
        return await method(self, *arguments, **options)

    return call


def noted(method: Method, name: str) -> Method:
    @functools.wraps(method)
    async def call(self: Any, *arguments: Any, **options: Any) -> None:
        self.swap_given.calls += 1
        place, what = SHOWN[name](*arguments, **options)
        notes, note = self.swap_given.notes[name, place], Note(what)
        notes.append(note)
        try:
            await method(self, *arguments, **options)
        except Exception:
            notes.remove(note)
            raise
        note.is_done = True

    return call


def event(event: Any) -> tuple[str, tuple[Any, ...]]:
    where = event.trace_id or "__global__"
    return where, (event.ts, event.trace_id, event.kind, event.node_name, event.node_id)


def planner_event(trace_id: str, event: Any) -> tuple[str, tuple[Any, ...]]:
    return trace_id, (event.event_type, event.ts, event.trajectory_step, event.node_name)


def update(update: Any) -> tuple[str, tuple[Any, ...]]:
    return update.session_id, (update.update_id,)


def task(state: Any) -> tuple[str, tuple[Any, ...]]:
    return state.session_id, (state.task_id, state.status)


SHOWN: dict[str, Shown] = {
    "save_event": event,
    "save_planner_event": planner_event,
    "save_update": update,
    "save_task": task,
}


def recording(store: Any) -> Any:
    """What some test modules bring along: a store whose events and bindings can be looked at."""

    class Recording(store):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.events: list[Any] = []
            self.bindings: list[Any] = []

        async def save_event(self, event: Any) -> None:
            self.events.append(event)
            await super().save_event(event)

        async def save_remote_binding(self, binding: Any) -> None:
            self.bindings.append(binding)
            await super().save_remote_binding(binding)

    return Recording


def settle(made: list[Any]) -> None:
    """Closes the stores of a test, after a look whether they hold what they were given."""
    failures: list[BaseException] = []

    async def each() -> None:
        for store in made:
            try:
                await look_through(store)
            finally:
                await store.aclose()

    def run() -> None:
        try:
            asyncio.run(asyncio.wait_for(each(), SECONDS_TO_SETTLE))
        except BaseException as error:
            failures.append(error)

    # In a thread and a loop of its own, as another part of a server would: the test's loop is closed.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS_TO_SETTLE + 5)
    if thread.is_alive():
        raise AssertionError("a store of this test does not come back from being read and closed")
    if failures:
        raise failures[0]


async def look_through(store: Any) -> None:
    given: Given = store.swap_given
    for (method, place), notes in given.notes.items():
        begun = [note.shown for note in notes]
        # In the order of the calls, each once.
        done = list(dict.fromkeys(note.shown for note in notes if note.is_done))
        if method == "save_event":
            found = [event(each)[1] for each in await store.load_history(place)]
            # Also one whose call was cancelled: flows cancel the call that saves their last event.
            assert set(found) == set(begun), f"the events of {place}"
            assert [ts for ts, *_ in found] == sorted(ts for ts, *_ in found), f"the order of the events of {place}"
        elif method == "save_planner_event":
            found = [planner_event(place, each)[1] for each in await store.list_planner_events(place)]
            assert is_within(done, found), f"the planner events of {place}"
        elif method == "save_update":
            found = [update(each)[1] for each in await store.list_updates(place, limit=10_000)]
            assert is_within(done, found), f"the updates of {place}"
        elif all(note.is_done for note in notes):
            # A dict keeps the place of the first save, and the value of the last.
            found = [task(each)[1] for each in await store.list_tasks(place)]
            assert found == list(dict(begun).items()), f"the tasks of {place}"


def is_within(some: list[Any], all_of_them: list[Any]) -> bool:
    """Whether they are among them in this order; something cancelled half-way may stand between."""
    rest = iter(all_of_them)
    return all(each in rest for each in some)
