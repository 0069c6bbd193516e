"""The hooks and the fixtures: which store is judged, and what was judged in the end."""

import asyncio
import importlib
import inspect
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from operator import attrgetter
from typing import Any

import pytest
import pytest_asyncio

from ._groups import GROUPS, require
from ._penguiflow import VERSION, ArtifactRetentionConfig

# Raised by 0.1 when a test is added, by 1 when a rule changes, so that a store that passed may fail.
CONTRACT_VERSION = "1.3"

Factory = Callable[[], Any]
Open = Callable[[], Awaitable[Any]]

GROUP = "penguiflow contract: group"
OURS = "penguiflow contract: ours"


def pytest_addoption(parser: pytest.Parser) -> None:
    options = parser.getgroup("penguiflow", "the contract of Penguiflow's state stores")
    options.addoption(
        "--state-store",
        metavar="MODULE:FACTORY",
        help="the store to judge: a function without arguments that makes one, as for penguiflow-admin",
    )
    options.addoption(
        "--state-store-alone",
        action="store_true",
        help="each call of the factory makes a store with data of its own, as in memory only: "
        "what needs two store objects over the same data is not judged",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "judges(group): a test of Penguiflow's contract, and the group it belongs to")
    config.addinivalue_line("markers", "ours(reason): a rule that Penguiflow's own reference store does not keep")
    config.pluginmanager.register(_Verdict(config), "penguiflow-contract-verdict")


def pytest_runtest_setup(item: pytest.Item) -> None:
    # Properties go along with the reports, also from the workers of pytest-xdist.
    for marker, name in (("judges", GROUP), ("ours", OURS)):
        found = item.get_closest_marker(marker)
        if found is not None:
            item.user_properties.append((name, str(found.args[0])))


class _Verdict:
    """Says at the end which groups were judged and which were not: a skip must not look like a pass."""

    def __init__(self, config: pytest.Config) -> None:
        self.store = config.getoption("--state-store") or "the fixture open_state_store"
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self.reasons: dict[str, Counter[str]] = defaultdict(Counter)
        self.failed_ours = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        group = properties.get(GROUP)
        if not isinstance(group, str) or (report.when != "call" and report.passed):
            return
        self.outcomes[group][report.outcome] += 1
        if report.skipped:
            told = report.longrepr[2] if isinstance(report.longrepr, tuple) else "an expected failure"
            self.reasons[group][told.removeprefix("Skipped: ")] += 1
        if report.failed and OURS in properties:
            self.failed_ours += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.outcomes:
            return
        judged, not_judged = [], []
        for group in GROUPS:
            outcomes = self.outcomes[group]
            told = [
                f"{outcomes[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped") if outcomes[outcome]
            ]
            reasons = "; ".join(self.reasons[group])
            if outcomes["passed"] or outcomes["failed"]:
                judged.append(f"{group} ({', '.join(told)}{': ' if reasons else ''}{reasons})")
            else:
                not_judged.append(f"{group} ({reasons or 'not collected'})")
        terminalreporter.section(f"Penguiflow's contract {CONTRACT_VERSION}, Penguiflow {VERSION}: {self.store}")
        terminalreporter.write_line(f"judged: {', '.join(judged) or 'nothing'}")
        terminalreporter.write_line(f"NOT judged: {', '.join(not_judged) or 'nothing'}")
        if self.failed_ours:
            terminalreporter.write_line(
                f"of the failed, {self.failed_ours} are rules that Penguiflow's reference store does not keep either: "
                "-m 'not ours' leaves them out"
            )


async def opened(factory: Factory) -> Any:
    """Makes a store, as penguiflow-admin does: a factory may be a coroutine function."""
    made = factory()
    return await made if asyncio.iscoroutine(made) else made


async def close(store: Any) -> None:
    """Closes a store that can be closed. Penguiflow itself never does."""
    method = getattr(store, "aclose", None) or getattr(store, "close", None)
    if callable(method):
        answer = method()
        if inspect.isawaitable(answer):
            await answer


@pytest.fixture
def open_state_store(request: pytest.FixtureRequest) -> Factory:
    """Makes a store. Override it to judge a store that needs more than a name; see the package's documentation."""
    name = request.config.getoption("--state-store")
    if not name:
        pytest.fail(
            "say which store to judge: --state-store MODULE:FACTORY, or a fixture open_state_store", pytrace=False
        )
    module, _, attribute = name.partition(":")
    if not attribute:
        pytest.fail(f"--state-store must be MODULE:FACTORY, and is {name!r}", pytrace=False)
    factory: Factory = attrgetter(attribute)(importlib.import_module(module))
    return factory


@pytest.fixture
def state_stores_share(request: pytest.FixtureRequest) -> bool:
    """Whether two calls of `open_state_store` in one test make two store objects over the same data."""
    return not request.config.getoption("--state-store-alone")


@pytest.fixture
def open_retaining_store(open_state_store: Factory) -> Callable[[ArtifactRetentionConfig], Any] | None:
    """Makes a store with limits for artifacts, or is None if there is no way to.

    A factory that takes `artifact_retention`, as Penguiflow's reference does, needs no override.
    """
    try:
        takes = "artifact_retention" in inspect.signature(open_state_store).parameters
    except (TypeError, ValueError):
        return None
    if not takes:
        return None
    factory: Callable[..., Any] = open_state_store
    return lambda retention: factory(artifact_retention=retention)


@pytest_asyncio.fixture(loop_scope="function")
async def open_another_state_store(open_state_store: Factory) -> AsyncIterator[Open]:
    """Opens stores that are closed after the test."""
    stores: list[Any] = []

    async def open_one() -> Any:
        stores.append(await opened(open_state_store))
        return stores[-1]

    yield open_one
    for store in reversed(stores):
        await close(store)


@pytest_asyncio.fixture(loop_scope="function")
async def state_store(open_another_state_store: Open, request: pytest.FixtureRequest) -> Any:
    """The store that is judged, if it has what the test's group needs."""
    store = await open_another_state_store()
    for marker in request.node.iter_markers("judges"):
        require(store, marker.args[0])
    return store


@pytest_asyncio.fixture(loop_scope="function")
async def other_state_store(state_store: Any, open_another_state_store: Open, state_stores_share: bool) -> Any:
    """A second store object over the same data."""
    if not state_stores_share:
        pytest.skip("each store object has data of its own")
    return await open_another_state_store()


@pytest.fixture
def close_state_stores() -> Generator[Callable[[Any], Any]]:
    """Closes stores after a test that has no loop, each in a loop that is made for it."""
    stores: list[Any] = []

    def note(store: Any) -> Any:
        stores.append(store)
        return store

    yield note
    for store in reversed(stores):
        asyncio.run(close(store))
