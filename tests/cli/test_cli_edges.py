"""Commands at the edges: times in any zone, numbers of any size, control characters in any name or text."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from commands import Shell, in_terminal, objects, run

from eventstore import FileSystemSessionStorage, SessionManager

EDGES = ("9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z")
ZONES = ("Pacific/Kiritimati", "America/St_Johns")
NASTY = "a\x1b[31mb\x9bc\x7fd\u202ee\U000e0041f\u200bg"
HARMFUL = set("\x1b\x9b\x7f\u202e\U000e0041\u200b")


@pytest.fixture
def edges(tmp_path: Path) -> Path:
    """A store with sessions at both ends of the calendar, one of them imported."""
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        for number, when in enumerate(EDGES):
            name = f"s{number}"
            manager.create_session(name, "p", occurred_at=when)
            manager.add_conversation_message(name, "user", "hello", occurred_at=when)
            manager.link_invocation(name, "i", "grep", None, 2.0, success=False, error="no", occurred_at=when)
            manager.record_usage(name, {"input": 1}, 0.5, "m", occurred_at=when)
    for number, when in enumerate(EDGES):
        said = {"role": "user", "content": "hi"}
        line = {"type": "user", "uuid": "u", "parentUuid": None, "sessionId": "x", "timestamp": when, "message": said}
        (tmp_path / f"t{number}.jsonl").write_text(json.dumps(line) + "\n")
        run("import", "claude-code", f"t{number}.jsonl", cwd=tmp_path)
    return tmp_path


@pytest.fixture
def shell(edges: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    before = os.environ.get("TZ")
    try:
        yield Shell(edges, monkeypatch, capsys)
    finally:
        os.environ["TZ"] = before or "UTC"
        time.tzset()


@pytest.mark.parametrize("zone", ZONES)
def test_sessions_at_both_ends_of_the_calendar_are_shown_in_every_zone(shell: Shell, zone: str) -> None:
    shell.set_zone(zone)
    everywhere: Sequence[Sequence[str]] = (
        ["list"],
        ["list", "--json"],
        ["list", "--at", "9999-12-31T23:59:59Z"],
        ["analytics"],
        ["cleanup", "--dry-run"],
        ["search", "hello"],
        ["verify", "--all"],
        ["recover"],
    )
    for arguments in everywhere:
        shell(*arguments)
    for name in ("s0", "s1", "t0", "t1"):
        for command in ("show", "replay", "stats", "tree", "export otlp", "export csv", "audit report"):
            shell(*command.split(), name)
        shell("diff", name, "1")
    shown, _ = shell("list")
    assert "9999-12-31" in shown
    assert "0001-01-0" in shown


def test_a_time_that_leaves_the_calendar_in_utc_is_refused_by_name(shell: Shell) -> None:
    for when in ("9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00", "2016-12-31T23:59:60Z", "9999-99-99"):
        assert f"{when!r} is not a time: write yesterday" in shell("list", "--since", when, check=2)[1]
        assert f"{when!r} is neither a number of events nor a time" in shell("show", "s0", "--at", when, check=2)[1]
    assert "not a day" in shell("analytics", "--since", "9999-99-99", check=2)[1]


@pytest.mark.parametrize("number", ["1e9", "1e300", "3652059"])
def test_ages_beyond_the_calendar_find_nothing(shell: Shell, number: str) -> None:
    assert "nothing was changed" in shell("cleanup", "--days", number, "--dry-run")[1]
    assert "0 moved to the trash" in shell("cleanup", "--days", number, "--grace", number, "--yes")[1]
    assert "0 sessions marked" in shell("recover", "--silent-hours", number)[0]


@pytest.mark.parametrize("number", ["nan", "inf", "-1"])
def test_what_is_no_number_of_days_is_not_understood(shell: Shell, number: str) -> None:
    for arguments in (
        ("cleanup", "--days"),
        ("cleanup", "--grace"),
        ("recover", "--silent-hours"),
        ("replay", "s0", "--speed"),
    ):
        assert "is not" in shell(*arguments, number, check=2)[1]


def test_limits_of_any_size_mean_all(shell: Shell) -> None:
    for number in (2**53, 2**63, 10**30):
        assert len(objects(shell("list", "--json", "--limit", str(number))[0])) == 4
        assert shell("search", "hello", "--limit", str(number))[0]


def test_errors_of_the_command_line_hold_no_control_characters(shell: Shell) -> None:
    for arguments in (
        ("import", "claude-code", NASTY),
        ("import", NASTY),
        ("verify", "s0", "--key", NASTY),
        ("verify", "s0", "--checkpoint", NASTY),
        ("list", "--status", NASTY),
        ("list", f"--{NASTY}"),
        ("list", "--limit", NASTY),
        ("show", NASTY),
        (NASTY,),
        ("audit", "report", "s0", "-o", f"{NASTY}.txt"),
        ("import", "--archive", NASTY),
        ("checkpoint", "s0", "--key", NASTY),
        ("follow", "s0", "--cursor-file", f"{NASTY}/x"),
    ):
        _, error = shell(*arguments, check=None)
        assert error
        assert not HARMFUL & set(error), arguments


def test_file_names_are_harmless_where_they_are_printed(shell: Shell) -> None:
    for arguments in (
        ("keygen", "k", "-o", f"{NASTY}.key"),
        ("audit", "export", "s0", "-o", f"{NASTY}.zip"),
        ("export", "--archive", f"{NASTY}2.zip", "s0"),
    ):
        assert not HARMFUL & set("".join(shell(*arguments))), arguments


def test_json_on_a_terminal_holds_escapes_and_the_same_values(edges: Path) -> None:
    run("create", "nasty", "--purpose", NASTY, "--tag", NASTY, cwd=edges)
    with FileSystemSessionStorage(edges / ".sessions", edges / ".history") as storage:
        SessionManager(storage).add_conversation_message("nasty", "user", NASTY)
    for command in (
        "list --json --purpose a",
        "export events nasty",
        "export cloudevents nasty",
        "export otlp nasty --content",
        "export json nasty",
        "follow nasty --no-wait --json",
    ):
        shown = in_terminal(command.split(), edges)
        assert not HARMFUL & set(shown), command
        piped = run(*command.split(), cwd=edges).stdout
        if not command.startswith("export json"):
            assert objects(shown) == objects(piped)
    assert "\u202e" in run("export", "cloudevents", "nasty", cwd=edges).stdout
    for command in ("export csv nasty", "audit report nasty"):
        assert not (HARMFUL - {"\x1b"}) & set(in_terminal(command.split(), edges)), command


def test_numbers_of_any_size_are_taken_or_refused_in_every_option(shell: Shell) -> None:
    shell("keygen", "k")
    huge = str(10**30)
    for options in (
        ("prove", "s0", "--event", huge),
        ("prove", "s0", "--since", huge),
        ("prove", "s0", "--event", "1", "--size", huge),
        ("redact", "s0", "--event", huge, "--yes", "--reason", "x"),
        ("show", "s0", "--at", huge),
        ("fork", "s0", "--at", "9" * 17),
        ("diff", "s0", "0", "9" * 17),
        ("template", "save", "t", "s0", "--at", huge),
        ("follow", "s0", "--lines", huge),
    ):
        shell(*options, check=None)
    shell("rebuild", "--jobs", huge)
    shell("rebuild", "--check", "--jobs", huge)
    shell("replay", "s0", "--speed", "1e308")


def test_every_error_names_the_program_in_front(shell: Shell) -> None:
    for command in ("show nope", "import claude-code nope", "template show nope", "keygen k -o s/x"):
        assert shell(*command.split(), check=1)[1].startswith("eventstore: ")
