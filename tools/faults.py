"""Programs that try to break the promises: `python tools/faults.py fast`, `full`, or one by its name, with `--full`.

`--seed=NUMBER` draws another run of `mixed`.

Each ends in one line of JSON: what was tried, counted. One that tried nothing, or that accepted nothing, has failed.
`python tools/faults.py table < LINES` makes the table in tools/breaking/README.md from the lines of a run.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from breaking import bytes as bytes_  # noqa: E402 - run as a file, from anywhere
from breaking import (  # noqa: E402
    following,
    hostile,
    machine,
    mixed,
    mutants,
    object_faults,
    order_mutants,
    postgres,
    processes,
    redaction,
    simulation,
    system,
    tamper,
)
from breaking.case import Counts  # noqa: E402

PROGRAMS: dict[str, Callable[..., Counts]] = {
    "kill": processes.kill,
    "simulate": simulation.simulate,
    "views": simulation.views,
    "cut": bytes_.cut,
    "flip": bytes_.flip,
    "classes": bytes_.classes,
    "errnos": system.errnos,
    "resources": system.resources,
    "writers": processes.writers,
    "replaced": processes.replaced,
    "redact": redaction.redact,
    "follow": following.follow,
    "clock": bytes_.shifted_clock,
    "swap": bytes_.swap,
    "ids": hostile.ids,
    "links": hostile.links,
    "malformed": hostile.malformed,
    "machine": machine.machine,
    "mixed": mixed.mixed,
    "terminal": hostile.terminal,
    "tamper": tamper.tamper,
    "objects": object_faults.objects,
    "objects_stale": object_faults.stale,
    "objects_answers": object_faults.answers,
    "postgres": postgres.postgres,
    "postgres_gap": postgres.postgres_gap,
    "postgres_failover": postgres.postgres_failover,
    "postgres_lost_tail": postgres.postgres_lost_tail,
    "postgres_stale": postgres.postgres_stale,
    "postgres_pooler": postgres.postgres_pooler,
    "mutants": mutants.mutants,
    "order": order_mutants.order,
}
SLOW = ("mutants", "order")
"""Not in the fast set: they run others."""
SEEDED = ("mixed",)
"""They take `--seed=NUMBER`."""


def main(arguments: list[str]) -> int:
    """Run what is asked for; return the exit status."""
    asked = [one for one in arguments if not one.startswith("-")]
    seeds = [int(one.partition("=")[2]) for one in arguments if one.startswith("--seed=")]
    full = "--full" in arguments or asked == ["full"]
    if asked == ["fast"]:
        names = [name for name in PROGRAMS if name not in SLOW]
    elif asked == ["full"]:
        names = list(PROGRAMS)
    else:
        names = asked
    if asked == ["table"]:
        print(table(sys.stdin.read()))
        return 0
    if not names or any(name not in PROGRAMS for name in names) or (seeds and not set(names) <= set(SEEDED)):
        print(__doc__, "programs:", ", ".join(PROGRAMS), file=sys.stderr)
        return 2
    return max([run(name, full, *seeds[-1:]) for name in names])


def run(name: str, full: bool, *seed: int) -> int:
    """Run one program, with a seed where one is given, and print its line."""
    began = time.monotonic()
    try:
        counts = PROGRAMS[name](full, *seed)
    except Exception:
        traceback.print_exc()
        print(json.dumps({"fault": name, "ok": False, "seconds": round(time.monotonic() - began, 1)}), flush=True)
        return 1
    idle = [what for what, count in counts.items() if not count and what not in ("skipped", *OPTIONAL.get(name, ()))]
    ok = not idle and not (full and counts.get("skipped"))
    line = {"fault": name, "ok": ok, **counts, "seconds": round(time.monotonic() - began, 1)}
    print(json.dumps(line if ok else {**line, "nothing of": idle}), flush=True)
    return 0 if ok else 1


def table(lines: str) -> str:
    """Make a table of the lines of a run."""
    rows = ["| program | what it does | counted |", "|---|---|---|"]
    for line in map(json.loads, filter(lambda line: line.startswith("{"), lines.splitlines())):
        name = line.pop("fault")
        what = (PROGRAMS[name].__doc__ or "").strip().splitlines()[0].rstrip(".")
        counts = {key: value for key, value in line.items() if key not in ("ok", "seconds") and value}
        told = ", ".join(f"{value:,} {key.replace('_', ' ')}" for key, value in counts.items())
        rows.append(f"| `{name}` | {what} | {told if line['ok'] else 'FAILED'} |")
    return "\n".join(rows)


OPTIONAL = {
    "postgres": ("unknown", "repeated_by_id"),
    "postgres_pooler": ("unknown", "repeated_by_id"),
    "kill": ("torn_tails", "unacknowledged"),
    "writers": ("conflicts",),
    "errnos": ("shim_fired",),
    "objects": ("unknown",),
    "objects_answers": ("refused", "unknown"),
}
"""Counts that a short run may leave at nothing."""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
