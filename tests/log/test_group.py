"""Groups: who is served by which piece of work."""

import threading
import time
from collections.abc import Sequence
from itertools import count

import pytest
from interrupting import ends, interrupted_at

from eventstore.errors import OutcomeUnknown
from eventstore.log.group import Group


def test_who_comes_during_the_wait_between_two_writes_is_served_by_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    group: Group[str, str] = Group(threading.Lock(), lambda: OutcomeUnknown("s", "here", 4), apart=3600.0)
    rounds: list[list[str]] = []
    late: list[threading.Thread] = []

    def work(pieces: Sequence[str]) -> list[str]:
        rounds.append(list(pieces))
        return list(pieces)

    def wait(seconds: float) -> None:
        """Take the time in which somebody else comes, however long it is."""
        if seconds > 60 and not late:
            late.append(threading.Thread(target=group.do, args=("late", work)))
            late[0].start()
            while len(group._waiting) < 2:
                threading.Event().wait(0.001)

    monkeypatch.setattr(time, "sleep", wait)
    for piece in ("first", "second"):
        assert group.do(piece, work) == piece
    late[0].join()
    assert rounds == [["first"], ["second", "late"]]


def test_a_caller_that_is_interrupted_at_any_place_leaves_the_lead_to_others() -> None:
    for number in count(1):
        group = Group[int, int](threading.Lock(), lambda: OutcomeUnknown("s", "file", 4))
        if not interrupted_at(number, ("log/group.py",), lambda: group.do(1, list)):  # noqa: B023 - used at once
            break
        assert ends(lambda: group.do(2, list)), number  # noqa: B023 - used at once
    assert number > 10
