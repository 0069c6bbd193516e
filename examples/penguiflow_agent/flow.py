"""Answers questions with a flow whose history is durable: kill it at any moment, and run it again.

    export ICECORE_STORE=file:./icecore-data ICECORE_TENANT=acme
    python examples/penguiflow_agent/flow.py 40

Each question is researched in two sources side by side, and what they found becomes one answer:

    research ──► archive ──► together ──► answer
        └──────► news ─────────┘

The archive does not answer every third question at once, and is asked again; the news are too slow for every seventh,
which is given up. A line of standard output is a promise: it is printed when the answer, and every event before it,
would survive a kill -9. A question that has an answer is not asked again.
"""

import argparse
import asyncio
import logging
from typing import Any

from icecore.penguiflow import create_store
from penguiflow import FlowError, Headers, Message, Node, NodePolicy, PenguiFlow, create, join_k

# Penguiflow also logs each error with its traceback. They are in the history, where they are found later.
logging.getLogger("penguiflow").setLevel(logging.CRITICAL)


def build(store: Any) -> PenguiFlow:
    asked: dict[int, int] = {}

    async def research(message: Message, _context: Any) -> Message:
        number = message.payload
        return message.model_copy(update={"payload": {"number": number, "topic": f"question {number}"}})

    async def archive(message: Message, _context: Any) -> Message:
        number = message.payload["number"]
        asked[number] = asked.get(number, 0) + 1
        await asyncio.sleep(0.005)
        if number % 3 == 0 and asked[number] == 1:
            raise ConnectionError("the archive hung up")
        return message.model_copy(update={"payload": f"the archive's view of {message.payload['topic']}"})

    async def news(message: Message, _context: Any) -> Message:
        await asyncio.sleep(5 if message.payload["number"] % 7 == 0 else 0.01)
        return message.model_copy(update={"payload": f"the news of {message.payload['topic']}"})

    async def answer(message: Message, _context: Any) -> Message:
        return message.model_copy(update={"payload": "; ".join(sorted(message.payload))})

    def policy(**more: Any) -> NodePolicy:
        return NodePolicy(validate="none", **more)

    first = Node(research, name="research", policy=policy())
    sources = [
        Node(archive, name="archive", policy=policy(max_retries=2, backoff_base=0.002)),
        Node(news, name="news", policy=policy(max_retries=1, timeout_s=0.05, backoff_base=0.002)),
    ]
    together = join_k("together", len(sources))
    last = Node(answer, name="answer", policy=policy())
    return create(
        first.to(*sources),
        *(source.to(together) for source in sources),
        together.to(last),
        last.to(),
        state_store=store,
        emit_errors_to_rookery=True,
    )


async def ask(flow: PenguiFlow, number: int) -> dict[str, str]:
    # The trace's id is the caller's to choose: one that says what it is about is found again.
    trace = f"question-{number:03}"
    await flow.emit(Message(payload=number, headers=Headers(tenant="acme"), trace_id=trace))
    result = await flow.fetch()
    if isinstance(result, FlowError):
        return {"gave_up": result.message}
    return {"answer": str(getattr(result, "payload", result))}


async def main(count: int) -> None:
    async with create_store() as store:
        # What came out, a document for each question, beside the history that the flow itself writes.
        answers = store.icecore.log(store.tenant, "research", "answers")
        answered = await answers.state()
        flow = build(store)
        flow.run()
        for number in range(1, count + 1):
            trace = f"question-{number:03}"
            if trace in answered:
                print(trace, "is answered", flush=True)
                continue
            result = await ask(flow, number)
            # The history is buffered until it is flushed. A document is durable when its call returns.
            await store.flush()
            await answers.put(trace, result)
            print(trace, *(f"{how}: {what}" for how, what in result.items()), flush=True)
        await flow.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("count", type=int, nargs="?", default=40, help="how many questions (40)")
    asyncio.run(main(parser.parse_args().count))
