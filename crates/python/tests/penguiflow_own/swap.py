"""A pytest plugin: Penguiflow's own tests, unchanged, on our store.

    PYTHONPATH=crates/python/tests/penguiflow_own pytest -p swap target/penguiflow-src/penguiflow-3.11.2/tests

Before a test module is imported, the stores that Penguiflow ships are replaced by ours (`stores.py`) wherever
Penguiflow has them by name; flows and planners that a test makes without a store get one of ours, so that they are
judged with a store attached; and the small stores that some test modules bring along are replaced as well.
Which files run, and which tests of them do not, is in `chosen.py`.

`ICECORE_SWAP_CLASS` names the class (`module:Name`), `ICECORE_SWAP_URL` where its stores are: `memory:`, or `file:` or
`sqlite:`, for a new place in a temporary folder each.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Generator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import chosen
import pytest
import stores

CLASS = "icecore.penguiflow:StateStore"
# What has a store of Penguiflow by name must be imported for it to be found and replaced.
IMPORTED = ("penguiflow", "penguiflow.cli.playground", "penguiflow.planner", "penguiflow.sessions", "penguiflow_a2a")


class Swap:
    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.version = version("penguiflow")
        self.places = stores.Places(os.environ.get("ICECORE_SWAP_URL") or "memory:")
        module, name = (os.environ.get("ICECORE_SWAP_CLASS") or CLASS).split(":")
        ours = getattr(importlib.import_module(module), name)
        self.store = stores.swapped(ours, self.places)
        self.recorder = stores.recording(self.store)
        self.ran: set[str] = set()
        self.constructed: set[str] = set()
        self.called: set[str] = set()
        self.problems: list[str] = []
        self.is_whole = False
        self.left_out: Counter[str] = Counter()

    def install(self) -> None:
        modules = [importlib.import_module(name) for name in IMPORTED]
        in_memory = importlib.import_module("penguiflow.state.in_memory").InMemoryStateStore
        in_session = importlib.import_module("penguiflow.sessions.persistence").InMemorySessionStateStore
        # It has the name only when asked for it.
        importlib.import_module("penguiflow.state").InMemoryStateStore = in_memory  # type: ignore[attr-defined]
        artifacts = [
            importlib.import_module("penguiflow.artifacts").InMemoryArtifactStore,
            importlib.import_module("penguiflow.state.in_memory").PlaygroundArtifactStore,
        ]
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").split(".")[0] == "penguiflow":
                self.replace(module, self.store, in_memory, in_session)
                self.replace(module, self.store.artifacts, *artifacts)
        flow = modules[0].PenguiFlow
        planner = importlib.import_module("penguiflow.planner").ReactPlanner
        flow.__init__ = self.attached(flow.__init__)
        planner.__init__ = self.attached(planner.__init__, forget_pauses)

    def replace(self, module: ModuleType, ours: type, *originals: type) -> None:
        for name, value in list(vars(module).items()):
            if any(value is original for original in originals):
                setattr(module, name, ours)

    def attached(self, init: Callable[..., None], then: Callable[[Any], None] | None = None) -> Callable[..., None]:
        """The constructor of what works without a store, with one of ours where a test gives none."""

        @functools.wraps(init)
        def with_store(owner: Any, *arguments: Any, **options: Any) -> None:
            is_ours = options.get("state_store") is None
            if is_ours:
                options["state_store"] = self.store()
            init(owner, *arguments, **options)
            if is_ours and then is not None:
                then(owner)

        return with_store

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        return True if collection_path.is_file() and collection_path.name not in chosen.files(self.version) else None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        root = self.config.rootpath / "pyproject.toml"
        tested = tomllib.loads(root.read_text())["project"]["version"] if root.exists() else None
        if tested != self.version:
            raise pytest.UsageError(f"these are the tests of Penguiflow {tested}, and {self.version} is installed")
        if Path(str(sys.modules["penguiflow"].__file__)).is_relative_to(self.config.rootpath):
            raise pytest.UsageError("this is Penguiflow out of its sources, and not as it is installed")
        # A developer may name a file or a test; what is said of the whole list holds for the whole folder.
        options = self.config.option
        self.is_whole = all(Path(argument).is_dir() for argument in self.config.args) and not (
            options.keyword or options.markexpr
        )
        left_out = chosen.left_out(self.version)
        if self.is_whole:
            self.must_be_there({name_of(item) for item in items}, left_out)
        out = [item for item in items if name_of(item) in left_out]
        self.left_out = Counter(item.path.name for item in out)
        self.config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]
        for module in {item.getparent(pytest.Module) for item in items}:
            if module is not None and module.path.name in chosen.RECORDERS:
                name = chosen.RECORDERS[module.path.name]
                if not hasattr(module.obj, name):
                    raise pytest.UsageError(f"in chosen.py, and not in {module.path.name}: {name}")
                setattr(module.obj, name, self.recorder)

    def must_be_there(self, found: set[tuple[str, str]], left_out: frozenset[tuple[str, str]]) -> None:
        tests = [f"{file}::{name}" for file, name in sorted(left_out - found)]
        files = sorted(chosen.files(self.version) - {file for file, _ in found})
        if tests or files:
            raise pytest.UsageError(f"in chosen.py, and not among Penguiflow's tests: {', '.join(tests + files)}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None]:
        try:
            yield
        finally:
            made = self.places.take()
            if made:
                self.constructed.add(item.nodeid)
            if any(store.swap_given.calls for store in made):
                self.called.add(item.nodeid)
            stores.settle(made)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and not report.skipped:
            self.ran.add(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.places.close()
        unused = sorted({file_of(test) for test in self.ran} - {file_of(test) for test in self.called})
        if self.is_whole and unused:
            self.problems.append(f"no test of these files called our store: {', '.join(unused)}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        per_file = [Counter(file_of(test) for test in tests) for tests in (self.ran, self.constructed, self.called)]
        files = sorted(per_file[0] | self.left_out)
        terminalreporter.write_line(f"Penguiflow {self.version}: tests that ran, made our store, called it; left out")
        for file in [*files, "all"]:
            counts = [tests.total() if file == "all" else tests[file] for tests in [*per_file, self.left_out]]
            terminalreporter.write_line(f"  {file:45}" + "".join(f"{count:6}" for count in counts))
        for problem in self.problems:
            terminalreporter.write_line(f"ERROR: {problem}")


class Forgetful(dict[str, Any]):
    """Stands where a planner keeps its pauses: each resume then is that of another process, out of the store."""

    def __setitem__(self, key: str, value: Any) -> None:
        pass


def forget_pauses(planner: Any) -> None:
    planner._pause_records = Forgetful()


def name_of(item: pytest.Item) -> tuple[str, str]:
    """A test's file and its name in it; parameters are not part of the name."""
    _, _, name = item.nodeid.partition("::")
    return item.path.name, name.partition("[")[0]


def file_of(nodeid: str) -> str:
    return Path(nodeid.partition("::")[0]).name


def pytest_configure(config: pytest.Config) -> None:
    swap = Swap(config)
    swap.install()
    config.pluginmanager.register(swap, "icecore-swap")
