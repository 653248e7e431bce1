"""What somebody types who has never used this: errors name what is wrong, where it was looked for, and what to do."""

import re
from pathlib import Path

import pytest
from click import unstyle
from commands import Shell
from transcripts import claude_session, codex_session, lines

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.cli.doctor import Finding


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """An empty folder without a store."""
    return Shell(tmp_path, monkeypatch, capsys)


def test_a_file_that_is_not_there_cannot_be_imported_and_its_folder_is_named(shell: Shell, tmp_path: Path) -> None:
    for words in (["import", "nope.jsonl"], ["import", "codex", "nope.jsonl"], ["import", "nope.jsonl", "--dry-run"]):
        error = shell(*words, check=None)[1]
        assert f"no such file or folder in {tmp_path}" in error
        assert "nothing was imported" in error
    assert "did you mean claude-code?" in shell("import", "claude-cod", check=2)[1]
    (tmp_path / "empty").mkdir()
    assert "no transcript was found in empty" in shell("import", "empty", check=1)[1]


def test_export_without_a_format_says_where_one_belongs_and_that_the_store_is_empty(shell: Shell) -> None:
    error = shell("export", "latest", check=2)[1]
    assert "'latest' is no FORMAT, which comes before SESSION" in error
    assert "`eventstore export markdown latest`" in error
    assert "no sessions in" in error
    assert "did you mean markdown?" in shell("export", "markdwn", check=2)[1]
    shell("create", "here")
    assert "no sessions in" not in shell("export", "latest", check=2)[1]


def test_options_that_would_be_ignored_are_refused(shell: Shell) -> None:
    assert "use one of them" in shell("import", "--watch", "--dry-run", check=2)[1]
    for option in (["--watch"], ["--again"], ["--records"], ["--replace"], ["--as", "x"]):
        error = shell("import", "--archive", "a.zip", *option, check=2)[1]
        assert f"--archive cannot be used with {option[0]}" in error


def test_verify_and_repair_refuse_a_file_of_another_format_and_go_on_with_the_next(
    shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "good.jsonl").write_bytes(lines(*claude_session()))
    (tmp_path / "codex.jsonl").write_bytes(lines(*codex_session()))
    (tmp_path / "README").write_bytes(b"Read me\n")
    files = ["README", "codex.jsonl", "good.jsonl", "none.jsonl"]
    out, err = shell("verify", "--format", "claude-code", *files, check=1)
    assert "good.jsonl: no faults found" in out
    assert "README: no line of it is of Claude Code" in err
    assert "use --format codex" in err
    assert "none.jsonl: No such file" in err
    assert "import" not in err
    assert "README: no line" in shell("repair", "--format", "claude-code", "README", "--yes", check=1)[1]
    assert (tmp_path / "README").read_bytes() == b"Read me\n"


def test_a_time_that_is_none_is_named_with_its_option_and_examples(shell: Shell) -> None:
    shell("create", "s")
    for option in ("--since", "--until"):
        for command in (["list"], ["search", "x"]):
            assert f"'{option}': 'foo' is not a time: write yesterday" in shell(*command, option, "foo", check=2)[1]
    for words in (
        ["list", "--at", "foo"],
        ["show", "s", "--at", "foo"],
        ["fork", "s", "--at", "foo"],
        ["diff", "s", "foo"],
    ):
        assert "'foo' is neither a number of events nor a time: write yesterday" in shell(*words, check=2)[1]


@pytest.mark.parametrize("text", ["", "  ", "!?", '"exit code'])
def test_a_text_that_cannot_be_searched_for_is_refused_with_an_example(shell: Shell, text: str) -> None:
    error = shell("search", text, check=2)[1]
    assert "Invalid value for TEXT" in error
    assert "write eventstore search " in error


def test_a_session_that_is_gone_with_its_store_is_said_to_be(shell: Shell) -> None:
    out, err = shell("create", "s", "--store", "memory:")
    assert out == "s\n"
    assert "the store is in memory (--store): nothing is kept after this command" in err
    assert "this session is gone with its store" in err
    assert shell("create", "s") == ("s\n", "")


