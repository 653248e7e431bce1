"""The command line. Only the module of the command that runs is loaded, so that every command starts fast."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from eventstore.errors import EventStoreError

if TYPE_CHECKING:
    import click

_ALLOCATIONS = 50_000
"""So many objects more than freed ones, before the collector looks for cycles."""
_COMMANDS = {
    "analytics": ("analytics", "Show figures over many sessions."),
    "audit": ("audit", "Write bundles and reports for an auditor."),
    "browse": ("browse", "Browse sessions in a full screen."),
    "checkpoint": ("checkpoint", "Sign checkpoints of sessions."),
    "cleanup": ("retention", "Move old sessions to the trash, with the reasons."),
    "compare": ("branch", "Compare what two sessions did after their last common event."),
    "completion": ("shell", "Print the completion of commands and sessions for a shell."),
    "copy": ("moving", "Copy sessions from one store to another, byte for byte."),
    "create": ("life", "Create a session, and print its id."),
    "delete": ("life", "Delete a session permanently; without --yes show what would be deleted."),
    "demo": ("demo", "Replay a sample session in a temporary store."),
    "doctor": ("doctor", "Look at the store and the installation, and say what to do."),
    "diff": ("session", "Show what changed in a session between two moments."),
    "export": ("transcript", "Export sessions: as imported, as events, traces, tables or an archive."),
    "follow": ("follow", "Show new events of a session, or of all, as they come."),
    "fork": ("retention", "Start a session with the events of another so far."),
    "import": ("transcript", "Import transcripts of agents, or an archive of sessions."),
    "keygen": ("checkpoint", "Create a key for signing checkpoints."),
    "lineage": ("branch", "Show the sessions that a fork comes from."),
    "list": ("session", "List sessions, the most recently updated first."),
    "mirror": ("moving", "Keep a folder with a copy of all sessions of a store."),
    "mcp": ("mcp", "Serve the store to agents over MCP, read-only."),
    "pin": ("retention", "Keep a session whatever its age."),
    "prove": ("checkpoint", "Print a proof about the events of a session."),
    "rebuild": ("store", "Rebuild all files derived from the logs, or compare them."),
    "recover": ("health", "Mark sessions as abandoned whose program has ended."),
    "redact": ("redaction", "Remove the content of events permanently, after showing a plan."),
    "repair": ("health", "Repair damaged logs, after showing a plan."),
    "replay": ("timeline", "Show a session's timeline as it happened."),
    "restore": ("retention", "Restore a session from the trash."),
    "search": ("search", "Search the messages and tool calls of all sessions."),
    "serve": ("serve", "Serve the sessions as a page and an API on this machine."),
    "show": ("session", "Show a session: its metadata and its conversation."),
    "stats": ("session", "Show a session's figures."),
    "template": ("template", "Save, list, show and remove templates for new sessions."),
    "trash": ("life", "Move a session to the trash, or list the trash."),
    "tree": ("session", "Show a session's tool calls, where their folders are, and its sub-agents."),
    "where": ("where", "Show where the store is, and why there."),
    "verify": ("health", "Verify that sessions are intact, and show what is proven."),
}

_GROUPS = {
    "Start": ("demo", "import", "list", "create", "where"),
    "Look": ("show", "replay", "search", "browse", "stats", "analytics", "tree", "diff"),
    "Follow": ("follow",),
    "Branch": ("fork", "compare", "lineage", "template"),
    "Keep": ("pin", "export", "trash", "restore", "cleanup", "delete", "redact"),
    "Prove": ("verify", "keygen", "checkpoint", "prove", "audit"),
    "Repair": ("doctor", "recover", "repair", "rebuild"),
    "Shell": ("completion",),
}
"""Commands as people look for them. One that is in no group is shown under "More"."""

_HELP = """Usage: eventstore [OPTIONS] COMMAND [ARGS]...

  Sessions of MCP servers and AI agents: every operation is one event in an append-only log.

  eventstore import claude-code      import all your Claude Code sessions
  eventstore list                    list them, the latest first
  eventstore replay latest           show the timeline of the latest
  eventstore show 1af7               show the session whose id begins with 1af7

  A SESSION is an id, a unique beginning of it, latest, latest:PROJECT, or - for the one named last;
  one of an agent framework also by its name there, such as langgraph/THREAD.
  `eventstore where` shows which store is used, and why.
"""
_OPTIONS = """
Options:
  --store STORE   The folder that holds .sessions and .history, or the URL of a store, such as
                  postgresql://user@host/database.
  -V, --version   Show the version and exit.
  -h, --help      Show this message and exit.

  `eventstore help COMMAND` shows the options of a command, with examples. Data is written to
  standard output, problems to standard error, with exit status 1, or 2 for wrong usage.
