"""Token counts of Codex: which report is a new request, and how its numbers become kinds that do not overlap.

Each report has the total so far and the counts of the last request. It is repeated with the same total when only the rate
limits changed: then nothing was used. A total that drops was reset.
"""

from typing import Any

from eventstore import events as e
from eventstore.importers.meaning import count_of
from eventstore.record.upcast import disjoint

_KINDS = {
    "input": "input_tokens",
    "cache_read": "cached_input_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_output_tokens",
}


class TokenCounts:
    """The reports of one rollout."""

    def __init__(self) -> None:
        self._total: dict[str, int] | None = None
        self._resets = 0
        self._untotalled = 0

    def read(self, info: Any, model: str | None) -> list[e.Event]:
        """Return the usage that a report adds: none if it repeats the one before."""
        if not isinstance(info, dict):
            return []
        total, last = _counts(info.get("total_token_usage")), _counts(info.get("last_token_usage"))
        before, self._total = self._total, total or self._total
        if total and total == before:
            return []
        is_reset = before is not None and any(count < before.get(kind, 0) for kind, count in total.items())
        self._resets += is_reset
        if not last and total:
            last = total if is_reset or before is None else _less(total, before)
        if not any(last.values()):
            return []
        return [e.UsageRecorded(tokens=disjoint(last), model=model, key=self._key(total))]

    def _key(self, total: dict[str, int]) -> str:
        """Return a key that no other request of the rollout has. `upcast.py` gives older imports the same ones."""
        if not total:
            self._untotalled += 1
            return f"request:{self._untotalled}"
        counts = ":".join(str(total.get(kind)) for kind in _KINDS)
        return f"total:{counts}" if not self._resets else f"total{self._resets + 1}:{counts}"


def _counts(usage: Any) -> dict[str, int]:
    if not isinstance(usage, dict):
        return {}
    counts = {kind: count_of(usage.get(name)) for kind, name in _KINDS.items()}
    return {kind: count for kind, count in counts.items() if count is not None}


def _less(total: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {kind: max(count - before.get(kind, 0), 0) for kind, count in total.items()}
