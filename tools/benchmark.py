"""Measure the store, and others on the same work: `python tools/benchmark.py`, or some workloads by name.

Peers are compared where they are installed: `pip install -r tools/bench/requirements.txt`. Without names the whole run is
written to tools/bench/RESULTS.md, with its plots. `--json FILE` writes the rows, one object a line. `BENCH_FOLDER` names the
folder whose disk is measured, where that is not the one for temporary files.


`--compare REV` compares another revision with this checkout: first the counted steps of each trip (`bench/steps.py`), then the
named workloads in turns, as medians of the ratio of times. It ends with status 1 where a count got worse; times only inform.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from bench import following, memory, peers, report, steps, stores, workloads  # noqa: E402 - run as a file, from anywhere
from bench.adapters import Maker  # noqa: E402
from bench.measure import Row  # noqa: E402

Workload = Callable[[Sequence[Maker]], list[Row]]

_HERE = Path(__file__).parent / "bench"
WORKLOADS: dict[str, Workload] = {
    **workloads.WORKLOADS,
    "memory": memory.memory,
    **stores.STORES,
    **following.FOLLOWING,
}
_PLOTTED = {"append.svg": "append, one session", "read.svg": "read back"}


_ROUNDS = 3


def compare(revision: str, names: Sequence[str]) -> int:
    """Compare a revision with this checkout, and return the exit status."""
    root = _HERE.parents[1]
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "-C", str(root), "archive", revision], check=True, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", folder], check=True, input=archive.stdout)
        before, now = steps.count(Path(folder)), steps.count()
        print(f"{revision} -> this checkout\n\n{steps.table(before, now)}")
        for name in names:
            _compare_times(name, Path(folder), root)
    found = steps.worse(before, now)
    for one in found:
        print(f"worse: {one}", file=sys.stderr)
    return 1 if found else 0


def _compare_times(name: str, *roots: Path) -> None:
    """Run a workload of two checkouts in turns, and print the ratio of each row's time, new to old: lower is better."""
    times: list[list[dict[str, float]]] = [[], []]
    for turn in range(2 * _ROUNDS):
        place = (turn + turn // 2) % 2  # old, new, new, old: a machine that becomes slower slows both
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "rows")
            command = [sys.executable, str(roots[place] / "tools" / "benchmark.py"), name, "--json", str(file)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            rows = map(json.loads, file.read_text("utf-8").splitlines())
            times[place].append({f"{row['workload']}: {row['who']}": row["median_us"] for row in rows})
    for key in times[1][0]:
        pairs = [(old[key], new[key]) for old, new in zip(*times, strict=True) if old.get(key) and key in new]
        if pairs:
            print(f"{statistics.median(new / old for old, new in pairs):6.2f}  {key}")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(WORKLOADS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON, one a line")
    parser.add_argument(
        "--gigabytes", type=float, default=memory.GIGABYTES, metavar="N", help="size of the files of `memory`"
    )
    parser.add_argument("--compare", metavar="REV", help="compare a revision with this checkout")
    asked = parser.parse_args()
    unknown = sorted(set(asked.workloads) - set(WORKLOADS))
    if unknown:
        parser.error(f"no workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}")
    if asked.compare:
        sys.exit(compare(asked.compare, asked.workloads))
    others, missing = peers.installed()
    for module in missing:
        print(f"not installed, left out: {module}", file=sys.stderr)
    rows: list[Row] = []
    workload_of: dict[str, Workload] = {**WORKLOADS, "memory": partial(memory.memory, gigabytes=asked.gigabytes)}
    for name in asked.workloads or WORKLOADS:
        print(f"== {name}", file=sys.stderr)
        found = workload_of[name]((*workloads.PLAIN_AND_OURS, *others))
        rows += found
        for row in found:
            shown = f"{row.ratio:7.2f} of {row.reference}" if row.ratio else ""
            print(f"{row.workload:32} {row.who:42} {row.median_us:12.2f} us  {shown}  {row.note}")
    if asked.json:
        asked.json.write_text("".join(json.dumps(row.to_dict()) + "\n" for row in rows), encoding="utf-8")
    if not asked.workloads:
        for file, workload in _PLOTTED.items():
            (_HERE / file).write_text(report.plot(rows, workload), encoding="utf-8")
        (_HERE / "RESULTS.md").write_text(report.markdown(rows, report.machine(), _PLOTTED), encoding="utf-8")


if __name__ == "__main__":
    main()
