"""The commands on a session's life, on templates and on branches, as people and programs run them."""

import json
import re
from pathlib import Path

import pytest
from commands import HOSTILE, in_terminal, objects, run

from eventstore import FileSystemSessionStorage, SessionManager


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    """A folder with a session of four events, and a fork of it after three; both went on."""
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        manager.create_session("one", "find out", "ana", ["bug"])
        for text in ("a", "b", "c"):
            manager.add_conversation_message("one", "user", text)
        manager.fork_session("one", 3, "two")
        manager.link_invocation("two", "i", "grep", None, 2.0)
        manager.link_invocation("two", "j", HOSTILE, None, 2.0)
        manager.add_conversation_message("two", "assistant", "x")
        manager.record_usage("two", {"input": 1200}, 0.5)
    return tmp_path


def test_create_prints_the_id(tmp_path: Path) -> None:
    given = run("create", "s", "--purpose", "p", "--user", "u", "--tag", "x", "--tag", "y", cwd=tmp_path)
    assert given.stdout == "s\n"
    (known,) = objects(run("list", "--json", cwd=tmp_path).stdout)
    assert (known["purpose"], known["user_id"], known["tags"]) == ("p", "u", ["x", "y"])
    assert run("create", cwd=tmp_path).stdout.startswith("session_")
    assert "'s'" in run("create", "s", cwd=tmp_path, check=1).stderr
    assert run("create", "../s", cwd=tmp_path, check=1).stdout == ""
    assert (
        "no template 'none'; nothing was created" in run("create", "--template", "none", cwd=tmp_path, check=1).stderr
    )


def test_a_template_is_saved_listed_shown_used_and_removed(parted: Path) -> None:
    assert "no templates" in run("template", "list", cwd=parted).stderr
    assert run("template", "save", "opening", "one", "--at", "3", cwd=parted).stdout == "opening is saved\n"
    assert "exists already; nothing was saved" in run("template", "save", "opening", "one", cwd=parted, check=1).stderr
    assert run("template", "list", cwd=parted).stdout.splitlines()[1] == "opening\t2\t0\tfind out"
    (listed,) = objects(run("template", "list", "--json", cwd=parted).stdout)
    assert listed == {"name": "opening", "messages": 2, "calls": 0, "purpose": "find out"}
    assert run("template", "show", "opening", cwd=parted).stdout.endswith("b\n")
    (shown,) = objects(run("template", "show", "opening", "--json", cwd=parted).stdout)
    assert [one["content"] for one in shown["conversation"]] == ["a", "b"]
    assert run("create", "s", "--template", "opening", "--user", "bo", cwd=parted).stdout == "s\n"
    (made,) = objects(run("show", "s", "--json", cwd=parted).stdout)
    assert (made["metadata"]["user_id"], made["metadata"]["tags"]) == ("bo", ["bug"])
    assert [one["content"] for one in made["conversation"]] == ["a", "b"]
    assert run("lineage", "s", cwd=parted).stdout.splitlines()[2] == "template opening\t4 to 4\tthere"
    assert "opening is removed" in run("template", "remove", "opening", cwd=parted).stdout
    for command in ("show", "remove"):
        assert "no template 'opening'" in run("template", command, "opening", cwd=parted, check=1).stderr
    run("template", "save", "x", "nobody", cwd=parted, check=1)


def test_a_damaged_template_hides_no_other(parted: Path) -> None:
    for name in ("good", "bad"):
        run("template", "save", name, "one", cwd=parted)
    (path,) = parted.rglob("*template.bad/events.jsonl")
    path.write_bytes(path.read_bytes().replace(b"session.created", b"session.creatad") + b"\n")
    listed = run("template", "list", cwd=parted, check=1)
    assert "good\t3" in listed.stdout
    assert "is damaged" in listed.stderr


def test_lineage_tells_where_a_session_comes_from(parted: Path) -> None:
    assert run("lineage", "two", cwd=parted).stdout.splitlines()[1:] == ["one\t1 to 3\tthere", "two\t4 to 8\tthere"]
    run("delete", "one", "--yes", cwd=parted)
    assert run("lineage", "two", cwd=parted).stdout.splitlines()[1] == "one\t1 to 3\tgone"
    assert objects(run("lineage", "two", "--json", cwd=parted).stdout) == [
        {"session_id": "one", "version": 3, "state": "gone"},
        {"session_id": "two", "version": 8, "state": "there"},
    ]


def test_lineage_tells_of_an_ancestor_damaged_behind_the_fork(parted: Path) -> None:
    path = parted / ".sessions" / "one" / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"content":"c"', b'"content":"d"') + b"\n")
    assert run("lineage", "two", cwd=parted).stdout.splitlines()[1] == "one\t1 to 3\tdamaged"


