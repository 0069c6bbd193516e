"""A flow that goes on after a kill -9, and does nothing twice that it had finished.

    export ICECORE_STORE=file:./icecore-data ICECORE_TENANT=acme
    python examples/durable_flow/trip.py trip-1 --journal journal.txt    # kill it at any moment, and run it again
    icecore flow show trip-1

A trip is planned, a train and a hotel are booked side by side, and the traveller is told:

    plan ──► train ──► together ──► tell
      └────► hotel ──────┘

Each node leaves a line in the journal when it has done something: that is what cannot be undone.
"""

import argparse
import asyncio
import logging
import os
from pathlib import Path
from typing import Any

from icecore.penguiflow import create_store, durable, run
from penguiflow import Headers, Message, Node, NodePolicy, PenguiFlow, create, join_k

# Penguiflow also logs each error. They are in the history.
logging.getLogger("penguiflow").setLevel(logging.CRITICAL)


def build(store: Any, journal: Path, pace: float) -> PenguiFlow:
    async def work(what: str) -> None:
        await asyncio.sleep(pace)
        with journal.open("a") as file:
            file.write(f"{what}\n")
            file.flush()
            os.fsync(file.fileno())
        await asyncio.sleep(pace)

    async def plan(message: Message, _context: Any) -> Message:
        await work("plan")
        return message.model_copy(update={"payload": {"to": message.payload}})

    async def train(message: Message, _context: Any) -> Message:
        await work("train")
        return message.model_copy(update={"payload": f"a train to {message.payload['to']}"})

    async def hotel(message: Message, _context: Any) -> Message:
        await work("hotel")
        return message.model_copy(update={"payload": f"a hotel in {message.payload['to']}"})

    async def tell(message: Message, _context: Any) -> Message:
        await work("tell")
        return message.model_copy(update={"payload": " and ".join(sorted(message.payload))})

    policy = NodePolicy(validate="none")
    # That is all: what a durable node was given and made is recorded, and when it is asked again it says so at once.
    first, *bookings, last = [durable(Node(do, name=do.__name__, policy=policy)) for do in (plan, train, hotel, tell)]
    together = durable(join_k("together", len(bookings)))
    edges = [first.to(*bookings), *(booking.to(together) for booking in bookings), together.to(last), last.to()]
    return create(*edges, state_store=store)


async def main(trip: str, journal: Path, pace: float) -> None:
    async with create_store() as store:
        flow = build(store, journal, pace)
        flow.run()
        # The first time it begins; later it goes on where it was, or gives what came out at once.
        message = Message(payload="Paris", headers=Headers(tenant=store.tenant), trace_id=trip)
        print((await run(flow, message)).payload, flush=True)
        await flow.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("trip", nargs="?", default="trip-1", help="which trip (trip-1)")
    parser.add_argument(
        "--journal", type=Path, default=Path("journal.txt"), help="where nodes leave a line (journal.txt)"
    )
    parser.add_argument("--pace", type=float, default=0.5, help="how long a node works before and after it (0.5 s)")
    given = parser.parse_args()
    asyncio.run(main(given.trip, given.journal, given.pace))
