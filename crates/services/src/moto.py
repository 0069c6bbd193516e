"""Starts moto's server with what real services have and it lacks: requests that race are decided one after the other.

It looks whether an object or an item is there, and then puts it, in threads. The locks are taken when the body has been
read, so that nobody waits for a slow client. Under them it need not copy a whole table, item by item, before each
transaction, nor sort a whole table for each query, which took it seconds. Connections stay, requests are not told, and
which service a request is for is looked up once: each took more time than the requests themselves.
"""

import copy
import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.dynamodb.responses import DynamoHandler
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.s3.responses import S3Response
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
