"""Gemini CLI: `~/.gemini/tmp/<project>/chats/session-*.json` (one object a file) and, newer, `.jsonl` (records a line).

A record with the id of an earlier one replaces it, `{"$set": ...}` changes the header, `{"$rewindTo": id}` removes a message and
all after it. A file of the older shape is rewritten with every message: `snapshot` turns it into records that only grow, and
`rendered` gives back its bytes.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from eventstore import events as e
from eventstore.importers.meaning import Meaning, count_of, decode, text_of, time_of
from eventstore.importers.plain import PlainTranslator, parts_text

FORMAT = "gemini"
HOME = Path("~/.gemini/tmp")
PATTERN = "session-*.json*"
AGENT = "Gemini CLI"

_WRAPPED = ("<", "This is the Gemini CLI", "/")
_WHOLE = "$file"


def session_id_of(path: Path, head: bytes) -> str:
    """Return the session id of a file: the id in its header, else its name."""
    header = decode(head.split(b"\n", 1)[0]) or decode(head) or {}
    found = header.get("sessionId")
    return found if isinstance(found, str) else path.stem


def is_line(line: dict[str, Any]) -> bool:
    """Return whether a line is of this format."""
    is_header = "sessionId" in line and ("projectHash" in line or "startTime" in line) and "uuid" not in line
    is_message = line.get("type") == "gemini" and "id" in line
    return is_header or is_message or any(name in line for name in ("$set", "$rewindTo"))


class Gemini(PlainTranslator):
    """Translates the records of one chat."""

    format = FORMAT

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id)
        self._before: dict[str, int] = {}
        self._texts: dict[str, tuple[str, int]] = {}
        self._calls: set[str] = set()
        self._answered: set[str] = set()
        self._waiting: tuple[str, str, int] | None = None

    def placed(self, seq: int) -> None:
        if self._waiting is not None:
            name, text, behind = self._waiting
            self._texts[name] = text, seq - behind
            self._waiting = None
        super().placed(seq)

    def read(self, line: dict[str, Any]) -> Meaning:
        self.time = time_of(line.get("timestamp") or line.get("startTime")) or self.time
        if isinstance(line.get("$set"), dict):
            return Meaning(self._header(line["$set"]))
        if "$rewindTo" in line:
            place = self._before.get(line["$rewindTo"]) if isinstance(line["$rewindTo"], str) else None
            return Meaning([] if place is None else [e.ConversationRewound(to=place)])
        if "sessionId" in line and "type" not in line:
            return Meaning(self._header(line))
        if line.get("type") not in ("user", "gemini"):
            known = isinstance(line.get("type"), str) or any(name.startswith("$") for name in line)
            return Meaning(odd="" if known else "has no type")
        return self._message(line)

    def _header(self, header: dict[str, Any]) -> list[e.Event]:
        folders = header.get("directories")
        cwd = folders[0] if isinstance(folders, list) and folders else None
        return self.updated({"cwd": cwd, "project_hash": header.get("projectHash")}) + self.titled(
            header.get("summary"), 2
        )

    def _message(self, line: dict[str, Any]) -> Meaning:
        found, name = Meaning(), line.get("id")
        name = name if isinstance(name, str) else ""
        self._before.setdefault(name, self._last)
        text = parts_text(line.get("content"))
        known, place = self._texts.get(name, ("", 0))
        is_user = line["type"] == "user"
        if not known:
            for thought in line.get("thoughts") or ():
                told = ": ".join(one for one in (thought.get("subject"), thought.get("description")) if one)
                found.events.append(e.ReasoningRecorded(content=told))
        elif text != known and place:
            found.events.append(e.MessagesWithdrawn(targets=(place,)))
        is_new = bool(text.strip()) and text != known
        if is_new:
            is_wrapped = is_user and text.lstrip().startswith(_WRAPPED[:2])
            role: e.Role = "assistant" if not is_user else "system" if is_wrapped else "user"
            found.events.append(e.MessageAdded(role=role, content=text))
        before = len(found.events)
        for call in line.get("toolCalls") or ():
            self._tool(found, call)
        found.events += self._usage(line, name) + self.updated({"model": line.get("model")})
        if is_user and not text.lstrip().startswith(_WRAPPED):
            found.events += self.titled(text)
        if is_new and name:
            self._waiting = name, text, len(found.events) - before
        return found

    def _tool(self, found: Meaning, call: dict[str, Any]) -> None:
        name = call["id"]
        if name not in self._calls:
            self.call(found, name, call["name"], call.get("args"))
            self._calls.add(name)
        status = call.get("status")
        if name in self._answered or status not in ("success", "error", "cancelled"):
            return
        self._answered.add(name)
        text = _result_text(call)
        before, self.time = self.time, time_of(call.get("timestamp")) or self.time
        self.answer(found, name, text, success=status == "success", error=text or str(status))
        self.time = before

    def _usage(self, line: dict[str, Any], name: str) -> list[e.Event]:
        used = line.get("tokens")
        if not isinstance(used, dict):
            return []
        counts = {kind: count_of(used.get(kind)) or 0 for kind in ("input", "output", "cached", "thoughts", "tool")}
        tokens = {
            "input": max(counts["input"] - counts["cached"], 0) + counts["tool"],
            "output": counts["output"],
            "cache_read": min(counts["cached"], counts["input"]),
            "reasoning": counts["thoughts"],
        }
        model = line.get("model")
        if not any(tokens.values()):
            return []
        return [e.UsageRecorded(tokens=tokens, model=model if isinstance(model, str) else None, key=name or None)]


def _result_text(call: dict[str, Any]) -> str:
    result = call.get("result")
    if isinstance(result, list):
        responses = [one["functionResponse"].get("response") for one in result if "functionResponse" in one]
        texts = [
            text_of(one.get("output", one.get("error", one)) if isinstance(one, dict) else one) for one in responses
        ]
        if texts:
            return "\n".join(texts)
        return parts_text(result)
    return "" if result is None else text_of(result)


# --- the older shape


def snapshot(data: bytes, kept: Iterable[bytes], redacted: int = 0) -> list[bytes]:
    """Return the records that a file of the older shape adds to the records that were kept of it.

    The first are its header and messages. Later ones replace what changed. Of the kept ones `redacted` are blank: as many
    messages that are not known are left out. Raises ValueError if it is not such a file.
    """
    found = json.loads(data)
    if not isinstance(found, dict) or not isinstance(found.get("messages"), list):
        raise ValueError("it has no messages")
    lines, wanted = list(kept), found["messages"]
    header, messages = _folded(lines)
    named = {name: value for name, value in found.items() if name != "messages"}
    new = list[dict[str, Any]]()
    if not lines:
        new.append({_WHOLE: "json", "at": list(found).index("messages"), **named})
    elif header != named:
        new.append({"$set": named})
    known = {one["id"]: one for one in messages}
    order = [one["id"] for one in wanted]
    gone = next((one["id"] for index, one in enumerate(messages) if order[index : index + 1] != [one["id"]]), None)
    if gone is not None and not redacted:
        new.append({"$rewindTo": gone})
        known = {one["id"]: one for one in messages[: [one["id"] for one in messages].index(gone)]}
    for one in wanted:
        if one["id"] not in known and redacted:
            redacted -= 1
        elif known.get(one["id"]) != one:
            new.append(one)
    added = [_encoded(one) for one in new]
    is_blank = any(not line.strip() for line in lines)
    if not is_blank and rendered([*lines, *added]) != data:
        added.append(_encoded({"$text": data.decode("utf-8")}))
    return added


def _encoded(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def exported(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Stream the file that a session was imported from, from the pieces that were kept of it."""
    waiting = iter(pieces)
    first = next(waiting, b"")
    if not first.startswith(b'{"$file":'):
        yield from chain([first], waiting)
        return
    yield rendered(b"".join([first, *waiting]).splitlines(keepends=True))


