"""The types that are told are those that are there."""

import ast
import inspect
from pathlib import Path

import icecore
import typed
from icecore import _native


async def test_what_is_typed_runs() -> None:
    await typed.main()


def test_the_stubs_name_all_that_is_there_and_no_more() -> None:
    path = Path(icecore.__file__).with_name("_native.pyi")
    told: dict[str, set[str]] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            told[node.name] = {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            told[node.name] = set()

    there = {name for name in dir(_native) if not name.startswith("__")}

    assert set(told) == there
    for name in there:
        found = getattr(_native, name)
        if inspect.isclass(found):
            own = {member for member in vars(found) if not member.startswith("__")}
            assert {member for member in told[name] if not member.startswith("__")} == own, name


def test_every_public_name_is_told_and_has_a_docstring() -> None:
    for name in icecore.__all__:
        if name != "EventLike":
            assert inspect.getdoc(getattr(icecore, name)), name
