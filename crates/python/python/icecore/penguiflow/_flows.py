"""What a flow tells, and which remote tasks it has begun."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from penguiflow.state import RemoteBinding, StoredEvent

from .._call import wait
from . import _codec
from ._base import Base, some

GLOBAL = "__global__"


class HistoryPage(NamedTuple):
    """Some of a trace's events, oldest first."""

    events: list[StoredEvent]
    next: str
    """Where the next page begins."""


def _limit(limit: int) -> int:
    if limit < 1:
        raise ValueError(f"a page has at least 1, not {limit}")
    return limit


class Events(Base):
    """The audit log and the bindings that every state store has."""

    async def save_event(self, event: StoredEvent) -> None:
        """Keeps an event, once however often it is told. Buffered, it waits only if the buffer is full."""
        call = self._native.save_event(event)
        if call is not None:
            await wait(call)

    async def save_events(self, events: Iterable[StoredEvent]) -> None:
        """Keeps events in their order, as :meth:`save_event` does: one call for many.

        It is not all or none: if it fails, what is kept of each trace is the beginning. Call it again: each is kept
        once.
        """
        for together in some(events):
            call = self._native.save_events(together)
            if call is not None:
                await wait(call)

    async def page_history(self, trace_id: str, *, after: str | None = None, limit: int = 500) -> HistoryPage:
        """A page of a trace's events, in the order in which they were kept, which need not be that of their times.

        Go on with ``after=page.next``: no event is skipped, or there twice, also of those that come later. A page
        without events is the last so far. If what comes next was trimmed, it is a ``NotFoundError``.
        """
        items, place = await wait(self._native.page_events(trace_id, after, _limit(limit)))
        return HistoryPage([_codec.event(trace_id, item) for item in items], place)

    async def load_history(self, trace_id: str) -> Sequence[StoredEvent]:
        """A trace's events by time; of the same time, as they came. ``"__global__"`` is of those without a trace."""
        items = await wait(self._native.load_events(trace_id))
        events = [_codec.event(trace_id, item) for item in items]
        events.sort(key=attrgetter("ts"))
        return events

    async def save_remote_binding(self, binding: RemoteBinding) -> None:
        """Keeps a binding: one by trace, context and task."""
        await wait(
            self._native.save_binding(
                binding.trace_id,
                binding.context_id,
                binding.task_id,
                getattr(binding, "router_session_id", None),
                _codec.write_binding(binding),
            )
        )


class Bindings(Base):
    """Conversations with remote agents."""

    async def find_binding(
        self,
        *,
        router_session_id: str,
        agent_url: str,
        remote_skill: str,
        tenant_id: str | None = None,
        user_id: str | None = None,
    ) -> RemoteBinding | None:
        """The last binding that goes on. It must be of this tenant and user: of none, if ``None`` is given."""
        wanted = (agent_url, remote_skill, tenant_id, user_id, False)
        for binding in reversed(await self.list_bindings(router_session_id=router_session_id)):
            found = (binding.agent_url, binding.remote_skill, binding.tenant_id, binding.user_id, binding.is_terminal)
            if found == wanted:
                return binding
        return None

    async def list_bindings(self, *, router_session_id: str) -> Sequence[RemoteBinding]:
        """A session's bindings, also those that have ended, in the order in which each was first saved."""
        return [_codec.binding(data) for data in await wait(self._native.load_bindings(router_session_id))]

    async def mark_binding_terminal(self, *, trace_id: str, context_id: str | None, task_id: str) -> None:
        """Ends a binding, if there is one."""
        await wait(self._native.end_binding(trace_id, context_id, task_id))
