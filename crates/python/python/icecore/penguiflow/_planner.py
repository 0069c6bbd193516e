"""What a planner keeps: pauses, memory, trajectories, events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penguiflow.planner import PlannerEvent, Trajectory

from .._call import wait
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


class Memory(Base):
    """What is remembered, by a key of the caller's."""

    async def save_memory_state(self, key: str, state: Mapping[str, Any]) -> None:
        """Keeps a state, whatever there was."""
        await wait(self._native.save_memory(key, encode_any(dict(state))))

    async def load_memory_state(self, key: str) -> dict[str, Any] | None:
        """The state that was saved last."""
        data = await wait(self._native.load_memory(key))
        return None if data is None else decode(data)


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