"""
_INTERRUPTED = 130


class _Misunderstood(Exception):
    """An unknown command, or an unknown option before the command."""


def program() -> None:
    """Run the command line as a process of its own, as the script `eventstore` does; it does not return.

    A small command allocates much and keeps it to its end. So the collector of reference cycles hardly runs, and at the end the
    process is not taken apart object by object, which takes a fifth of the time of `show`.
    """
    import gc
    import warnings

    gc.set_threshold(_ALLOCATIONS)
    warnings.showwarning = _show_warning
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    import threading

    if threading.active_count() > 1:  # Python waits for those that are not daemons
        sys.exit(status)
    import atexit

    atexit._run_exitfuncs()  # temporary folders, and children that others began
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _show_warning(message: Warning | str, *where: object, **more: object) -> None:
    """Show a warning as one sentence, without the place in the code that gave it."""
    from eventstore.escape import clean

    sys.stderr.write(f"eventstore: {clean(str(message))}\n")


def main() -> NoReturn:
    """Run the command line; raises SystemExit with its exit status."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - closed by who started the program; open to the end
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    try:
        status = _run(sys.argv[1:])
        sys.stdout.flush()
    except _Misunderstood as error:
        sys.stderr.write(f"eventstore: {error}\nTry 'eventstore --help' for help.\n")
        status = 2
    except KeyboardInterrupt:
        status = _say_interrupted()
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # the reader of the pipe has ended: the flush at exit must not fail
        status = 0
    except (EventStoreError, OSError, ValueError) as error:
        from eventstore.cli.terminal import clean

        text = str(error)
        if isinstance(error, OSError) and not isinstance(error, EventStoreError) and error.strerror:
            text = f"{error.strerror}: {error.filename}; the command was not carried out"
            if isinstance(error, FileNotFoundError) and error.filename is None:  # asked for the working folder
                text = (
                    "the working folder does not exist any more; the command was not carried out: change to another one"
                )
            elif error.filename is None:  # standard output: what it was to show may be done
                text = f"{error.strerror}; the output could not be written, and what is done stays done: see `list`"
        sys.stderr.write(f"eventstore: {clean(text)}\n")
        status = 1
    sys.exit(status)


def _say_interrupted() -> int:
    """Print one line, and return the exit status. The program does not wait for threads and children."""
    sys.stderr.write(
        "\neventstore: interrupted; what is done stays done\n" if sys.stderr.isatty() else "eventstore: interrupted\n"
    )
    return _INTERRUPTED


def _run(arguments: Sequence[str]) -> int:
    """Parse the options before the command, and run it. Done without click, which takes as long to load as Python itself."""
    left, store = list(arguments), None
    while left and left[0].startswith("-"):
        option, equals, value = left.pop(0).partition("=")
        if option in ("-h", "--help"):
            return _show_help()
        if option in ("-V", "--version"):
            from eventstore.release import version  # loading it takes as long as all else

            sys.stdout.write(f"eventstore {version()}\n")
            return 0
        if option != "--store":
            from eventstore.escape import clean

            raise _Misunderstood(f"No such option {clean(option)!r}.")
        store = value if equals else left.pop(0) if left else ""
        if not store:
            raise _Misunderstood("Option '--store' requires an argument.")
    if not left:
        return _show_help()
    name, *rest = left
    if name == "__complete":
        from eventstore.cli.completion import complete

        return complete(rest, store, _COMMANDS)
    if name == "help":
        if not rest:
            return _show_help()
        name, rest = rest[0], [*rest[1:], "--help"]
    if name not in _COMMANDS:
        raise _Misunderstood(_unknown(name))
    return _run_command(name, rest, store)


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    from eventstore.escape import clean

    meant = get_close_matches(name, _COMMANDS, 1)
    return f"No such command {clean(name)!r}." + (f" Did you mean {meant[0]!r}?" if meant else "")


def _show_help() -> int:
    width = max(map(len, _COMMANDS))
    grouped = {name for names in _GROUPS.values() for name in names}
    groups = {**_GROUPS, "More": tuple(name for name in sorted(_COMMANDS) if name not in grouped)}
    parts = [_HELP]
    for title, names in groups.items():
        if names:
            parts.append(f"\n{title}:\n" + "".join(f"  {name:{width}}  {_COMMANDS[name][1]}\n" for name in names))
    sys.stdout.write(_fitted("".join([*parts, _OPTIONS])))
    return 0


def _fitted(text: str) -> str:
    """Wrap the lines that are wider than the terminal, each below the place where its last column begins."""
    width = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0
    if not width or max(map(len, text.splitlines())) <= width:
        return text
    import re
    import textwrap

    lines = []
    for line in text.splitlines():
        columns = re.match(r" *(?:\S.*? {2,}(?=\S))?", line)
        indent = " " * (columns.end() if columns is not None else 0)
        lines += textwrap.wrap(
            line, max(width, len(indent) + 20), subsequent_indent=indent, break_on_hyphens=False
        ) or [""]
    return "\n".join(lines) + "\n"


def _run_command(name: str, arguments: Sequence[str], store: str | None) -> int:
    from importlib import import_module

    import click

    from eventstore.cli.screen import is_forced

    command: click.Command = getattr(import_module(f"eventstore.cli.{_COMMANDS[name][0]}"), f"{name}_command")
    if "--help" in arguments or "-h" in arguments:
        from eventstore.cli.examples import add_examples

        add_examples(name, command)
    try:
        # not command.main: that ends with status 1 if the reader of a pipe has ended
        with command.make_context(
            f"eventstore {name}",
            list(arguments),
            obj=store,
            color=is_forced(),
            help_option_names=["-h", "--help"],
            max_content_width=100,
        ) as context:
            status = command.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except click.Abort:
        return _say_interrupted()
    return status if isinstance(status, int) else 0


def _show(error: "click.ClickException") -> None:
    """Print a click error. It may quote arguments such as file names, so control characters are escaped."""
    from click import UsageError
    from click.exceptions import NoArgsIsHelpError

    from eventstore.cli.terminal import clean

    if isinstance(error, NoArgsIsHelpError):  # a group without a command: its message is its help
        sys.stderr.write(f"{clean(error.format_message(), keep_lf=True)}\n")
        return
    text = " ".join(error.format_message().split())
    for types, name in (("integer range", "whole number"), ("float range", "number")):
        text = text.replace(f"is not a valid {types}.", f"is not a {name}.")
    sys.stderr.write(f"eventstore: {clean(text)}\n")
    if isinstance(error, UsageError) and error.ctx is not None:
        usage = " ".join(error.ctx.get_usage().split()).removeprefix("Usage: ")
        sys.stderr.write(f"Usage: {clean(usage)}\nTry '{clean(error.ctx.command_path)} --help' for help.\n")
