"""Sub-agents: sessions that a call of another session started.

A sub-agent names its parent in its metadata (`parent_session`), and the call that started it (`parent_call`), where that is known
there. Else the call of the parent names the sub-agent's session (`sub_session`).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from projections.invocations import Invocation

PARENT_CALL, IN_PARENT = "parent_call", "told_in"
"""Keys of a sub-agent's metadata: the call that started it, and that its calls are recorded in the parent."""


class SubAgent(NamedTuple):
    """A sub-agent: its session, and the call of the parent that started it, None if nothing records which.

    `known` is its metadata, as `SessionMetadata.to_dict` gives it.
    """

    session_id: str
    invocation_id: str | None
    known: Mapping[str, Any]

    @property
    def is_in_parent(self) -> bool:
        """Return whether its calls and usage are recorded in its parent, so that its own figures lack them."""
        return IN_PARENT in self.known["custom_metadata"]


def joined(rows: list[dict[str, Any]], calls: Mapping[str, Invocation]) -> list[SubAgent]:
    """Return the sub-agents in catalogue rows, each with its call, in the order they were given. `calls` are the parent's."""
    by_session = {call.sub_session: name for name, call in calls.items() if call.sub_session is not None}
    found = []
    for row in rows:
        told = row["custom_metadata"].get(PARENT_CALL)
        call = told if isinstance(told, str) and told in calls else by_session.get(row["session_id"])
        found.append(SubAgent(row["session_id"], call, row))
    return found


def walk(session_id: str, children: Callable[[str], list[SubAgent]]) -> Iterator[tuple[int, SubAgent]]:
    """Stream all sub-agents below a session, depth first, each with its depth from 1. One that is met again is left out."""
    seen, waiting = {session_id}, [(1, one) for one in reversed(children(session_id))]
    while waiting:
        depth, one = waiting.pop()
        if one.session_id not in seen:
            seen.add(one.session_id)
            yield depth, one
            waiting += [(depth + 1, child) for child in reversed(children(one.session_id))]
