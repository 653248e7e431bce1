"""Count what one operation does: `python tools/bench/trip.py`, or some trips by name.

A trip is one call of the public API. Each runs a few times first, so that imports and caches are warm. Then its Python calls
are counted once, and its system calls in another process under strace. Counts do not depend on how busy the machine is. `--path`
names another checkout to count instead of this one.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
WARM = 3
BEGIN, END = "/the-trip-begins", "/the-trip-ends"
_CALL = re.compile(r"^(?P<thread>\d+) +(?P<name>\w+)\((?P<rest>.*)")
_NOT_COUNTED = frozenset(
    [
        "brk",
        "clone",
        "clone3",
        "futex",
        "gettid",
        "madvise",
        "mmap",
        "mprotect",
        "mremap",
        "munmap",
        "rseq",
        "rt_sigprocmask",
        "sched_yield",
        "set_robust_list",
    ]
)
"""Of threads that begin and wait, and of the allocator: how many there are depends on who runs first."""
_WRITES, _RESULT = ("write", "pwrite64", "writev"), re.compile(r"= (\d+)$")

Trip = Callable[["Bench"], Callable[[], object]]


class Bench:
    """A store in a temporary folder, and what each trip needs of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manager = self.open()
        self.session_id = str(self.manager.create_session("trip", "count").metadata.session_id)
        for n in range(20):
            self.manager.add_conversation_message(self.session_id, "user", f"message {n}")
        self.manager.flush()

    def open(self) -> Any:
        """Open the store with a new manager."""
        from eventstore import FileSystemSessionStorage, SessionManager

        return SessionManager(FileSystemSessionStorage(self.folder / ".sessions", self.folder / ".history"))


def add_message(bench: Bench) -> Callable[[], object]:
    """Add a message to a session that is open."""
    return lambda: bench.manager.add_conversation_message(bench.session_id, "user", "Logins fail. What changed?")


def get_session(bench: Bench) -> Callable[[], object]:
    """Get a session that has one event more than the last time."""
    bench.manager.add_conversation_message(bench.session_id, "user", "one more")
    return lambda: bench.manager.get_session(bench.session_id)


def page_sessions(bench: Bench) -> Callable[[], object]:
    """List two sessions, the first question to a store that was just opened."""
    if len(bench.manager.list_sessions()) < 2:
        bench.manager.create_session("other")
    bench.manager.close()
    bench.manager = bench.open()
    return lambda: bench.manager.page_sessions(limit=10)


def create_session(bench: Bench) -> Callable[[], object]:
    """Create a session."""
    return lambda: bench.manager.create_session(purpose="new")


def resume_follower(bench: Bench) -> Callable[[], object]:
    """Read the one new event of a session from a cursor on."""
    with bench.manager.follow(bench.session_id, live=False) as follower:
        cursor = [one.cursor for one in follower][-1]
    bench.manager.add_conversation_message(bench.session_id, "user", "after the cursor")

    def resume() -> object:
        with bench.manager.follow(bench.session_id, cursor, live=False) as follower:
            return list(follower)

    return resume


def redact_event(bench: Bench) -> Callable[[], object]:
    """Redact one event."""
    seq = bench.manager.add_conversation_message(bench.session_id, "user", "a secret").last
    return lambda: bench.manager.redactions.redact(bench.session_id, seq, "it was a secret")


TRIPS: dict[str, Trip] = {
    "add_conversation_message": add_message,
    "get_session, one new event": get_session,
    "page_sessions, 2 sessions, cold": page_sessions,
    "create_session": create_session,
    "resume a follower at a cursor": resume_follower,
    "redact one event": redact_event,
}


@dataclass
class Counts:
    """What the calls of one trip were: Python functions entered, which, in which files of ours, and from file to file."""

    calls: int = 0
    functions: set[Any] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    moves: int = 0

    def take(self, frame: FrameType, roots: tuple[str, ...]) -> None:
        """Count one call."""
        code = frame.f_code
        self.calls += 1
        self.functions.add(code)
        if not code.co_filename.startswith(roots):
            return
        self.files.add(code.co_filename)
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(roots):
            caller = caller.f_back
        if caller is not None and caller.f_code.co_filename != code.co_filename:
            self.moves += 1


