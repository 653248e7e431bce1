"""The tool side: folders of calls and their records."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eventstore import Record, ToolHistory

NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def history(tmp_path: Path) -> ToolHistory:
    return ToolHistory(tmp_path / ".history")


def test_a_folder_is_named_by_its_time_and_tool(history: ToolHistory) -> None:
    assert history.create("git_tool", NOON).name == "2026-01-02_12-00-00_123456_git_tool"
    assert history.create("git_tool", NOON).name == "2026-01-02_12-00-00_123457_git_tool"


def test_an_odd_tool_name_stays_inside(history: ToolHistory) -> None:
    folder = history.create("../../etc/passwd\0", NOON)
    assert folder.parent == history.path
    assert folder.is_dir()


def test_a_record_comes_back(history: ToolHistory) -> None:
    folder = history.create("grep", NOON)
    record = Record("grep", {"q": "é"}, [1, None], NOON.isoformat(), 2.5, False, "boom", "s", "i")
    history.write(folder, record)
    assert history.read(folder) == record
    assert history.session_of(folder) == "s"
    assert list(json.loads((folder / "record.jsonl").read_text())) == [
        "timestamp", "tool", "arguments", "result", "duration_ms", "success", "error", "session_id", "invocation_id",
    ]  # fmt: skip


def test_a_pretty_printed_record_of_the_original_is_read(history: ToolHistory) -> None:
    folder = history.create("git_tool", NOON)
    old = {
        "timestamp": "t",
        "tool": "git_tool",
        "arguments": {},
        "result": "r",
        "duration_ms": 1,
        "success": True,
        "x": 1,
    }
    (folder / "record.jsonl").write_text(json.dumps(old, indent=2) + "\n")
    found = history.read(folder)
    assert (found.tool, found.result, found.session_id) == ("git_tool", "r", None)
    assert history.session_of(folder) is None
    assert [(path.name, record.tool) for path, record in history.records()] == [(folder.name, "git_tool")]


@pytest.mark.parametrize("text", ["", "[", "[1]", "{}", "[" * 100_000])
def test_a_record_that_cannot_be_read_is_an_error_that_names_the_file(history: ToolHistory, text: str) -> None:
    folder = history.create("grep", NOON)
    (folder / "record.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"record\.jsonl"):
        history.read(folder)
    assert list(history.records()) == []
    assert history.session_of(folder) is None


def test_nothing_outside_the_history_is_read_or_written(history: ToolHistory, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    history.path.mkdir()
    (history.path / "link").symlink_to(outside)
    for folder in (outside, history.path / "link", history.path / ".." / "outside"):
        with pytest.raises(ValueError, match="not inside"):
            history.write(folder, Record("t", {}))
        with pytest.raises(ValueError, match="not inside"):
            history.read(folder)
    assert list(outside.iterdir()) == []


def test_a_value_that_json_cannot_hold_is_written_as_text(history: ToolHistory) -> None:
    folder = history.create("t", NOON)
    history.write(folder, Record("t", {"a": {1}, 2: float("nan")}, object, "\ud800"))
    assert history.read(folder).arguments == {"a": "{1}", "2": "nan"}


def test_a_folder_of_the_very_call_is_found_again(history: ToolHistory) -> None:
    folder = history.create("t", NOON, session_id="s", invocation_id="i")
    history.write(folder, Record("t", {}, session_id="s", invocation_id="i"))
    assert history.create("t", NOON, session_id="s", invocation_id="i") == folder
    assert history.create("t", NOON, session_id="s", invocation_id="j") != folder
    assert history.create("t", NOON) != folder


def test_a_folder_inside_is_named_relative(history: ToolHistory, tmp_path: Path) -> None:
    assert history.relative(history.path / "x") == "x"
    assert history.relative(tmp_path / "elsewhere") == str(tmp_path / "elsewhere")
    assert history.relative(history.path) == str(history.path)