def at_width(shell: Shell, monkeypatch: pytest.MonkeyPatch, columns: int, *words: str) -> tuple[str, str]:
    """Run a command for a terminal of that width, without colours."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("eventstore.cli.table.is_terminal", lambda: True)
    monkeypatch.setattr("eventstore.cli.timeline.is_terminal", lambda: True)
    monkeypatch.setattr("eventstore.cli.doctor.is_terminal", lambda: True)
    out, err = shell(*words)
    return unstyle(out), unstyle(err)


def test_a_list_says_which_columns_had_no_room(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell("create", "titled", "--purpose", "find " * 20, "--user", "ana", "--tag", "a-tag")
    shell("create", "untitled", "--user", "ana", "--tag", "a-tag")
    out, err = at_width(shell, monkeypatch, 50, "list")
    assert "TAGS" not in out
    assert "no room for TAGS: --json shows all" in err
    assert "(none)" in out
    out, err = at_width(shell, monkeypatch, 120, "list")
    assert ("TAGS" in out, err) == (True, "")
    monkeypatch.undo()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_replay_loses_no_name_and_no_text_without_a_sign(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, columns: int
) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage, by={"actor": "my-research-agent"})
        manager.create_session("s", "a purpose")
        manager.add_conversation_message("s", "assistant", "hello")
        with manager.invocation("s", "mcp__a_server__a_long_tool_name_of_it", {"x": 1}) as call:
            call.result = "found it"
    out, _ = at_width(shell, monkeypatch, columns, "replay", "s")
    rows = out.splitlines()
    assert "my-research-agent" in rows[0]
    assert "assistant" in rows[1]
    assert all(row.rstrip().endswith(("…", "a purpose", "hello", "found it", '{"x":1}')) for row in rows), rows
    assert "mcp__a" in rows[2]


def test_doctor_names_every_extra_whole(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("good", "store", "there"), Finding("note", "extra pydantic-ai", "not installed " * 9)]
    monkeypatch.setattr("eventstore.cli.doctor.look", lambda store: found)
    out, _ = at_width(shell, monkeypatch, 80, "doctor")
    assert "extra pydantic-ai  not installed" in out
    assert max(map(len, out.splitlines())) <= 80


def test_what_is_written_to_a_file_is_said(shell: Shell, tmp_path: Path) -> None:
    shell("create", "s", "--purpose", "p")
    for words in (
        ["export", "events", "s"],
        ["export", "csv", "s"],
        ["export", "markdown", "s"],
        ["audit", "report", "s"],
    ):
        path = tmp_path / f"{words[1]}.md"
        out, err = shell(*words, "-o", path.name)
        assert (out, err) == ("", f"{path.name}: {path.stat().st_size:,} bytes written\n")
    assert "figures: " in shell("analytics", "--csv", "figures")[1]


def test_an_output_in_a_folder_that_is_not_there_is_named_as_it_was_given(shell: Shell) -> None:
    shell("create", "s", "--purpose", "p")
    for words in (
        ["export", "events", "s", "-o", "gone/a.jsonl"],
        ["export", "--archive", "gone/a.zip", "s"],
        ["export", "html", "s", "-o", "gone/a.html"],
        ["audit", "report", "s", "-o", "gone/a.md"],
        ["audit", "export", "s", "-o", "gone/a.zip"],
    ):
        name = next(one for one in words if one.startswith("gone/"))
        error = shell(*words, check=1)[1]
        assert error == f"eventstore: No such file or directory: {name}; the command was not carried out\n"


def test_numbers_are_shown_as_people_write_them(shell: Shell, tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        manager.create_session("s", "p")
        shown = {"score": 0.1 + 0.2, "flags": {"on": True, "x": [0.1 + 0.7]}}
        manager.update_session_metadata("s", custom_metadata=shown)
    out = shell("show", "s")[0]
    assert re.search(r"^score +0\.3$", out, re.MULTILINE)
    assert re.search(r'^flags +{"on":true,"x":\[0\.8\]}$', out, re.MULTILINE)


def test_an_empty_store_is_called_one(shell: Shell, tmp_path: Path) -> None:
    for words in (
        ["audit", "export", "--all", "-o", "a.zip"],
        ["export", "--archive", "a.zip"],
        ["export", "csv", "--all"],
    ):
        error = shell(*words, check=1)[1]
        assert "there are none in the store" in error or "no sessions in" in error
    assert not (tmp_path / "a.zip").exists()
    assert shell("import", "codex", check=1)[0] == ""
    assert "they are in" not in shell("import", "codex", check=1)[1]


def test_all_sessions_are_exported_to_one_table(shell: Shell) -> None:
    for name in ("a", "b"):
        shell("create", name)
    shell("export", "json", "--all", "-o", "all.json")
    out = shell("export", "json", "--all")[0]
    assert '"a"' in out
    assert '"b"' in out
    assert "markdown accepts one SESSION, not --all" in shell("export", "markdown", "--all", check=2)[1]
    assert "name sessions, or use --all" in shell("export", "csv", "a", "--all", check=2)[1]
    assert "--all cannot be used with SESSION" in shell("export", "--archive", "x.zip", "--all", "csv", check=2)[1]


def test_the_plan_of_a_redaction_shows_what_would_go_and_no_secret(shell: Shell, tmp_path: Path) -> None:
    secret = "ghp_" + "a1B2" * 9
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        manager.create_session("s", "p")
        manager.add_conversation_message("s", "user", f"the token is {secret}, hunter22")
    out = shell("redact", "s", "--secrets", "--pattern", "hunter[0-9]+", check=1)[0]
    assert "ghp_…B2 (40 characters), h… (8 characters)" in out
    assert secret not in out
    assert "hunter22" not in out
    assert '"shown":["ghp_…B2 (40 characters)"]' in shell("redact", "s", "--secrets", "--json", check=1)[0]
    assert "the token is" in shell("redact", "s", "--event", "2", check=1)[0]


def test_a_folder_with_a_store_is_imported_without_the_files_of_the_store(shell: Shell, tmp_path: Path) -> None:
    shell("create", "s")
    (tmp_path / "one.jsonl").write_bytes(lines(*claude_session()))
    out, err = shell("import", ".", check=0)
    assert "one" in out
    assert "cannot import" not in err


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_row_of_a_replay_wraps(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, columns: int) -> None:
    """Long names of programs, tools and models leave room for each other; a duration stays whole."""
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage, by={"actor": "my-research-agent-of-a-long-name"})
        manager.create_session("s", "a purpose")
        manager.link_invocation("s", "i", "mcp__a_server__a_long_tool_name_of_it", None, 12_345.0, success=True)
        manager.record_usage("s", {"input": 214_000, "output": 31_200, "cache_read": 1_000_000}, 0.5, "a-model")
    out, _ = at_width(shell, monkeypatch, columns, "replay", "s")
    assert max(map(len, out.splitlines())) <= columns, out
    assert ", 12.3 s]" in out
    assert "1,245,200 tokens" in out or "1,000,000 cache_read" in out


def test_wrong_usage_is_said_on_one_line_and_a_group_shows_its_help(shell: Shell) -> None:
    shell("create", "s")
    for group in ("template", "audit"):
        error = shell(group, check=2)[1]
        assert error.startswith(f"Usage: eventstore {group}")
        assert "\\n" not in error
    assert "Choose from: bash, zsh, fish" in shell("completion", check=2)[1]
    assert "'x' is not a number." in shell("cleanup", "--days", "x", check=2)[1]
    assert "'x' is not a whole number." in shell("list", "--limit", "x", check=2)[1]
    said = shell("analytics", "--since", "foo", check=2)[1]
    assert "'--since': 'foo' is not a day" in said
    assert "14:30" not in said  # which is no day
    error = shell("show", "s:abc", check=2)[1]
    assert "'s:abc' is no session: behind the colon stands the number of one event, as in s:3" in error


def test_a_list_of_sessions_whose_logs_are_empty_says_where_to_look(shell: Shell, tmp_path: Path) -> None:
    shell("create", "here")
    (tmp_path / ".sessions" / "here" / "events.jsonl").write_bytes(b"")
    assert "1 in all, can be read: `eventstore repair --all` shows why" in shell("list")[1]
    assert "here is missing" in shell("repair", "--all", check=1)[1]
    assert "no sessions that fit, of 1 in" in shell("list", "--user", "ana")[1]
