"""The command where."""

from pathlib import Path

import click

from eventstore.cli.place import count_sessions, locate
from eventstore.cli.store import store_option
from eventstore.cli.terminal import clean, print_json, print_pairs


def _why_not(sessions: Path) -> str:
    """Say why the sessions in a folder could not be counted."""
    return "you may not read that folder" if sessions.is_dir() else "not created yet"


@click.command("where", short_help="Show where the store is, and why there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_option
def where_command(store: str | None, as_json: bool) -> None:
    """Show the folders of the store that commands use here, and why.

    The first of these that holds: --store; SESSION_STORAGE_PATH in the environment or .env; .sessions in this folder or one
    above; the data folder of the user. `mkdir -m 700 .sessions` starts a store for the project in this folder.
    """
    place = locate(store)
    count = None if place.sessions is None else count_sessions(place.sessions)
    if as_json:
        sessions = None if place.sessions is None else str(place.sessions.absolute())
        history = str(place.settings.history_path.absolute())
        print_json(
            {
                "store": place.name,
                "sessions_path": sessions,
                "history_path": history,
                "why": place.why,
                "sessions": count,
            }
        )
        return
    if place.sessions is None:
        print_pairs([("store", place.name), ("why there", place.why)])
        return
    print_pairs(
        [
            ("store", place.name),
            ("tool calls", clean(str(place.settings.history_path.absolute()))),
            ("why there", place.why),
            ("sessions", f"{count:,}" if count is not None else _why_not(place.sessions)),
        ]
    )
