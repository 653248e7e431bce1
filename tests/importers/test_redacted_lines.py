"""What was redacted does not come back with another copy of its file, unless a person says so."""

import shutil
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transcripts import answer, call, claude, lines, second

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore import events as e
from eventstore.importers.formats import FORMATS
from eventstore.importers.many import Options, import_all
from eventstore.integrity import verify_session, verify_store

SECRETS = ["the-code-is-4711", "the-name-is-rumpelstilzchen"]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[SessionManager]:
    with opened(tmp_path / "store") as made:
        yield made


def opened(root: Path) -> SessionManager:
    return SessionManager(FileSystemSessionStorage(root / ".sessions", root / ".history", fsync="no"))


def bring(manager: SessionManager, path: Path, **options: Any) -> list[Any]:
    form = "codex" if path.name.startswith("rollout-") else "claude-code"
    done = list(import_all(manager.storage, [(FORMATS[form], path)], Options(**options)))
    assert not [one for one in done if isinstance(one, Exception)], done
    return done


def having(manager: SessionManager, secret: str) -> list[tuple[str, int]]:
    """Name the events of all sessions that hold a text, also in the imported line that they have."""
    ids = sorted(manager.storage.log.ids())
    return [
        (name, one.seq)
        for name in ids
        for one in manager.events(name)
        if secret in repr(one) and one.seq > manager.storage.log.inherited(name)
    ]


def redact_all(manager: SessionManager, secret: str) -> None:
    for name, seq in having(manager, secret):
        manager.redactions.redact(name, seq, "a secret")
    assert having(manager, secret) == []


def assert_whole(manager: SessionManager) -> None:
    verdicts = [verify_session(manager.storage, one) for one in manager.storage.log.ids()]
    assert [finding for verdict in [*verdicts, verify_store(manager.storage)] for finding in verdict.findings] == []


def conversation(size: int = 4) -> list[dict[str, Any]]:
    found = [
        claude("user", "u0", None, 0, "What is it?"),
        claude("assistant", "u1", "u0", 1, [{"type": "text", "text": f"I think {SECRETS[0]}"}]),
        claude("user", "u2", "u1", 2, f"No, {SECRETS[1]}"),
        claude("assistant", "u3", "u2", 3, [call("c1", {"q": "what else"})]),
        claude("user", "u4", "u3", 4, [answer("c1", "nothing else")]),
    ]
    return [*found, *(claude("user", f"v{n}", None, 10 + n, f"more {n}") for n in range(size))]


def written(folder: Path, name: str, objects: list[dict[str, Any]]) -> Path:
    path = folder / f"{name}.jsonl"
    path.write_bytes(lines(*objects))
    return path


def test_the_same_file_under_another_id_comes_without_it(manager: SessionManager, tmp_path: Path) -> None:
    path = written(tmp_path, "one", conversation())
    bring(manager, path)
    redact_all(manager, SECRETS[0])
    (done,) = bring(manager, path, session_id="two")
    assert having(manager, SECRETS[0]) == []
    assert any("--again" in note for note in done.odd)
    assert SECRETS[1] in str(manager.conversation("two"))
    (again,) = bring(manager, path, session_id="two")
    assert again.events == 0
    assert_whole(manager)


def test_the_store_keeps_not_one_byte_of_it(manager: SessionManager, tmp_path: Path) -> None:
    path = written(tmp_path, "one", conversation())
    bring(manager, path)
    redact_all(manager, SECRETS[0])
    bring(manager, path, session_id="two")
    bring(manager, written(tmp_path, "three", conversation(9)))
    manager.flush()
    files = [one for one in (tmp_path / "store").rglob("*") if one.is_file()]
    assert [one.name for one in files if SECRETS[0].encode() in one.read_bytes()] == []


def test_a_person_may_bring_it_back(manager: SessionManager, tmp_path: Path) -> None:
    path = written(tmp_path, "one", conversation())
    bring(manager, path)
    redact_all(manager, SECRETS[0])
    bring(manager, path, session_id="two", again=True)
    assert {name for name, _ in having(manager, SECRETS[0])} == {"two"}