def test_compare_shows_two_branches_side_by_side(parted: Path) -> None:
    shown = run("compare", "one", "two", cwd=parted).stdout.splitlines()
    assert shown[0] == "SINCE EVENT 3 OF one\tone\ttwo"
    rows = {name.strip(): (a, b) for name, a, b in (line.split("\t") for line in shown)}
    assert rows["turns"] == ("1", "0")
    assert rows["messages"] == ("1", "1")
    assert rows["tool calls"] == ("0", "2")
    assert rows["grep"] == ("0", "1")
    assert rows["input tokens"] == ("0", "1,200")
    assert rows["cost"] == ("0.0000", "0.5000")
    found = json.loads(run("compare", "two", "one", "--json", cwd=parted).stdout)
    assert found["common"] == {"session_id": "one", "version": 3}
    assert [one["session_id"] for one in found["branches"]] == ["two", "one"]
    assert found["branches"][0]["tools"]["grep"] == 1
    run("create", "other", cwd=parted)
    assert run("compare", "one", "other", cwd=parted).stdout.startswith("NOTHING IN COMMON\tone\tother\n")
    (found,) = objects(run("compare", "one", "other", "--json", cwd=parted).stdout)
    assert found["common"] is None
    in_color = in_terminal(["compare", "one", "two"], parted)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", in_color).replace("\r\n", "\n")
    assert not set(plain) & set("\x1b\x07\u202e\x9b\r\x00\u2028\ue000")
    assert re.search(r"^input tokens +0 +1,200$", plain, re.MULTILINE)


def test_what_is_trashed_comes_back(parted: Path) -> None:
    assert run("trash", "one", cwd=parted).stdout == "one is in the trash\n"
    assert "one" not in run("list", cwd=parted).stdout
    for words in (["trash", "one"], ["delete", "one"], ["delete", "one", "--yes"]):
        assert "'one' is in the trash; nothing was done" in run(*words, cwd=parted, check=1).stderr
    run("restore", "one", cwd=parted)
    assert "one" in run("list", cwd=parted).stdout


def test_the_trash_is_listed(parted: Path) -> None:
    assert run("trash", cwd=parted).stderr == "the trash is empty\n"
    assert "is not in the trash but in the store" in run("restore", "one", cwd=parted, check=1).stderr
    lines = (parted / ".sessions" / "one" / "events.jsonl").read_text("utf-8")
    size, head = len(lines.encode()), objects(lines)[-1]["hash"]
    run("trash", "one", cwd=parted)
    (one,) = objects(run("trash", "--json", cwd=parted).stdout)
    known = {"session_id": "one", "name": "one", "events": 4, "size_bytes": size, "head_hash": head}
    assert one == known | {"since": one["since"]}
    (_, row) = run("trash", "--list", cwd=parted).stdout.splitlines()
    assert re.fullmatch(rf"one\t20[0-9 :-]+\t4\t{size:,}", row)
    (purge,) = objects(run("cleanup", "--days", "9", "--grace", "0", "--dry-run", "--json", cwd=parted).stdout)
    assert (purge["action"], purge["size_bytes"]) == ("purge", size)
    run("trash", "one", "--list", cwd=parted, check=2)
    run("restore", "one", cwd=parted)
    assert "not found" in run("restore", "nope", cwd=parted, check=1).stderr


def test_delete_says_what_would_go_and_does_it_when_told(parted: Path) -> None:
    said = run("delete", "one", cwd=parted, check=1)
    first, second = said.stdout.splitlines()
    assert first == "one, with its views, would be deleted permanently:"
    assert re.match(r"  4 events, [0-9,]+ bytes, the last of 20", second)
    assert said.stderr == "nothing was deleted: use --yes to delete\n"
    assert "one" in run("list", cwd=parted).stdout
    assert run("delete", "one", "--yes", cwd=parted).stdout == "one is deleted permanently\n"
    for more in ([], ["--yes"]):
        assert "'one' not found" in run("delete", "one", *more, cwd=parted, check=1).stderr
    assert "whole to event 8" in run("verify", "two", cwd=parted).stdout


def test_a_damaged_session_can_be_deleted(tmp_path: Path) -> None:
    run("create", "s", cwd=tmp_path)
    path = tmp_path / ".sessions" / "s" / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b"session.created", b"session.creatad") + b"\n")
    assert "a damaged log with 0 readable events" in run("delete", "s", cwd=tmp_path, check=1).stdout
    run("delete", "s", "--yes", cwd=tmp_path)
    assert not path.exists()


@pytest.mark.parametrize("words", [["lineage", "nope"], ["compare", "nope", "nope"], ["template", "save", "t", "nope"]])
def test_an_unknown_session_is_one_sentence_and_status_one(tmp_path: Path, words: list[str]) -> None:
    result = run(*words, cwd=tmp_path, check=1)
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    assert "'nope' not found" in result.stderr
