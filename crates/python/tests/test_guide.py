"""The pages that tell how to use it work as they are printed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[3] / "docs/guide"


@pytest.mark.parametrize("page", ["python", "queues", "penguiflow", "metrics", "sessions"])
def test_the_examples_of_the_page_run(page: str, tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", (PAGES / f"{page}.md").read_text(), re.DOTALL)

    assert examples
    for example in examples:
        command = [sys.executable, "-W", "error", "-c", example]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0 and ended.stderr == "", ended.stderr
