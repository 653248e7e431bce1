"""Branches: what two sessions with a common ancestor did after their last common event."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from eventstore.events import InvocationEvent, MessageAdded, UsageRecorded
from projections import usage
from projections.fold import FoldInput


class Ancestor(NamedTuple):
    """A session of a lineage, and its version at the point where the next one was forked."""

    session_id: str
    version: int


@dataclass(slots=True)
class Branch:
    """What a session did after the last common event: counts, tokens by kind, cost in the caller's currency.

    `turns` counts messages of the user. `tools` counts calls by tool name.
    """

    session_id: str
    events: int = 0
    messages: int = 0
    turns: int = 0
    tools: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two branches and their last common event, or None if they have no common event."""

    common: Ancestor | None
    branches: tuple[Branch, Branch]


def common_ancestor(a: Iterable[Ancestor], b: Iterable[Ancestor]) -> Ancestor | None:
    """Return the last event that two lineages have in common. Both lineages begin with the first ancestor."""
    common = None
    for one, other in zip(a, b, strict=False):
        if one.session_id != other.session_id:
            break
        common = Ancestor(one.session_id, min(one.version, other.version))
        if one.version != other.version:
            break
    return common


def lineage(session_id: str, forks: Iterable[tuple[str, int]], version: int) -> list[Ancestor]:
    """List a session's ancestors, the oldest first, then the session; each with the version at which the next was forked."""
    found = [Ancestor(*fork) for fork in forks]
    found.append(Ancestor(session_id, version))
    assert all(one.version <= other.version for one, other in pairwise(found))  # noqa: S101 - a fork continues its parent's numbers
    return found


def summarize(session_id: str, events: Iterable[FoldInput]) -> Branch:
    """Count what a branch did. Usage events of one key count once, by their maximum."""
    branch = Branch(session_id)
    calls: dict[str, str | None] = {}
    uses: dict[str, usage.Use] = {}
    for event in events:
        branch.events += 1
        if isinstance(event, MessageAdded):
            branch.messages += 1
            branch.turns += event.role == "user"
        elif isinstance(event, InvocationEvent):
            calls[event.invocation_id] = event.tool_name or calls.get(event.invocation_id)
        elif isinstance(event, UsageRecorded):
            _use(branch, uses, event)
    for tool in calls.values():
        branch.tools[tool or "unknown"] = branch.tools.get(tool or "unknown", 0) + 1
    return branch


def _use(branch: Branch, uses: dict[str, usage.Use], event: UsageRecorded) -> None:
    known = uses.get(event.key) if event.key is not None else None
    tokens = {kind: max(count, 0) for kind, count in event.tokens.items()}
    added, use = usage.merge(known, tokens, max(event.cost or 0.0, 0.0))
    for kind, count in added.tokens.items():
        branch.tokens[kind] = branch.tokens.get(kind, 0) + count
    branch.cost += added.cost or 0.0
    if event.key is not None:
        uses[event.key] = use
