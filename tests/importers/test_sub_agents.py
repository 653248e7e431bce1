"""Sub-agents: joined to the call that started them, hidden from lists, nested where somebody asks for the whole."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from commands import run
from transcripts import answer, call, claude, lines, usage

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.exporters.questions import audit_with_sub_agents
from eventstore.exporters.report import write_html, write_markdown
from eventstore.importers.formats import FORMATS
from eventstore.importers.transcript import import_transcript
from eventstore.integrity.verification import verify_session

SIDE: dict[str, Any] = {"isSidechain": True}
CALLS = 160


def transcript(count: int = 2) -> bytes:
    """A session whose one call started a sub-agent with some calls, in the same file."""
    side = [
        line
        for n in range(count)
        for line in (
            claude("assistant", f"5a{n:06d}-a", "5ide0001-x", 11 + n, [call(f"t{n}", {"path": f"file-{n}"})], **SIDE),
            claude("user", f"5b{n:06d}-b", f"5a{n:06d}-a", 11.5 + n, [answer(f"t{n}", f"content {n}")], **SIDE),
        )
    ]
    return lines(
        claude("user", "u1", None, 1, "Have a look"),
        claude("assistant", "a1", "u1", 2, [call("task", {"prompt": "Look at it", "description": "d"}, "Task")]),
        claude("user", "5ide0001-x", None, 10, "Look at it", **SIDE),
        *side,
        claude("user", "u2", "a1", 300, [answer("task", "all seen")]),
    )


def in_files() -> dict[str, bytes]:
    """A session whose call started a sub-agent in a file of its own."""
    mine = [
        claude("user", "u1", None, 1, "Have a look"),
        claude("assistant", "a1", "u1", 2, [call("task", {"prompt": "Look"}, "Agent")], m_usage=usage(1, 2), m_id="m"),
        claude("user", "u2", "a1", 9, [answer("task", "seen")], toolUseResult={"agentId": "ab12"}),
    ]
    side = [
        claude("user", "s1", None, 3, "Look", agentId="ab12", **SIDE),
        claude("assistant", "s2", "s1", 4, [call("t1", {"path": "x"})], m_usage=usage(3, 4), m_id="n", **SIDE),
        claude("user", "s3", "s2", 5, [answer("t1", "seen")], agentId="ab12", **SIDE),
    ]
    return {"one.jsonl": lines(*mine), "one/subagents/agent-ab12.jsonl": lines(*side)}


@pytest.fixture
def manager(tmp_path: Path) -> SessionManager:
    return SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no"))


def bring(manager: SessionManager, path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    import_transcript(manager.storage, FORMATS["claude-code"], path, records=True)


def test_calls_of_a_sub_agent_in_the_file_have_their_input_and_result_in_the_log(
    manager: SessionManager, tmp_path: Path
) -> None:
    bring(manager, tmp_path / "one.jsonl", transcript())
    (hit,) = manager.search('"content 1"', role="call")
    assert hit.session_id == "one"
    known = manager.get_session_statistics("one")
    assert known is not None
    assert known["total_invocations"] == 3


def test_a_report_of_a_session_with_160_calls_of_sub_agents_has_all_of_each(
    manager: SessionManager, tmp_path: Path
) -> None:
    bring(manager, tmp_path / "one.jsonl", transcript(CALLS))
    found = [audit_with_sub_agents(manager.storage, "one")]
    text, page = io.BytesIO(), io.BytesIO()
    write_markdown(text, found)
    write_html(page, found)
    rows = [row for row in text.getvalue().decode().splitlines() if "called a tool" in row]
    assert len(rows) == CALLS + 1
    for n in range(CALLS):
        (row,) = (row for row in rows if f'"file-{n}"' in row)
        cells = row.split(" | ")
        assert (cells[5], cells[6].partition(" ↵ ")[0], cells[7]) == (
            f'{{"path":"file-{n}"}}',
            f"content {n}",
            "500 ms",
        )
    assert "not recorded" not in text.getvalue().decode()
    assert "not recorded" not in page.getvalue().decode()


def test_sub_agents_are_joined_to_the_calls_that_started_them(manager: SessionManager, tmp_path: Path) -> None:
    bring(manager, tmp_path / "one.jsonl", transcript())
    for name, data in in_files().items():
        bring(manager, tmp_path / "files" / name.replace("one", "two"), data.replace(b'"one"', b'"two"'))
    assert [(one.session_id, one.invocation_id) for one in manager.sub_agents("one")] == [
        ("one.agent-5ide0001", "task")
    ]
    assert [(one.session_id, one.invocation_id) for one in manager.sub_agents("two")] == [("two.agent-ab12", "task")]
    assert manager.sub_agents("two.agent-ab12") == []


def test_figures_with_sub_agents_are_the_sum(manager: SessionManager, tmp_path: Path) -> None:
    for name, data in in_files().items():
        bring(manager, tmp_path / name, data)
    own, agent = manager.get_session_statistics("one"), manager.get_session_statistics("one.agent-ab12")
    both = manager.get_session_statistics("one", with_sub_agents=True)
    assert own is not None
    assert agent is not None
    assert both is not None
    assert (own["total_invocations"], agent["total_invocations"]) == (1, 1)
    assert (both["total_invocations"], both["sub_agents"]) == (2, 1)
    for name in ("message_count", "total_duration_ms"):
        assert both[name] == own[name] + agent[name]
    assert both["token_usage"]["output"] == 6
    with pytest.raises(ValueError, match="as of a time"):
        manager.get_session_statistics("one", 2, with_sub_agents=True)
    before = manager.get_session_statistics("one", "2026-03-02T09:30:02.500Z", with_sub_agents=True)
    assert before is not None
    assert (before["total_invocations"], before["sub_agents"]) == (1, 0)


def test_the_report_nests_a_sub_agent_below_its_call(manager: SessionManager, tmp_path: Path) -> None:
    for name, data in in_files().items():
        bring(manager, tmp_path / name, data)
    text = io.BytesIO()
    write_markdown(text, [audit_with_sub_agents(manager.storage, "one")])
    rows = [row.split(" | ") for row in text.getvalue().decode().splitlines() if "called a tool" in row]
    assert [(row[4], row[0].startswith("| ↳")) for row in rows] == [("Agent", False), ("Bash", True)]
    assert "one.agent-ab12" in rows[1][2].replace("\\", "")


def test_commands_hide_and_show_sub_agents(manager: SessionManager, tmp_path: Path) -> None:
    for name, data in in_files().items():
        bring(manager, tmp_path / name, data)
    manager.close()

    def ids(*more: str) -> list[str]:
        return [json.loads(row)["session_id"] for row in shown("list", "--json", *more).splitlines()]

    def shown(*arguments: str) -> str:
        return run(*arguments, cwd=tmp_path).stdout

    assert ids() == ["one"]
    assert sorted(ids("--sub-agents")) == ["one", "one.agent-ab12"]
    for command in ("tree", "show", "lineage"):
        assert "one.agent-ab12" in shown(command, "one")
    assert "a sub-agent of one" in shown("lineage", "one.agent-ab12")
    figures = json.loads(shown("stats", "one", "--with-sub-agents", "--json"))
    assert (figures["total_invocations"], figures["sub_agents"]) == (2, 1)


def test_a_sub_agent_whose_parent_is_not_in_the_store_is_listed(manager: SessionManager, tmp_path: Path) -> None:
    name, data = list(in_files().items())[1]
    bring(manager, tmp_path / name, data)
    manager.close()
    assert "one.agent-ab12" in run("list", cwd=tmp_path).stdout


@pytest.mark.parametrize("what", [b"content 1", b"file-1", b"all seen", b"Look at it"])
def test_a_changed_input_or_result_in_a_record_of_an_imported_call_is_found(
    manager: SessionManager, tmp_path: Path, what: bytes
) -> None:
    bring(manager, tmp_path / "one.jsonl", transcript())
    manager.flush()
    assert verify_session(manager.storage, "one").outcome == "whole"
    (path,) = (path for path in tmp_path.glob(".history/*/record.jsonl") if what in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(what, b"X" + what[1:]))
    assert verify_session(manager.storage, "one").outcome == "damaged"
