"""Starts moto's server with what real services have and it lacks: requests that race are decided one after the other.

It looks whether an object or an item is there, and then puts it, in threads. The locks are taken when the body has been
read, so that nobody waits for a slow client. Under them it need not copy a whole table, item by item, before each
transaction, nor sort a whole table for each query, which took it seconds; nor look at every name of a bucket for each
listing. Connections stay, requests are not told, and which service a request is for is looked up once: each took more
time than the requests themselves.
"""

import bisect
import copy
import functools
import logging
import threading
import types
from collections.abc import Callable
from typing import Any

from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.dynamodb.responses import DynamoHandler
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.s3.models import S3Backend
from moto.s3.responses import S3Response
from moto.s3.utils import _VersionedKeyStore
from moto.server import main
from werkzeug.serving import WSGIRequestHandler


def alone(call: Callable[..., Any]) -> Callable[..., Any]:
    lock = threading.Lock()

    @functools.wraps(call)
    def locked(*arguments: Any) -> Any:
        with lock:
            return call(*arguments)

    return locked


transact_write_items, query = DynamoDBBackend.transact_write_items, Table.query


@functools.wraps(transact_write_items)
def transact(backend: DynamoDBBackend, actions: list[dict[str, Any]]) -> None:
    """Keeps the items that the transaction names, and puts them back if it fails."""
    before = []
    for action in actions:
        for operation in action.values():
            table = backend.get_table(operation["TableName"])
            key = operation.get("Key") or operation["Item"]
            partition, sort = DynamoType(key[table.hash_key_attr]), DynamoType(key[table.range_key_attr])
            before.append((table, partition, sort, copy.deepcopy(table.get_item(partition, sort))))
    try:
        transact_write_items(backend, actions)
    except Exception:
        for table, partition, sort, item in before:
            if item is None:
                table.items[partition].pop(sort, None)
            else:
                table.items[partition][sort] = item
        raise


@functools.wraps(query)
def query_partition(table: Table, hash_key: DynamoType | None, *arguments: Any, **named: Any) -> Any:
    """Looks at one partition; there are no indexes here."""
    table.all_items = lambda: list(table.items[hash_key].values()) if hash_key in table.items else []
    try:
        return query(table, hash_key, *arguments, **named)
    finally:
        del table.all_items


class Names:
    """The names of a bucket, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.lock = threading.Lock()

    def follow(self, name: str, is_there: bool) -> None:
        with self.lock:
            at = bisect.bisect_left(self.names, name)
            was_there = self.names[at : at + 1] == [name]
            if is_there and not was_there:
                self.names.insert(at, name)
            elif was_there and not is_there:
                del self.names[at]

    def below(self, prefix: str) -> list[str]:
        with self.lock:
            begin = bisect.bisect_left(self.names, prefix)
            end = bisect.bisect_left(self.names, True, begin, key=lambda name: not name.startswith(prefix))
            return self.names[begin:end]


def followed(change: Callable[..., Any]) -> Callable[..., Any]:
    """A change of a bucket's keys that its names follow."""

    @functools.wraps(change)
    def changed(keys: _VersionedKeyStore, name: str, *value: Any) -> Any:
        try:
            return change(keys, name, *value)
        finally:
            names_of(keys).follow(name, name in keys)

    return changed


def names_of(keys: _VersionedKeyStore) -> Names:
    return keys.__dict__.setdefault("names", Names())


list_objects = S3Backend.list_objects


@functools.wraps(list_objects)
def list_below(backend: S3Backend, bucket: Any, prefix: str | None, *arguments: Any, **named: Any) -> Any:
    """Looks only at names that begin so."""
    if prefix:
        below = ((name, bucket.keys.get(name)) for name in names_of(bucket.keys).below(prefix))
        bucket = types.SimpleNamespace(keys={name: key for name, key in below if key is not None})
    return list_objects(backend, bucket, prefix, *arguments, **named)


for name in ("__setitem__", "pop", "setlist"):
    setattr(_VersionedKeyStore, name, followed(getattr(_VersionedKeyStore, name)))
S3Backend.list_objects = list_below
# What is copied before a transaction, and put back after one that failed, is the table itself.
Table.__deepcopy__ = lambda table, _memo: table
DynamoDBBackend.transact_write_items = transact
Table.query = query_partition
DynamoHandler.call_action = alone(DynamoHandler.call_action)
S3Response.put_object = alone(S3Response.put_object)
lookup = DomainDispatcherApplication.get_backend_for_host
DomainDispatcherApplication.get_backend_for_host = functools.cache(lookup)
WSGIRequestHandler.protocol_version = "HTTP/1.1"
logging.getLogger("werkzeug").setLevel(logging.ERROR)
main()
