from collections.abc import AsyncIterator
from pathlib import Path

import icecore
import pytest
import pytest_asyncio


@pytest.fixture(params=["memory", "file", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    paths = {"memory": "memory:", "file": f"file:{tmp_path}/logs", "sqlite": f"sqlite:{tmp_path}/logs.db"}
    return paths[request.param]


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[icecore.Store]:
    async with icecore.Store(url) as store:
        yield store


@pytest.fixture
def log(store: icecore.Store) -> icecore.Log:
    return store.log("acme", "session", "s-1")
