"""Every question can be asked as of a version or a time, and the answer is that of a prefix of the log."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from histories import HISTORIES
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from eventstore import Conversation, MemorySessionStorage, NoSuchMoment, Session, SessionManager, SessionNotFound
from eventstore import events as e
from projections import difference, session, statistics, summary, timeline, turns


def stored(history: list[e.Event]) -> SessionManager:
    manager = SessionManager(MemorySessionStorage())
    manager.storage.append("s", [e.SessionCreated(occurred_at="2019-12-31T00:00:00.000000Z")], expected_version=0)
    for event in history:
        manager.storage.append("s", [replace(event, id=None)])
    return manager


@given(history=HISTORIES, n=st.integers(1, 40))
def test_the_answer_as_of_a_version_is_the_fold_of_so_many_events(history: list[e.Event], n: int) -> None:
    manager = stored(history)
    events = list(manager.events("s"))
    n = min(n, len(events))
    past = session.projection.fold(events[:n])
    assert manager.get_session("s", n) == past.to_model("s")
    assert manager.get_session_statistics("s", n) == statistics.to_dict(summary.projection.fold(events[:n]), "s")
    assert manager.data("s", n) == past.data
    assert manager.tree("s", n) == past.links()
    assert list(manager.events("s", at=n)) == events[:n]
    assert list(manager.timeline("s", n)) == list(timeline.rows(events[:n]))
    assert manager.conversation("s", at=n) == list(Conversation(turns.complete_calls(past.conversation.messages)))
    (_, model) = list(manager.history("s"))[n - 1]
    assert model == past.to_model("s")
    assert manager.diff("s", n, n) == []
    whole = session.projection.fold(events)
    assert manager.diff("s", n) == list(difference.compare("s", past, whole))


@given(history=HISTORIES, when=st.datetimes(datetime(2019, 12, 31), datetime(2030, 1, 1), timezones=st.just(UTC)))
def test_a_time_is_the_greatest_so_far_so_that_the_answer_is_a_prefix(history: list[e.Event], when: datetime) -> None:
    manager = stored(history)
    text = when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    events = list(manager.events("s"))
    version = 0
    while version < len(events) and events[version].time <= text:
        version += 1
    if version:
        assert manager.storage.version_at("s", when) == version
        assert manager.get_session("s", when) == manager.get_session("s", version)
    else:
        assert manager.get_session("s", when) is None
    assert manager.get_session("s", text) == manager.get_session("s", when)


def test_what_was_recorded_later_than_it_happened_is_asked_for_by_either(manager: SessionManager) -> None:
    manager.create_session("s", occurred_at="2020-01-01T00:00:00Z")
    manager.add_conversation_message("s", "user", "a", occurred_at="2020-01-02T00:00:00Z")
    new_year = datetime(2020, 1, 1, 12, tzinfo=UTC)
    assert manager.storage.version_at("s", new_year) == 1
    with pytest.raises(SessionNotFound):
        manager.storage.version_at("s", new_year, recorded=True)
    assert manager.storage.version_at("s", datetime.now(UTC) + timedelta(1), recorded=True) == 2


def test_long_rows_of_messages_are_cut_at_the_very_moment(manager: SessionManager) -> None:
    manager.create_session("s")
    for n in range(60):
        manager.add_conversation_message("s", "user", f"{n} " + "x" * 200)
    times = [event.at for event in manager.events("s")]
    for n in (1, 2, 30, 60, 61):
        assert manager.storage.version_at("s", times[n - 1]) == max(
            seq for seq, at in enumerate(times, 1) if at <= times[n - 1]
        )


def test_lists_are_those_of_the_time(manager: SessionManager) -> None:
    manager.create_session("old", tags=["a"], occurred_at="2020-01-01T00:00:00Z")
    manager.update_session_metadata("old", tags=["b"], occurred_at="2021-01-01T00:00:00Z")
    manager.create_session("new", occurred_at="2022-01-01T00:00:00Z")
    (then,) = manager.list_sessions(at="2020-06-01T00:00:00Z")
    assert (then.metadata.session_id, then.metadata.tags) == ("old", ["a"])
    assert manager.list_sessions(tags=["a"]) == []
    assert len(manager.list_sessions(at=datetime(2023, 1, 1, tzinfo=UTC))) == 2
    assert manager.list_sessions(at="2019-01-01T00:00:00Z") == []


def test_a_fork_is_listed_and_found_from_the_moment_it_was_made(manager: SessionManager) -> None:
    manager.create_session("s", occurred_at="2020-01-01T00:00:00Z")
    manager.add_conversation_message("s", "user", "needle", occurred_at="2020-01-02T00:00:00Z")
    manager.fork_session("s", new_id="f")
    for when, expected in (("2020-06-01T00:00:00Z", {"s"}), (datetime.now(UTC), {"s", "f"})):
        assert {one.metadata.session_id for one in manager.list_sessions(at=when)} == expected
        assert {hit.session_id for hit in manager.search("needle", at=when)} <= expected
    assert [one.content for one in manager.conversation("f", at="2020-06-01T00:00:00Z")] == ["needle"]


@given(
    histories=st.lists(HISTORIES, min_size=1, max_size=3),
    when=st.datetimes(datetime(2019, 12, 31), datetime(2030, 1, 1), timezones=st.just(UTC)),
)
def test_lists_and_searches_are_those_of_the_prefixes_at_that_time(
    histories: list[list[e.Event]], when: datetime
) -> None:
    manager = SessionManager(MemorySessionStorage())
    for n, history in enumerate(histories):
        manager.storage.append(f"s{n}", [e.SessionCreated(occurred_at="2020-06-30T00:00:00Z")], expected_version=0)
        for event in history:
            manager.storage.append(f"s{n}", [replace(event, id=None)])
        manager.add_conversation_message(f"s{n}", "user", "needle", occurred_at="2021-01-01T00:00:00Z")
    then = {}
    for n in range(len(histories)):
        found = manager.get_session(f"s{n}", when)
        if found is not None:
            then[f"s{n}"] = found
    assert {one.metadata.session_id: one for one in manager.list_sessions(at=when, limit=None)} == then
    page = manager.page_sessions(at=when, limit=None).sessions
    assert {one.session_id: one for one in page} == {name: one.metadata for name, one in then.items()}
    hits = manager.search("needle", at=when, limit=100)
    there = {one.session_id for one in manager.search("needle", limit=100) if one.seq <= _version(then, one.session_id)}
    assert {one.session_id for one in hits} == there


def _version(then: dict[str, Session], session_id: str) -> int:
    return then[session_id].version if session_id in then else 0


def test_what_is_no_moment_is_an_error(manager: SessionManager) -> None:
    manager.create_session("s")
    wrong: list[Any] = [2, -1, "soon", True, 3.5, b"2020"]
    for at in wrong:
        with pytest.raises(NoSuchMoment):
            manager.get_session("s", at)
    with pytest.raises(NoSuchMoment):
        manager.list_sessions(at=1)
    assert manager.get_session("s", 0) is None
    assert manager.get_session("nope", "2020-01-01T00:00:00Z") is None
    with pytest.raises(SessionNotFound):
        manager.diff("nope", 0)


def test_a_difference_names_what_changed(manager: SessionManager) -> None:
    manager.create_session("s", "p", tags=["a"])
    manager.set_data("s", "k", 1)
    manager.update_session_metadata("s", "q", tags=["b"], custom_metadata={"x": 1})
    manager.set_data("s", "k", 2)
    manager.add_conversation_message("s", "user", "hi")
    manager.link_invocation("s", "i", "grep", None, 2.0)
    found = {(change.kind, change.key): (change.before, change.after) for change in manager.diff("s", 2)}
    assert found["metadata", "purpose"] == ("p", "q")
    assert found["tag", "a"] == ("a", None)
    assert found["tag", "b"] == (None, "b")
    assert found["custom_metadata", "x"] == (None, 1)
    assert found["data", "k"] == (1, 2)
    assert found["message", 5] == (None, "user: hi")
    assert found["invocation", "i"][0] is None
    back = {(change.kind, change.key): (change.before, change.after) for change in manager.diff("s", 6, 2)}
    assert {key: (after, before) for key, (before, after) in found.items()} == back
    assert manager.diff("s", 0, 1)
