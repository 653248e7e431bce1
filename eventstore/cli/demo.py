"""The demo: a sample session with several tools, made through the public API in a temporary store."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

import eventstore
from eventstore.cli.session import _figures, print_tree
from eventstore.cli.terminal import heading, print_pairs, some
from eventstore.cli.timeline import print_row

if TYPE_CHECKING:
    from eventstore import SessionManager

SESSION = "demo"
_BEGAN = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


@click.command("demo", short_help="Replay a sample session in a temporary store.")
def demo_command() -> None:
    """Create a sample session, replay it, show its figures and its tree, and verify its log."""
    with tempfile.TemporaryDirectory(prefix="eventstore-demo-") as folder:
        history = eventstore.ToolHistory(Path(folder, ".history"))
        storage = eventstore.FileSystemSessionStorage(Path(folder, ".sessions"), history.path)
        with eventstore.SessionManager(storage, by={"actor": "demo"}) as manager:
            record(manager, history)
            _show(manager)
        _check(Path(folder, ".sessions"))
    click.echo("\nNext: eventstore import, then eventstore list and eventstore replay latest")


def record(manager: "SessionManager", history: "eventstore.ToolHistory") -> None:
    """Record a sample session: a question, three tool calls (one fails), an answer."""
    clock = _clock()
    manager.create_session(SESSION, "Find out why logins fail", "ana", ["bug", "auth"], occurred_at=next(clock))
    manager.add_conversation_message(
        SESSION, "user", "Logins fail since this morning. What changed?", occurred_at=next(clock)
    )
    _call(manager, history, clock, "git_log", {"since": "yesterday"}, "3 commits; e41c9d2 touches auth/token.py", 182.0)
    _call(
        manager,
        history,
        clock,
        "read_file",
        {"path": "auth/tokens.py"},
        "no such file: auth/tokens.py",
        3.1,
        success=False,
    )
    _call(manager, history, clock, "read_file", {"path": "auth/token.py"}, "MAX_AGE = 60  # seconds", 2.4)
    manager.record_usage(
        SESSION,
        {"input": 2140, "output": 312, "cache_read": 1024},
        0.0131,
        "made-up-1",
        "turn-1",
        occurred_at=next(clock),
    )
    answer = "Commit e41c9d2 set MAX_AGE to 60 seconds: tokens expire before they are used. It was an hour before."
    manager.add_conversation_message(SESSION, "assistant", answer, occurred_at=next(clock))
    manager.set_data(SESSION, "culprit", {"commit": "e41c9d2", "file": "auth/token.py"}, occurred_at=next(clock))
    manager.update_session_metadata(SESSION, custom_metadata={"severity": "high"}, occurred_at=next(clock))
    manager.complete_session(SESSION, occurred_at=next(clock))


def _call(
    manager: "SessionManager",
    history: "eventstore.ToolHistory",
    clock: "_Clock",
    tool: str,
    arguments: dict[str, str],
    result: str,
    duration_ms: float,
    *,
    success: bool = True,
) -> None:
    when, error = next(clock), None if success else result
    folder = history.create(tool, when)
    manager.link_invocation(
        SESSION, folder.name, tool, folder, duration_ms, success=success, error=error, occurred_at=when
    )
    manager.add_conversation_message(SESSION, "tool", result, tool, folder.name, occurred_at=next(clock))
    details = eventstore.Record(
        tool, arguments, result, when.isoformat(), duration_ms, success, error, SESSION, invocation_id=folder.name
    )
    history.write(folder, details)


class _Clock:
    """A fixed sequence of times, so that the demo always prints the same."""

    def __init__(self) -> None:
        self._now = _BEGAN
        self._step = 0

    def __next__(self) -> datetime:
        now = self._now
        self._step += 1
        self._now += timedelta(milliseconds=400 + 977 * (self._step % 4))
        return now


def _clock() -> _Clock:
    return _Clock()


def _show(manager: "SessionManager") -> None:
    heading("The session as it happened")
    for row in manager.timeline(SESSION):
        print_row(row)
    heading("\nFigures")
    print_pairs(_figures(manager.get_session_statistics(SESSION) or {}))
    heading("\nTree")
    print_tree(SESSION, manager.tree(SESSION), str(manager.tool_history.path) if manager.tool_history else "")


def _check(sessions: Path) -> None:
    """Open the log again, so that every byte is verified."""
    heading("\nChain")
    with eventstore.FileSystemEventLog(sessions) as log:
        count = sum(1 for _ in log.read(SESSION))
        head = log.head(SESSION)
    click.echo(f"{some(count, 'event')} verified from the first byte, head {head.hash}")
