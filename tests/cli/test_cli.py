"""The commands, as people and programs run them."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from commands import HOSTILE, ROOT, clean_environment, in_terminal, objects, run
from transcripts import claude_session, codex_session, lines

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.cli import _COMMANDS
from eventstore.events import MessageAdded


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder with two transcripts imported by the command."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one.jsonl").write_bytes(lines(*claude_session()))
    run("import", "claude-code", "in", "--records", "--store", "store", cwd=tmp_path)
    return tmp_path


def test_the_demo_replays_a_session(tmp_path: Path) -> None:
    shown = run("demo", cwd=tmp_path).stdout
    for part in (
        "git_log",
        "Figures",
        "2,140 input",
        "invocations/",
        "events verified",
        "Next: eventstore import, then eventstore list",
    ):
        assert part in shown
    assert list(tmp_path.iterdir()) == []


def test_import_tells_one_object_a_transcript(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "one.jsonl").write_bytes(lines(*claude_session()))
    (tmp_path / "two.jsonl").write_bytes(lines(claude_session()[1]) + b'nonsense\n{"type":"user"}\n')
    arguments = ("import", "claude-code", "deep", "two.jsonl", "--json", "--store", "store")
    first, second = objects(run(*arguments, cwd=tmp_path).stdout)
    assert list(first) == ["path", "session_id", "lines", "events", "odd"]
    assert (first["session_id"], first["lines"], first["odd"]) == ("one", 9, [])
    assert (second["path"], second["lines"], len(second["odd"])) == ("two.jsonl", 3, 2)
    assert [one["events"] for one in objects(run(*arguments, cwd=tmp_path).stdout)] == [0, 0]
    (tmp_path / "two.jsonl").write_bytes(b'nonsense\n{"type":"user"}\n')
    refused = run("import", "claude-code", "two.jsonl", "--store", "store", cwd=tmp_path, check=1).stderr
    assert "no line of it is of Claude Code" in refused


def test_few_odd_lines_are_shown_and_what_is_no_transcript_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_bytes(b'{"type":"summary"}\n' + b"odd\n" * 30)
    (tmp_path / "passwd").write_bytes(b"root:x:0:0\n" * 30)
    found = run("import", "claude-code", "odd.jsonl", "passwd", cwd=tmp_path, check=1)
    assert found.stdout.count("    line ") == 10
    assert "    and more: --json lists 30\n" in found.stdout
    assert found.stderr == (
        "eventstore: cannot import passwd: it is not a transcript: none of its first 30 lines is a JSON object with a type; "
        "nothing was imported\n"
    )
    assert "passwd" not in run("list", cwd=tmp_path).stdout


def test_import_looks_where_the_tools_keep_theirs(tmp_path: Path) -> None:
    projects = tmp_path / ".claude" / "projects" / "-made-up"
    projects.mkdir(parents=True)
    (projects / "one.jsonl").write_bytes(lines(*claude_session()))
    rollouts = tmp_path / ".codex" / "sessions" / "2026" / "03" / "02"
    rollouts.mkdir(parents=True)
    (rollouts / "rollout-x.jsonl").write_bytes(lines(*codex_session()))
    assert "1 transcript, 9 lines read" in run("import", "claude-code", cwd=tmp_path).stdout
    run("import", "codex", cwd=tmp_path)
    assert len([path for path in (tmp_path / ".sessions").iterdir() if path.name[0] != "_"]) == 2


def test_a_refused_file_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a b.jsonl").write_bytes(b"{}\n")
    (tmp_path / "in" / "one.jsonl").write_bytes(lines(*claude_session()))
    result = run("import", "claude-code", "in", cwd=tmp_path, check=1)
    assert "a b.jsonl" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "1 transcript," in result.stdout
    assert "1 refused" in result.stdout
    assert "no such file or folder" in run("import", "claude-code", "nowhere", cwd=tmp_path, check=1).stderr


def test_export_writes_traces_and_tables_of_several_sessions(store: Path) -> None:
    in_store = ("--store", "store")
    traces = objects(run("export", "otlp", "one", "one", *in_store, cwd=store).stdout)
    assert [len(trace["resourceSpans"]) for trace in traces] == [1, 1]
    plain, told = (run("export", "otlp", "one", *more, *in_store, cwd=store).stdout for more in ([], ["--content"]))
    assert len(told) > len(plain)
    events = objects(run("export", "events", "one", *in_store, cwd=store).stdout)
    clouds = objects(run("export", "cloudevents", "one", *in_store, cwd=store).stdout)
    assert [one["data"] for one in clouds] == events
    for table in ("events", "calls", "usage"):
        for form in ("csv", "json", "parquet"):
            run("export", form, "one", "--table", table, "-o", f"t.{form}", "--force", *in_store, cwd=store)
        with (store / "t.csv").open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        found = json.loads((store / "t.json").read_text())
        assert rows
        assert [list(row) for row in rows] == [list(row) for row in found]
        assert len(duckdb.read_parquet(str(store / "t.parquet")).fetchall()) == len(found) == len(rows)
    default = json.loads(run("export", "json", "one", *in_store, cwd=store).stdout)
    assert [row["type"] for row in default] == [event["type"] for event in events]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["events", "one", "one"], "events accepts one SESSION, not 2"),
        (["otlp", "one", "--table", "calls"], "--table needs one of csv, json, parquet, not otlp"),
        (["csv", "one", "--content"], "--content needs otlp, not csv"),
        (["parquet", "one"], "parquet needs an output file: -o FILE"),
        (["csv"], "Missing argument"),
    ],
)
def test_export_refuses_what_does_not_go_together(arguments: list[str], told: str, store: Path) -> None:
    assert told in run("export", *arguments, "--store", "store", cwd=store, check=2).stderr


def test_export_leaves_no_file_where_a_session_is_not_there(store: Path) -> None:
    for form in ("otlp", "cloudevents", "csv", "json", "parquet"):
        before = sorted(path.name for path in store.iterdir())
        refused = run("export", form, "one", "nobody", "-o", "out", "--store", "store", cwd=store, check=1)
        assert "session 'nobody' not found" in refused.stderr
        assert sorted(path.name for path in store.iterdir()) == before


def test_export_gives_back_the_file(store: Path) -> None:
    wanted = (store / "in" / "one.jsonl").read_bytes()
    run("export", "claude-code", "one", "-o", "out.jsonl", "--store", "store", cwd=store)
    assert (store / "out.jsonl").read_bytes() == wanted
    assert run("export", "claude-code", "one", "--store", "store", cwd=store).stdout.encode() == wanted
    events = run("export", "events", "one", "--store", "store", cwd=store).stdout
    assert events.encode() == (store / "store" / ".sessions" / "one" / "events.jsonl").read_bytes()
    refused = run("export", "claude-code", "one", "-o", "out.jsonl", "--store", "store", cwd=store, check=1)
    assert "out.jsonl exists already; nothing was written: choose another name, or use --force" in refused.stderr
    assert (store / "out.jsonl").stat().st_mode & 0o777 == 0o600
    refused = run("export", "codex", "one", "-o", "out.jsonl", "--force", "--store", "store", cwd=store, check=1)
    assert "not imported from codex" in refused.stderr
    assert (store / "out.jsonl").read_bytes() == wanted


def test_list_filters_and_prints_json(store: Path) -> None:
    with FileSystemSessionStorage(store / "store" / ".sessions", store / "store" / ".history") as storage:
        manager = SessionManager(storage)
        manager.create_session("two", "p\x1b[31m", "ann", ["x"])
    ask = ("list", "--json", "--store", "store")
    assert [one["session_id"] for one in objects(run(*ask, cwd=store).stdout)] == ["two", "one"]
    for filters in (("--user", "ann"), ("--tag", "x"), ("--status", "active"), ("--limit", "1")):
        assert [one["session_id"] for one in objects(run(*ask, *filters, cwd=store).stdout)] == ["two"]
    (imported,) = objects(run(*ask, "--status", "completed", cwd=store).stdout)
    assert imported["session_id"] == "one"
    plain = run("list", "--store", "store", cwd=store).stdout.splitlines()
    assert plain[0].startswith("session_id\tstatus\t")
    assert plain[1].split("\t")[0] == "two"
    assert "no sessions" in run("list", "--store", "elsewhere", cwd=store).stderr


def test_show_names_the_tool_of_a_result_after_its_call(tmp_path: Path) -> None:
    with SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no")) as manager:
        call = MessageAdded(role="assistant", content='{"n":3}', tool_name="git_log", invocation_id="c1")
        manager.append("s", [call, MessageAdded(role="tool", content="3 commits", invocation_id="c1")], create=True)
    assert "\ntool · git_log  " in run("show", "s", cwd=tmp_path).stdout


def test_show_stats_tree_replay(store: Path) -> None:
    asked = ("one", "--store", "store")
    run("import", "claude-code", "in", "--store", "plain", cwd=store)
    assert (
        run("tree", "one", "--store", "plain", cwd=store).stdout == ""
    )  # folders of calls are made with --records only
    assert "It was e41c9d2." in run("show", *asked, cwd=store).stdout
    (session,) = objects(run("show", *asked, "--json", cwd=store).stdout)
    assert session["metadata"]["session_id"] == "one"
    assert len(session["conversation"]) == 6
    assert "18 input" in run("stats", *asked, cwd=store).stdout
    (figures,) = objects(run("stats", *asked, "--json", cwd=store).stdout)
    assert (figures["total_invocations"], figures["message_count"]) == (2, 6)
    assert "one/invocations/t1\t2026-03-02_09-30-04_000000_Bash" in run("tree", *asked, cwd=store).stdout
    (links,) = objects(run("tree", *asked, "--json", cwd=store).stdout)
    assert set(links) == {"invocations/t1", "invocations/t2"}
    rows = objects(run("replay", *asked, "--json", cwd=store).stdout)
    assert [row["since_start_seconds"] for row in rows if row["what"] == "failed"] == [6.25]
    plain = run("replay", *asked, cwd=store).stdout
    assert re.search(r"\+00:05\.500 tool +succeeded \[Bash, 2\.5 s\]", plain)


def test_replay_plays_in_time(store: Path) -> None:
    rows = run("replay", "one", "--speed", "1000", "--store", "store", cwd=store).stdout.splitlines()
    assert len(rows) > 10
    assert "--speed" in run("replay", "one", "--speed", "0", "--store", "store", cwd=store, check=2).stderr


def test_every_answer_can_be_had_as_of_a_moment(store: Path) -> None:
    asked = ("--store", "store")
    (then,) = objects(run("stats", "one", "--at", "2", "--json", *asked, cwd=store).stdout)
    (now,) = objects(run("stats", "one", "--json", *asked, cwd=store).stdout)
    assert then["message_count"] < now["message_count"]
    assert len(run("replay", "one", "--at", "3", *asked, cwd=store).stdout.splitlines()) == 3
    (early,) = objects(run("show", "one", "--at", "1", "--json", *asked, cwd=store).stdout)
    assert early["conversation"] == []
    empty = run("tree", "one", "--at", "1", *asked, cwd=store)
    assert (empty.stdout, empty.stderr) == ("", "one has neither tool calls nor sub-agents\n")
    assert run("list", "--at", "1999-01-01", *asked, cwd=store).stdout == ""
    assert "one" in run("list", "--at", "2999-01-01T00:00:00Z", *asked, cwd=store).stdout
    assert "nor a time: write yesterday" in run("show", "one", "--at", "soon", *asked, cwd=store, check=2).stderr
    assert "no such moment" in run("show", "one", "--at", "9999", *asked, cwd=store, check=1).stderr


def test_diff_tells_what_changed(store: Path) -> None:
    asked = ("--store", "store")
    found = objects(run("diff", "one", "1", "--json", *asked, cwd=store).stdout)
    assert any(change["kind"] == "message" and change["before"] is None for change in found)
    assert "+ message" in run("diff", "one", "1", *asked, cwd=store).stdout
    assert "- message" in run("diff", "one", "9", "1", *asked, cwd=store).stdout
    assert run("diff", "one", "3", "3", *asked, cwd=store).stdout == ""


def test_rebuild_brings_back_every_view(store: Path) -> None:
    folder = store / "store" / ".sessions" / "one"
    run("rebuild", "--store", "store", cwd=store)  # an import leaves out conversation.jsonl
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert "conversation.jsonl" in before
    for path in folder.iterdir():
        if path.is_file() and path.name != "events.jsonl":
            path.unlink()
    assert "1 session rebuilt" in run("rebuild", "--store", "store", cwd=store).stdout
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_damaged_session_hides_no_other(store: Path) -> None:
    with FileSystemSessionStorage(store / "store" / ".sessions", store / "store" / ".history") as storage:
        SessionManager(storage).create_session("two")
    path = store / "store" / ".sessions" / "two" / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b"session.created", b"session.creatad") + b"\n")
    listed = run("list", "--store", "store", cwd=store, check=1)
    assert "one\t" in listed.stdout
    assert "session 'two' is damaged" in listed.stderr
    rebuilt = run("rebuild", "--store", "store", cwd=store, check=1)
    assert "1 session rebuilt" in rebuilt.stdout
    assert "session 'two' is damaged" in rebuilt.stderr


def test_verify_repair_verify(store: Path) -> None:
    asked = ("--store", "store")
    assert "one: whole to event" in run("verify", "--all", *asked, cwd=store).stdout
    run("verify", *asked, cwd=store, check=2)
    path = store / "store" / ".sessions" / "one" / "events.jsonl"
    damaged = path.read_bytes().replace(b"e41c9d2", b"e41c9d3", 1)
    path.write_bytes(damaged)
    broken = run("verify", "one", *asked, cwd=store, check=3)
    assert "damaged: line " in broken.stdout
    assert broken.stdout.endswith("damaged (exit status 3)\n")
    (verdict,) = objects(run("verify", "one", "--json", *asked, cwd=store, check=3).stdout)
    assert (verdict["whole"], verdict["outcome"], verdict["findings"][0]["part"]) == (False, "damaged", "log")
    assert "nothing was changed" in run("repair", "--all", *asked, cwd=store, check=1).stdout
    assert path.read_bytes() == damaged
    assert "appended again" in run("repair", "one", "--yes", *asked, cwd=store).stdout
    assert "whole to event" in run("verify", "--all", *asked, cwd=store).stdout
    assert "no faults found" in run("repair", "--all", *asked, cwd=store).stdout


def test_verify_and_repair_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(lines(*claude_session()) + b'{"type":"us')
    found = run("verify", "--format", "claude-code", "t.jsonl", cwd=tmp_path, check=1)
    assert "line 10, byte" in found.stdout
    assert "use --yes" in run("repair", "--format", "claude-code", "t.jsonl", cwd=tmp_path, check=1).stdout
    assert "t.jsonl.damaged-1" in run("repair", "--format", "claude-code", "t.jsonl", "--yes", cwd=tmp_path).stdout
    assert path.read_bytes() == lines(*claude_session())
    assert "no faults found" in run("verify", "--format", "claude-code", "t.jsonl", cwd=tmp_path).stdout


def test_recover_marks_sessions_whose_program_is_gone(store: Path) -> None:
    with FileSystemSessionStorage(store / "store" / ".sessions", store / "store" / ".history") as storage:
        SessionManager(storage).create_session("left")
    asked = ("recover", "--store", "store")
    assert "0 sessions marked" in run(*asked, cwd=store).stdout
    assert "left: abandoned" in run(*asked, "--silent-hours", "0", cwd=store).stdout
    shown = run("list", "--store", "store", cwd=store).stdout
    assert "left\tabandoned" in shown
    assert "one\tcompleted" in shown  # an imported session has the status of its last lines


def test_the_store_is_chosen_by_option_or_settings(store: Path) -> None:
    sessions, history = str(store / "store" / ".sessions"), str(store / "store" / ".history")
    assert "one" in run("list", cwd=store, SESSION_STORAGE_PATH=sessions, TOOL_HISTORY_PATH=history).stdout
    assert "one" in run("--store", "store", "list", cwd=store).stdout
    assert "one" in run("list", "--store", "store/.sessions", cwd=store).stdout
    (store / ".env").write_text(f"SESSION_STORAGE_PATH={sessions}\nTOOL_HISTORY_PATH={history}\n")
    assert "one" in run("list", cwd=store, SESSION_STORAGE_PATH="").stdout


@pytest.mark.parametrize("command", ["show", "stats", "tree", "replay"])
def test_an_unknown_session_is_one_sentence_and_status_one(store: Path, command: str) -> None:
    result = run(command, "nope\x1b[31m", "--store", "store", cwd=store, check=1)
    assert "\x1b" not in result.stderr
    result = run(command, "nope", "--store", "store", cwd=store, check=1)
    assert result.stderr.count("\n") == 1
    assert "'nope' not found" in result.stderr
    assert result.stdout == ""


def test_a_bad_setting_names_its_variable(tmp_path: Path) -> None:
    assert "SESSION_STORAGE_FSYNC" in run("list", cwd=tmp_path, check=1, SESSION_STORAGE_FSYNC="maybe").stderr


def test_a_misunderstood_command_is_status_two(tmp_path: Path) -> None:
    for arguments in (("frobnicate",), ("list", "--limit", "many"), ("show",), ("import", "word-perfect")):
        run(*arguments, cwd=tmp_path, check=2)


@pytest.mark.parametrize("command", list(_COMMANDS))
def test_every_command_has_help_and_is_in_the_readme(tmp_path: Path, command: str) -> None:
    assert command in run("--help", cwd=tmp_path).stdout
    assert "--help" in run(command, "--help", cwd=tmp_path).stdout
    assert f"eventstore {command}" in (ROOT / "eventstore" / "cli" / "README.md").read_text("utf-8")


def test_control_characters_of_a_log_never_reach_the_terminal(tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage, by={"actor": HOSTILE})
        manager.create_session("s", HOSTILE, HOSTILE, [HOSTILE])
        manager.add_conversation_message("s", "tool", HOSTILE + "\nsecond line", HOSTILE, HOSTILE)
        manager.link_invocation("s", HOSTILE, HOSTILE, tmp_path / ".history" / "x\x1b", 1, success=False, error=HOSTILE)
        manager.record_usage("s", {HOSTILE: 1}, model=HOSTILE)
        manager.set_data("s", HOSTILE, HOSTILE)
        manager.update_session_metadata("s", custom_metadata={HOSTILE: HOSTILE})
    for arguments in (
        ["list"],
        ["show", "s"],
        ["stats", "s"],
        ["tree", "s"],
        ["replay", "s"],
        ["replay", "s", "--full"],
    ):
        for shown in (run(*arguments, cwd=tmp_path).stdout, in_terminal(arguments, tmp_path)):
            ours = re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r\n", "\n")
            raw = set(ours) & set("\x1b\x07\u202e\x9b\r\x00\u2028\ue000")
            assert not raw, (arguments, raw)
            assert "\x1b[31mred" not in shown


def test_a_terminal_sees_tables_and_colours_and_a_pipe_does_not(store: Path) -> None:
    shown = in_terminal(["list", "--store", "store"], store)
    assert "\x1b[" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r", "").splitlines()
    assert plain[0].split() == ["ID", "STATUS", "UPDATED", "PROJECT", "TITLE", "CALLS", "TOKENS", "TAGS"]
    assert re.match(r"one  completed  2026-03-02  \S+ +Why do logins fail\? +2 +[0-9]+  claude-code", plain[1])
    assert "USER" not in plain[0]
    assert "└" in in_terminal(["tree", "one", "--store", "store"], store)
    assert "\x1b[" not in run("show", "one", "--store", "store", cwd=store).stdout


def test_a_closed_pipe_is_no_error(store: Path) -> None:
    command = f"{sys.executable} -m eventstore export events one --store store | head -c 10; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", command], cwd=store, env=clean_environment(store), capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_cleanup_says_what_goes_and_why_and_restore_brings_it_back(tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        for name in ("old", "kept"):
            manager.create_session(name, occurred_at="2020-01-01T00:00:00Z")
        manager.pin_session("kept", occurred_at="2020-01-01T00:00:00Z")
        manager.create_session("new")
    planned = run("cleanup", "--dry-run", cwd=tmp_path)
    assert re.search(r"old\ttrash\t[0-9]+\tlast updated 2020-01-01", planned.stdout)
    assert re.search(r"kept\tkeep\t[0-9]+\tpinned", planned.stdout)
    assert planned.stderr == "nothing was changed\n"
    asked = run("cleanup", cwd=tmp_path, check=1)
    assert (asked.stdout, asked.stderr) == (planned.stdout, "nothing was changed: use --yes to do this\n")
    assert "1 moved to the trash, 0 deleted permanently" in run("cleanup", "--yes", cwd=tmp_path).stderr
    assert "old" not in run("list", cwd=tmp_path).stdout
    assert "old is restored" in run("restore", "old", cwd=tmp_path).stdout
    assert "old" in run("list", cwd=tmp_path).stdout
    run("restore", "old", cwd=tmp_path, check=1)
    run("pin", "old", cwd=tmp_path)
    run("cleanup", "--days", "0", "--yes", cwd=tmp_path)
    assert "old" in run("list", cwd=tmp_path).stdout
    run("pin", "old", "--remove", cwd=tmp_path)
    (row,) = objects(run("cleanup", "--days", "0", "--json", "--yes", cwd=tmp_path).stdout)
    assert (row["session_id"], row["action"], row["done"]) == ("old", "trash", True)
    assert "2 deleted permanently" in run("cleanup", "--days", "0", "--grace", "0", "--yes", cwd=tmp_path).stderr


def test_fork_prints_the_new_id(store: Path) -> None:
    assert run("fork", "one", "two", "--at", "2", "--store", "store", cwd=store).stdout == "two\n"
    assert len(run("replay", "two", "--store", "store", cwd=store).stdout.splitlines()) == 3
    assert run("fork", "one", "--store", "store", cwd=store).stdout.startswith("session_")


def test_search_finds_what_was_said(store: Path) -> None:
    asked = ("--store", "store")
    found = objects(run("search", "e41c9d2", "--json", *asked, cwd=store).stdout)
    assert found
    assert all(hit["session_id"] == "one" for hit in found)
    assert f"one:{found[0]['seq']}" in run("search", "e41c9d2", *asked, cwd=store).stdout
    assert run("search", "nosuchword", *asked, cwd=store, check=1).stdout == ""
    run("search", *asked, cwd=store, check=2)


def test_analytics_shows_writes_and_keeps_spreadsheets_safe(tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        for user, cost in (("=cmd|'/c calc'!A1", 0.5), ("bo", 0.25)):
            session = manager.create_session(user_id=user).metadata.session_id
            manager.add_conversation_message(session, "user", "hi")
            manager.record_usage(session, {"input": 3}, cost, "m")
    shown = in_terminal(["analytics", "--by", "user"], tmp_path)
    assert "████████████████" in shown
    assert run("analytics", "--by", "user", cwd=tmp_path).stdout.startswith("user\tsessions\t")
    assert "TOTAL" in shown
    run("analytics", "--by", "user", "--csv", "f.csv", "--parquet", "f.parquet", cwd=tmp_path)
    with (tmp_path / "f.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][:3] == ["user", "sessions", "messages"]
    assert rows[1][0] == "'=cmd|'/c calc'!A1"
    table = duckdb.read_parquet(str(tmp_path / "f.parquet")).project("user, cost").fetchall()
    assert table == [("=cmd|'/c calc'!A1", 0.5), ("bo", 0.25)]
    (first, _) = objects(run("analytics", "--by", "user", "--json", cwd=tmp_path).stdout)
    assert first["cost"] == 0.5
