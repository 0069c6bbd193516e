"""Updates and steering are read by the same rules: here they look the same."""

from collections.abc import Sequence
from typing import Any

from ._making import fresh, steering, update


class Stream:
    """One of the two, in a session of its own."""

    def __init__(self, name: str, store: Any, session_id: str | None = None) -> None:
        self.name = name
        self.store = store
        self.session_id = session_id or fresh()

    def make(self, name: str, task_id: str = "t-1", **fields: Any) -> Any:
        """Something to save, whose id is `name` within this session."""
        own = f"{self.session_id}/{name}"
        if self.name == "updates":
            return update(self.session_id, {"name": name}, task_id=task_id, update_id=own, **fields)
        return steering(self.session_id, {"name": name}, task_id=task_id, event_id=own, **fields)

    async def save(self, item: Any) -> None:
        await (self.store.save_update(item) if self.name == "updates" else self.store.save_steering(item))

    async def items(self, **options: Any) -> Sequence[Any]:
        read = self.store.list_updates if self.name == "updates" else self.store.list_steering
        found: Sequence[Any] = await read(self.session_id, **options)
        return found

    async def names(self, *, since: str | None = None, **options: Any) -> list[str]:
        """The names of what is read after the one called `since`; after nothing if that is empty or not there."""
        if since is not None:
            options["since_id"] = f"{self.session_id}/{since}" if since else ""
        return [self.name_of(item) for item in await self.items(**options)]

    def name_of(self, item: Any) -> str:
        own: str = item.update_id if self.name == "updates" else item.event_id
        return own.removeprefix(f"{self.session_id}/")


def expected(saved: Sequence[tuple[str, str]], task_id: str | None, since: str | None, limit: int) -> list[str]:
    """The rules: look for the cursor in the whole session, then keep the task's, then the newest `limit`."""
    names = [name for name, _ in saved]
    after = names.index(since) + 1 if since in names else 0
    rest = [name for name, of in saved[after:] if task_id in (None, of)]
    # As the reference slices, a limit of 0 is none.
    return rest[-limit:]
