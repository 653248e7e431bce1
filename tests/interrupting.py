"""Interrupting: a Ctrl-C at each place, one after the other, where Python looks for signals; and what must work afterwards."""

import sys
import threading
from collections.abc import Callable
from itertools import count
from types import FrameType


def interrupted_at(number: int, files: tuple[str, ...], work: Callable[[], object]) -> bool:
    """Do work, with a Ctrl-C at the place of this number in these files; False if there are fewer.

    Places are where Python looks for signals: the beginnings of functions, and after each call of one in C.
    """
    places, reached = count(1), list[int]()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        ours = event in ("call", "c_return") and frame.f_code.co_filename.endswith(files)
        if ours and argument is not sys.setprofile and next(places) == number:
            sys.setprofile(None)
            reached.append(number)
            raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        work()  # may end without it: in a generator that is being closed it comes to nobody
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)
    return bool(reached)


def ends(work: Callable[[], object]) -> bool:
    """Return whether work of another thread ends."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    return not thread.is_alive()
