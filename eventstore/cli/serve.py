"""Serve: the API and the page."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

import eventstore
from eventstore.cli.store import open_manager, say_if_empty, store_option
from eventstore.cli.terminal import print_json
from eventstore.errors import ExtraMissing

if TYPE_CHECKING:
    from eventstore.server import Started

_NEEDED = ("starlette", "uvicorn", "websockets")


@click.command("serve", short_help="Serve the sessions as a page and an API on this machine.")
@click.option("--port", type=click.IntRange(0, 65535), default=8321, show_default=True, help="0 takes a free port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address needs the next two options.")
@click.option(
    "--token-file", type=click.Path(dir_okay=False, path_type=Path), help="A file of mode 0600 that holds the token."
)
@click.option("--allow-host", "allow_hosts", multiple=True, metavar="HOST[:PORT]", help="A host name that clients use.")
@click.option("--write", is_flag=True, help="Allow changes; without it the server only reads.")
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser.")
@click.option("--json", "as_json", is_flag=True, help="Print the address as JSON.")
@store_option
def serve_command(
    store: str | None,
    port: int,
    host: str,
    token_file: Path | None,
    allow_hosts: Sequence[str],
    write: bool,
    open_page: bool,
    as_json: bool,
) -> None:
    """Serve the sessions as a page and an API, until it is interrupted.

    The printed address opens the page once, within five minutes. Programs of this user find the address and the token of the API
    in `.sessions/_server/PORT.json`. Only this machine can reach it, and it changes nothing without --write.
    """
    if any(find_spec(one) is None for one in _NEEDED):
        raise ExtraMissing("serve", "`eventstore serve`")
    from eventstore.server import Server

    token = None if token_file is None else _read_token(token_file)
    say_if_empty(store)
    with open_manager(store) as manager:
        folder = None
        if isinstance(manager.storage, eventstore.FileSystemSessionStorage):
            folder = manager.storage.sessions_dir / "_server"

        def say(started: "Started") -> None:
            if as_json:
                print_json({"url": started.url, "page": started.page, "write": write})
            else:
                click.echo(started.page)
                click.echo(f"{'changes are allowed' if write else 'read-only'}; end it with Ctrl-C", err=True)
            if open_page:
                click.launch(started.page)

        Server(
            manager, host=host, port=port, write=write, allow_hosts=allow_hosts, token=token, folder=folder, ready=say
        ).run()


def _read_token(path: Path) -> str:
    """Read the token, from a file that no other user can read."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise click.UsageError(f"{path} can be read by others: chmod 600 it")
        token = file.read(4096).decode("utf-8", "replace").strip()
    if len(token) < 32:
        raise click.UsageError(f"{path} holds a token of fewer than 32 characters")
    return token
