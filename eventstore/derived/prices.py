"""What tokens cost by the price table of `genai-prices` (extra `prices`): an estimate, for uses without a recorded cost.

Prices per request that depend on its size are those of small requests. A model that the table does not know has no price.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

KINDS = "input", "cache_read", "cache_write", "cache_write_hour", "output"
"""The kinds that have prices. `cache_write_hour` is a part of `cache_write` here; `output` is with reasoning."""
_SAMPLE = 1000
_USAGES = {
    "input": {"input_tokens": _SAMPLE},
    "cache_read": {"input_tokens": _SAMPLE, "cache_read_tokens": _SAMPLE},
    "cache_write": {"input_tokens": _SAMPLE, "cache_write_tokens": _SAMPLE},
    "cache_write_hour": {
        "input_tokens": _SAMPLE, "cache_write_tokens": _SAMPLE, "cache_write_1h_tokens": _SAMPLE,
    },
    "output": {"output_tokens": _SAMPLE},
}  # fmt: skip


class PriceTable(NamedTuple):
    """The price table that is installed: its version, and the day of its file."""

    version: str
    day: str


@cache
def price_table() -> PriceTable | None:
    """Return the price table that is installed, or None."""
    try:
        from importlib.metadata import version

        import genai_prices
    except ImportError:
        return None
    data = Path(genai_prices.__file__).with_name("data.py")
    moment = datetime.fromtimestamp(data.stat().st_mtime, UTC) if data.exists() else None
    return PriceTable(version("genai-prices"), moment.date().isoformat() if moment else "")


def estimate(model: str, tokens: Mapping[str, int]) -> float:
    """Return the estimated cost of tokens by kind in US dollars; 0.0 without a table, or for a model without a price."""
    rates = _rates(model) if model and any(tokens.values()) else None
    if rates is None:
        return 0.0
    counts = {kind: max(tokens.get(kind, 0), 0) for kind in KINDS}
    hour = min(counts["cache_write_hour"], counts["cache_write"])
    counts |= {"cache_write": counts["cache_write"] - hour, "cache_write_hour": hour}
    return sum(counts[kind] * rates[kind] for kind in KINDS)


@cache
def _rates(model: str) -> dict[str, float] | None:
    """Return dollars per token by kind, or None if the model has no price."""
    if price_table() is None:
        return None
    from genai_prices import Usage, calc_price

    found: dict[str, float] = {}
    for kind, usage in _USAGES.items():
        try:
            price = calc_price(Usage(**usage), model_ref=model)
        except (LookupError, ValueError) as error:
            if kind in ("input", "output"):
                import logging

                logging.getLogger(__name__).debug("no price for %s of a model: %s", kind, type(error).__name__)
                return None
            found[kind] = found["cache_write" if kind == "cache_write_hour" else "input"]
        else:
            found[kind] = float(price.total_price) / _SAMPLE
    return found
