"""The README keeps its word: its programs run, its commands are there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from eventstore import events as e

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_the_readme_runs(program: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=tmp_path, check=True, timeout=60)


def test_the_readme_names_every_event_and_every_key_of_a_record() -> None:
    for tag in e.EVENT_TYPES:
        assert f"`{tag}`" in README
    for key in ("type", "seq", "at", "occurred_at", "v", "id", "batch", "by", "origin", "salt", "hash"):
        assert f"| `{key}` |" in README
    assert PROGRAMS


def test_no_line_of_the_project_is_too_long_to_quote() -> None:
    assert max(map(len, README.splitlines())) < 400