def rendered(lines: Iterable[bytes]) -> bytes:
    """Return the file of the older shape whose records these are."""
    kept = list(lines)
    last = decode(kept[-1]) or {}
    if "$text" in last:
        return str(last["$text"]).encode()
    header, messages = _folded(kept)
    first = decode(kept[0]) or {}
    names = list(header)
    names.insert(first.get("at", len(names)), "messages")
    whole = {name: messages if name == "messages" else header[name] for name in names}
    return json.dumps(whole, indent=2, ensure_ascii=False).encode("utf-8", "replace")


def _folded(lines: Iterable[bytes]) -> tuple[dict[str, Any], list[Any]]:
    header, messages = dict[str, Any](), list[Any]()
    places: dict[str, int] = {}
    for text in lines:
        line = decode(text)
        if line is None:  # it was redacted
            continue
        if _WHOLE in line:
            header = {name: value for name, value in line.items() if name not in (_WHOLE, "at")}
        elif isinstance(line.get("$set"), dict):
            header = line["$set"]
        elif "$rewindTo" in line:
            del messages[places.get(str(line["$rewindTo"]), len(messages)) :]
            places = {str(one["id"]): index for index, one in enumerate(messages)}
        elif "$text" not in line:
            name = str(line.get("id"))
            if name in places:
                messages[places[name]] = line
            else:
                places[name] = len(messages)
                messages.append(line)
    return header, messages
