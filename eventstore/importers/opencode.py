"""OpenCode: `~/.local/share/opencode/opencode.db`, an SQLite database with the tables `session`, `message` and `part`.

Each session becomes one transcript: a line for each row, with the row's `data` as the text that is in the database. Only rows
that do not change any more are taken; a row that changed after all is added again. `eventstore export opencode` writes the lines.
"""

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eventstore import events as e
from eventstore.errors import ImportRefused
from eventstore.importers.meaning import Meaning, count_of, text_of
from eventstore.importers.plain import PlainTranslator
from eventstore.record.clock import to_text

FORMAT = "opencode"
HOME = Path("~/.local/share/opencode")
PATTERN = "opencode*.db"
AGENT = "OpenCode"

_CHANGING = frozenset(["time_updated", "time_compacting", "share_url", "permission", "revert"])
_BEGIN = b"SQLite format 3\0"


def is_database(head: bytes) -> bool:
    """Return whether a file is an SQLite database."""
    return head.startswith(_BEGIN)


def session_id_of(path: Path, head: bytes) -> str:
    """Return the name of the file: sessions are named by the database."""
    return path.stem


def is_line(line: dict[str, Any]) -> bool:
    """Return whether a line is of this format."""
    return line.get("type") in ("opencode.session", "opencode.message", "opencode.part")


def sessions(path: Path) -> Iterator[tuple[str, list[bytes]]]:
    """Stream the id and the lines of each session of a database. Raises ImportRefused if it cannot be read."""
    try:
        base = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    except (sqlite3.Error, ValueError) as error:
        raise ImportRefused(str(path), 0, f"{error}; nothing was imported") from None
    base.row_factory = sqlite3.Row
    try:
        for session in base.execute("SELECT * FROM session ORDER BY time_created, id").fetchall():
            yield str(session["id"]), list(_lines(base, session))
    except sqlite3.Error as error:
        raise ImportRefused(str(path), 0, f"it is no database of OpenCode ({error}); nothing was imported") from None
    finally:
        base.close()


def _lines(base: sqlite3.Connection, session: sqlite3.Row) -> Iterator[bytes]:
    kept = {name: session[name] for name in session.keys() if name not in _CHANGING and not name.startswith("summary")}  # noqa: SIM118
    yield _line({"type": "opencode.session", "timestamp": _time(session["time_created"]), **kept})
    messages = base.execute(
        "SELECT * FROM message WHERE session_id = ? ORDER BY time_created, id", (session["id"],)
    ).fetchall()
    for place, message in enumerate(messages):
        data = _object(message["data"])
        time = data.get("time")
        is_done = (
            data.get("role") == "user"
            or "error" in data
            or (isinstance(time, dict) and time.get("completed") is not None)
            or place + 1 < len(messages)
        )
        yield from _parts(base, message, data, is_done=is_done)
        if is_done:
            yield _line({"type": "opencode.message", **_row(message)})


def _parts(base: sqlite3.Connection, message: sqlite3.Row, data: dict[str, Any], *, is_done: bool) -> Iterator[bytes]:
    for part in base.execute("SELECT * FROM part WHERE message_id = ? ORDER BY id", (message["id"],)):
        state = _object(part["data"]).get("state")
        is_settled = isinstance(state, dict) and state.get("status") in ("completed", "error")
        if not is_done and not is_settled:
            return  # what follows comes with the next import, so that the order stays
        yield _line({"type": "opencode.part", "role": data.get("role"), **_row(part)})


def _row(row: sqlite3.Row) -> dict[str, Any]:
    return {name: row[name] for name in row.keys() if name != "time_updated"}  # noqa: SIM118 - a row is no dict


