"""All tests of the contract, for a suite that takes them into a module of its own.

`from icecore.penguiflow.contract.suite import *` in a `test_….py` collects them there, with the fixtures of the
`conftest.py` beside it.
"""

import pkgutil
from importlib import import_module

from . import __path__

# Fixtures that stand beside the tests that use them must come along.
_FIXTURES = ("artifacts", "limited", "stream")

__all__: list[str] = []

for _found in sorted(found.name for found in pkgutil.iter_modules(__path__) if found.name.startswith("test_")):
    for _name, _value in vars(import_module(f"{__package__}.{_found}")).items():
        if _name.startswith("test_") or _name in _FIXTURES:
            # A name that two modules have would hide a test.
            assert _name not in globals(), _name
            globals()[_name] = _value
            __all__.append(_name)
