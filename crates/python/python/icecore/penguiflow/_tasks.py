"""What a session does: its tasks, what they tell, and what they are told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from penguiflow.state import StateUpdate, SteeringEvent, TaskState
from penguiflow.steering import MAX_STEERING_STRING, sanitize_steering_event

from .._call import wait
from .._native import encode_any
from . import _codec
from ._base import Base, some


class UpdatePage(NamedTuple):
    """Some of a session's updates, oldest first."""

    updates: list[StateUpdate]
    next: str
    """Where the next page begins."""


class Tasks(Base):
    """Tasks and their updates."""

    async def save_task(self, state: TaskState) -> None:
        """Keeps a task as it is now. Of two calls the later counts, whichever ends first."""
        await wait(self._native.save_task(state.session_id, state.task_id, _codec.write_task(state)))

    async def list_tasks(self, session_id: str) -> Sequence[TaskState]:
        """A session's tasks, in the order in which each was first saved."""
        return [_codec.task(data) for data in await wait(self._native.load_tasks(session_id))]

    async def save_update(self, update: StateUpdate) -> None:
        """Keeps an update, once by its id, in the order in which the calls begin."""
        call = self._native.save_update(update, _codec.UPDATE)
        if call is not None:
            await wait(call)

    async def save_updates(self, updates: Iterable[StateUpdate]) -> None:
        """Keeps updates in their order, as :meth:`save_update` does: one call for many.

        It is not all or none: if it fails, what is kept of each session is the beginning. Call it again: each is kept
        once.
        """
        for together in some(updates):
            call = self._native.save_updates(together, _codec.UPDATE)
            if call is not None:
                await wait(call)

    async def page_updates(self, session_id: str, *, after: str | None = None, limit: int = 500) -> UpdatePage:
        """A page of a session's updates, of all its tasks, oldest first.

        Go on with ``after=page.next``: no update is skipped, or there twice, also of those that come later. A page
        without updates is the last so far. If what comes next was trimmed, it is a ``NotFoundError``.
        """
        if limit < 1:
            raise ValueError(f"a page has at least 1, not {limit}")
        items, place = await wait(self._native.page_updates(session_id, after, limit))
        return UpdatePage([_codec.model(StateUpdate, item) for item in items], place)

    async def list_updates(
        self, session_id: str, *, task_id: str | None = None, since_id: str | None = None, limit: int = 500
    ) -> Sequence[StateUpdate]:
        """The newest ``limit`` updates of a session, or of a task, behind the one with this id; oldest first.

        An id that is not there counts as none. A limit of 0 is no limit.
        """
        call = self._native.load_updates(session_id, task_id, since_id or None, _limit(limit))
        return [_codec.model(StateUpdate, item) for item in await wait(call)]

    async def save_task_update(self, update: StateUpdate) -> None:
        """As :meth:`save_update`; an older name."""
        await self.save_update(update)

    async def list_task_updates(
        self, session_id: str, *, task_id: str | None = None, since_id: str | None = None, limit: int = 500
    ) -> Sequence[StateUpdate]:
        """As :meth:`list_updates`; an older name."""
        return await self.list_updates(session_id, task_id=task_id, since_id=since_id, limit=limit)


class Steering(Base):
    """What tasks are told."""

    async def save_steering(self, event: SteeringEvent) -> None:
        """Keeps an event, once by its id, within Penguiflow's bounds."""
        await wait(self._native.save_steering(_within_bounds(event), _codec.STEERING))

    async def list_steering(
        self, session_id: str, *, task_id: str | None = None, since_id: str | None = None, limit: int = 500
    ) -> Sequence[SteeringEvent]:
        """As :meth:`Tasks.list_updates`, of steering."""
        call = self._native.load_steering(session_id, task_id, since_id or None, _limit(limit))
        return [_codec.model(SteeringEvent, item) for item in await wait(call)]


def _within_bounds(event: SteeringEvent) -> SteeringEvent:
    try:
        return sanitize_steering_event(event)
    except Exception:  # It writes JSON text, which half of a surrogate pair or a value without a str cannot be in.
        text = encode_any(event.payload).decode()[:MAX_STEERING_STRING]
        return event.model_copy(update={"payload": {"value": text, "truncated": True}})


def _limit(limit: int) -> int | None:
    if limit < 0:
        raise ValueError(f"a limit is at least 0, not {limit}")
    return limit or None
