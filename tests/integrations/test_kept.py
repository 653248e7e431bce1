"""What is kept: lists give what is there, whoever wrote, and read only what changed; values have a bound."""

import random
from pathlib import Path

import pytest

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.events import RecordPut, SessionCreated
from eventstore.ids import session_id_for
from eventstore.integrations.kept import KeptLists, KeptValues
from eventstore.integrations.sessions import sessions_named, stored


def put(manager: SessionManager, name: str, value: int) -> None:
    created = SessionCreated(external_key=name, tags=("t",))
    manager.append(session_id_for(name), [RecordPut(stream="a", value=value)], create=created)


def values_of(manager: SessionManager, session_id: str) -> list[int]:
    return [one.value for one in stored(manager, session_id).list("a")]


class Made:
    """Makes the name and the values of a session, and counts how often."""

    def __init__(self, manager: SessionManager) -> None:
        self.manager, self.names = manager, list[str]()
        self.lists = KeptLists(manager, self.make)

    def make(self, session_id: str, external: str) -> tuple[str, list[int]]:
        self.names.append(external)
        return external, values_of(self.manager, session_id)


def test_only_what_changed_is_read(manager: SessionManager) -> None:
    made = Made(manager)
    for name in ("a/1", "a/2", "b/1"):
        put(manager, name, 1)
    assert sorted(made.lists.of("a/", "t")) == [("a/1", [1]), ("a/2", [1])]
    for _ in range(2):
        made.names.clear()
        assert sorted(made.lists.of("a/", "t")) == [("a/1", [1]), ("a/2", [1])]
        assert made.names == []
    put(manager, "a/2", 2)
    put(manager, "a/3", 1)
    put(manager, "b/1", 2)
    assert sorted(made.lists.of("a/", "t")) == [("a/1", [1]), ("a/2", [1, 2]), ("a/3", [1])]
    assert sorted(made.names) == ["a/2", "a/3"]
    manager.delete_session(session_id_for("a/1"))
    assert sorted(made.lists.of("a/", "t")) == [("a/2", [1, 2]), ("a/3", [1])]
    assert sorted(made.lists.of("b/")) == [("b/1", [1, 2])]


@pytest.mark.parametrize("seed", range(6))
def test_a_kept_list_is_what_is_there_whoever_wrote(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with (
        SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no")) as one,
        SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no")) as other,
    ):
        made, kept = Made(one), 0
        for step in range(80):
            writer, name = rng.choice((one, other)), f"{rng.choice('ab')}/{rng.randrange(4)}"
            action = rng.random()
            if action < 0.15:
                if writer.storage.session_exists(session_id_for(name)):
                    writer.delete_session(session_id_for(name))
            elif action < 0.25 and writer.storage.session_exists(session_id_for(name)):
                fork = f"a/fork{step}"
                writer.fork_session(session_id_for(name), new_id=session_id_for(fork), external_key=fork)
            else:
                put(writer, name, step)
            if rng.random() < 0.5:
                prefix = rng.choice(("a/", "b/", "a/1", "c/"))
                there = [
                    (str(row.external_key), values_of(other, row.session_id))
                    for row in sessions_named(other, prefix, ["t"])
                ]
                assert sorted(made.lists.of(prefix, "t")) == sorted(there)
                kept += len(there)
        assert kept
        assert len(made.names) < kept


def test_more_sessions_than_are_kept_are_listed_all_the_same(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.integrations.kept._MOST_SESSIONS", 3)
    monkeypatch.setattr("eventstore.integrations.kept._MANY", 2)
    made = Made(manager)
    for number in range(6):
        put(manager, f"{'ab'[number % 2]}/{number}", number)
    for _ in range(2):
        assert sorted(made.lists.of("a/", "t")) == [(f"a/{n}", [n]) for n in (0, 2, 4)]
        assert sorted(made.lists.of("b/", "t")) == [(f"b/{n}", [n]) for n in (1, 3, 5)]
        assert len(made.lists.of("", "t")) == 6
    for number in range(6, 12):
        put(manager, f"a/{number}", number)
    assert len(made.lists.of("a/", "t")) == 9


def test_values_are_kept_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventstore.integrations.kept._MOST_BYTES", 250)
    kept = KeptValues[str, bytes](len)
    for name in "abc":
        kept.put(name, b"old")
        kept.put(name, b"x" * 100)
    assert kept.get("a") is None
    assert kept.get("b") == kept.get("c") == b"x" * 100
