"""The command line: the first word names a command, and only the file that has it is loaded."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eventstore import __version__
from eventstore.errors import EventStoreError

if TYPE_CHECKING:
    import click

_COMMANDS = {
    "analytics": ("analytics", "Show figures over many sessions."),
    "audit": ("audit", "Write bundles and reports for an auditor."),
    "checkpoint": ("checkpoint", "Sign what sessions are now."),
    "cleanup": ("retention", "Put old sessions in the trash, after saying which and why."),
    "compare": ("branch", "Compare what two sessions did after the event where they parted."),
    "create": ("life", "Create a session, and print its id."),
    "delete": ("life", "Delete a session for good, after saying what would go."),
    "demo": ("demo", "Replay a made-up session in a temporary store."),
    "diff": ("session", "Show what changed in a session between two moments."),
    "export": ("transcript", "Export sessions: as imported, as events, traces, tables or an archive."),
    "follow": ("follow", "Show what happens in a session, or in all, as it happens."),
    "fork": ("retention", "Start a session with the events of another so far."),
    "import": ("transcript", "Import transcripts of Claude Code or Codex, or an archive of sessions."),
    "keygen": ("checkpoint", "Make a key to sign checkpoints with."),
    "lineage": ("branch", "Show the sessions that a fork comes from."),
    "list": ("session", "List sessions, the most recently updated first."),
    "pin": ("retention", "Keep a session whatever its age."),
    "prove": ("checkpoint", "Prove what is in a signed session, and that it only grew."),
    "rebuild": ("store", "Rebuild all files derived from the logs, or compare them."),
    "recover": ("health", "Mark sessions abandoned whose program is gone."),
    "redact": ("redaction", "Remove the content of events for good, after showing a plan."),
    "repair": ("health", "Repair damaged logs, after showing how."),
    "replay": ("timeline", "Show a session's timeline as it happened."),
    "restore": ("retention", "Restore a session from the trash."),
    "search": ("search", "Find what was said in all sessions."),
    "show": ("session", "Show a session: what is known of it, and the conversation."),
    "stats": ("session", "Show a session's figures."),
    "template": ("template", "Save, list, show and remove templates for new sessions."),
    "trash": ("life", "Put a session in the trash, or list what is there."),
    "tree": ("session", "Show a session's tool calls and where their folders are."),
    "verify": ("health", "Verify that sessions are intact, and show what is proven."),
}


_HELP = """Usage: eventstore [OPTIONS] COMMAND [ARGS]...

  Sessions of MCP servers and AI agents: every operation is one event in an append-only log.

  The store is found by --store, else by SESSION_STORAGE_PATH and TOOL_HISTORY_PATH in the
  environment or in .env, else it is .sessions and .history in this folder. Data goes to standard
  output; problems to standard error, with exit status 1, or 2 where the command was not
  understood.

  eventstore import claude-code        take in all your Claude Code sessions
  eventstore list --limit 5            see the latest
  eventstore replay SESSION            watch one happen again

Options:
  --store DIRECTORY  The folder that holds .sessions and .history. Without it the settings say
                     where they are.
  --version          Show the version and exit.
  -h, --help         Show this message and exit.

Commands:
"""


class _Misunderstood(Exception):
    """What stands in front of the command, or the command, is nothing we know."""


def main() -> None:
    """Run the command line and end the process with its exit status."""
    try:
        status = _run(sys.argv[1:])
        sys.stdout.flush()
    except _Misunderstood as error:
        sys.stderr.write(
            f"Usage: eventstore [OPTIONS] COMMAND [ARGS]...\nTry 'eventstore --help' for help.\n\nError: {error}\n"
        )
        status = 2
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: nothing to say at exit either
        status = 0
    except (EventStoreError, OSError, ValueError) as error:
        from eventstore.cli.terminal import clean

        told = str(error)
        if isinstance(error, OSError) and not isinstance(error, EventStoreError) and error.strerror:
            told = f"{error.strerror}: {error.filename}; the command was not carried out"
        sys.stderr.write(f"eventstore: {clean(told)}\n")
        status = 1
    sys.exit(status)


def _run(arguments: Sequence[str]) -> int:
    """Read what stands in front of the command, and run it. Help is shown without the parser that commands have."""
    left, store = list(arguments), None
    while left and left[0].startswith("-"):
        option, equals, value = left.pop(0).partition("=")
        if option in ("-h", "--help"):
            return _show_help()
        if option == "--version":
            print(f"eventstore {__version__}")  # noqa: T201
            return 0
        if option != "--store":
            raise _Misunderstood(f"No such option {option!r}.")
        store = value if equals else left.pop(0) if left else ""
        if not store:
            raise _Misunderstood("Option '--store' requires an argument.")
    if not left:
        return _show_help()
    name, *rest = left
    if name not in _COMMANDS:
        from difflib import get_close_matches

        meant = get_close_matches(name, _COMMANDS, 1)
        hint = f" Did you mean {meant[0]!r}?" if meant else ""
        raise _Misunderstood(f"No such command {name!r}.{hint}")
    return _run_command(name, rest, store)


def _show_help() -> int:
    width = max(map(len, _COMMANDS))
    sys.stdout.write(_HELP + "".join(f"  {name:{width}}  {text}\n" for name, (_, text) in sorted(_COMMANDS.items())))
    return 0


def _run_command(name: str, arguments: Sequence[str], store: str | None) -> int:
    from importlib import import_module

    import click

    command: click.Command = getattr(import_module(f"eventstore.cli.{_COMMANDS[name][0]}"), f"{name}_command")
    try:
        status = command.main(
            list(arguments),
            prog_name=f"eventstore {name}",
            standalone_mode=False,
            obj=store,
            help_option_names=["-h", "--help"],
            max_content_width=100,
        )
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except click.Abort:
        return 130
    return status if isinstance(status, int) else 0


def _show(error: "click.ClickException") -> None:
    """Print what click says of an error; what it quotes, a file name from a pattern say, may hold control characters."""
    from io import StringIO

    from click import UsageError

    from eventstore.cli.terminal import clean

    if not isinstance(error, UsageError):
        sys.stderr.write(f"eventstore: {clean(error.format_message())}\n")
        return
    text = StringIO()
    error.show(text)
    sys.stderr.write(clean(text.getvalue(), keep_lf=True))
