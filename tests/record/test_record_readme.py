"""The page of the format is enough to verify a log: its two programs are run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import fields

import eventstore
from eventstore import FileSystemSessionStorage, SessionManager
from eventstore import events as e

PAGE = Path(eventstore.__file__).with_name("record").joinpath("README.md").read_text("utf-8")
BASH, PYTHON = (re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) for kind in ("bash", "python"))
ENVELOPE = [one.name for one in fields(e.Event)]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Return the sessions folder of a store with a session `s` of eight events, one of them redacted."""
    with SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history")) as manager:
        manager.create_session("s", 'Grüße, \\ % %s \\x41 and "quotes"')
        for text in ("one", "two  ", ',"hash":"', ',"redacted":"', "\u2028 \t"):
            manager.add_conversation_message("s", "user", text)
        manager.redactions.redact("s", [3], "a test")
    return tmp_path / ".sessions"


def run(program: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    python = f'{program}\nprint(verify("s/events.jsonl", "s"))'
    command = ["bash", "-c", program] if program in BASH else [sys.executable, "-c", python]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60)


@pytest.mark.parametrize("program", [*BASH, *PYTHON], ids=["bash", "python"])
def test_a_program_of_the_page_verifies_a_log_and_finds_a_changed_byte(program: str, logs: Path) -> None:
    log = logs / "s" / "events.jsonl"
    content = log.read_bytes()
    last_hash = content[-67:-3].decode()
    assert run(program, logs).stdout.strip() == last_hash
    for at in (content.index(b'"one"') + 1, content.index(b'"redacted":"') + 14, len(content) - 9):
        log.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert run(program, logs).returncode != 0


def test_the_page_names_every_key_of_a_record_in_order() -> None:
    keys = re.findall(r"^\| `([a-z_]+)` \|", PAGE.partition("## The chain")[0], re.MULTILINE)
    assert keys == ["type", *ENVELOPE]


@pytest.mark.parametrize("tag", e.EVENT_TYPES)
def test_the_page_names_every_type_with_its_own_fields_and_which_may_be_left_out(tag: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{tag}` |"))
    named = {name: mark == "?" for name, mark in re.findall(r"`([a-z0-9_]+)`(\??)", row.split("|")[2])}
    assert named == {one.name: not one.required for one in fields(e.EVENT_TYPES[tag]) if one.name not in ENVELOPE}
