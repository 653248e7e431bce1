"""The examples run, and print what their readers expect."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "tools" / "examples"
SAID = {
    "basic_session": "Debug authentication issue: completed, 2 messages",
    "filesystem_session": "assistant: I do\nconversation.jsonl events.jsonl invocations.json metadata.json views.json",
    "custom_events": "2 acme.deployed: api is now 1.4.0 (by ci)",
    "custom_projection": "now: {'api': '1.4.1', 'web': '2.0.0'}\nafter event 2: {'api': '1.4.0'}",
    "subscriber": "mail: api 1.4.0\nmail: web 2.0.0\nmail: api 1.4.1\nhandled 2, then 1",
    "multi_tool_workflow": "used 3 tools",
    "filtering": "active: export, login\nof user123: export, login\nbug-fix or urgent: export, login\nthe latest: search",
}


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAID)


@pytest.mark.parametrize("name", SAID)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert SAID[name] in result.stdout
    assert list(tmp_path.iterdir()) == []