@contextmanager
def warmed(trip: Trip) -> Iterator[Callable[[], object]]:
    """Return a trip that ran before, ready to run once more, with no work left for other threads."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for _ in range(WARM):
            trip(bench)()
        ready = trip(bench)
        bench.manager.flush()
        yield ready
        bench.manager.close()


def count_calls(trip: Trip) -> Counts:
    """Count the Python calls of one trip, of its own thread."""
    import eventstore
    import projections

    roots = tuple(str(Path(package.__path__[0])) + os.sep for package in (eventstore, projections))
    counts = Counts()

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            counts.take(frame, roots)

    with warmed(trip) as ready:
        sys.setprofile(profile)
        try:
            ready()
        finally:
            sys.setprofile(None)
    return counts


def run_marked(trip: Trip) -> None:
    """Run one trip between two system calls that a trace shows."""
    with warmed(trip) as ready:
        os.path.lexists(BEGIN)
        ready()
        os.path.lexists(END)


def parse_trace(text: str) -> tuple[Counter[str], int]:
    """Count the system calls between the marks, and the bytes they wrote, of the thread that made the marks."""
    counts: Counter[str] = Counter()
    thread, written = None, 0
    for line in text.splitlines():
        found = _CALL.match(line)
        if found is None:
            continue
        if BEGIN in found["rest"]:
            thread = found["thread"]
        elif END in found["rest"]:
            return counts, written
        elif found["thread"] == thread and found["name"] not in _NOT_COUNTED:
            counts[found["name"]] += 1
            if found["name"] in _WRITES and (size := _RESULT.search(found["rest"])):
                written += int(size[1])
    raise RuntimeError("the trace does not show the whole trip")


def count_calls_of(name: str, path: Path) -> int:
    """Count the Python calls of one trip by name, in another process."""
    own = [sys.executable, __file__, "--calls", name, "--path", str(path)]
    return int(subprocess.run(own, check=True, stdout=subprocess.PIPE, text=True).stdout)


def count_system_calls(name: str, path: Path) -> tuple[Counter[str], int]:
    """Count the system calls of one trip by name, and the bytes that it writes."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        own = [sys.executable, __file__, "--marked", name, "--path", str(path)]
        subprocess.run(["strace", "-f", "-qq", "-o", str(trace), *own], check=True)
        return parse_trace(trace.read_text("utf-8", "replace"))


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trips", nargs="*", metavar="TRIP", help="; ".join(TRIPS))
    parser.add_argument("--path", type=Path, default=ROOT, metavar="FOLDER", help="the checkout to count")
    parser.add_argument("--marked", help=argparse.SUPPRESS)
    parser.add_argument("--calls", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    sys.path.insert(0, str(asked.path.resolve()))
    if asked.marked:
        run_marked(TRIPS[asked.marked])
        return
    if asked.calls:
        print(count_calls(TRIPS[asked.calls]).calls)
        return
    unknown = sorted(set(asked.trips) - set(TRIPS))
    if unknown:
        parser.error(f"no trip {unknown[0]!r}; there are {'; '.join(TRIPS)}")
    traced = shutil.which("strace") is not None
    if not traced:
        print("system calls are not counted: strace is not installed", file=sys.stderr)
    print("| trip | Python calls | functions | files | file to file | system calls |\n|---|---|---|---|---|---|")
    for name in asked.trips or TRIPS:
        counts = count_calls(TRIPS[name])
        system = count_system_calls(name, asked.path)[0] if traced else Counter[str]()
        shown = f"{sum(system.values())}: " + ", ".join(f"{call} {n}" for call, n in system.most_common())
        row = (counts.calls, len(counts.functions), len(counts.files), counts.moves)
        print(f"| {name} | {' | '.join(map(str, row))} | {shown if traced else 'not counted'} |", flush=True)


if __name__ == "__main__":
    main()
