"""Branches: the ancestors of a session, and the comparison of two sessions."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from eventstore.cli import naming
from eventstore.cli.store import open_manager, store_option
from eventstore.cli.sub_agents import as_json as sub_agents_json
from eventstore.cli.sub_agents import below, print_sub_agents
from eventstore.cli.terminal import Column, clean, print_json, print_table
from eventstore.derived.listing import parent_of
from eventstore.errors import LogDamaged
from eventstore.ids import TEMPLATE

if TYPE_CHECKING:
    from eventstore.log.engine import EventLog
    from projections.branches import Ancestor, Branch

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_LINE = (Column("SESSION"), Column("EVENTS", "cyan"), Column("STATE", "yellow"))


@click.command("lineage", short_help="Show the sessions that a fork comes from.")
@click.argument("session_id", metavar="SESSION")
@_json
@store_option
def lineage_command(store: str | None, session_id: str, as_json: bool) -> None:
    """Show the ancestors of a fork, the oldest first, then the session itself, each with its range of events.

    Then its sub-agents, and of a sub-agent the session that it belongs to.
    """
    with open_manager(store) as manager:
        session_id = naming.session(manager, session_id)
        line = manager.lineage(session_id)
        agents, parent = below(manager, session_id), parent_of(manager.storage.metadata(session_id).custom_metadata)
        states = [_state(manager.storage.log, one.session_id) for one in line]
    before, rows = 0, []
    for one, state in zip(line, states, strict=True):
        if as_json:
            print_json({**one._asdict(), "state": state})
        rows.append((_shown(one), f"{before + 1:,} to {one.version:,}", state))
        before = one.version
    if as_json:
        for agent in sub_agents_json(agents):
            print_json({**agent, "state": "sub-agent"})
        return
    print_table(_LINE, rows)
    if parent is not None:
        click.echo(f"a sub-agent of {clean(parent)}")
    print_sub_agents(agents)


def _state(log: "EventLog", session_id: str) -> str:
    try:
        return "there" if log.exists(session_id) else "gone"
    except LogDamaged:
        return "damaged"


def _shown(one: "Ancestor") -> str:
    name = one.session_id.removeprefix(TEMPLATE)
    return name if name == one.session_id else f"template {name}"


@click.command("compare", short_help="Compare what two sessions did after their last common event.")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@_json
@store_option
def compare_command(store: str | None, a: str, b: str, as_json: bool) -> None:
    """Compare two sessions after their last common event: turns, messages, tool calls, tokens, cost.

    Without a common event, all events are compared.
    """
    with open_manager(store) as manager:
        a, b = naming.session(manager, a), naming.session(manager, b)
        found = manager.compare_branches(a, b)
    if as_json:
        ancestor = found.common._asdict() if found.common else None
        print_json({"common": ancestor, "branches": [asdict(branch) for branch in found.branches]})
        return
    common = found.common
    title = f"SINCE EVENT {common.version:,} OF {_shown(common)}" if common else "NOTHING IN COMMON"
    print_table((Column(title, "cyan"), Column(a, number=True), Column(b, number=True)), list(_rows(*found.branches)))


def _rows(one: "Branch", other: "Branch") -> Iterator[tuple[str, str, str]]:
    for name in ("events", "turns", "messages"):
        yield name, f"{getattr(one, name):,}", f"{getattr(other, name):,}"
    yield "tool calls", f"{sum(one.tools.values()):,}", f"{sum(other.tools.values()):,}"
    for tool, mine, theirs in _pairs(one.tools, other.tools):
        yield f"  {clean(tool)}", f"{mine:,}", f"{theirs:,}"
    for kind, mine, theirs in _pairs(one.tokens, other.tokens):
        yield f"{clean(kind)} tokens", f"{mine:,}", f"{theirs:,}"
    if one.cost or other.cost:
        yield "cost", f"{one.cost:.4f}", f"{other.cost:.4f}"


def _pairs(one: dict[str, int], other: dict[str, int]) -> list[tuple[str, int, int]]:
    """Join the counts of both by name, the largest sum first."""
    found = [(name, one.get(name, 0), other.get(name, 0)) for name in {**one, **other}]
    return sorted(found, key=lambda row: (-row[1] - row[2], row[0]))
