"""Gemini CLI, Copilot CLI, pi, Qwen Code and OpenCode: read rightly, kept to the byte, known by content."""

import json
from pathlib import Path
from typing import Any

import other_transcripts as made
import pytest
from click.testing import CliRunner
from transcripts import claude_session, codex_session, lines, second

from eventstore import FileSystemSessionStorage, SessionManager, SessionStorage
from eventstore.cli import transcript as commands
from eventstore.errors import ExportRefused, ImportRefused
from eventstore.exporters.transcript import export_transcript
from eventstore.importers import detect
from eventstore.importers.files import import_file
from eventstore.importers.formats import FORMATS
from eventstore.importers.inspection import inspect
from eventstore.importers.transcript import Imported

FILES: dict[str, tuple[str, Any]] = {
    "claude-code": ("one.jsonl", claude_session),
    "codex": ("rollout-1.jsonl", codex_session),
    "gemini": ("session-1.jsonl", made.gemini_session),
    "copilot": ("events.jsonl", made.copilot_session),
    "pi": ("2026_pie.jsonl", made.pi_session),
    "qwen": ("qwe.jsonl", made.qwen_session),
}
NEW = {"gemini": "gem", "copilot": "cop", "pi": "pie", "qwen": "qwe"}


def write(folder: Path, form: str) -> Path:
    name, session = FILES[form]
    path = folder / name
    path.write_bytes(lines(*session()))
    return path


def take(storage: SessionStorage, form: str, path: Path) -> Imported:
    (done,) = import_file(storage, FORMATS[form], path)
    return done


def given_back(storage: SessionStorage, session_id: str, form: str) -> bytes:
    return b"".join(export_transcript(storage, session_id, form))


def told(manager: SessionManager, session_id: str) -> list[tuple[str, str]]:
    session = manager.get_session(session_id)
    assert session is not None
    return [(one.role, one.content) for one in session.conversation]


@pytest.mark.parametrize("form", NEW)
def test_each_agent_s_session_is_read_rightly_and_comes_back_to_the_byte(
    storage: SessionStorage, tmp_path: Path, form: str
) -> None:
    path, name, manager = write(tmp_path, form), NEW[form], SessionManager(storage)
    done = take(storage, form, path)
    assert (done.session_id, done.odd) == (name, ())
    assert given_back(storage, name, form) == path.read_bytes()
    assert take(storage, form, path).events == 0
    found = told(manager, name)
    assert found[0] == ("user", "Why do logins fail?")
    assert found[-1][0] == "assistant"
    assert found[-1][1].startswith("It was e41c9d2")
    assert ("assistant", "a first answer") not in found
    stats = manager.get_session_statistics(name)
    assert stats is not None
    assert stats["total_invocations"] == {"gemini": 2}.get(form, 1)
    known = storage.metadata(name)
    assert known.tags == [form]
    assert known.purpose == {"gemini": "Logins mended", "pi": "Logins mended"}.get(form, "Why do logins fail?")
    assert known.custom_metadata["model"].endswith("-x")
    calls = manager.analytics("tool")
    assert sum(row.errors for row in calls) == 1
    assert storage.log.head(name).version > 5


TOKENS = {
    "gemini": ({"input": 80, "output": 40, "cache_read": 120, "reasoning": 10}, None),
    "copilot": ({"input": 200, "output": 40, "cache_read": 800, "cache_write": 0, "reasoning": 10}, None),
    "pi": ({"input": 12, "output": 5, "cache_read": 100, "cache_write": 3, "reasoning": 2}, 0.25),
    "qwen": ({"input": 40, "output": 20, "cache_read": 60, "reasoning": 5}, None),
}


