"""Commands on a store with values of hundreds of digits: answers of a readable length, and no traceback."""

import json
from pathlib import Path

import pytest
from commands import Shell

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore import events as e

MOST = 2**63 - 1
COMMANDS = (
    "analytics",
    "analytics --by model",
    "list --sort cost",
    "stats s",
    "show s",
    "replay s",
    "tree s",
    "diff s 1 2",
    "audit report s",
    "export markdown s",
    "rebuild --check",
    "verify --all",
)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A shell in a store whose events were written before there was a limit."""
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        for name, value in (("s", 1e308), ("t", 1e300)):
            SessionManager(storage).create_session(name, "p")
            used = e.UsageRecorded(tokens={"input": MOST, "output": 1}, cost=value)
            calls = [e.InvocationLinked(invocation_id=one, tool_name="t", duration_ms=value) for one in "ij"]
            storage.append(name, [used, used, *calls])
    return Shell(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_answers_without_hundreds_of_digits(shell: Shell, command: str) -> None:
    for name in "st":
        said = shell(*[name if one == "s" else one for one in command.split()])[0]
        assert not any(len(line) > 250 for line in said.splitlines())
        assert "inf" not in said.split()


def test_json_has_numbers_and_traces_have_an_end(shell: Shell) -> None:
    found = json.loads(shell("stats", "s", "--json")[0])
    assert found["estimated_cost"] == found["total_duration_ms"] == 1.7976931348623157e308
    assert json.loads(shell("analytics", "--json")[0].splitlines()[-1])["tokens"] == MOST
    assert int(
        json.loads(shell("export", "otlp", "s")[0])["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["endTimeUnixNano"]
    )
