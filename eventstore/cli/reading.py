"""Reading a session: its metadata and its conversation. In a terminal with Markdown, folded outputs and a pager."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from os import environ
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from eventstore.cli import naming
from eventstore.cli.terminal import (
    clean,
    cost,
    cut,
    duration,
    heading,
    is_terminal,
    moment,
    one_line,
    plain,
    print_pairs,
    some,
    tokens,
    width,
)

if TYPE_CHECKING:
    from eventstore import ConversationMessage, Session, SessionMetadata
    from eventstore.events import Event, RedactedEvent

COLOURS = {"user": "green", "assistant": "blue", "tool": "magenta", "system": "yellow"}
_FOLD_OVER, _FOLD_TO = 16, 8  # lines of an output
_MOST_MARKDOWN = 200_000  # characters: rendering more takes seconds
_MOST_REASON = 200


class Style(NamedTuple):
    """How a conversation is printed: `full` folds nothing, `plain` shows texts as they were written."""

    full: bool = False
    plain: bool = False


class Entry(NamedTuple):
    """A message, or a note about what is not there. `seq` is 0 if it is not known."""

    seq: int
    time: datetime
    message: "ConversationMessage | None"
    note: str = ""


def entries(session: "Session", events: "Iterable[Event]") -> list[Entry]:
    """Return the messages of a session, with notes where events were redacted."""
    from eventstore.events import EventRedacted, MessageAdded, RedactedEvent  # imported here: a list needs none

    found, reasons, said = list[Entry](), dict[int, str](), 0
    messages = session.conversation
    redacted = list[RedactedEvent]()
    seqs = list[int]()
    for event in events:
        if event.seq > session.version:
            break
        if isinstance(event, MessageAdded):
            seqs.append(event.seq)
        elif isinstance(event, RedactedEvent):
            redacted.append(event)
        elif isinstance(event, EventRedacted):
            reasons[event.target] = event.reason
    if len(seqs) != len(messages):  # some were cleared, or the session was rewound
        seqs = [0] * len(messages)
    notes = [_note(one, reasons.get(one.seq, "")) for one in redacted]
    for seq, message in zip(seqs, messages, strict=True):
        while said < len(notes) and 0 < notes[said].seq < seq:
            found.append(notes[said])
            said += 1
        found.append(Entry(seq, message.timestamp, message))
    return [*found, *notes[said:]]


def _note(event: "RedactedEvent", reason: str) -> Entry:
    why = f": {one_line(reason, _MOST_REASON)}" if reason else ""
    return Entry(event.seq, datetime.fromisoformat(event.time), None, f"{clean(event.known_as)} redacted{why}")


def print_session(session: "Session", events: "Iterable[Event]" = (), style: Style | None = None) -> None:
    """Print the metadata and the conversation of a session."""
    style = style or Style()
    _print_metadata(session.metadata)
    # A result may not name its tool, as that of OpenAI Agents: its call does.
    tools = {one.invocation_id: one.tool_name for one in session.conversation if one.invocation_id and one.tool_name}
    for entry in entries(session, events):
        if entry.message is None:
            click.echo()
            click.echo(click.style(f"[{entry.note}]", fg="red") + _dim(f"  {moment(entry.time)}{_place(entry.seq)}"))
        else:
            _print_message(entry.seq, entry.message, tools.get(entry.message.invocation_id or "", ""), style)


def _print_metadata(known: "SessionMetadata") -> None:
    heading(one_line(known.purpose or known.external_key or known.session_id, width() if is_terminal() else None))
    print_pairs(
        [
            ("session", known.session_id),
            ("known as", one_line(known.external_key or "")),
            ("status", known.status.value + (", pinned: cleanup keeps it" if known.pinned else "")),
            ("created", moment(known.created_at)),
            ("updated", moment(known.updated_at)),
            ("project", clean(naming.project_of(known.custom_metadata))),
            ("user", clean(known.user_id or "")),
            ("tags", clean(", ".join(known.tags))),
            ("tools", clean(", ".join(known.tools_used))),
            ("tool calls", _calls(known)),
            ("tokens", tokens(known.token_usage)),
            ("cost", cost(known.estimated_cost)),
            *((clean(name), one_line(plain(value))) for name, value in known.custom_metadata.items()),
        ]
    )


def _calls(known: "SessionMetadata") -> str:
    took = f" in {duration(known.total_duration_ms)}" if known.total_duration_ms else ""
    return f"{known.total_invocations:,}{took}" if known.total_invocations else "0"


def _dim(text: str) -> str:
    return click.style(text, dim=True)


def _place(seq: int) -> str:
    return f"  :{seq}" if seq and is_terminal() else ""


def print_text(text: str, style: Style, *, role: str, seq: int = 0) -> None:
    """Print the text of a message: Markdown of an assistant, folded outputs of tools, all others as they are."""
    if not is_terminal() or style.plain:
        click.echo(clean(text, keep_lf=True))
    elif role == "assistant" and len(text) <= _MOST_MARKDOWN:
        print_markdown(text)
    else:
        _print_folded(text, seq, style, fold=role == "tool")


def _print_message(seq: int, message: "ConversationMessage", tool: str, style: Style) -> None:
    tool = message.tool_name or tool
    who = f"{message.role} · {clean(tool)}" if tool else clean(message.role)
    when = f"  {moment(message.timestamp)}{_place(seq)}"
    if is_terminal() and not message.content.strip():
        return  # a turn without text: what it did follows
    click.echo()
    click.echo(click.style(who, fg=COLOURS.get(message.role), bold=True) + _dim(when))
    call = _arguments(message) if is_terminal() and not style.plain else None
    if call is not None:
        _print_arguments(call, style)
    else:
        print_text(message.content, style, role=message.role, seq=seq)


def _arguments(message: "ConversationMessage") -> dict[str, Any] | None:
    """Return the arguments of a tool call that a message holds as JSON."""
    if not message.tool_name or not message.content.lstrip().startswith("{"):
        return None
    import json

    with suppress(ValueError, RecursionError):
        found = json.loads(message.content)
        return found if isinstance(found, dict) else None
    return None


def _print_arguments(call: dict[str, Any], style: Style) -> None:
    import json

    for name, value in call.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        front = f"  {one_line(str(name), 40)}: "
        if "\n" not in text.strip() and not style.full:
            click.echo(click.style(front, fg="cyan") + one_line(text, max(width() - len(front), 20)))
            continue
        click.echo(click.style(front.rstrip(), fg="cyan"))
        _print_folded(text, 0, style, fold=True, indent="    ")


def _print_folded(text: str, seq: int, style: Style, *, fold: bool, indent: str = "") -> None:
    lines = clean(text, keep_lf=True).rstrip("\n").split("\n")
    shown = lines[:_FOLD_TO] if fold and not style.full and len(lines) > _FOLD_OVER else lines
    for line in shown:
        click.echo(indent + (line if style.full or not fold else cut(line, width() - len(indent))))
    if len(shown) < len(lines):
        where = f"`eventstore show -:{seq}` shows them" if seq else "--full shows them"
        click.echo(_dim(f"{indent}… {some(len(lines) - len(shown), 'more line')}: {where}"))


def print_markdown(text: str) -> None:
    """Print Markdown as it is meant. Links show their address, and open nothing: what is here was written by others."""
    from eventstore.cli.markdown import print_markdown as render  # loads rich: only people who read need it

    render(clean(text, keep_lf=True))


# --- the pager


class _Pager:
    """Standard output into a pager: what is written is shown at once, and ends when the reader quits."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def write(self, text: str) -> int:
        self._pipe.write(text)
        return len(text)

    def isatty(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)


