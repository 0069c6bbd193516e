"""Stores that the contract judges: ``--state-store places:make``, at the place that ICECORE_CONTRACT_PLACE names.

The addresses of servers are in the variables that ``cargo xtask services`` sets.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile
from functools import cache

import icecore
from icecore.penguiflow import StateStore

MOTO_BUCKET = "icecore-test"


def _folder() -> str:
    folder = tempfile.mkdtemp(prefix="icecore-contract-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _server(service: str) -> str:
    name = f"ICECORE_TEST_{service.upper()}"
    url = os.environ.get(name)
    if not url:
        raise RuntimeError(f"{name} is not set: run this by `cargo xtask services`")
    return url


@cache
def _url(place: str) -> str:
    """One place a run: the contract's tests use names of their own."""
    match place:
        case "memory":
            return "memory:"
        case "file":
            return f"file:{_folder()}/store"
        case "sqlite":
            return f"sqlite:{_folder()}/store.db"
        case "postgres":
            return f"{_server('postgres')}?schema=contract_{secrets.token_hex(4)}"
        case "mysql":
            return _server("mariadb")
        case "redis":
            return f"{_server('redis')}?prefix=contract-{secrets.token_hex(4)}"
        case "mongodb":
            return _server("mongodb").replace("/?", f"/contract_{secrets.token_hex(4)}?", 1)
        case "s3":
            os.environ.update(AWS_ACCESS_KEY_ID="any", AWS_SECRET_ACCESS_KEY="any", AWS_REGION="us-east-1")
            endpoint = _server("s3").replace(":", "%3A").replace("/", "%2F")
            return f"s3://{MOTO_BUCKET}/contract-{secrets.token_hex(4)}?endpoint={endpoint}&allow_http=true"
    raise RuntimeError(f"ICECORE_CONTRACT_PLACE={place}: memory, file, sqlite, postgres, mysql, redis, mongodb or s3")


@cache
def _shared(url: str) -> icecore.Store:
    """What only one store at a time can open."""
    return icecore.Store(url)


def make() -> StateStore:
    place = os.environ["ICECORE_CONTRACT_PLACE"]
    url = _url(place)
    return StateStore(_shared(url) if place in ("memory", "file") else url, tenant="contract")
