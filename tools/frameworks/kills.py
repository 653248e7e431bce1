"""Kill a program of a framework at random moments, and let it go on: `python kills.py NAME FOLDER KILLS [URL...]`.

It must end as one that nobody killed, in the eyes of the framework and in ours: messages, calls with input and result, usage.
Without a URL, such as `postgresql://host/database?schema=kill_NUMBER`, the store is in files. Prints one line of JSON.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

from programs import PROGRAMS, Program

from eventstore import SessionManager, open_store
from eventstore.integrity import verify_all
from projections.calls import begin, call_of

TURNS = 6
FILES = "files"
_MOST_TRIES = 40  # of a kill that comes before the end


class Round(NamedTuple):
    """A folder of its own, and the URL of a store of its own."""

    folder: Path
    url: str

    @classmethod
    def new(cls, folder: Path, url: str) -> "Round":
        """Make an empty one."""
        made = Path(mkdtemp(dir=folder))
        return cls(made, made.as_uri() if url == FILES else url.replace("NUMBER", made.name))

    def open(self) -> SessionManager:
        """Open the store."""
        return SessionManager(open_store(self.url, fsync="no", cache_dir=self.folder / "cache"))


def start(program: Program, here: Round) -> tuple[int, int]:
    """Run the program in a child; return its id, and what it will write the end to."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    status = 1
    try:
        os.close(reading)
        os.environ["ROUND_FOLDER"] = str(here.folder)
        with here.open() as manager:
            end = asyncio.run(program.run(manager, TURNS))
        with os.fdopen(writing, "w") as stream:
            json.dump(end, stream, default=str)
        status = 0
    finally:
        os._exit(status)


def ended(child: int, reading: int) -> Any:
    """Wait for the end of a program; return what it says. Raises RuntimeError where it failed."""
    with os.fdopen(reading) as stream:
        text = stream.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"the program ended with status {status}")
    return json.loads(text)


def ours(here: Round, program: Program) -> dict[str, Any]:
    """Return what the one session of a round with calls holds for us. Raises AssertionError where a log is damaged."""
    with here.open() as manager:
        assert (bad := [one for one in verify_all(manager.storage) if one.outcome != "whole"]) == [], bad
        sessions = [one.session_id for one in manager.page_sessions().sessions]
        ((session_id, calls),) = [(one, found) for one in sessions if (found := calls_of(manager, one, program))]
        figures: Any = manager.get_session_statistics(session_id)
        return {
            "messages": [[one.role, one.content] for one in manager.conversation(session_id)],
            "calls": calls,
            "tokens": {name: value for name, value in figures.items() if "token" in name},
            "timeline": bool(list(manager.timeline(session_id))),
        }


def calls_of(manager: SessionManager, session_id: str, program: Program) -> list[Any]:
    """Return the calls of the tool: id, input, result, success. Of calls that are repeated, those with an end, each once."""
    calls: dict[str, Any] = {}
    for event in manager.events(session_id):
        name = call_of(event)
        if name in calls:
            calls[name].add(event)
        elif name is not None:
            calls[name] = begin(event)
    found = list[Any]()
    for name, one in sorted(calls.items()):
        if one.known.tool_name == "add":
            given = {key: value for key, value in _json(one.input.value).items() if key in "ab"}
            found.append([name, given, str(one.result.value), one.known.success])
    if not program.repeats_calls:
        return found
    ended = [["", *one[1:]] for one in found if one[-1] is not None]
    return sorted({json.dumps(one): one for one in ended}.values(), key=lambda one: one[1]["a"])


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def kill(name: str, folder: Path, kills: int, url: str) -> tuple[dict[str, int], list[Any]]:
    """Kill a program so often on a store; return counts, and what differed."""
    program, rng = PROGRAMS[name](), random.Random(17)
    whole = Round.new(folder, url)
    began = time.monotonic()
    wanted = ended(*start(program, whole))
    duration, expected = time.monotonic() - began, ours(whole, program)
    assert len(expected["calls"]) == TURNS
    assert all(one[1] == {"a": number, "b": number} for number, one in enumerate(expected["calls"]))
    assert all(str(2 * number) in one[2] and one[3] for number, one in enumerate(expected["calls"]))
    assert len(expected["messages"]) == (4 * TURNS if program.has_messages else 0)
    assert not program.has_usage or expected["tokens"]
    counts = {"kills": 0, "rounds": 0, "passed": 0}
    failures: list[Any] = []
    while counts["kills"] < kills and not failures:
        here, tries = Round.new(folder, url), 0
        while counts["kills"] < kills and tries < _MOST_TRIES:
            child, reading = start(program, here)
            time.sleep(rng.random() * duration * 0.7)
            tries += 1
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                ended(child, reading)
                break
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reading)
            counts["kills"] += 1
        end, found = ended(*start(program, here)), ours(here, program)
        counts["rounds"] += 1
        if end == wanted and found == expected:
            counts["passed"] += 1
        else:
            failures.append([end if end != wanted else "the same for the framework", found, expected])
    return counts, failures


def main(name: str, folder: Path, kills: int, urls: list[str]) -> int:
    """Kill on each store; print the line of JSON."""
    found = {url.partition(":")[0]: kill(name, folder, kills, url) for url in urls or [FILES]}
    failures = [one for _, failed in found.values() for one in failed]
    passed = sum(counts["passed"] for counts, _ in found.values())
    counted = {kind: counts for kind, (counts, _) in found.items()}
    print(json.dumps({"passed": passed, "failed": len(failures), "counts": counted, "failures": failures}))
    return 1 if failures else 0


sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