@pytest.mark.parametrize("form", NEW)
def test_kinds_of_tokens_are_disjoint_and_counted_once(storage: SessionStorage, tmp_path: Path, form: str) -> None:
    take(storage, form, write(tmp_path, form))
    stats = SessionManager(storage).get_session_statistics(NEW[form])
    assert stats is not None
    tokens, cost = TOKENS[form]
    assert {kind: count for kind, count in stats["token_usage"].items() if count} == {
        kind: count for kind, count in tokens.items() if count
    }
    assert stats["estimated_cost"] == cost


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("other", FORMATS)
def test_a_file_is_known_by_its_content_and_another_agent_s_is_refused_and_named(
    tmp_path: Path, storage: SessionStorage, form: str, other: str
) -> None:
    path = write(tmp_path, form)
    assert detect.detect(path.read_bytes()) == form
    if other == form:
        return
    with pytest.raises(ImportRefused, match=f"looks like .*: import it as {form}"):
        take(storage, other, path)
    assert list(storage.log.ids()) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"type":"session_start","id":"x"}\n', "Droid"),
        (b'{"type":"started","key":"v2:1","agentId":"a"}\n', "journal"),
        (b'{"type":"something","of":"nobody"}\n', "not known"),
        (b"hello\n", "no transcript|not a transcript"),
    ],
)
def test_what_no_importer_reads_is_refused(tmp_path: Path, storage: SessionStorage, text: bytes, reason: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(text * 3)
    for form in ("claude-code", "pi"):
        with pytest.raises(ImportRefused, match=reason):
            take(storage, form, path)


def test_a_sub_agent_of_copilot_is_a_session_of_its_own(storage: SessionStorage, tmp_path: Path) -> None:
    take(storage, "copilot", write(tmp_path, "copilot"))
    manager = SessionManager(storage)
    assert told(manager, "cop.agent-t9") == [("assistant", "looking deeper")]
    assert ("assistant", "looking deeper") not in told(manager, "cop")
    assert "sub-agent" in storage.metadata("cop.agent-t9").tags


def test_a_compaction_of_pi_leaves_the_summary_and_what_was_kept(storage: SessionStorage, tmp_path: Path) -> None:
    compaction = {"type": "compaction", "id": "p8", "parentId": "p7", "timestamp": second(8), "summary": "In short.",
                  "firstKeptEntryId": "p6"}  # fmt: skip
    path = tmp_path / "pie.jsonl"
    path.write_bytes(lines(*made.pi_session(), compaction))
    take(storage, "pi", path)
    assert told(SessionManager(storage), "pie") == [("assistant", "It was e41c9d2."), ("user", "In short.")]


# --- Gemini's older shape


def test_a_gemini_file_that_is_rewritten_as_it_grows_comes_back_to_the_byte(
    storage: SessionStorage, tmp_path: Path
) -> None:
    path, events = tmp_path / "session-1.json", 0
    for count in (1, 2, 3):
        path.write_bytes(made.gemini_file(count))
        done = take(storage, "gemini", path)
        events += done.events
        assert given_back(storage, "gem", "gemini") == path.read_bytes()
        assert take(storage, "gemini", path).events == 0
    assert told(SessionManager(storage), "gem")[-1] == ("assistant", "It was e41c9d2 — naïve.")
    stats = SessionManager(storage).get_session_statistics("gem")
    assert stats is not None
    assert stats["token_usage"]["input"] == 80
    assert list(inspect(path, "gemini")) == []


@pytest.mark.parametrize(
    "data",
    [
        made.gemini_file().replace(b"  ", b"\t"),
        json.dumps(json.loads(made.gemini_file())).encode(),
        made.gemini_file() + b"\n",
        made.gemini_file(extra=[1.0, 1e-7, "\u2028"]),
        json.dumps({"messages": [], "sessionId": "gem", "startTime": ""}, indent=2).encode(),
    ],
    ids=["tabs", "one line", "newline at the end", "numbers", "messages first"],
)
def test_a_gemini_file_of_any_layout_comes_back_to_the_byte(
    storage: SessionStorage, tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "session-1.json"
    path.write_bytes(data)
    take(storage, "gemini", path)
    assert given_back(storage, "gem", "gemini") == data
    assert take(storage, "gemini", path).events == 0


def test_a_gemini_message_that_changed_or_went_is_so_in_the_conversation(
    storage: SessionStorage, tmp_path: Path
) -> None:
    path = tmp_path / "session-1.json"
    path.write_bytes(made.gemini_file(3))
    take(storage, "gemini", path)
    whole = json.loads(made.gemini_file(3))
    whole["messages"][2]["content"] = "It was another one."
    path.write_bytes(json.dumps(whole, indent=2, ensure_ascii=False).encode())
    take(storage, "gemini", path)
    manager = SessionManager(storage)
    assert told(manager, "gem")[-1] == ("assistant", "It was another one.")
    assert ("assistant", "It was e41c9d2 — naïve.") not in told(manager, "gem")
    path.write_bytes(made.gemini_file(1))
    take(storage, "gemini", path)
    assert told(manager, "gem") == [("user", "Why do logins fail?")]
    assert given_back(storage, "gem", "gemini") == made.gemini_file(1)


@pytest.mark.parametrize("text", [b"{}", b'{"sessionId":"x"', b'{"sessionId":"x","messages":[5]}', b"[]"])
def test_a_gemini_file_that_is_not_one_is_refused(storage: SessionStorage, tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "session-1.json"
    path.write_bytes(text)
    with pytest.raises(ImportRefused):
        take(storage, "gemini", path)


# --- OpenCode


def test_the_sessions_of_an_opencode_database_are_read_rightly(storage: SessionStorage, tmp_path: Path) -> None:
    base = made.opencode_session(tmp_path / "opencode.db")
    base.session("ses_two", "Look at the log", "ses_one")
    base.message("m3", "ses_two", 1, role="user")
    base.part("p6", "m3", "ses_two", 1, type="text", text="look")
    manager = SessionManager(storage)
    done = import_file(storage, FORMATS["opencode"], base.path)
    assert [one.session_id for one in done] == ["ses_one", "ses_two"]
    assert told(manager, "ses_one")[0] == ("user", "Why do logins fail?")
    assert told(manager, "ses_one")[-1] == ("assistant", "It was e41c9d2.")
    stats = manager.get_session_statistics("ses_one")
    assert stats is not None
    assert stats["token_usage"] == {"input": 40, "output": 20, "cache_read": 60, "cache_write": 1, "reasoning": 5}
    assert (stats["estimated_cost"], stats["total_invocations"], stats["total_duration_ms"]) == (0.25, 1, 1500.0)
    known = storage.metadata("ses_two")
    assert sorted(known.tags) == ["opencode", "sub-agent"]
    assert known.custom_metadata["parent_session"] == "ses_one"
    rows = [json.loads(line) for line in given_back(storage, "ses_one", "opencode").splitlines()]
    assert [row["id"] for row in rows] == ["ses_one", "p1", "m1", "p2", "p3", "p4", "p5", "m2"]
    assert json.loads(rows[1]["data"]) == {"type": "text", "text": "Why do logins fail?"}
    assert [one.events for one in import_file(storage, FORMATS["opencode"], base.path)] == [0, 0]


def test_an_opencode_session_that_goes_on_is_continued(storage: SessionStorage, tmp_path: Path) -> None:
    base = made.opencode_session(tmp_path / "opencode.db")
    base.message("m9", "ses_one", 9, role="assistant", modelID="oc-x", time={"created": 1})
    base.part("p9", "m9", "ses_one", 9, type="text", text="half an ans")
    take(storage, "opencode", base.path)
    manager = SessionManager(storage)
    assert told(manager, "ses_one")[-1] == ("assistant", "It was e41c9d2.")
    base.message("m9", "ses_one", 9, role="assistant", modelID="oc-x")
    base.part("p9", "m9", "ses_one", 9, type="text", text="half an answer no more")
    base.session("ses_one", "A new title")
    take(storage, "opencode", base.path)
    assert told(manager, "ses_one")[-1] == ("assistant", "half an answer no more")
    assert storage.metadata("ses_one").purpose == "A new title"
    assert take(storage, "opencode", base.path).events == 0


def test_what_was_redacted_does_not_come_back(storage: SessionStorage, tmp_path: Path) -> None:
    base = made.opencode_session(tmp_path / "opencode.db")
    path = tmp_path / "session-1.json"
    path.write_bytes(made.gemini_file(2))
    manager = SessionManager(storage)
    take(storage, "opencode", base.path)
    take(storage, "gemini", path)
    for name in ("ses_one", "gem"):
        hit = next(one for one in manager.search("logins fail", session_id=name) if one.role == "user")
        manager.redactions.redact(name, [hit.seq], "asked to")
        assert ("user", "Why do logins fail?") not in told(manager, name)
    base.message("m7", "ses_one", 9, role="user")
    base.part("p7", "m7", "ses_one", 9, type="text", text="And now?")
    path.write_bytes(made.gemini_file(3))
    take(storage, "opencode", base.path)
    take(storage, "gemini", path)
    assert told(manager, "ses_one")[-1] == ("user", "And now?")
    assert told(manager, "gem")[-1] == ("assistant", "It was e41c9d2 — naïve.")
    for name, form in (("ses_one", "opencode"), ("gem", "gemini")):
        assert ("user", "Why do logins fail?") not in told(manager, name)
        assert not any(b"logins fail" in line for line in storage.log.lines(name) if b"session.updated" not in line)
        with pytest.raises(ExportRefused):
            given_back(storage, name, form)


def test_a_database_of_something_else_is_refused(storage: SessionStorage, tmp_path: Path) -> None:
    path = tmp_path / "opencode.db"
    path.write_bytes(b"SQLite format 3\0" + bytes(100))
    with pytest.raises(ImportRefused, match="OpenCode"):
        take(storage, "opencode", path)


# --- the commands


@pytest.mark.parametrize("form", [*NEW, "opencode"])
def test_the_commands_import_find_and_give_back(tmp_path: Path, form: str) -> None:
    run, store = CliRunner().invoke, ["--store", str(tmp_path)]
    folder = tmp_path / "of-the-agent" / "chats"
    folder.mkdir(parents=True)
    path = made.opencode_session(folder / "opencode.db").path if form == "opencode" else write(folder, form)
    done = run(commands.import_command, [form, str(tmp_path / "of-the-agent"), "--json", *store])
    assert done.exit_code == 0, done.output
    name = json.loads(done.stdout)["session_id"]
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        assert [hit.session_id for hit in SessionManager(storage).search("e41c9d2")] == [name]
    out = tmp_path / "out"
    assert run(commands.export_command, [form, name, "-o", str(out), *store]).exit_code == 0
    if form != "opencode":
        assert out.read_bytes() == path.read_bytes()
        assert list(inspect(path, form)) == []
