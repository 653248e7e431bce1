"""The load program, on a small store: it says what it counted, and notices what it is there for."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_a_small_run_loses_nothing_and_shows_each_operation(tmp_path: Path) -> None:
    small = ["--sessions", "8", "--appends", "800", "--writers", "1", "--idle-seconds", "0.2"]
    ran = subprocess.run(
        [sys.executable, str(ROOT / "tools/load.py"), *small],
        capture_output=True,
        text=True,
        timeout=200,
        env={"PATH": "", "BENCH_FOLDER": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 0, ran.stderr
    assert "816 events of 8 sessions" in ran.stdout
    for what in ("append a message", "list 50", "search a word", "a complete session"):
        assert f"| {what} | under load |" in ran.stdout
