"""The pages that tell how to use it work as they are printed."""

from pathlib import Path

import pytest
from pages import run_examples


@pytest.mark.parametrize("page", ["python", "queues", "metrics", "sessions"])
def test_the_examples_of_the_page_run(page: str, tmp_path: Path) -> None:
    run_examples(page, tmp_path)
