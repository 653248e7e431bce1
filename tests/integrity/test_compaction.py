"""Records that no stream holds any more, emptied: their bytes are free, and nothing else changes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import FileSystemSessionStorage, MemorySessionStorage, SessionManager
from eventstore.events import RecordPut, RecordRemoved, RedactedEvent
from eventstore.integrity import verify_session

BIG = "x" * 5_000


def put(stream: str, value: Any, key: str | None = None) -> RecordPut:
    return RecordPut(stream=stream, value=value, key=key)


def filled(manager: SessionManager, session_id: str = "s", count: int = 20) -> None:
    """Keep checkpoints like an agent framework, of which only the last is kept."""
    manager.create_session(session_id)
    for number in range(count):
        manager.append(session_id, [put("checkpoints", f"{number}{BIG}", f"c{number}"), put("latest", BIG, "only")])
        manager.add_conversation_message(session_id, "user", f"turn {number}")
    gone = [RecordRemoved(stream="checkpoints", key=f"c{number}") for number in range(count - 1)]
    manager.append(session_id, gone)


def state(manager: SessionManager, session_id: str = "s") -> Any:
    return {name: manager.records.list(session_id, name) for name in manager.records.streams(session_id)}


def is_whole(manager: SessionManager, session_id: str = "s") -> bool:
    return not verify_session(manager.storage, session_id).findings


def test_the_bytes_of_what_was_removed_are_free_and_the_rest_is_the_same(manager: SessionManager) -> None:
    filled(manager)
    before, size = state(manager), manager.head("s").size_bytes
    hashes = [event.hash for event in manager.events("s")]
    done = manager.records.compact("s", by={"actor": "ana"})
    assert done.events == 19 + 18  # of the key that was replaced, the first put keeps its place
    assert done.freed_bytes > 30 * 5_000
    assert manager.head("s").size_bytes == size - done.freed_bytes
    assert state(manager) == before
    assert len(manager.records.list("s", "checkpoints")) == 1
    events = list(manager.events("s"))
    assert [event.hash for event in events][: len(hashes)] == hashes
    assert sum(isinstance(event, RedactedEvent) for event in events) == 37
    session = manager.get_session("s")
    assert session is not None
    assert [one.content for one in session.conversation] == [f"turn {number}" for number in range(20)]
    again = manager.records.compact("s")
    assert (again.events, again.freed_bytes) == (0, 0)
    manager.append("s", [put("latest", "new", "only")])
    assert manager.records.list("s", "latest")[0].value == "new"


def test_a_compacted_store_is_verified_as_whole(manager: SessionManager) -> None:
    filled(manager)
    manager.records.compact("s")
    assert is_whole(manager)


def test_a_subscription_goes_on_behind_a_compaction(manager: SessionManager) -> None:
    filled(manager)
    seen = list[int]()
    handled = manager.subscribe("n", lambda one: seen.append(one.event.seq), "s", live=False)
    count = handled.run()
    cursor = handled.subscription.cursor
    manager.records.compact("s")
    last = manager.add_conversation_message("s", "user", "after").last
    manager.subscribe("n", lambda one: seen.append(one.event.seq), "s", live=False).run()
    assert seen == list(range(1, last + 1))
    assert [one.event.seq for one in manager.follow("s", cursor, live=False)] == list(range(count + 1, last + 1))


def test_what_a_fork_inherits_stays(manager: SessionManager) -> None:
    filled(manager, count=4)
    fork = manager.fork_session("s", 7)
    before = state(manager, fork)
    manager.records.compact("s")
    assert state(manager, fork) == before
    manager.append(fork, [put("own", BIG, "k"), put("own", BIG, "k"), RecordRemoved(prefix="own")])
    done = manager.records.compact(fork)
    assert done.events == 2
    assert state(manager, fork) == before
    assert is_whole(manager, fork)
    manager.delete_session("s")
    assert state(manager, fork) == before


def test_values_beside_the_log_are_removed_where_nothing_names_them(manager: SessionManager) -> None:
    one, other = "1" * 300_000, "2" * 300_000
    manager.append("s", [put("m", one, "a"), put("m", one, "b"), put("m", other, "c")], create=True)
    manager.append("s", [RecordRemoved(stream="m", key="a"), RecordRemoved(stream="m", key="c")])
    assert len(manager.storage.log.values("s")) == 2
    done = manager.records.compact("s")
    assert done.events == 2
    assert len(manager.storage.log.values("s")) == 1
    assert [item.value for item in manager.records.list("s", "m")] == [one]


def test_a_stream_whose_last_record_was_removed_by_place_keeps_its_meaning(manager: SessionManager) -> None:
    manager.append("s", [put("a", BIG), put("a", BIG), put("b", BIG, "k"), put("b", 1, "k")], create=True)
    manager.append("s", [RecordRemoved(stream="a", last=True), put("b", BIG, "l"), RecordRemoved(stream="b", key="l")])
    before = state(manager)
    assert manager.records.compact("s").events == 1
    assert state(manager) == before


def test_another_manager_sees_the_compacted_session(tmp_path: Path) -> None:
    def opened() -> SessionManager:
        return SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no"))

    with opened() as one, opened() as other:
        filled(one)
        before = state(other)
        one.records.compact("s")
        other.append("s", [put("more", 1)])
        assert {**before, "more": other.records.list("s", "more")} == state(one)
        assert "x" * 5_000 + '"' not in (tmp_path / "s" / "s" / "events.jsonl").read_text().split("\n")[1]


KILLED = """
import os, sys
from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.log.engine import EventLog

where = sys.argv[2]
manager = SessionManager(FileSystemSessionStorage(sys.argv[1] + "/s", sys.argv[1] + "/h"))
def die(*args, **named):
    os._exit(9)
if where == "before":
    EventLog.compact = die
elif where == "between":
    EventLog._compact = die
else:
    type(manager.storage).refresh_derived = die
manager.records.compact("s")
"""


@pytest.mark.parametrize("where", ["before", "between", "after"])
def test_a_program_that_is_killed_leaves_a_store_to_go_on_with(tmp_path: Path, where: str) -> None:
    def opened() -> SessionManager:
        return SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h"))

    with opened() as manager:
        filled(manager)
        before = state(manager)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), where], check=False)
    assert killed.returncode == 9
    with opened() as manager:
        assert state(manager) == before
        manager.append("s", [put("more", 1)])
        manager.records.compact("s")
        assert {**before, "more": manager.records.list("s", "more")} == state(manager)
        assert manager.head("s").size_bytes < 60_000
        assert is_whole(manager, "s")


KINDS = st.sampled_from(["put", "del", "last", "all", "compact"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.none() | st.sampled_from("xyz"),
        KINDS,
    ),
    max_size=15,
)


@given(STEPS)
def test_compaction_changes_no_stream(drawn: list[tuple[str, str | None, str]]) -> None:
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s")
    for number, (stream, key, what) in enumerate(drawn):
        if what == "compact":
            before = state(manager)
            manager.records.compact("s")
            assert state(manager) == before
        elif what == "put":
            manager.append("s", [put(stream, f"{number}{BIG}", key)])
        elif what == "del":
            manager.append("s", [RecordRemoved(stream=stream, key=key or "x")])
        else:
            manager.append("s", [RecordRemoved(stream=stream, last=what == "last")])
    before = state(manager)
    manager.records.compact("s")
    assert state(manager) == before
