"""Follow: print the events of a session, or of all, as they come."""

import os
import select
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import click
from msgspec import Raw

from eventstore.cli import naming
from eventstore.cli.store import open_manager, say_if_empty, since_option, store_option
from eventstore.cli.terminal import clean, pad, print_json
from eventstore.cli.timeline import print_row
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.events import EVENT_TYPES
from eventstore.record import codec
from projections.timeline import State, row

if TYPE_CHECKING:
    from eventstore import Delivered, SessionManager, Subscription

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")
_ID_WIDTH = 16


def _as_lines(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    """Parse a number of lines; None means all."""
    if value == "all":
        return None
    if not (value.isdecimal() and value.isascii() and len(value) < 18):
        raise click.BadParameter(f"{value!r} is not a number from 0, nor 'all'.")
    return int(value)


@click.command("follow", short_help="Show new events of a session, or of all, as they come.")
@click.argument("session_id", metavar="[SESSION]", required=False)
@click.option("--all", "every", is_flag=True, help="Follow all sessions, from --since or from now.")
@click.option("--type", "types", multiple=True, help="Only events of this type; may be repeated.")
@click.option("--tool", "tools", multiple=True, help="Only calls of this tool; may be repeated.")
@click.option("--user", help="Only sessions of this user.")
@click.option("--tag", "tags", multiple=True, help="Only sessions with this tag; may be repeated.")
@since_option("Only events recorded at or after this, such as 1h or yesterday.")
@click.option(
    "--cursor-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Resume after the last printed event; the position is saved in this file.",
)
@click.option("--name", help="Resume after the last printed event; the position is saved in the store under this name.")
@click.option(
    "--lines",
    metavar="N",
    callback=_as_lines,
    default="10",
    show_default=True,
    help="With SESSION only: start with the last N events, or all.",
)
@click.option("--no-wait", is_flag=True, help="Stop at the last event.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one event per line, with the cursor to resume after it."
)
@store_option
def follow_command(
    store: str | None,
    session_id: str | None,
    every: bool,
    types: Sequence[str],
    tools: Sequence[str],
    user: str | None,
    tags: Sequence[str],
    since: str | None,
    cursor_file: Path | None,
    name: str | None,
    lines: int | None,
    no_wait: bool,
    as_json: bool,
) -> int:
    """Show the events of a session, or with --all of all sessions, one row per event, until Ctrl-C.

    With --cursor-file or --name, the next run resumes after the last printed event, or at the first start position. After a crash
    the last printed events may be printed again; none is skipped.
    """
    if every == (session_id is not None):
        raise click.UsageError("name a SESSION, or use --all")
    if cursor_file is not None and name is not None:
        raise click.UsageError("use --cursor-file or --name, not both")
    if every and click.get_current_context().get_parameter_source("lines") is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError("--lines needs a SESSION; with --all, use --since to choose where to start")
    _check_types(types)
    damaged: list[LogDamaged] = []

    def report(damage: LogDamaged) -> None:
        damaged.append(damage)
        click.echo(f"eventstore: {clean(str(damage))}", err=True)

    if every:
        say_if_empty(store)
    with open_manager(store) as manager:
        if session_id is not None:
            session_id = naming.session(manager, session_id)
        wanted = _Wanted(types or None, tools or None, user, tags or None, since)
        after: str | int | None = _load(cursor_file)
        if after is None and (name is None or manager.storage.positions.load(name) is None):
            if every and since is None:
                after = "now"
            elif session_id is not None and since is None and lines is not None:
                after = _before_last(manager, session_id, lines, wanted)
        options = wanted._asdict()
        with manager.follow(session_id, after, live=not no_wait, name=name, on_damage=report, **options) as follower:
            interrupted = _stop_when_interrupted(follower)
            if cursor_file is not None:
                _save(cursor_file, follower.cursor)
            if not no_wait:
                _stop_with_the_pipe(follower)
            _print_all(follower, _as_json if as_json else _Rows(manager, every=every), cursor_file)
    return 130 if interrupted.is_set() else 1 if damaged else 0


class _Wanted(NamedTuple):
    types: Sequence[str] | None
    tools: Sequence[str] | None
    user_id: str | None
    tags: Sequence[str] | None
    since: str | None


def _load(path: Path | None) -> str | None:
    """Read the cursor in a file, or None if there is no file."""
    if path is None:
        return None
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise click.ClickException(
            f"cursor file {path} cannot be read ({error.strerror}); nothing was printed."
        ) from None


def _save(path: Path, cursor: str) -> None:
    """Write a cursor to a file, atomically and durably."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with new.open("w", encoding="utf-8") as stream:
            stream.write(cursor + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise click.ClickException(
            f"cursor file {path} cannot be written ({error.strerror}); nothing more was printed: "
            "make it writable, or use another --cursor-file."
        ) from None


def _check_types(types: Sequence[str]) -> None:
    """Refuse a text that cannot be an event type. Types of later releases are allowed; they have a dot too."""
    for one in types:
        if one not in EVENT_TYPES and "." not in one:
            raise click.UsageError(
                f"{one!r} is not an event type; the known types are {', '.join(sorted(EVENT_TYPES))}."
            )
        close = [] if one in EVENT_TYPES else get_close_matches(one, EVENT_TYPES, 1, 0.8)
        if close:  # a type of a later release is possible, so this is no error
            click.echo(
                f"eventstore: no event type of this release is {clean(one)!r}: did you mean {close[0]!r}?", err=True
            )


def _before_last(manager: "SessionManager", session_id: str, count: int, wanted: _Wanted) -> int:
    """Return the number of the event before the last `count` events that match the filters."""
    version = manager.head(session_id).version
    if wanted == (None,) * len(wanted):
        return max(version - count, 0)
    if not count:
        return version
    with manager.follow(session_id, live=False, **wanted._asdict()) as follower:
        last = deque(follower, count)
    return last[0].event.seq - 1 if len(last) == count else 0


def _print_all(follower: "Subscription", show: "Callable[[Delivered], None]", cursor_file: Path | None) -> None:
    """Print events as they come, until the subscription or the reader of the pipe ends."""
    try:
        while found := follower.take():
            for one in found:
                show(one)
            sys.stdout.flush()
            if cursor_file is not None:
                _save(cursor_file, follower.cursor)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop_when_interrupted(follower: "Subscription") -> threading.Event:
    """Stop at Ctrl-C after the position is saved. A second Ctrl-C does not wait for that."""
    interrupted = threading.Event()

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupted.set()
        follower.stop()

    signal.signal(signal.SIGINT, stop)
    return interrupted


def _stop_with_the_pipe(follower: "Subscription") -> None:
    """Stop when the reader of standard output has ended, even if there is nothing to write."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)  # errors and hang-ups are always reported
    except (OSError, ValueError):
        return

    def wait() -> None:
        poll.poll()
        follower.stop()

    threading.Thread(target=wait, name="eventstore-pipe", daemon=True).start()


def _as_json(one: "Delivered") -> None:
    event = Raw(codec.to_json(one.event))
    print_json({"session_id": one.session_id, "cursor": one.cursor, "event": event})


class _Rows:
    """Prints events as timeline rows."""

    def __init__(self, manager: "SessionManager", *, every: bool) -> None:
        self._manager, self._every = manager, every
        self._states: dict[str, State] = {}

    def __call__(self, one: "Delivered") -> None:
        name, event = one.session_id, one.event
        if event.seq == 1 or name not in self._states:
            self._states[name] = self._begin(name, event.seq)
        front = ""
        if self._every:
            front = click.style(pad(name, _ID_WIDTH), fg=_COLOURS[crc32(name.encode()) % len(_COLOURS)])
        print_row(row(self._states[name], event), front=front)

    def _begin(self, name: str, seq: int) -> State:
        """Start a timeline in the middle: read the first event, because times count from it."""
        state = State()
        if seq > 1:
            with suppress(SessionNotFound, LogDamaged):
                for first in self._manager.storage.log.read(name, 0, 1):
                    row(state, first)
        return state
