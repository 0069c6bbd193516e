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
from urllib.parse import quote

import icecore
from icecore.penguiflow import StateStore
from penguiflow.artifacts import ArtifactRetentionConfig

# As crates/services makes them.
BUCKET = "icecore-test"
AWS = "access_key_id=any&secret_access_key=any&region=us-east-1"
# The account and the key that every Azurite has.
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
AZURITE = f"account_name=devstoreaccount1&access_key={quote(AZURITE_KEY, safe='')}"


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


def _fresh() -> str:
    return f"contract-{secrets.token_hex(4)}"


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
            return f"{_server('redis')}?prefix={_fresh()}"
        case "mongodb":
            return _server("mongodb").replace("/?", f"/{_fresh()}?", 1)
        case "s3":
            return f"s3://{BUCKET}/{_fresh()}?endpoint={_server('s3')}&{AWS}"
        case "gcs":
            return f"gs://{BUCKET}/{_fresh()}?endpoint={_server('gcs')}&bearer_token=icecore-test-token"
        case "azure":
            return f"az://{BUCKET}/{_fresh()}?endpoint={_server('azure')}&{AZURITE}"
        case "dynamodb":
            return f"dynamodb://{_fresh()}?create=true&endpoint={_server('dynamodb')}&{AWS}"
    raise RuntimeError(f"ICECORE_CONTRACT_PLACE={place}: there is no such place")


# What only one store at a time can open, and where a bucket or a table is tried out whenever it is opened.
SHARED = ("memory", "file", "s3", "gcs", "azure", "dynamodb", "mongodb")


@cache
def _shared(url: str) -> icecore.Store:
    return icecore.Store(url)


def make(artifact_retention: ArtifactRetentionConfig | None = None) -> StateStore:
    place = os.environ["ICECORE_CONTRACT_PLACE"]
    url = _url(place)
    store = _shared(url) if place in SHARED else url
    return StateStore(store, tenant="contract", artifact_retention=artifact_retention)
