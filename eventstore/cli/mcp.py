"""Serve the store to agents over MCP."""

import ipaddress
import os
import signal
import sys

import click

from eventstore.cli.store import open_manager, store_option


def _as_address(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """Parse HOST:PORT; None for no value."""
    if value is None:
        return None
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdecimal() and port.isascii() and int(port) < 65_536):
        raise click.BadParameter(f"{value!r} is not HOST:PORT, such as 127.0.0.1:8000.")
    return host.strip("[]"), int(port)


@click.command("mcp", short_help="Serve the store to agents over MCP, read-only.")
@click.option("--write", is_flag=True, help="Also let clients create sessions, and add messages and data.")
@click.option(
    "--http",
    metavar="HOST:PORT",
    callback=_as_address,
    help="Listen here for HTTP, with the path /mcp; without it: standard input and output.",
)
@store_option
def mcp_command(store: str | None, write: bool, http: tuple[str, int] | None) -> None:
    """Serve tools with which an agent asks its own past: list, search, read, compare, diff and cite sessions.

    Answers are cut to a budget of tokens, and what looks like a secret is replaced. Without --write nothing can be changed. HTTP
    has no password: listen on this machine only.
    """
    if http is not None and not _is_local(http[0]):
        raise click.BadParameter(
            f"{http[0]!r} is not this machine: HTTP has no password, so listen on 127.0.0.1.", param_hint="--http"
        )
    from eventstore.integrations.mcp_server import serve

    with open_manager(store) as manager:
        server = serve(manager, write=write)
        if http is None:
            signal.signal(signal.SIGINT, _end)
            server.run("stdio")
        else:
            server.run("streamable-http", host=http[0], port=http[1])


def _end(number: int, frame: object) -> None:
    """End at once, as what was written is durable: Python would wait for the thread that reads standard input."""
    sys.stderr.write("eventstore: interrupted\n")
    sys.stderr.flush()
    os._exit(128 + number)


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
