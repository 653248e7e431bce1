"""Count the steps of each trip, and say what got worse: `python tools/bench/steps.py`. No time is measured.

The kept counts are in `steps.json`; `--write` puts the present ones there. The steps of a trip are Python calls, system calls,
opened files, flushes, and bytes written: the fewest of three runs, since some steps are made only so many times a second.
Python calls are compared where the Python is of the version that counted them.
"""

import argparse
import json
import platform
import shutil
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from bench import trip  # noqa: E402 - run as a file, from anywhere

KEPT = Path(__file__).with_name("steps.json")
_RUNS, _SLACK = 3, 50  # a fiftieth more is not worse: SQLite does not always do the same
_OPENS, _FLUSHES = ("open", "openat"), ("fsync", "fdatasync", "sync_file_range")
Steps = dict[str, dict[str, int]]
"""Counts by their names, by the name of the trip."""


def count(path: Path = trip.ROOT) -> Steps:
    """Count the steps of every trip in a checkout, each in processes of its own."""
    found: Steps = {}
    for name in trip.TRIPS:
        runs = [_steps_of(name, path) for _ in range(_RUNS)]
        found[name] = {kind: min(run[kind] for run in runs) for kind in runs[0]}
    return found


def _steps_of(name: str, path: Path) -> dict[str, int]:
    system, written = trip.count_system_calls(name, path)
    return {
        "Python calls": trip.count_calls_of(name, path),
        "system calls": sum(system.values()),
        "opened files": sum(system[one] for one in _OPENS),
        "flushes": sum(system[one] for one in _FLUSHES),
        "bytes written": written,
    }


def worse(before: Steps, now: Steps, *, calls: bool = True) -> list[str]:
    """Say what takes more steps than before. Python calls are left out unless `calls`."""
    found = []
    for name, steps in now.items():
        for kind, steps_now in steps.items():
            steps_before = before.get(name, {}).get(kind, steps_now)
            if steps_now > steps_before + steps_before // _SLACK and (calls or kind != "Python calls"):
                found.append(f"{name}: {steps_now} {kind}, before {steps_before}")
    return found


def table(before: Steps, now: Steps) -> str:
    """Return a table of all counts, those that differ with both numbers."""
    kinds = list(next(iter(now.values())))
    lines = [f"| trip | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for name, steps in now.items():
        old = before.get(name, {})
        cells = (f"{old[kind]} -> {n}" if kind in old and old[kind] != n else str(n) for kind, n in steps.items())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Count, and compare with the counts that are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep the present counts")
    asked = parser.parse_args()
    if shutil.which("strace") is None:
        print("strace is not installed: nothing was counted", file=sys.stderr)
        return 1
    now, python = count(), ".".join(platform.python_version_tuple()[:2])
    if asked.write:
        KEPT.write_text(json.dumps({"python": python, "steps": now}, indent=1) + "\n", encoding="utf-8")
    kept = json.loads(KEPT.read_text("utf-8"))
    print(table(kept["steps"], now))
    found = worse(kept["steps"], now, calls=kept["python"] == python)
    for one in found:
        print(f"worse: {one}; if it must be so, run {Path(__file__).name} --write", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