def _line(row: dict[str, Any]) -> bytes:
    shown = {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value for name, value in row.items()
    }
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def _object(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class OpenCode(PlainTranslator):
    """Translates the rows of one session."""

    format = FORMAT

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id)
        self._stepped: set[str] = set()
        self._seen: set[str] = set()

    def read(self, line: dict[str, Any]) -> Meaning:
        kind = line.get("type")
        self.time = _time(line.get("time_created")) or self.time
        if kind == "opencode.session":
            return Meaning(self._session(line))
        if kind not in ("opencode.message", "opencode.part"):
            return Meaning(odd="" if isinstance(kind, str) else "has no type")
        data = json.loads(line["data"])
        if kind == "opencode.message":
            return Meaning(self._message(line, data))
        found = Meaning()
        self._part(line, data, found)
        return found

    def _session(self, row: dict[str, Any]) -> list[e.Event]:
        parent = row.get("parent_id")
        names = {"cwd": row.get("directory"), "version": row.get("version"), "parent_session": parent}
        found = self.updated(names) + self.titled(row.get("title"), 2)
        if isinstance(parent, str) and parent and "agent" not in self._seen:
            self._seen.add("agent")
            found.append(e.SessionUpdated(tags=(FORMAT, "sub-agent")))
        return found

    def _message(self, row: dict[str, Any], data: dict[str, Any]) -> list[e.Event]:
        model = data.get("modelID")
        found = self.updated({"model": model})
        if row["id"] not in self._stepped:
            found += self._usage(row["id"], data)
        return found

    def _part(self, row: dict[str, Any], data: dict[str, Any], found: Meaning) -> None:
        kind, name = data.get("type"), row["id"]
        times = data.get("time")
        if isinstance(times, dict):
            self.time = _time(times.get("end") or times.get("start")) or self.time
        if kind == "text" and isinstance(data.get("text"), str) and data["text"].strip():
            is_added = bool(data.get("synthetic") or data.get("ignored"))
            role: e.Role = "assistant" if row.get("role") == "assistant" else "system" if is_added else "user"
            if f"{name}" in self._seen:
                return
            self._seen.add(name)
            found.events.append(e.MessageAdded(role=role, content=data["text"]))
            if role == "user":
                found.events += self.titled(data["text"])
        elif (
            kind == "reasoning"
            and isinstance(data.get("text"), str)
            and data["text"].strip()
            and name not in self._seen
        ):
            self._seen.add(name)
            found.events.append(e.ReasoningRecorded(content=data["text"]))
        elif kind == "tool":
            self._tool(data, found)
        elif kind == "step-finish":
            self._stepped.add(row["message_id"])
            found.events += self._usage(name, data)
        elif kind == "file" and name not in self._seen:
            self._seen.add(name)
            text = f"[{data.get('filename') or data.get('mime') or 'file'}]"
            found.events.append(e.MessageAdded(role="user" if row.get("role") == "user" else "assistant", content=text))

    def _tool(self, data: dict[str, Any], found: Meaning) -> None:
        state, name = data["state"], data["callID"]
        times = state.get("time") if isinstance(state.get("time"), dict) else {}
        start, end = _time(times.get("start")), _time(times.get("end"))
        if name not in self._seen:
            self._seen.add(name)
            self.time = start or self.time
            self.call(found, name, data["tool"], state.get("input"))
        done = f"{name} ended"
        if state.get("status") not in ("completed", "error") or done in self._seen:
            return
        self._seen.add(done)
        self.time = end or self.time
        failed = state["status"] == "error"
        text = state.get("error" if failed else "output")
        self.answer(found, name, text if isinstance(text, str) else text_of(text), success=not failed)

    def _usage(self, key: str, data: dict[str, Any]) -> list[e.Event]:
        used = data.get("tokens")
        if not isinstance(used, dict):
            return []
        cache = used.get("cache")
        cache = cache if isinstance(cache, dict) else {}
        tokens = {
            "input": count_of(used.get("input")) or 0,
            "output": count_of(used.get("output")) or 0,
            "cache_read": count_of(cache.get("read")) or 0,
            "cache_write": count_of(cache.get("write")) or 0,
            "reasoning": count_of(used.get("reasoning")) or 0,
        }
        cost, model = data.get("cost"), data.get("modelID") or self._known.get("model")
        spent = float(cost) if isinstance(cost, int | float) and 0 < cost < 1e9 else None
        if not any(tokens.values()) and spent is None:
            return []
        return [
            e.UsageRecorded(
                tokens=tokens,
                model=model if isinstance(model, str) else None,
                key=key,
                cost=spent,
            )
        ]


def _time(milliseconds: Any) -> str | None:
    if not isinstance(milliseconds, int | float) or not 0 < milliseconds < 4e12:
        return None
    return to_text(datetime.fromtimestamp(milliseconds / 1000, UTC))
