"""Redact: remove the content of events permanently, after showing a plan."""

import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from eventstore.cli import naming
from eventstore.cli.store import exit_for, open_manager, store_option
from eventstore.cli.terminal import Column, clean, one_line, print_json, print_left, print_table, some
from eventstore.errors import LogDamaged

if TYPE_CHECKING:
    from eventstore import Patterns, SessionManager
    from eventstore.integrity import Redactable, Redacted

_COLUMNS = (
    Column("SESSION"),
    Column("EVENT", number=True),
    Column("TYPE", "cyan"),
    Column("FOUND", least=10),
    Column("WOULD GO", least=16),
    Column("OBSTACLE", "red"),
)
_MOST_PLACES = 5
_SHOWN = 60  # cells of an event that was named by its number


@click.command("redact", short_help="Remove the content of events permanently, after showing a plan.")
@click.argument("sessions", metavar="SESSION...", nargs=-1)
@click.option(
    "--event",
    "seqs",
    metavar="N",
    type=click.IntRange(min=1),
    multiple=True,
    help="The event with this number; may be repeated.",
)
@click.option("--all", "every", is_flag=True, help="Search all sessions, the trash and templates.")
@click.option("--secrets", is_flag=True, help="Search for text that looks like a key, token or password.")
@click.option(
    "--pattern", "patterns", metavar="REGEX", multiple=True, help="Search for matches of a regular expression."
)
@click.option(
    "--texts",
    type=click.File("r", encoding="utf-8"),
    help="Search for the lines of this file (- is standard input): keeps secrets out of the shell's history.",
)
@click.option("--whole", is_flag=True, help="Remove the complete content of events with a match.")
@click.option("--reason", help="The reason; it is recorded permanently.")
@click.option("--by", "actor", metavar="WHO", help="Who redacts; recorded too.")
@click.option("--yes", is_flag=True, help="Carry out the plan. Without this, show it, with exit status 1.")
@click.option(
    "--vacuum", is_flag=True, help="Then rewrite the tables of PostgreSQL without the removed text; others wait for it."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
@store_option
def redact_command(
    store: str | None,
    sessions: Sequence[str],
    seqs: Sequence[int],
    every: bool,
    secrets: bool,
    patterns: Sequence[str],
    texts: Iterable[str] | None,
    whole: bool,
    reason: str | None,
    actor: str | None,
    yes: bool,
    vacuum: bool,
    as_json: bool,
) -> None:
    """Remove content permanently: of events by number, or what a search finds in events and in records of tool calls.

    What is found is replaced inside of the text, and the rest is kept; --event and --whole remove all content of an event. It is
    removed from the log, forks, views, search, quarantine and records. The type and time of the event stay, and who removed it
    and why. The hash chain and every checkpoint still verify. This cannot be undone.
    """
    searched = _patterns(secrets, patterns, texts)
    if bool(seqs) == (searched is not None):
        raise click.UsageError("select events with --event, or search with --secrets, --pattern or --texts")
    if seqs and (len(sessions) != 1 or every):
        raise click.UsageError("--event needs exactly one session")
    if not sessions and not every:
        raise click.UsageError("name sessions, or use --all")
    if vacuum and not yes:
        raise click.UsageError("--vacuum needs --yes")
    if yes and not (reason and reason.strip()):
        raise click.UsageError("--yes needs a --reason")
    damaged: list[LogDamaged] = []
    with open_manager(store) as manager:
        sessions = naming.sessions(manager, sessions, fixed=yes, logs=True)
        plan = (
            _plan_events(manager, sessions[0], seqs)
            if searched is None
            else manager.redactions.plan(searched, None if every else sessions, damaged.append)
        )
        if searched is not None and not every:
            _warn_of_forks(manager, searched, sessions)
        if not yes:
            _show(plan, as_json)
            click.echo(_advice(plan, reason), err=True)
            exit_for(damaged)
            sys.exit(1 if plan else 0)
        by = {"actor": actor} if actor else None
        done = (
            [manager.redactions.redact(sessions[0], seqs, reason or "", by=by)]
            if searched is None
            else manager.redactions.carry_out(plan, reason or "", inside=not whole, by=by)
        )
        residue = manager.redactions.vacuum() if vacuum else _residue_of(done)
    blocked = [one for one in plan if one.obstacle]
    _print_done(done, blocked, residue, as_json)
    exit_for(damaged)
    sys.exit(1 if blocked else 0)


def _warn_of_forks(manager: "SessionManager", searched: "Patterns", sessions: Sequence[str]) -> None:
    """Report what is found in own events of forks that are not named: what a fork inherits is redacted with its parent."""
    below = manager.storage.registry.look(lambda state: {one for name in sessions for one in state.descendants(name)})
    forks = below - set(sessions)
    found = manager.redactions.plan(searched, sorted(forks), lambda damage: None) if forks else []
    if found:
        places = ", ".join(clean(f"{one.session_id}:{one.seq}") for one in found[:_MOST_PLACES])
        more = "" if len(found) <= _MOST_PLACES else f" and {len(found) - _MOST_PLACES:,} more"
        click.echo(
            f"eventstore: forks have it in events of their own: {places}{more}; name them too, or use --all", err=True
        )


def _advice(plan: "Sequence[Redactable]", reason: str | None) -> str:
    """Return what to do next."""
    if not plan:
        return "nothing was found"
    if all(one.obstacle for one in plan):
        return "eventstore: nothing can be redacted, see OBSTACLE; nothing was changed"
    return f"nothing was changed: use --yes{'' if reason else ' and --reason'} to redact"


def _patterns(secrets: bool, patterns: Sequence[str], texts: Iterable[str] | None) -> "Patterns | None":
    from eventstore.secret_patterns import SECRETS, Patterns

    wanted = dict(SECRETS) if secrets else {}
    wanted |= {f"pattern-{number}": pattern for number, pattern in enumerate(patterns, 1)}
    lines = [line.rstrip("\r\n") for line in texts or ()]
    wanted |= {f"text-{number}": re.escape(line) for number, line in enumerate(filter(None, lines), 1)}
    if not wanted:
        return None
    try:
        return Patterns(wanted)
    except ValueError as error:
        raise click.UsageError(f"--pattern: {error}") from None


def _plan_events(manager: "SessionManager", session_id: str, seqs: Sequence[int]) -> "list[Redactable]":
    from eventstore.integrity.redaction_plan import Redactable
    from projections.timeline import rows

    found = []
    for seq in sorted(set(seqs)):
        event = next(manager.storage.log.read(session_id, seq - 1, seq), None)
        if event is None:
            found.append(Redactable(session_id, seq, "", (), obstacle="there is no such event"))
            continue
        text = next(rows([event])).text
        found.append(Redactable(session_id, seq, event.type, (), shown=(one_line(text, _SHOWN),) if text else ()))
    return found


def _show(plan: "Sequence[Redactable]", as_json: bool) -> None:
    if as_json:
        for one in plan:
            print_json(one.to_dict())
    elif plan:
        print_table(_COLUMNS, (_row(one) for one in plan))


def _row(one: "Redactable") -> list[str]:
    where = f"{one.session_id} (trash)" if one.trashed else one.session_id
    found = clean(", ".join(one.labels))
    shown = one_line(", ".join(one.shown))
    return [where, str(one.seq or ""), clean(one.folder or one.type), found, shown, clean(one.obstacle)]


def _residue_of(done: "Sequence[Redacted]") -> tuple[str, ...]:
    return tuple(dict.fromkeys(place for one in done for place in one.residue))


def _print_done(
    done: "Sequence[Redacted]", blocked: "Sequence[Redactable]", residue: Sequence[str], as_json: bool
) -> None:
    for one in done:
        if as_json:
            print_json(vars(one))
            continue
        events = f"{some(len(one.seqs), 'event')} in {some(len(one.logs), 'log')}" if one.seqs else ""
        records = f"{some(len(one.records), 'record')} of tool calls" if one.records else ""
        what = " and ".join(filter(None, [events, records]))
        before = "an earlier redaction is finished" if one.logs and not one.left else "was redacted before"
        click.echo(f"{one.session_id}: {what} redacted" if what else f"{one.session_id}: {before}")
        print_left(one.left, "; --json names all")
    for place in residue:
        click.echo(f"eventstore: the store keeps removed text for a while in: {clean(place)}", err=True)
    for other in blocked:
        click.echo(f"eventstore: event {other.seq} of {other.session_id} was not redacted: {other.obstacle}", err=True)
    if not done:
        click.echo("nothing was found", err=True)