def test_a_session_that_is_replaced_comes_without_it(manager: SessionManager, tmp_path: Path) -> None:
    bring(manager, written(tmp_path, "one", conversation()))
    redact_all(manager, SECRETS[0])
    changed = [claude("user", "first", None, 0, "Before it all"), *conversation()]
    bring(manager, written(tmp_path, "one", changed), replace=True)
    assert "Before it all" in str(manager.conversation("one"))
    assert having(manager, SECRETS[0]) == []
    assert_whole(manager)


# --- rollouts of Codex, whose lines have no ids, and whose copies have other times


def rollout(name: str, parent: str | None = None) -> dict[str, Any]:
    payload = {"id": name, "cwd": "/app", "cli_version": "0.150.0", "originator": "made_up"}
    payload |= {"forked_from_id": parent} if parent else {}
    return {"timestamp": second(0), "type": "session_meta", "payload": payload}


def said(role: str, text: str, at: float) -> dict[str, Any]:
    part = {"type": "output_text" if role == "assistant" else "input_text", "text": text}
    payload = {"type": "message", "role": role, "content": [part]}
    return {"timestamp": second(at), "type": "response_item", "payload": payload}


def rollouts(folder: Path) -> dict[str, Path]:
    """Write a rollout and two that go on from it."""

    def told(at: float) -> list[dict[str, Any]]:
        return [
            said("user", "plan the trip", at),
            said("assistant", "by train", at + 1),
            said("user", "where to", at + 2),
        ]

    def fork(name: str, text: str) -> list[dict[str, Any]]:
        return [rollout(name, "parent"), rollout("parent"), *told(30), said("user", text, 40)]

    return {
        "parent": written(folder, "rollout-parent", [rollout("parent"), *told(1), said("assistant", "to the sea", 9)]),
        "child": written(folder, "rollout-child", fork("child", "book the hotel")),
        "sibling": written(folder, "rollout-sibling", fork("sibling", "call the airport")),
    }


@pytest.mark.parametrize("order", list(permutations(["parent", "child", "sibling"])))
@pytest.mark.parametrize("secret", ["by train", "plan the trip"])
def test_forked_rollouts_come_without_it(
    manager: SessionManager, tmp_path: Path, order: tuple[str, ...], secret: str
) -> None:
    first, *others = [rollouts(tmp_path)[one] for one in order]
    bring(manager, first)
    redact_all(manager, secret)
    for path in [*others, first]:
        bring(manager, path)
    bring(manager, first, session_id="copy")
    assert having(manager, secret) == []
    assert_whole(manager)


# --- any order


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(data=st.data())
def test_no_copy_of_a_line_brings_its_text_back(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever was imported when, and whatever comes afterwards: the file again, grown, cut, resumed, under other ids."""
    shutil.rmtree(tmp_path / "any", ignore_errors=True)
    (tmp_path / "any").mkdir()
    whole = conversation(data.draw(st.integers(0, 4)))
    resumed = [{**one, "sessionId": "next"} for one in whole[: data.draw(st.integers(3, len(whole)))]]
    resumed.append(claude("user", "w1", resumed[-1]["uuid"], 40, "go on", sessionId="next"))
    folder = tmp_path / "any"
    files = [
        written(folder, "one", whole),
        written(folder, "next", resumed),
        written(folder, "later", [*resumed, claude("user", "w2", "w1", 41, "on and on")]),
    ]
    with opened(folder / "store") as manager:
        for path in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=3)):
            bring(manager, path)
        redact_all(manager, data.draw(st.sampled_from(SECRETS)))
        gone = [one for one in SECRETS if not having(manager, one)]
        for path in data.draw(st.permutations(files)):
            bring(manager, path)
            bring(manager, path, session_id=f"{path.stem}-copy")
        written(folder, "one", [*whole, claude("user", "x1", whole[-1]["uuid"], 60, "at last")])
        bring(manager, files[0])
        assert [having(manager, one) for one in gone] == [[] for _ in gone]
        assert_whole(manager)


def test_marks_tell_nothing_of_a_text(manager: SessionManager, tmp_path: Path) -> None:
    marks = []
    for text in ("4711", "1234"):
        with opened(tmp_path / text) as other:
            bring(other, written(tmp_path, "one", [claude("user", "u0", None, 0, text)]))
            other.redactions.redact("one", having(other, text)[0][1], "a secret")
            (event,) = [one for one in other.storage.log.read("_store") if isinstance(one, e.StoreEventsRedacted)]
            marks.append(event.lines)
    assert marks[0] == marks[1] != ()
