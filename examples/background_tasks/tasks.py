"""Tasks that are done once, though the process that does them is killed again and again.

    export ICECORE_STORE=sqlite:./icecore.db ICECORE_TENANT=acme
    python examples/background_tasks/tasks.py put 20   # twenty reports are wanted; said again, they are the same
    python examples/background_tasks/tasks.py work     # kill it at any moment, and start it again; or start several
    python examples/background_tasks/tasks.py show

A report takes three steps. What a step made is kept before the next one begins, so that whoever takes the task over
goes on where the one before stopped. A line `done REPORT` is a promise: it would survive a kill -9.
"""

import argparse
import asyncio
import os
from datetime import timedelta
from typing import Any

import icecore
from icecore import Changes, Event, Leased, Message

STEPS = ("gather", "write", "send")
# It is given out again so long after its worker was heard of last. In earnest: longer than a step takes.
LEASE = timedelta(seconds=2)
ATTEMPTS = 10


class NoCustomer(Exception):
    """No report can be made."""


class Reports:
    """The queue, and the logs that say what was done."""

    def __init__(self, store: icecore.Store, tenant: str) -> None:
        self.store, self.tenant = store, tenant
        self.queue = store.queue(tenant, "reports")
        # One event for each report, and how many they are.
        self.done = store.log(tenant, "reports", "done")

    async def put(self, count: int) -> int:
        """Puts so many tasks, those that are not there; how many that were."""
        wanted = [
            Message(f"report-{number:03}", {"customer": number}, attempts_max=ATTEMPTS) for number in range(count)
        ]
        put = [
            one for start in range(0, count, 1_000) for one in await self.queue.put_all(wanted[start : start + 1_000])
        ]
        return sum(not one.repeated for one in put)

    async def work(self, pace: float, idle: timedelta) -> None:
        """Does one task after the other, until none has come for so long."""
        while leased := await self.queue.lease(1, LEASE, wait_for=idle):
            [task] = leased
            try:
                await self.do(task, pace)
                await self.queue.ack(task.id, task.fence)
                print("done", task.id, flush=True)
            except (icecore.ConflictError, icecore.NotFoundError):
                # It took too long, and somebody else was given the task, or it was purged: what was made is dropped.
                print("lost", task.id, flush=True)
            except NoCustomer as failed:
                await self.give_back(task, str(failed))

    async def do(self, task: Leased, pace: float) -> None:
        """Does what is left of a task."""
        log = self.store.log(self.tenant, "report", task.id)
        made = dict(await log.state())
        for step in STEPS:
            if step not in made:
                await self.queue.extend(task.id, task.fence, LEASE)
                await asyncio.sleep(pace)
                made[step] = result(step, task, made)
                # Two workers that make different things of a step are told apart by its id: the second has a conflict.
                changes = Changes().put(step, made[step]).event(Event("step", made[step], node=step)).with_id(step)
                await log.commit(changes)
        # The task's id makes it once: whoever comes here again changes nothing.
        done = Event("done", {"report": task.id, "sent": made["send"]})
        await self.done.commit(Changes().event(done).merge("count", add=1).with_id(task.id))

    async def give_back(self, task: Leased, because: str) -> None:
        """Tries it again later, or keeps it as a dead letter if that was the last time."""
        try:
            delay = timedelta(milliseconds=20 * task.attempts)
            state = await self.queue.nack(task.id, task.fence, delay=delay, because=because)
            print("dead" if state == "dead" else "later", task.id, because, flush=True)
        except (icecore.ConflictError, icecore.NotFoundError):
            print("lost", task.id, flush=True)

    async def show(self) -> None:
        """Says how things are."""
        counts = await self.queue.statistics()
        print(
            f"{await self.done.get('count', 0)} done, {counts.ready + counts.delayed} wait, {counts.leased} under way"
        )
        for letter in await self.queue.dead():
            print("dead", letter.id, letter.reason)


def result(step: str, task: Leased, made: dict[str, Any]) -> Any:
    """What a step makes. The process is in it, to see who did it: as with a model, two would not make the same."""
    customer = task.json()["customer"]
    if customer % 10 == 9:
        raise NoCustomer(f"there is no customer {customer}")
    if step == "gather":
        return {"customer": customer, "orders": customer % 4, "by": os.getpid()}
    if step == "write":
        return {"text": f"customer {customer} has {made['gather']['orders']} orders", "by": os.getpid()}
    # What is outside can be done twice, if the process dies before it has written so. Hand on what tells that it is the
    # same: a mail or a payment takes an idempotency key, a database the fence, which only rises.
    return {"mail": made["write"]["text"], "idempotency_key": task.id}


async def main(given: argparse.Namespace) -> None:
    url, tenant = os.environ["ICECORE_STORE"], os.environ["ICECORE_TENANT"]
    async with icecore.Store(url, retry=True) as store:
        reports = Reports(store, tenant)
        if given.command == "put":
            print("put", await reports.put(given.count), flush=True)
        elif given.command == "work":
            await reports.work(given.pace, timedelta(seconds=given.idle))
        else:
            await reports.show()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    put = commands.add_parser("put", help="put tasks")
    put.add_argument("count", type=int, nargs="?", default=20, help="how many (20)")
    work = commands.add_parser("work", help="do them")
    work.add_argument("--pace", type=float, default=0.2, help="how long a step takes, in seconds (0.2)")
    work.add_argument("--idle", type=float, default=86_400, help="end when none has come for so many seconds (a day)")
    commands.add_parser("show", help="say how things are")
    asyncio.run(main(parser.parse_args()))
