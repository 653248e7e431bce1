"""The range of sums. A sum outside it, which no machine number holds, is shown as the nearest number in it."""

from collections.abc import Mapping

MOST = 2**63 - 1
"""The greatest sum of counts: what SQLite, PostgreSQL and Parquet can hold. The least is `-MOST`."""
MOST_REAL = 1.7976931348623157e308
"""The greatest sum of durations or costs, the greatest float: JSON has no infinity. The least is `-MOST_REAL`."""


def whole(count: int) -> int:
    """Return a sum of counts, or the nearest one in the range."""
    return max(-MOST, min(count, MOST))


def real(value: float) -> float:
    """Return a sum of durations or costs, or the nearest one in the range."""
    return max(-MOST_REAL, min(value, MOST_REAL))


def wholes(counts: Mapping[str, int]) -> dict[str, int]:
    """Return sums of counts by kind, each in the range."""
    return {kind: whole(count) for kind, count in counts.items()}
