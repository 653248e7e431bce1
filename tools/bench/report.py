"""What a run leaves: a table and a plot, with machine, versions and date."""

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from xml.sax.saxutils import escape

from bench.measure import Row
from eventstore.record import accelerator

_PACKAGES = ("msgspec", "openai-agents", "google-adk", "eventsourcing", "langgraph-checkpoint-sqlite")


def machine() -> dict[str, str]:
    """Return on which machine, with which versions and when a run was made."""
    found = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "accelerator": "built" if accelerator.load() else "not built",
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def markdown(rows: Sequence[Row], told: dict[str, str], plots: Iterable[str]) -> str:
    """Write all rows as tables, one a workload."""
    lines = [
        "# What it costs",
        "",
        "Made by `python tools/benchmark.py`; medians of rounds in turns. A ratio of 1 is as fast as the",
        "reference in the same round; higher is faster.",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in told.items()]
    lines += ["", *(f"![{plot}]({plot})" for plot in plots)]
    for workload, found in groupby(rows, key=lambda row: row.workload):
        lines += [
            "",
            f"## {workload}",
            "",
            "| what | durability | median | 99 % | ratio | target | |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_line(row) for row in found]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    ratio = f"{row.ratio:.2f} of {row.reference}" if row.ratio else ""
    cells = [row.who, row.durability, _time(row.median_us), _time(row.p99_us), ratio, row.target, row.note]
    return "| " + " | ".join(cells) + " |"


def _time(microseconds: float | None) -> str:
    if not microseconds:
        return ""
    if microseconds < 1000:
        return f"{microseconds:.3g} us"
    return f"{microseconds / 1000:.3g} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.3g} s"


def plot(rows: Sequence[Row], workload: str) -> str:
    """Draw the appends a second of one workload as bars on a logarithmic scale, as SVG."""
    found = sorted((row for row in rows if row.workload == workload and row.median_us), key=lambda row: row.median_us)
    rates = [1e6 / row.median_us for row in found]
    low = 10.0 ** (len(str(int(min(rates)))) - 1)
    decades = 1
    while low * 10**decades < max(rates):
        decades += 1
    width, left, bar = 900, 290, 22
    height = 60 + bar * len(found)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="10" y="20" font-size="14" font-weight="bold">{escape(workload)}: messages a second (logarithmic)</text>',
    ]
    scale = (width - left - 170) / decades
    for decade in range(decades + 1):
        x = left + decade * scale
        parts.append(f'<line x1="{x:.0f}" y1="30" x2="{x:.0f}" y2="{height - 25}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{x:.0f}" y="{height - 8}" text-anchor="middle" fill="#666">{low * 10**decade:,.0f}</text>'
        )
    for place, (row, rate) in enumerate(zip(found, rates, strict=True)):
        y = 34 + place * bar
        length = max(_log10(rate / low) * scale, 1)
        colour = (
            "#2b6cb0" if row.who.startswith("eventstore") else "#a0aec0" if row.who.startswith("limit") else "#dd8452"
        )
        parts.append(f'<text x="{left - 6}" y="{y + 13}" text-anchor="end">{escape(row.who)}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{length:.0f}" height="{bar - 6}" fill="{colour}"/>')
        parts.append(
            f'<text x="{left + length + 5:.0f}" y="{y + 13}" fill="#333">{rate:,.0f} · {escape(row.durability)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _log10(value: float) -> float:
    from math import log10

    return log10(value)
