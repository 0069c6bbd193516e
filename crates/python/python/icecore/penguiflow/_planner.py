"""What a planner keeps: pauses, memory, trajectories, events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from penguiflow.planner import PlannerEvent, Trajectory

from .._call import wait
from .._errors import ConflictError
from .._native import encode_any
from . import _codec
from ._base import Base
from ._values import decode


class Pauses(Base):
    """Planners that wait."""

    async def save_planner_state(self, token: str, payload: Mapping[str, Any]) -> None:
        """Keeps what a planner needs to go on, for ``pause_ttl`` seconds."""
        await wait(self._native.save_pause(token, encode_any(dict(payload)), self._pause_ttl))

    async def load_planner_state(self, token: str) -> dict[str, Any] | None:
        """Takes it: of all callers, in all processes, one gets it; ``None`` for the others, and once it has expired.

        If the call fails or is cancelled, it was not taken.
        """
        taken = await wait(self._native.take_pause(token))
        data = None if taken is None else taken.look()
        if taken is None or data is None:
            return None
        payload: dict[str, Any] = decode(data)
        taken.keep()
        return payload

    async def discard_planner_state(self, token: str) -> bool:
        """Forgets it, such as after a resume from memory; whether there was one."""
        return await wait(self._native.discard_pause(token))


class VersionedState(NamedTuple):
    """What is remembered, and which one it was."""

    state: dict[str, Any]
    etag: str
    """No other state of the key has it, before or after."""


class StateConflictError(ConflictError):
    """Something else is remembered than was expected: nothing was saved. Decide again, on what was found."""

    found: VersionedState | None = None
    """What is there now."""


class Memory(Base):
    """What is remembered, by a key of the caller's."""

    async def save_memory_state(self, key: str, state: Mapping[str, Any]) -> None:
        """Keeps a state, whatever there was."""
        await wait(self._native.save_memory(key, encode_any(dict(state))))

    async def load_memory_state(self, key: str) -> dict[str, Any] | None:
        """The state that was saved last."""
        data = await wait(self._native.load_memory(key))
        return None if data is None else decode(data)

    async def load_memory_state_with_etag(self, key: str) -> VersionedState | None:
        """The state that was saved last, and its etag."""
        found = await wait(self._native.load_memory_with_etag(key))
        return None if found is None else VersionedState(decode(found[0]), found[1])

    async def save_memory_state_if(self, key: str, state: Mapping[str, Any], *, expect: str | None) -> str:
        """Keeps a state if what is there is still the one with the etag ``expect``, or nothing if that is ``None``;
        else it is a :class:`StateConflictError`. The new etag.

        It holds for all writers, in any process: of those that expect the same, one saves.
        """
        try:
            return await wait(self._native.save_memory_if(key, encode_any(dict(state)), expect))
        except ConflictError as error:
            conflict = StateConflictError(str(error), error.facts, error.advice)
            conflict.found = await self.load_memory_state_with_etag(key)
            raise conflict from None

    async def update_memory_state(
        self, key: str, change: Callable[[dict[str, Any] | None], Mapping[str, Any]]
    ) -> VersionedState:
        """Keeps what ``change`` makes of the state that is there, which is ``None`` if there is none.

        It is called again if somebody else was first, so it does nothing else.
        """
        found = await self.load_memory_state_with_etag(key)
        while True:
            state = dict(change(None if found is None else found.state))
            try:
                etag = await self.save_memory_state_if(key, state, expect=None if found is None else found.etag)
            except StateConflictError as conflict:
                found = conflict.found
            else:
                return VersionedState(state, etag)

    def checked_memory(self) -> CheckedMemory:
        """This store's memory for one change of a session value: see :class:`CheckedMemory`."""
        return CheckedMemory(self)


class CheckedMemory:
    """Memory that is saved only over what was loaded here.

    It is for ``penguiflow.sessions.session_kv.SessionKVFacade``, which loads a value, changes it and saves it. If
    another process was between, the save is a :class:`StateConflictError`: do all of it again, with a new object.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._etags: dict[str, str | None] = {}

    async def load_memory_state(self, key: str) -> dict[str, Any] | None:
        """The state that was saved last; a save expects it."""
        found = await self._memory.load_memory_state_with_etag(key)
        self._etags[key] = None if found is None else found.etag
        return None if found is None else found.state

    async def save_memory_state(self, key: str, state: Mapping[str, Any]) -> None:
        """Keeps a state, if nobody else saved one since it was loaded."""
        if key not in self._etags:
            raise ValueError("load a state before it is saved: what is saved is expected to be over it")
        self._etags[key] = await self._memory.save_memory_state_if(key, state, expect=self._etags[key])


class Trajectories(Base):
    """What a planner did, by trace and session."""

    async def save_trajectory(self, trace_id: str, session_id: str, trajectory: Trajectory) -> None:
        """Keeps a trajectory as it is now, and moves its trace to the session's newest."""
        call = self._native.save_trajectory(trace_id, session_id, encode_any(trajectory.serialise()))
        if call is not None:
            await wait(call)

    async def get_trajectory(self, trace_id: str, session_id: str) -> Trajectory | None:
        """The trajectory that this session saved last."""
        data = await wait(self._native.load_trajectory(trace_id, session_id))
        return None if data is None else Trajectory.from_serialised(decode(data))

    async def list_traces(self, session_id: str, limit: int = 50) -> list[str]:
        """A session's traces, the one that was saved last first."""
        if limit < 0:
            raise ValueError(f"a limit is at least 0, not {limit}")
        ask: int | None = 4 * limit
        while True:
            items = await wait(self._native.load_traces(session_id, ask))
            # Each time that it was saved there is one: the newest counts.
            traces = list(dict.fromkeys(decode(data) for data, _, _ in reversed(items)))[:limit]
            if len(traces) == limit or ask is None or len(items) < ask:
                return traces
            ask = None


class PlannerEvents(Base):
    """What a planner tells."""

    async def save_planner_event(self, trace_id: str, event: PlannerEvent) -> None:
        """Keeps an event; the same one twice, if it is told twice."""
        call = self._native.save_planner_event(trace_id, event, _codec.PLANNER_EVENT)
        if call is not None:
            await wait(call)

    async def list_planner_events(self, trace_id: str) -> list[PlannerEvent]:
        """A trace's events, as they came."""
        return [_codec.planner_event(item) for item in await wait(self._native.load_planner_events(trace_id))]

    async def get_events(self, trace_id: str) -> list[PlannerEvent]:
        """As :meth:`list_planner_events`; an older name."""
        return await self.list_planner_events(trace_id)
