"""Measure the store, and others on the same work: `python tools/benchmark.py`, or some workloads by name.

Peers are compared where they are installed: `pip install -r tools/bench/requirements.txt`. Without names the whole run is
written to tools/bench/RESULTS.md, with its plots. `--json FILE` writes the rows, one object a line. `BENCH_FOLDER` names the
folder whose disk is measured, where that is not the one for temporary files.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from bench import following, peers, report, stores, workloads  # noqa: E402 - run as a file, from anywhere
from bench.measure import Row  # noqa: E402

_HERE = Path(__file__).parent / "bench"
WORKLOADS = {**workloads.WORKLOADS, **stores.STORES, **following.FOLLOWING}
_PLOTTED = {"append.svg": "append, one session", "read.svg": "read back"}


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(WORKLOADS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON, one a line")
    asked = parser.parse_args()
    unknown = sorted(set(asked.workloads) - set(WORKLOADS))
    if unknown:
        parser.error(f"no workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}")
    others, missing = peers.installed()
    for module in missing:
        print(f"not installed, left out: {module}", file=sys.stderr)
    rows: list[Row] = []
    for name in asked.workloads or WORKLOADS:
        print(f"== {name}", file=sys.stderr)
        found = WORKLOADS[name]((*workloads.PLAIN_AND_OURS, *others))
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