@contextmanager
def paged(*, wanted: bool = True) -> Iterator[None]:
    """Show what the block prints in the pager of PAGER, or `less`, where a person reads in a terminal and it is long."""
    command = _pager() if wanted and sys.stdout.isatty() and sys.stdin.isatty() else None
    if command is None:
        yield
        return
    import subprocess

    before = sys.stdout
    kept = {"LESS": environ.get("LESS") or "FRX", "LESSCHARSET": environ.get("LESSCHARSET") or "utf-8"}
    try:
        pager = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, encoding="utf-8", env={**environ, **kept})  # noqa: S603
    except OSError:
        yield
        return
    sys.stdout = _Pager(pager.stdin)
    try:
        with suppress(BrokenPipeError):  # quit before the end
            yield
    finally:
        sys.stdout = before
        with suppress(OSError):
            assert pager.stdin is not None  # noqa: S101 - it is a pipe
            pager.stdin.close()
        while pager.poll() is None:
            with suppress(KeyboardInterrupt):  # the pager handles it itself: it stops its work, and continues
                pager.wait()


def _pager() -> list[str] | None:
    """Return the command of the pager; None for none."""
    from shutil import which  # it loads compressors

    asked = environ.get("EVENTSTORE_PAGER", environ.get("PAGER"))
    if asked is None:
        return ["less"] if which("less") else None
    import shlex

    with suppress(ValueError):
        command = shlex.split(asked)
        if command and command[0] != "cat" and which(command[0]):
            return command
    return None
