"""The commands search and show ID:SEQ."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore import events as e


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        manager.create_session("one", "Mend the pool")
        storage.append("one", [e.SessionUpdated(custom_metadata={"cwd": str(tmp_path / "app")})])
        for n in range(8):
            manager.add_conversation_message("one", "user" if n % 2 else "assistant", f"getUserById 数据库 number {n}")
        manager.create_session("two", "Other work")
        manager.add_conversation_message("two", "user", "the needle")
    return tmp_path


def run(*arguments: str, cwd: Path, check: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eventstore", *arguments]
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == check, done
    return done


def test_a_hit_names_its_session_and_place_and_show_opens_it(store: Path) -> None:
    found = run("search", "数据", "5", cwd=store)
    header, row = found.stdout.splitlines()
    assert header.split("\t") == ["PLACE", "TIME", "WHO", "TEXT", "TITLE", "PROJECT"]
    place, _, who, text, title, project = row.split("\t")
    assert (place, who, title, project) == ("one:8", "user", "Mend the pool", str(store / "app"))
    assert text == "getUserById [数据]库 number [5]"
    shown = run("show", place, "-C", "1", cwd=store).stdout
    assert [f"number {n}" in shown for n in range(8)] == [n in (4, 5, 6) for n in range(8)]
    rows = [json.loads(line) for line in run("show", "one:2", "-C", "2", "--json", cwd=store).stdout.splitlines()]
    assert [(row["seq"], row["hit"]) for row in rows] == [(2, True), (3, False), (4, False)]
    assert "8 and 10" not in run("show", "one:11", cwd=store, check=1).stderr
    assert "has 10 events" in run("show", "one:11", cwd=store, check=1).stderr
    assert run("show", "three:1", cwd=store, check=1).stdout == ""


def test_parts_of_words_are_found_and_that_is_said(store: Path) -> None:
    found = run("search", "serbyid", "--limit", "1", "--json", cwd=store)
    hit = json.loads(found.stdout)
    assert (hit["found"], hit["indexing"], hit["session_id"]) == ("parts", None, "one")
    assert "inside of words" in found.stderr
    assert run("search", "needle", "--wait", cwd=store).stderr == ""


def test_a_project_is_a_folder_or_its_name(store: Path) -> None:
    (store / "app").mkdir()
    for project in ("app", "./app", str(store / "app"), "."):
        assert "one:" in run("search", "getUserById", "--project", project, cwd=store).stdout
    run("search", "getUserById", "--project", "other", cwd=store, check=1)
    run("search", "needle", "--project", "app", cwd=store, check=1)
