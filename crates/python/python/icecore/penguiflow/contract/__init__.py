"""Penguiflow's contract for state stores, as tests that judge any store: a plugin for pytest.

```text
python -m pytest -p icecore.penguiflow.contract --pyargs icecore.penguiflow.contract --state-store MODULE:FACTORY
```

`README.md`, beside this file, says how a suite of its own takes the tests in, what the groups are, and which rules
Penguiflow's own reference store does not keep. Nothing here knows Icecore: a store is judged through Penguiflow's
protocol only.
"""

from ._plugin import (
    CONTRACT_VERSION,
    close,
    close_state_stores,
    open_another_state_store,
    open_retaining_store,
    open_state_store,
    opened,
    other_state_store,
    pytest_addoption,
    pytest_configure,
    pytest_runtest_setup,
    state_store,
    state_stores_share,
)

__all__ = [
    "CONTRACT_VERSION",
    "close",
    "close_state_stores",
    "open_another_state_store",
    "open_retaining_store",
    "open_state_store",
    "opened",
    "other_state_store",
    "pytest_addoption",
    "pytest_configure",
    "pytest_runtest_setup",
    "state_store",
    "state_stores_share",
]
