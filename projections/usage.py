"""Uses of tokens: events with the same key report the same use, which counts once, by the maximum of each figure."""

from collections.abc import Mapping

import msgspec


class Use(msgspec.Struct, frozen=True, array_like=True):
    """The figures of one use: tokens by kind, cost."""

    tokens: dict[str, int]
    cost: float | None


def merge(known: Use | None, tokens: Mapping[str, int], cost: float | None) -> tuple[Use, Use]:
    """Return what a report adds to the figures of a use that is `known`, and the use after it: the maximum of both."""
    if known is None:
        use = Use(dict(tokens), cost)
        return use, use
    more = {
        kind: max(count - known.tokens[kind], 0) if kind in known.tokens else count for kind, count in tokens.items()
    }
    most = known.tokens | {kind: max(count, known.tokens.get(kind, count)) for kind, count in tokens.items()}
    more_cost = cost if cost is None or known.cost is None else max(cost - known.cost, 0.0)
    return Use(more, more_cost), Use(most, max((one for one in (known.cost, cost) if one is not None), default=None))
