"""The commands copy and mirror, from a folder to object storage and back."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from breaking.object_front import Front, MemoryObjects
from commands import PATIENCE_SECONDS, clean_environment, objects, run

KEYS = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "very-secret"}


@pytest.fixture
def front() -> Iterator[Front]:
    front = Front(MemoryObjects())
    yield front
    front.close()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    run("create", "s", "--purpose", "find out", cwd=tmp_path)
    run("fork", "s", "f", "--at", "1", cwd=tmp_path)
    return tmp_path


def lines(folder: Path, session_id: str) -> bytes:
    return (folder / ".sessions" / session_id / "events.jsonl").read_bytes()


def test_a_store_is_copied_to_objects_and_mirrored_in_a_folder(store: Path, front: Front) -> None:
    url = front.url("p")
    done = run("copy", "--from", ".", "--to", url, "--json", cwd=store)
    assert objects(done.stdout) == [{"session_id": "s", "outcome": "new"}, {"session_id": "f", "outcome": "new"}]
    assert done.stderr == "2 new, 0 continued, 0 unchanged, 0 refused, 2 events copied\n"
    assert "find out" in run("list", "--store", url, cwd=store).stdout
    run("pin", "s", "--store", url, cwd=store)
    done = run("copy", "--from", url, "--to", ".", "s", cwd=store)
    assert done.stdout == "s continued\n"
    run("mirror", url, "copy", "--once", cwd=store)
    for session_id in ("s", "f"):
        assert lines(store / "copy", session_id) == lines(store, session_id)
    run("verify", "--all", "--store", "copy", cwd=store)
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr


def test_a_session_that_went_another_way_is_refused_with_a_sentence_and_status_1(store: Path, front: Front) -> None:
    url = front.url("p")
    run("copy", "--from", ".", "--to", url, cwd=store)
    run("pin", "s", cwd=store)
    run("pin", "s", "--store", url, cwd=store)
    done = run("copy", "--from", ".", "--to", url, cwd=store, check=1)
    assert done.stderr.startswith("eventstore: s was not copied: ")
    assert done.stderr.endswith("0 new, 0 continued, 1 unchanged, 1 refused, 0 events copied\n")
    run("copy", "--from", ".", "--to", url, "--follow", "s", cwd=store, check=2)


def test_a_mirror_goes_on_until_it_is_interrupted(store: Path, front: Front) -> None:
    url = front.url("p", poll_seconds=0.1)
    run("copy", "--from", ".", "--to", url, cwd=store)
    command = [sys.executable, "-m", "eventstore", "mirror", url, "copy", "--json"]
    with subprocess.Popen(
        command, cwd=store, env=clean_environment(store), stdout=subprocess.PIPE, text=True
    ) as mirror:
        assert mirror.stdout is not None
        assert {mirror.stdout.readline() for _ in range(2)} == {
            '{"session_id":"f","outcome":"new"}\n',
            '{"session_id":"s","outcome":"new"}\n',
        }
        run("pin", "s", "--store", url, cwd=store)
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until and '"outcome":"continued"' not in mirror.stdout.readline():
            pass
        mirror.send_signal(signal.SIGINT)
        assert mirror.wait(PATIENCE_SECONDS) == 0
    assert b"pinned" in lines(store / "copy", "s")


def test_a_source_that_is_not_there_is_no_copy_of_nothing(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/nope"
    for command in (
        ("copy", "--from", "nope", "--to", "there"),
        ("copy", "--from", url, "--to", "there"),
        ("mirror", "nope", "there", "--once"),
    ):
        done = run(*command, cwd=tmp_path, check=1)
        named = url if url in command else "nope"
        assert done.stderr == f"eventstore: there is no store: {named}; the command was not carried out\n"
    assert list(tmp_path.iterdir()) == []
