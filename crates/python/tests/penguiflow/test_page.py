"""The page on Penguiflow works as it is printed, with each release."""

import re
from pathlib import Path

from pages import PAGES, run_examples


def test_the_examples_of_the_page_on_penguiflow_run(tmp_path: Path) -> None:
    # Another fence would show Python that nobody runs.
    assert not re.findall(r"```(?:py|python3|pycon)\n", (PAGES / "penguiflow.md").read_text())
    run_examples("penguiflow", tmp_path)
