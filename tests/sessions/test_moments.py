"""`manager.moments` gives what the folds give, on both backends, while sessions grow, fork and are redacted."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from histories import KINDS
from hypothesis import given
from hypothesis import strategies as st

from eventstore import (
    FileSystemSessionStorage,
    MemorySessionStorage,
    NoSuchMoment,
    SessionManager,
    SessionNotFound,
)
from eventstore import events as e

APPENDED = st.one_of(
    *(
        KINDS[kind]
        for kind in KINDS
        if kind not in (e.SessionCreated, e.EventRedacted) and not kind.__name__.startswith("Store")
    )
)


def same(manager: SessionManager, session_id: str, at: Any = None) -> None:
    """Every answer about a moment equals the one that is folded."""
    session = manager.get_session(session_id, at)
    assert session is not None
    moments = manager.moments
    assert moments.metadata(session_id, at) == session.metadata
    assert moments.figures(session_id, at) == manager.get_session_statistics(session_id, at)
    assert moments.data(session_id, at) == manager.data(session_id, at)
    window = moments.messages(session_id, at, first=0, limit=1000)
    said = [(one.role, one.content, one.tool_name, one.invocation_id) for one in session.conversation]
    assert [(one.role, one.content, one.tool_name, one.invocation_id) for one in window.messages] == said
    assert (window.version, window.total) == (session.version, len(said))
    assert moments.tree(session_id, at) == manager.tree(session_id, at)
    calls = [call for _, call in moments.calls(session_id, at, limit=1000)]
    assert [one.invocation_id for one in calls] == session.invocation_ids
    rows = list(manager.timeline(session_id, at))
    assert moments.timeline(session_id, 0, 10_000, at=at) == rows
    assert moments.timeline(session_id, 2, 3, at=at) == rows[2:5]
    assert moments.timeline(session_id, 5, 3, at=at, backwards=True) == rows[:4][-3:]


@given(history=st.lists(APPENDED, max_size=30), cut=st.integers(1, 20))
def test_every_answer_is_the_folded_one(history: list[e.Event], cut: int) -> None:
    with SessionManager(MemorySessionStorage()) as manager:
        manager.create_session("s", "p", tags=["t"])
        for place, event in enumerate(history):
            manager.storage.append("s", [event])
            if place % 5 == 0:
                same(manager, "s")
        for version in range(1, len(history) + 2):
            same(manager, "s", version)
        manager.fork_session("s", min(cut, len(history) + 1), "f")
        manager.add_conversation_message("f", "user", "on")
        for version in range(1, manager.head("f").version + 1):
            same(manager, "f", version)


def fill(manager: SessionManager, session_id: str, turns: int = 30) -> None:
    manager.create_session(session_id, "purpose", "ana", ["x"])
    for turn in range(turns):
        manager.add_conversation_message(session_id, "user", f"ask {turn}")
        manager.add_conversation_message(session_id, "assistant", "{}", tool_name="grep", invocation_id=f"c{turn}")
        error = "no" if turn % 7 == 6 else None
        folder = f"/history/{turn}" if turn % 3 else None
        manager.link_invocation(session_id, f"c{turn}", "grep", folder, 5.0, success=error is None, error=error)
        manager.add_conversation_message(
            session_id, "tool", "found the needle" if turn == 9 else "-", invocation_id=f"c{turn}"
        )
        manager.record_usage(session_id, {"input": 10, "output": turn}, cost=0.5, key=f"k{turn}")


def test_a_session_on_any_backend(manager: SessionManager) -> None:
    fill(manager, "s")
    for version in (1, 2, 50, 151):
        same(manager, "s", version)
    same(manager, "s", datetime.now(UTC))
    moments = manager.moments
    assert moments.seek("s", 0, ["prompt"]) == 2
    assert moments.seek("s", 2, ["prompt"]) == 7
    assert moments.seek("s", 7, ["prompt"], backwards=True) == 2
    assert moments.seek("s", 0, ["error"]) == 34
    assert moments.seek("s", 151, ["prompt"]) is None
    tool_rows = moments.timeline("s", 0, 500, tools=["grep"])
    assert len(tool_rows) == 90
    assert {row.tool_name for row in tool_rows} == {"grep"}
    results = moments.timeline("s", 151, 2, tools=["grep"], roles=["tool"], backwards=True)
    assert [row.seq for row in results] == [145, 150]
    assert moments.counts("s")["roles"] == {"user": 30, "assistant": 30, "tool": 30}
    found = moments.find("s", "NEEDLE")
    assert (found.seqs, found.done) == ([50], True)
    part = moments.find("s", "ask", limit=2)
    assert (part.seqs, part.reached, part.done) == ([2, 7], 7, False)
    assert not moments.find("s", "needle", most_events=10).done
    for by in ("seq", "time"):
        buckets = moments.density("s", 10, by=by)
        assert buckets[-1].upto == 151
        assert [one.after for one in buckets] == [0, *(one.upto for one in buckets[:-1])]
        assert sum(one.messages for one in buckets) == 90
        assert sum(one.errors for one in buckets) == 4
        assert sum(one.cost for one in buckets) == 15.0
    assert moments.place("s", 7) == 4
    assert [one.seq for one in moments.messages("s", first=4, limit=2).messages] == [8, 10]


def test_rows_that_are_far_apart_are_read_between_long_lines(manager: SessionManager) -> None:
    manager.create_session("s")
    for turn in range(400):
        manager.add_conversation_message("s", "user" if turn % 90 == 7 else "assistant", f"{turn} " + "long " * 300)
    rows = list(manager.timeline("s"))
    users = [row for row in rows[1:] if (row.seq - 2) % 90 == 7]
    assert len(users) == 5
    assert manager.moments.timeline("s", roles=["user"]) == users
    assert manager.moments.timeline("s", users[1].seq, 2, roles=["user"]) == users[2:4]


def test_the_tree_has_the_last_folder_of_each_call_that_is_still_linked(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.link_invocation("s", "a", "grep", "/history/1", 1.0)
    manager.link_invocation("s", "b", "grep", "/history/2", 1.0)
    manager.link_invocation("s", "a", "grep", "/history/3", 1.0)
    manager.storage.append("s", [e.InvocationUnlinked(invocation_id="b")])
    manager.link_invocation("s", "b", "grep", None, 1.0)
    for version in range(1, 7):
        same(manager, "s", version)
    assert list(manager.moments.tree("s", 4)) == ["invocations/a", "invocations/b"]
    assert list(manager.moments.tree("s")) == ["invocations/a"]


def test_redaction_deletion_and_a_new_session_of_the_same_id(manager: SessionManager) -> None:
    fill(manager, "s", 3)
    assert manager.moments.messages("s").messages[0].content == "ask 0"
    manager.redactions.redact("s", [2], "secret")
    same(manager, "s")
    same(manager, "s", 5)
    assert manager.moments.messages("s").messages[0].content == "{}"
    assert manager.moments.seek("s", 0, ["redaction"]) == 17
    manager.delete_session("s")
    with pytest.raises(SessionNotFound):
        manager.moments.figures("s")
    fill(manager, "s", 1)
    same(manager, "s")


def test_what_another_process_wrote_is_seen(tmp_path: Path) -> None:
    """Two storages on the same files: one asks, the other appends, redacts and makes the session anew."""
    paths = tmp_path / "s", tmp_path / "h"
    with (
        SessionManager(FileSystemSessionStorage(*paths)) as one,
        SessionManager(FileSystemSessionStorage(*paths)) as two,
    ):
        fill(two, "s", 3)
        same(one, "s")
        two.add_conversation_message("s", "user", "more")
        same(one, "s")
        two.redactions.redact("s", [2], "secret")
        same(one, "s")
        two.delete_session("s")
        fill(two, "s", 4)
        same(one, "s")


def test_wrong_moments_and_arguments_are_refused(manager: SessionManager) -> None:
    fill(manager, "s", 1)
    for at in (-1, 99, "yesterday"):
        with pytest.raises(NoSuchMoment):
            manager.moments.figures("s", at)
    with pytest.raises(SessionNotFound):
        manager.moments.figures("s", "2000-01-01T00:00:00Z")
    with pytest.raises(SessionNotFound):
        manager.moments.timeline("none")
    with pytest.raises(ValueError, match="at most 10000"):
        manager.moments.timeline("s", limit=10_001)
    with pytest.raises(ValueError, match="kinds"):
        manager.moments.seek("s", 0, ["prompts"])
