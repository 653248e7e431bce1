"""The command line. Only the module of the command that runs is loaded, so that every command starts fast."""

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
    "checkpoint": ("checkpoint", "Sign checkpoints of sessions."),
    "cleanup": ("retention", "Move old sessions to the trash, with the reasons."),
    "compare": ("branch", "Compare what two sessions did after their last common event."),
    "create": ("life", "Create a session, and print its id."),
    "delete": ("life", "Delete a session permanently; without --yes show what would be deleted."),
    "demo": ("demo", "Replay a sample session in a temporary store."),
    "diff": ("session", "Show what changed in a session between two moments."),
    "export": ("transcript", "Export sessions: as imported, as events, traces, tables or an archive."),
    "follow": ("follow", "Show new events of a session, or of all, as they come."),
    "fork": ("retention", "Start a session with the events of another so far."),
    "import": ("transcript", "Import transcripts of Claude Code or Codex, or an archive of sessions."),
    "keygen": ("checkpoint", "Create a key for signing checkpoints."),
    "lineage": ("branch", "Show the sessions that a fork comes from."),
    "list": ("session", "List sessions, the most recently updated first."),
    "pin": ("retention", "Keep a session whatever its age."),
    "prove": ("checkpoint", "Print a proof about the events of a session."),
    "rebuild": ("store", "Rebuild all files derived from the logs, or compare them."),
    "recover": ("health", "Mark sessions as abandoned whose program has ended."),
    "redact": ("redaction", "Remove the content of events permanently, after showing a plan."),
    "repair": ("health", "Repair damaged logs, after showing a plan."),
    "replay": ("timeline", "Show a session's timeline as it happened."),
    "restore": ("retention", "Restore a session from the trash."),
    "search": ("search", "Search the messages and tool calls of all sessions."),
    "show": ("session", "Show a session: its metadata and its conversation."),
    "stats": ("session", "Show a session's figures."),
    "template": ("template", "Save, list, show and remove templates for new sessions."),
    "trash": ("life", "Move a session to the trash, or list the trash."),
    "tree": ("session", "Show a session's tool calls and where their folders are."),
    "verify": ("health", "Verify that sessions are intact, and show what is proven."),
}


_HELP = """Usage: eventstore [OPTIONS] COMMAND [ARGS]...

  Sessions of MCP servers and AI agents: every operation is one event in an append-only log.

  The store is named by --store, else by SESSION_STORAGE_PATH and TOOL_HISTORY_PATH in the
  environment or in .env. The default is .sessions and .history in this folder. Data is written to
  standard output, problems to standard error, with exit status 1, or 2 for wrong usage.

  eventstore import claude-code        import all your Claude Code sessions
  eventstore list --limit 5            list the latest
  eventstore replay SESSION            show the timeline of one

Options:
  --store DIRECTORY  The folder that holds .sessions and .history. The default is in the
                     settings.
  --version          Show the version and exit.
  -h, --help         Show this message and exit.

Commands:
"""


class _Misunderstood(Exception):
    """An unknown command, or an unknown option before the command."""


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
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # the reader is gone: the flush at exit must not fail
        status = 0
    except (EventStoreError, OSError, ValueError) as error:
        from eventstore.cli.terminal import clean

        text = str(error)
        if isinstance(error, OSError) and not isinstance(error, EventStoreError) and error.strerror:
            text = f"{error.strerror}: {error.filename}; the command was not carried out"
        sys.stderr.write(f"eventstore: {clean(text)}\n")
        status = 1
    sys.exit(status)


def _run(arguments: Sequence[str]) -> int:
    """Parse the options before the command, and run it. Done without click, which takes as long to load as Python itself."""
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
    """Print a click error. It may quote arguments such as file names, so control characters are escaped."""
    from io import StringIO

    from click import UsageError

    from eventstore.cli.terminal import clean

    if not isinstance(error, UsageError):
        sys.stderr.write(f"eventstore: {clean(error.format_message())}\n")
        return
    text = StringIO()
    error.show(text)
    sys.stderr.write(clean(text.getvalue(), keep_lf=True))
