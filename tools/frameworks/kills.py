"""Kill a program of a framework at random moments, and let it go on: `python kills.py NAME FOLDER [KILLS]`.

It must end as one that nobody killed, in the eyes of the framework and in ours: messages, calls with input and result, usage.
Prints one line of JSON.
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
from typing import Any

from programs import PROGRAMS, Program

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.integrity import verify_all
from projections.calls import begin, call_of

TURNS = 6
_MOST_TRIES = 40  # of a kill that comes before the end


def manager_on(folder: Path) -> SessionManager:
    """Open the store of a round."""
    return SessionManager(FileSystemSessionStorage(folder / "s", folder / "h", fsync="no"))


def start(program: Program, folder: Path) -> tuple[int, int]:
    """Run the program in a child; return its id, and what it will write the end to."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    status = 1
    try:
        os.close(reading)
        os.environ["CLAUDE_CONFIG_DIR"] = str(folder / "home")
        with manager_on(folder) as manager:
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


def ours(folder: Path) -> dict[str, Any]:
    """Return what the one session of a round holds for us. Raises AssertionError where it is damaged."""
    with manager_on(folder) as manager:
        assert (bad := [one for one in verify_all(manager.storage) if one.outcome != "whole"]) == [], bad
        (session,) = [one for one in manager.page_sessions().sessions if "adk-state" not in one.tags]
        calls: dict[str, Any] = {}
        for event in manager.events(session.session_id):
            name = call_of(event)
            if name in calls:
                calls[name].add(event)
            elif name is not None:
                calls[name] = begin(event)
        figures: Any = manager.get_session_statistics(session.session_id)
        return {
            "messages": [[one.role, one.content] for one in manager.conversation(session.session_id)],
            "calls": [
                [name, one.known.tool_name, _json(one.input.value), str(one.result.value), one.known.success]
                for name, one in sorted(calls.items())
            ],
            "tokens": {name: value for name, value in figures.items() if "token" in name},
            "timeline": bool(list(manager.timeline(session.session_id))),
        }


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def main(name: str, folder: Path, kills: int) -> int:
    """Kill so often; compare; print the line of JSON."""
    program, rng = PROGRAMS[name](), random.Random(17)
    whole = Path(mkdtemp(dir=folder))
    began = time.monotonic()
    wanted = ended(*start(program, whole))
    duration, expected = time.monotonic() - began, ours(whole)
    assert len(expected["calls"]) == TURNS
    assert all(one[2] == {"a": number, "b": number} for number, one in enumerate(expected["calls"]))
    assert all(str(2 * number) in one[3] and one[4] for number, one in enumerate(expected["calls"]))
    assert len(expected["messages"]) == 4 * TURNS
    assert not program.has_usage or expected["tokens"]
    counts = {"kills": 0, "rounds": 0, "passed": 0}
    failures: list[Any] = []
    while counts["kills"] < kills and not failures:
        round_folder, tries = Path(mkdtemp(dir=folder)), 0
        while counts["kills"] < kills and tries < _MOST_TRIES:
            child, reading = start(program, round_folder)
            time.sleep(rng.random() * duration * 0.7)
            tries += 1
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                ended(child, reading)
                break
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reading)
            counts["kills"] += 1
        end, found = ended(*start(program, round_folder)), ours(round_folder)
        counts["rounds"] += 1
        if end == wanted and found == expected:
            counts["passed"] += 1
        else:
            failures.append([end if end != wanted else "the same for the framework", found])
    print(
        json.dumps({**counts, "failed": len(failures), "failures": failures, "expected": expected if failures else {}})
    )
    return 1 if failures else 0


sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 5))
