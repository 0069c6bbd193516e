"""Pages of the guide, whose examples are run as they are printed."""

import re
import subprocess
import sys
from pathlib import Path

PAGES = Path(__file__).parents[3] / "docs/guide"


def run_examples(page: str, folder: Path) -> None:
    """Runs the examples of a page one after the other, each in a process of its own, all in one folder."""
    examples = re.findall(r"```python\n(.*?)```", (PAGES / f"{page}.md").read_text(), re.DOTALL)
    assert examples
    for example in examples:
        command = [sys.executable, "-W", "error", "-c", example]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0 and ended.stderr == "", ended.stderr
