"""The command line: one file per noun, each loaded when one of its commands is asked for."""

import os
import sys
from importlib import import_module

import click

from eventstore.errors import EventStoreError

_COMMANDS = {
    "demo": ("demo", "Replay a made-up session in a temporary store."),
    "export": ("transcript", "Write a session out, as it came in or as events."),
    "import": ("transcript", "Take in transcripts of Claude Code or Codex."),
    "list": ("session", "List sessions, the most recently updated first."),
    "rebuild": ("store", "Make every view anew from the logs."),
    "recover": ("health", "Mark sessions abandoned whose program is gone."),
    "repair": ("health", "Set damaged logs right, after showing how."),
    "replay": ("timeline", "Show a session's timeline as it happened."),
    "show": ("session", "Show a session: what is known of it, and the conversation."),
    "stats": ("session", "Show a session's figures."),
    "tree": ("session", "Show a session's tool calls and where their folders are."),
    "verify": ("health", "Check that sessions are whole."),
}


class _Lazy(click.Group):
    """A group that knows its commands' names and help without loading them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = import_module(f"eventstore.cli.{_COMMANDS[name][0]}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(_COMMANDS.items())])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--store",
    type=click.Path(file_okay=False),
    help="The folder that holds .sessions and .history. Without it the settings say where they are.",
)
@click.version_option(package_name="eventstore", message="%(prog)s %(version)s")
@click.pass_context
def group(context: click.Context, store: str | None) -> None:
    """Sessions of MCP servers and AI agents: every operation is one event in an append-only log.

    The store is found by --store, else by SESSION_STORAGE_PATH and TOOL_HISTORY_PATH in the environment or in .env, else it is
    .sessions and .history in this folder. Data goes to standard output; problems to standard error, with exit status 1, or 2
    where the command was not understood.

    \b
    eventstore import claude-code        take in all your Claude Code sessions
    eventstore list --limit 5            see the latest
    eventstore replay SESSION            watch one happen again
    """
    context.obj = store


def main() -> None:
    """Run the command line and end the process with its exit status."""
    try:
        status = group.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: nothing to say at exit either
        status = 0
    except (EventStoreError, OSError) as error:
        from eventstore.cli.terminal import clean

        click.echo(f"eventstore: {clean(str(error))}", err=True)
        status = 1
    sys.exit(status if isinstance(status, int) else 0)
