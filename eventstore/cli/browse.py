"""Browse sessions in a full screen. The screen itself is in `screens.py`, which needs the extra `tui`."""

import sys

import click

from eventstore.cli import naming
from eventstore.cli.store import open_manager, store_option
from eventstore.errors import ExtraMissing


@click.command("browse", short_help="Browse sessions in a full screen.")
@click.argument("session_id", metavar="[SESSION]", required=False)
@store_option
def browse_command(store: str | None, session_id: str | None) -> None:
    """Browse sessions in a full screen: a list to filter, the timeline of each, any moment of it, search, following.

    Keys: arrows or j and k move, Enter opens, / searches, [ and ] go through moments, f follows, ? shows all keys, q quits.
    Needs the extra `tui`.
    """
    try:
        from eventstore.cli.screens import Browser
    except ImportError:
        raise ExtraMissing("tui", "browse") from None
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.ClickException("browse needs a terminal: `eventstore list` and `show` print to a pipe")
    with open_manager(store) as manager:
        found = None if session_id is None else naming.session(manager, session_id)
        Browser(manager, found).run()
