"""Serve the store to agents over MCP."""

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from eventstore.cli.store import open_manager, store_option
from eventstore.server.address import is_local, listen, shown

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer


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
@click.option(
    "--verbose", is_flag=True, help="Also write what the libraries log, not only warnings, to standard error."
)
@store_option
def mcp_command(store: str | None, write: bool, http: tuple[str, int] | None, verbose: bool) -> None:
    """Serve tools with which an agent asks its own past: list, search, read, compare, diff and cite sessions.

    Answers are cut to a budget of tokens, and what looks like a secret is replaced. Without --write nothing can be changed. HTTP
    has no password: listen on this machine only.
    """
    if http is not None and not is_local(http[0]):
        raise click.BadParameter(
            f"{http[0]!r} is not this machine: HTTP has no password, so listen on 127.0.0.1.", param_hint="--http"
        )
    from eventstore.integrations.mcp_server import serve

    with open_manager(store) as manager:
        server = serve(manager, write=write, log_level="INFO" if verbose else "WARNING")
        if http is None:
            signal.signal(signal.SIGINT, _end)
            server.run("stdio")
        else:
            _serve_http(server, *http)


def _serve_http(server: "MCPServer[Any]", host: str, port: int) -> None:
    """Serve until a signal. The address is reported, since port 0 takes a free one."""
    import uvicorn

    listening = listen(host, port)
    with listening:
        app = server.streamable_http_app(host=host)
        config = uvicorn.Config(app, log_level=server.settings.log_level.lower())
        click.echo(
            f"eventstore: listening on http://{shown(host, listening.getsockname()[1])}/mcp, until Ctrl-C", err=True
        )
        uvicorn.Server(config).run(sockets=[listening])


def _end(number: int, frame: object) -> None:
    """End at once, as what was written is durable: Python would wait for the thread that reads standard input."""
    sys.stderr.write("eventstore: interrupted\n")
    sys.stderr.flush()
    os._exit(128 + number)
