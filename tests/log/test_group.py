"""Groups: who is served by which piece of work."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count
from types import FrameType

import pytest

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


def interrupted_at(number: int, files: tuple[str, ...], work: Callable[[], object]) -> bool:
    """Do work, with a Ctrl-C at the place of this number in these files; False if there are fewer.

    Places are where Python looks for signals: the beginnings of functions, and after each call of one in C.
    """
    places = count(1)

    def profile(frame: FrameType, event: str, argument: object) -> None:
        ours = event in ("call", "c_return") and frame.f_code.co_filename.endswith(files)
        if ours and argument is not sys.setprofile and next(places) == number:
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def ends(work: Callable[[], object]) -> bool:
    """Return whether work of another thread ends."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    return not thread.is_alive()


def test_a_caller_that_is_interrupted_at_any_place_leaves_the_lead_to_others() -> None:
    for number in count(1):
        group = Group[int, int](threading.Lock(), lambda: OutcomeUnknown("s", "file", 4))
        if not interrupted_at(number, ("log/group.py",), lambda: group.do(1, list)):  # noqa: B023 - used at once
            break
        assert ends(lambda: group.do(2, list)), number  # noqa: B023 - used at once
    assert number > 10
