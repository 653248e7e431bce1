"""Lists and maps that programs keep inside sessions."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import (
    AsyncSessionManager,
    FileSystemSessionStorage,
    LogDamaged,
    MemorySessionStorage,
    SessionManager,
    SessionNotFound,
    VersionConflict,
)
from eventstore.errors import EventNotEncodable
from eventstore.events import MessageAdded, RecordPut, RecordRemoved, SessionCreated
from eventstore.ids import check_session_id, session_id_for
from eventstore.sessions import Item


def put(stream: str, value: Any, key: str | None = None, *, once: bool = False) -> RecordPut:
    return RecordPut(stream=stream, value=value, key=key, once=once)


def values(items: list[Item]) -> list[Any]:
    return [one.value for one in items]


def test_a_list_keeps_its_order_and_gives_the_latest(manager: SessionManager) -> None:
    manager.append("s", [put("items", n) for n in range(5)], create=True)
    assert values(manager.records.list("s", "items")) == [0, 1, 2, 3, 4]
    assert values(manager.records.list("s", "items", 2)) == [0, 1]
    assert values(manager.records.list("s", "items", 2, newest=True)) == [3, 4]
    assert values(manager.records.list("s", "items", 0)) == []
    assert values(manager.records.list("s", "items", after=4)) == [3, 4]
    assert manager.records.list("s", "nothing") == []
    with pytest.raises(SessionNotFound):
        manager.records.list("t", "items")


def test_a_key_is_replaced_in_its_place(manager: SessionManager) -> None:
    manager.append("s", [put("m", 1, "a"), put("m", 2, "b"), put("m", 3, "a")], create=True)
    items = manager.records.list("s", "m")
    assert [(one.key, one.value, one.first, one.seq) for one in items] == [("a", 3, 2, 4), ("b", 2, 3, 3)]
    assert manager.records.get("s", "m", "a") == items[0]
    assert manager.records.get("s", "m", "c") is None


def test_once_keeps_the_first_value(manager: SessionManager) -> None:
    manager.append("s", [put("m", 1, "a", once=True), put("m", 2, "a", once=True)], create=True)
    assert values(manager.records.list("s", "m")) == [1]
    manager.append("s", [put("m", 3, "a")])
    assert values(manager.records.list("s", "m")) == [3]


def test_a_batch_that_is_sent_again_is_stored_once(manager: SessionManager) -> None:
    batch = [put("m", n, str(n), once=True) for n in range(3)]
    assert manager.records.append_new("s", batch, create=True) is not None
    assert manager.records.append_new("s", batch, create=True) is None
    more = [
        *batch[1:],
        put("m", 9, "9", once=True),
        put("m", 9, "9", once=True),
        MessageAdded(role="user", content="x"),
    ]
    found = manager.records.append_new("s", more)
    assert found is not None
    assert found.last - found.first == 1
    assert values(manager.records.list("s", "m")) == [0, 1, 2, 9]
    with pytest.raises(SessionNotFound):
        manager.records.append_new("t", batch)
    with pytest.raises(VersionConflict):
        manager.records.append_new("s", [put("m", 1, "z", once=True)], expected_version=1)


def test_items_are_removed_one_the_last_all_or_by_prefix(manager: SessionManager) -> None:
    batch = [put("a/x", 1), put("a/x", 2), put("a/x", 3), put("a/y", 4, "k"), put("b", 5)]
    manager.append("s", batch, create=True)
    second = manager.records.list("s", "a/x")[1]
    manager.append("s", [RecordRemoved(stream="a/x", item=second.first)])
    assert values(manager.records.list("s", "a/x")) == [1, 3]
    manager.append("s", [RecordRemoved(stream="a/x", last=True), RecordRemoved(stream="a/y", key="k")])
    assert manager.records.streams("s") == {"a/x": 1, "b": 1}
    manager.append("s", [put("a/z", 6), RecordRemoved(stream="b"), RecordRemoved(stream="b", last=True)])
    assert manager.records.streams("s", "a/") == {"a/x": 1, "a/z": 1}
    manager.append("s", [RecordRemoved(prefix="a/")])
    assert manager.records.streams("s") == {}
    assert manager.records.streams("s", at=6) == {"a/x": 3, "a/y": 1, "b": 1}
    assert values(manager.records.list("s", "a/x", at=6)) == [1, 2, 3]


def test_an_item_that_is_popped_goes_to_one_caller(manager: SessionManager) -> None:
    manager.append("s", [put("q", n, str(n) if n % 2 else None) for n in range(20)], create=True)
    found = list[Any]()

    def pop() -> None:
        while (item := manager.records.pop("s", "q")) is not None:
            found.append(item.value)

    threads = [threading.Thread(target=pop) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(found) == list(range(20))
    assert manager.records.pop("s", "q") is None


@pytest.mark.parametrize(
    "event",
    [
        RecordRemoved(),
        RecordRemoved(stream="a", prefix="a"),
        RecordRemoved(stream="a", key="k", last=True),
        RecordRemoved(prefix="a", last=True),
    ],
)
def test_a_removal_says_exactly_what(event: RecordRemoved) -> None:
    manager = SessionManager(MemorySessionStorage())
    with pytest.raises(ValueError, match=r"record\.removed"):
        manager.append("s", [event], create=True)


@pytest.mark.parametrize("size", [0, 3, 300_000])
def test_bytes_come_back(manager: SessionManager, size: int) -> None:
    value = bytes(n % 256 for n in range(size))
    manager.append("s", [put("b", value, "k")], create=True)
    item = manager.records.get("s", "b", "k")
    assert item is not None
    assert item.value == value


def test_a_large_value_is_kept_beside_the_log_once(manager: SessionManager) -> None:
    value = {"text": "x" * 300_000}
    manager.append("s", [put("m", value, "a"), put("m", value, "b")], create=True, expected_version=0)
    assert values(manager.records.list("s", "m")) == [value, value]
    assert len(manager.storage.log.values("s")) == 1
    assert manager.head("s").size_bytes < 5_000
    fork = manager.fork_session("s")
    assert values(manager.records.list(fork, "m")) == [value, value]
    manager.delete_session("s")
    assert values(manager.records.list(fork, "m")) == [value, value]


def test_a_large_value_that_is_gone_is_damage(manager: SessionManager) -> None:
    manager.append("s", [put("m", "x" * 300_000, "a")], create=True)
    (digest,) = manager.storage.log.values("s")
    manager.storage.log.remove_value("s", digest)
    with pytest.raises(LogDamaged):
        manager.records.list("s", "m")


def test_values_belong_to_the_caller(manager: SessionManager) -> None:
    manager.append("s", [put("m", {"a": [1]}, "k")], create=True)
    manager.records.list("s", "m")[0].value["a"].append(2)
    assert values(manager.records.list("s", "m")) == [{"a": [1]}]


def test_a_value_without_json_is_refused(manager: SessionManager) -> None:
    with pytest.raises(EventNotEncodable, match=r"\$\.value"):
        manager.append("s", [put("m", {"a": float("nan")})], create=True)
    with pytest.raises(EventNotEncodable, match=r"\$\.value"):
        manager.append("s", [put("m", {"a": object()})], create=True)


def test_the_async_manager_does_the_same() -> None:
    async def work() -> None:
        async with AsyncSessionManager(SessionManager(MemorySessionStorage())) as manager:
            await manager.append("s", [put("m", "x" * 300_000, "a")], create=True, expected_version=0)
            bad = manager.append("s", [put("m", object())])
            good = manager.append("s", [put("m", b"\0" * 300_000, "b")])
            refused, appended = await asyncio.gather(bad, good, return_exceptions=True)
            assert isinstance(refused, EventNotEncodable)
            assert not isinstance(appended, BaseException)
            assert [len(one.value) for one in await manager.records.list("s", "m")] == [300_000, 300_000]
            assert await manager.records.append_new("s", [put("m", 1, "c", once=True)]) is not None
            item = await manager.records.pop("s", "m")
            assert item is not None
            assert item.key == "c"
            assert await manager.records.streams("s") == {"m": 2}
            assert await manager.records.get("s", "m", "c") is None

    asyncio.run(asyncio.wait_for(work(), 60))


# --- external keys


KEYS = st.text(max_size=200)


@given(KEYS, KEYS)
def test_each_external_key_has_its_own_session_id(one: str, other: str) -> None:
    ids = session_id_for(one), session_id_for(other)
    assert [check_session_id(each) for each in ids] == list(ids)
    assert (ids[0] == ids[1]) == (one == other)
    assert ids[0] == session_id_for(one)


def test_ids_of_external_keys_differ_in_more_than_capitals() -> None:
    keys = ["Thread", "thread", "key-1", "a/b", "a b", " a", "", "a."]
    assert len({session_id_for(one).lower() for one in keys}) == len(keys)
    assert session_id_for("thread-1") == "thread-1"


def test_sessions_are_found_by_external_key_and_prefix(manager: SessionManager) -> None:
    keys = ["app/user:1/a", "app/user:1/b", "app/user:10/c", "app/ä", "app%", "other"]
    for key in keys:
        manager.append(session_id_for(key), [put("m", 1)], SessionCreated(external_key=key))
    manager.create_session("plain")

    def found(**wanted: str) -> set[str | None]:
        return {one.external_key for one in manager.page_sessions(**wanted).sessions}  # type: ignore[arg-type]

    assert found(external_key="app/user:1/a") == {"app/user:1/a"}
    assert found(external_prefix="app/user:1/") == {"app/user:1/a", "app/user:1/b"}
    assert found(external_prefix="app/") == {"app/user:1/a", "app/user:1/b", "app/user:10/c", "app/ä"}
    assert found(external_prefix="app%") == {"app%"}
    assert found(external_prefix="") == set(keys)
    assert found(external_key="none") == set()
    copied = manager.fork_session(session_id_for("other"), external_key="copy")
    plain = manager.fork_session(session_id_for("other"))
    sessions = {one.session_id: one.external_key for one in manager.page_sessions().sessions}
    assert (sessions[copied], sessions[plain]) == ("copy", None)


# --- the fold

EVENTS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.none() | st.sampled_from("xyz"),
        st.sampled_from(["put", "once", "del", "last", "all"]),
    ),
    max_size=20,
)


@given(EVENTS)
def test_a_stream_is_what_a_list_and_a_dict_would_be(drawn: list[tuple[str, str | None, str]]) -> None:
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s")
    model: dict[str, dict[str | int, int]] = {}
    for number, (stream, key, what) in enumerate(drawn, 2):
        entries = model.setdefault(stream, {})
        event: RecordPut | RecordRemoved
        if what in ("put", "once"):
            event = put(stream, number, key, once=what == "once" and key is not None)
            place = number if key is None else key
            if not (what == "once" and place in entries):
                entries[place] = number
        elif what == "del":
            event = RecordRemoved(stream=stream, key=key or "x")
            entries.pop(key or "x", None)
        elif what == "last":
            event = RecordRemoved(stream=stream, last=True)
            if entries:
                entries.popitem()
        else:
            event = RecordRemoved(stream=stream)
            entries.clear()
        manager.append("s", [event])
        if number % 3 == 0:
            manager.records.streams("s")
    for stream, entries in model.items():
        assert values(manager.records.list("s", stream)) == list(entries.values())
    assert manager.records.streams("s") == {name: len(one) for name, one in model.items() if one}


def test_records_of_another_manager_are_seen(tmp_path: Path) -> None:
    def opened() -> SessionManager:
        return SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no"))

    with opened() as one, opened() as other:
        one.append("s", [put("m", 1)], create=True)
        assert values(other.records.list("s", "m")) == [1]
        other.append("s", [put("m", 2)])
        assert values(one.records.list("s", "m")) == [1, 2]
