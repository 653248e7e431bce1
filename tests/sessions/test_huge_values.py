"""A log may have values whose sums no machine number holds. Every question about such a store has an answer."""

import json
import math
from pathlib import Path

import pytest

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore import events as e
from eventstore.store.rebuild import check_all

MOST, MOST_REAL = 2**63 - 1, 1.7976931348623157e308


@pytest.fixture(params=[1, -1], ids=["huge", "negative"])
def sign(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def full(manager: SessionManager, sign: int) -> SessionManager:
    """A manager with sessions whose events were written before there was a limit."""
    for number, name in enumerate("abc"):
        manager.create_session(name)
        if number < 2:
            used = e.UsageRecorded(tokens={"input": sign * MOST, "output": sign}, cost=sign * 1e308, model="m")
            calls = [e.InvocationLinked(invocation_id=one, tool_name="t", duration_ms=sign * 1e308) for one in "ijk"]
            manager.storage.append(name, [used, used, *calls])
    return manager


def test_statistics_and_moments_show_the_nearest_number(full: SessionManager, sign: int) -> None:
    found = full.get_session_statistics("a")
    assert found is not None
    assert (found["total_duration_ms"], found["estimated_cost"]) == (sign * MOST_REAL, sign * MOST_REAL)
    assert found["token_usage"] == {"input": sign * MOST, "output": sign * 2}
    assert full.moments.figures("a") == found
    json.dumps(found, allow_nan=False)


def test_the_figures_of_all_sessions_are_in_the_range(full: SessionManager, sign: int) -> None:
    (total,) = full.analytics("total")
    assert (total.sessions, total.calls) == (2, 6)
    assert all(map(math.isfinite, total[1:]))
    if sign == 1:
        assert (total.tokens, total.input_tokens, total.output_tokens) == (MOST, MOST, 4)
        assert total.cost == MOST_REAL
    assert total.duration_ms == sign * MOST_REAL
    assert sum(row.calls for row in full.analytics("tool")) == 6


def test_sums_to_two_to_the_53_are_exact(manager: SessionManager) -> None:
    for name in "ab":
        manager.create_session(name)
        manager.record_usage(name, {"input": 2**52 - 1})
    assert [row.tokens for row in manager.analytics("total")] == [2**53 - 2]


def test_a_list_by_cost_has_all_pages(full: SessionManager, sign: int) -> None:
    found, cursor = list[str](), None
    while len(found) < 5:
        page = full.page_sessions(sort="cost", limit=1, cursor=cursor)
        found += [one.session_id for one in page.sessions]
        cursor = page.cursor
        if cursor is None:
            break
    assert found == (["a", "b", "c"] if sign == 1 else ["c", "a", "b"])


def test_a_rebuild_finds_no_difference(tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no") as storage:
        SessionManager(storage).create_session("a")
        used = e.UsageRecorded(tokens={"input": MOST, "output": 1}, cost=1e308)
        storage.append("a", [used, used])
        assert [(one.damage, one.difference) for one in check_all(storage, jobs=1)] == [("", "")]
