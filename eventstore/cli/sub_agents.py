"""Sub-agents in the output of commands: those below a session, nested, and the session that a sub-agent belongs to."""

from typing import TYPE_CHECKING, Any

import click

from eventstore.cli.terminal import Column, clean, one_line, print_table
from eventstore.derived.listing import parent_of

if TYPE_CHECKING:
    from eventstore import SessionManager
    from eventstore.store.sub_agents import SubAgent

_COLUMNS = (
    Column("SUB-AGENT"),
    Column("CALL"),
    Column("CALLS", number=True),
    Column("STATUS", "cyan"),
    Column("PURPOSE"),
)


def below(manager: "SessionManager", session_id: str) -> "list[tuple[int, SubAgent]]":
    """Return all sub-agents below a session with their depths, depth first."""
    return list(manager.storage.all_sub_agents(session_id))


def as_json(found: "list[tuple[int, SubAgent]]") -> list[dict[str, Any]]:
    """Return sub-agents as JSON values."""
    return [
        {
            "session_id": one.session_id,
            "depth": depth,
            "invocation_id": one.invocation_id,
            "parent_session": parent_of(one.known["custom_metadata"]),
            "total_invocations": one.known["total_invocations"],
            "status": one.known["status"],
            "purpose": one.known["purpose"],
        }
        for depth, one in found
    ]


def print_sub_agents(found: "list[tuple[int, SubAgent]]", *, apart: bool = True) -> None:
    """Print sub-agents as a table, indented by their depth; nothing if there are none. `apart` from what was printed before."""
    if found:
        if apart:
            click.echo()
        print_table(_COLUMNS, [_row(depth, one) for depth, one in found])


def _row(depth: int, one: "SubAgent") -> list[str]:
    where = "in its parent" if one.is_in_parent else str(one.known["total_invocations"])
    return [
        "  " * (depth - 1) + one.session_id,
        clean(one.invocation_id or ""),
        where,
        one.known["status"],
        one_line(one.known["purpose"] or "", 200),
    ]
