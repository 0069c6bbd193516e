"""Measures LangGraph's SQLite and Postgres savers, and prints one JSON object.

`cargo xtask bench-state` runs it beside the same work on our stores. What is stored comes from its files: a turn of a
conversation a line in `turns.jsonl`, a small document a line in `small.jsonl`.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.checkpoint.sqlite import SqliteSaver
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

CHANNEL = "messages"
# What LangGraph's DeltaChannel does unless told otherwise.
SNAPSHOT_EVERY = 100
WARM_READS = 200
COLD_READS = 15
# Those of all its tables, with their indexes and what PostgreSQL keeps beside them; the same query measures ours.
POSTGRES_BYTES = """SELECT sum(pg_total_relation_size(c.oid))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')"""
SQLITE_PRAGMAS = ("journal_mode", "synchronous")
POSTGRES_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes")


class Sqlite:
    """A database in a file of its own, with the saver's own settings, which are WAL and `synchronous=FULL`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.sqlite"

    @contextmanager
    def saver(self) -> Iterator[SqliteSaver]:
        with SqliteSaver.from_conn_string(str(self.path)) as saver:
            yield saver

    @contextmanager
    def savers(self, count: int, own: bool) -> Iterator[list[SqliteSaver]]:
        """One for all threads: it is made so that they take turns."""
        assert not own, "A SQLite database has one writer at a time"
        with self.saver() as saver:
            saver.setup()
            yield [saver] * count

    def durability(self) -> str:
        with self.saver() as saver:
            saver.setup()
            journal, synchronous = (saver.conn.execute(f"PRAGMA {name}").fetchone()[0] for name in SQLITE_PRAGMAS)
            return f"journal_mode={journal}, synchronous={synchronous}"

    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.path.parent.glob(f"{self.path.name}*"))

    def drop(self) -> None:
        for file in self.path.parent.glob(f"{self.path.name}*"):
            file.unlink()


class Postgres:
    """A database of its own in a server."""

    def __init__(self, server: str, name: str) -> None:
        self.server, self.name = server, f"peers_{name}"
        self.url = f"{server.rsplit('/', 1)[0]}/{self.name}"
        self.drop()
        self.ask(self.server, f"CREATE DATABASE {self.name} TEMPLATE template0")
        with self.saver() as saver:
            saver.setup()

    @contextmanager
    def saver(self) -> Iterator[PostgresSaver]:
        with PostgresSaver.from_conn_string(self.url) as saver:
            yield saver

    @contextmanager
    def savers(self, count: int, own: bool) -> Iterator[list[PostgresSaver]]:
        """Over one pool of 16 connections: one saver, whose lock lets through one thread at a time, or one a thread."""
        kwargs = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        with ConnectionPool(self.url, min_size=16, max_size=16, kwargs=kwargs) as pool:
            pool.wait()
            yield [PostgresSaver(pool) for _ in range(count)] if own else [PostgresSaver(pool)] * count

    def durability(self) -> str:
        return ", ".join(f"{name}={self.ask(self.url, f'SHOW {name}')}" for name in POSTGRES_SETTINGS)

    def bytes(self) -> int:
        return int(self.ask(self.url, POSTGRES_BYTES))

    def drop(self) -> None:
        self.ask(self.server, f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")

    @staticmethod
    def ask(url: str, statement: str) -> Any:
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None


Place = Sqlite | Postgres


class Thread:
    """A thread of checkpoints, written as LangGraph's loop writes it."""

    def __init__(self, saver: BaseCheckpointSaver, name: str) -> None:
        self.saver, self.name = saver, name
        self.config: dict[str, Any] = {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
        self.version: str | None = None
        self.step = -1

    def put(self, values: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        self.step += 1
        self.version = self.saver.get_next_version(self.version, None)
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = values
        checkpoint["channel_versions"] = {CHANNEL: self.version}
        checkpoint["updated_channels"] = [CHANNEL]
        metadata = {"source": "loop", "step": self.step, "parents": {}, **(metadata or {})}
        self.config = self.saver.put(self.config, checkpoint, metadata, {CHANNEL: self.version})

    def put_writes(self, value: Any) -> None:
        self.saver.put_writes(self.config, [(CHANNEL, value)], task_id=f"{self.name}-{self.step}")


def grow_values(saver: BaseCheckpointSaver, turns: list[Any]) -> list[Any]:
    """A channel that is stored whole with each checkpoint, which is what LangGraph does unless told otherwise."""
    thread, conversation, checkpoints = Thread(saver, "growing"), [], []
    for turn in turns:
        conversation.append(turn)
        thread.put({CHANNEL: conversation})
        thread.put_writes(turn)
        checkpoints.append(thread.config)
    return checkpoints


def grow_deltas(saver: BaseCheckpointSaver, turns: list[Any]) -> list[Any]:
    """A DeltaChannel (beta): checkpoints hold its value every so often, and the writes between are replayed."""
    thread, conversation, checkpoints, updates = Thread(saver, "growing"), [], [], 0
    thread.put({})
    for turn in turns:
        # They belong to the checkpoint before the one that they lead to.
        thread.put_writes([turn])
        conversation.append(turn)
        updates += 1
        is_due = updates >= SNAPSHOT_EVERY
        updates = 0 if is_due else updates
        values = {CHANNEL: _DeltaSnapshot(conversation)} if is_due else {}
        thread.put(values, {"counters_since_delta_snapshot": {CHANNEL: [updates, updates]}})
        checkpoints.append(thread.config)
    return checkpoints


LATEST = {"configurable": {"thread_id": "growing", "checkpoint_ns": ""}}


def read_values(saver: BaseCheckpointSaver, config: Any = LATEST) -> list[Any]:
    return saver.get_tuple(config).checkpoint["channel_values"][CHANNEL]


def read_deltas(saver: BaseCheckpointSaver, config: Any = LATEST) -> list[Any]:
    found = saver.get_tuple(config)
    seed = found.checkpoint["channel_values"].get(CHANNEL)
    if seed is not None:
        return seed.value
    history = saver.get_delta_channel_history(config=found.config, channels=[CHANNEL])[CHANNEL]
    seed = history.get("seed")
    conversation = list(seed.value) if seed is not None else []
    for _, _, turns in history["writes"]:
        conversation += turns
    return conversation


CHANNELS = {"values": (grow_values, read_values), "deltas": (grow_deltas, read_deltas)}


def growing(places: dict[str, Callable[[str], Place]], turns: list[Any]) -> dict[str, Any]:
    """One conversation that grows, and its state when it has: times in seconds."""
    measured: dict[str, Any] = {}
    for system, make in places.items():
        for channel, (grow, read) in CHANNELS.items():
            place = make(channel)
            with place.saver() as saver:
                saver.setup()
                started = time.perf_counter()
                checkpoints = grow(saver, turns)
                elapsed = time.perf_counter() - started
            stored = place.bytes()
            middle = len(turns) * 3 // 4
            then = partial(read, config=checkpoints[middle - 1])
            with place.saver() as saver:
                assert read(saver) == turns
                warm = statistics.median(seconds_of(read, saver) for _ in range(WARM_READS))
                assert then(saver) == turns[:middle]
                past = statistics.median(seconds_of(then, saver) for _ in range(WARM_READS))
            cold = statistics.median(seconds_of_anew(read, place) for _ in range(COLD_READS))
            measured[f"{system} {channel}"] = {
                "seconds": elapsed,
                "bytes": stored,
                "warm": warm,
                "past": past,
                "cold": cold,
            }
            measured[f"{system} durability"] = place.durability()
            place.drop()
    return measured


def seconds_of(read: Callable[[BaseCheckpointSaver], list[Any]], saver: BaseCheckpointSaver) -> float:
    started = time.perf_counter()
    read(saver)
    return time.perf_counter() - started


def seconds_of_anew(read: Callable[[BaseCheckpointSaver], list[Any]], place: Place) -> float:
    """Through a connection and a saver of its own; closing them is not counted."""
    started = time.perf_counter()
    with place.saver() as saver:
        read(saver)
        return time.perf_counter() - started


def small(places: dict[str, Callable[[str], Place]], documents: list[Any]) -> dict[str, Any]:
    """64 conversations at once, a thread each, with a small document: seconds for all their turns."""
    count, turns = 64, 50
    measured: dict[str, Any] = {}
    for system, make in places.items():
        for own in [False, True] if system == "postgres" else [False]:
            place = make("small")
            with place.savers(count, own) as savers, ThreadPoolExecutor(count) as pool:
                threads = [Thread(saver, f"s-{number}") for number, saver in enumerate(savers)]
                # One turn before: connections are open and prepared then.
                list(pool.map(lambda thread: converse(thread, documents, 1), threads))
                begin = threading.Barrier(count + 1)
                running = [pool.submit(converse, thread, documents, turns, begin) for thread in threads]
                begin.wait()
                started = time.perf_counter()
                for future in running:
                    future.result()
                elapsed = time.perf_counter() - started
            measured[f"{system}{' own' if own else ''}"] = {"seconds": elapsed, "turns": count * turns}
            measured[f"{system} durability"] = place.durability()
            place.drop()
    return measured


def converse(thread: Thread, documents: list[Any], turns: int, begin: threading.Barrier | None = None) -> None:
    if begin:
        begin.wait()
    for number in range(turns):
        document = documents[number % len(documents)]
        thread.put({CHANNEL: document})
        thread.put_writes(document)


PARTS = {"growing": (growing, "turns.jsonl"), "small": (small, "small.jsonl")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("workload", type=Path, help="the folder with what is stored")
    parser.add_argument("--sqlite", type=Path, metavar="FOLDER", help="where SQLite databases are made")
    parser.add_argument("--postgres", metavar="URL", help="a server's, and a superuser's")
    arguments = parser.parse_args()
    places: dict[str, Callable[[str], Place]] = {}
    if arguments.sqlite:
        places["sqlite"] = lambda name: Sqlite(arguments.sqlite, name)
    if arguments.postgres:
        places["postgres"] = lambda name: Postgres(arguments.postgres, name)
    measure, file = PARTS[arguments.part]
    with (arguments.workload / file).open() as lines:
        print(json.dumps(measure(places, [json.loads(line) for line in lines])))


if __name__ == "__main__":
    main()
