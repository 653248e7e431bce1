"""Import a transcript: the part that is the same for every format with one JSON object per line.

The file is split into pieces: its lines, each with its LF; a very long line is several pieces. Each piece is the origin of one
or more events, so that all pieces joined are the file, byte for byte. A second import compares the stored pieces with the file
and imports the rest.
"""

import os
import re
import stat
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from msgspec.structs import replace

from eventstore import events as e
from eventstore.errors import EventRefused, ImportRefused, InvalidSessionId, SessionNotFound, VersionConflict
from eventstore.ids import check_session_id
from eventstore.importers.meaning import Child, Meaning, ToolAnswer, ToolCall, Translator, decode, time_of
from eventstore.record import codec
from eventstore.record.clock import to_datetime
from eventstore.store.storage import SessionStorage
from eventstore.store.tool_history import Record

PIECE_BYTES = 2 * 1024 * 1024
"""Longer lines are stored in pieces of this size, so that each fits into an event even if every byte is escaped."""
LINE_BYTES = 64 * 1024 * 1024
"""Longer lines are stored, but not decoded, so that memory is bounded."""
HEAD_BYTES = 1024 * 1024
"""The part of a file that is searched for the session id and the first time."""

_LOOKED_AT = 100  # lines without an object with a type after which a file is not a transcript
_MOST_EVENTS, _MOST_BYTES = 256, 1024 * 1024  # of one append: large enough that its flush costs little per event
_MOST_ODD = 100  # notes in the result
_TIMESTAMP = re.compile(rb'"timestamp"\s*:\s*"([^"\\]{10,40})"')


@dataclass(frozen=True)
class Imported:
    """The result for one file: its number of `lines`, the number of `events` added now, and notes on `odd` lines."""

    path: str
    session_id: str
    lines: int
    events: int
    odd: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**vars(self), "odd": list(self.odd)}


@dataclass(frozen=True)
class Format:
    """One foreign format: where its files are, the session id of a file, and its translator."""

    name: str
    home: Path
    pattern: str
    session_id_of: Callable[[Path, bytes], str]
    translator: Callable[[str], Translator]

    def files(self, path: Path) -> list[Path]:
        """Return the transcripts below a folder, sorted by path; for a file, the file itself."""
        return sorted(path.rglob(self.pattern)) if path.is_dir() else [path]


def import_transcript(
    storage: SessionStorage, form: Format, path: Path, advance: Callable[[int], None] = lambda size_bytes: None
) -> Imported:
    """Import one file, or only its new lines. `advance` is called with the size of each new piece in bytes.

    Raises ImportRefused if the file cannot be read, has no valid session id, or differs from the file that its session was
    imported from. Then nothing was imported.
    """
    with _open(path) as file:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        session_id = _name(form, path, head)
        if not head:
            return Imported(str(path), session_id, 0, 0, ("is empty: nothing to import",))
        return _Import(storage, form.translator(session_id), path, session_id, advance, _first_time(head)).run(file)


def _open(path: Path) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ImportRefused(str(path), 0, f"{error.strerror}; nothing was imported") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImportRefused(str(path), 0, "it is not a regular file; nothing was imported")
    return os.fdopen(descriptor, "rb")


def _first_time(head: bytes) -> str | None:
    found = _TIMESTAMP.search(head)
    return time_of(found[1].decode("utf-8", "replace")) if found else None


def _name(form: Format, path: Path, head: bytes) -> str:
    try:
        return check_session_id(form.session_id_of(path, head))
    except InvalidSessionId as error:
        raise ImportRefused(str(path), 0, f"{error}; rename the file to import it") from None


@dataclass
class _Open:
    """A tool call without a result so far: its folder and its record."""

    folder: str | None
    record: Record


@dataclass
class _Import:
    storage: SessionStorage
    translator: Translator
    path: Path
    session_id: str
    advance: Callable[[int], None]
    start: str | None
    version: int = 0
    lines: int = 0
    added: int = 0
    odd: list[str] = field(default_factory=list)
    pending: bytes = b""
    batches: list[list[e.Event]] = field(default_factory=list)
    waiting_events: int = 0
    waiting_bytes: int = 0
    children: list[Child] = field(default_factory=list)
    begun: set[str] = field(default_factory=set)
    open: dict[str, _Open] = field(default_factory=dict)

    def run(self, file: BinaryIO) -> Imported:
        try:
            self._resume(file)
        except SessionNotFound:
            self._refuse_other(file)
            self._begin()
        self._read_new(file)
        self._flush()
        waiting = self.translator.unanswered()
        if waiting:
            self._note(0, f"{waiting} tool calls have no answer")
        return Imported(str(self.path), self.session_id, self.lines, self.added, tuple(self.odd))

    # --- lines imported before

    def _resume(self, file: BinaryIO) -> None:
        """Compare the stored pieces with the file, and restore the state of the translator."""
        stored = self.storage.log.read(self.session_id)
        self._check_source(next(stored))
        self.version, last, calls = 1, 1, {}
        redacted = redacted_pieces(self.storage, self.session_id)
        for event in stored:
            if event.seq in redacted:
                self.translator.placed(last)
                self._translate_piece(file.read(redacted[event.seq]), keep_odd=False)
            if event.origin is not None and event.origin.format == self.translator.format:
                self.translator.placed(last)
                if not self._same(file, piece_of(event.origin)):
                    return
            if isinstance(event, e.InvocationLinked) and event.invocation_dir:
                calls[event.invocation_id] = event.invocation_dir
                if event.invocation_id in self.open:
                    self.open[event.invocation_id].folder = event.invocation_dir
            self.version = last = event.seq
        self.translator.placed(last)

    def _check_source(self, first: e.Event) -> None:
        known = first.custom_metadata if isinstance(first, e.SessionCreated) else {}
        if known.get("source") != self.translator.format or "told_in" in known:
            raise ImportRefused(
                str(self.path),
                0,
                f"session {self.session_id!r} already exists and was not imported from such a file; nothing was imported: "
                "delete the session or rename the file",
            )

    def _same(self, file: BinaryIO, kept: bytes) -> bool:
        """Compare the next piece with the file; False if the file ends before it."""
        found = file.read(len(kept))
        if found == kept:
            self._translate_piece(kept, keep_odd=False)
            for call in self._last.calls:
                self.open[call.invocation_id] = _Open(None, self._record(call))
            for answer in self._last.answers:
                self.open.pop(answer.invocation_id, None)
            return True
        if kept.startswith(found) and not file.read(1):
            self._note(0, "is shorter than what was imported before; nothing was deleted")
            return False
        raise ImportRefused(
            str(self.path),
            self.lines + 1,
            f"differs from what was imported as session {self.session_id!r}; nothing was imported: is it another file?",
        )

    # --- new lines

    def _refuse_other(self, file: BinaryIO) -> None:
        """Refuse a file that is not a transcript: none of its first lines is an object with a type."""
        looked = 0
        while looked < _LOOKED_AT and (text := file.readline(LINE_BYTES)):
            looked += 1
            line = decode(text)
            if line is not None and isinstance(line.get("type"), str):
                file.seek(0)
                return
        raise ImportRefused(
            str(self.path),
            0,
            f"it is not a transcript: none of its first {looked} lines is a JSON object with a type; nothing was imported",
        )

    def _begin(self) -> None:
        created = e.SessionCreated(
            tags=(self.translator.format,),
            custom_metadata={"source": self.translator.format},
            occurred_at=self.start,
        )
        self._queue([created], 0)

    def _read_new(self, file: BinaryIO) -> None:
        while piece := file.readline(PIECE_BYTES):
            meaning = self._translate_piece(piece)
            events = self._events(piece, meaning)
            self._queue(events, len(piece))
            self.translator.placed(self.version + self.waiting_events)
            if self.waiting_events >= _MOST_EVENTS or self.waiting_bytes >= _MOST_BYTES:
                self._flush()
            self.advance(len(piece))

    def _queue(self, events: list[e.Event], size_bytes: int) -> None:
        """Add the events of a piece, as one batch, to the next append."""
        self.batches.append(events)
        self.waiting_events += len(events)
        self.waiting_bytes += size_bytes

    def _events(self, piece: bytes, meaning: Meaning) -> list[e.Event]:
        """Return the events of a piece; the first has the piece as its origin. Creates the folders of its tool calls."""
        origin = origin_of(self.translator.format, piece)
        time = self.translator.time or self.start
        events = [e.at_time(event, event.occurred_at or time) for event in meaning.events or [e.ForeignRecorded()]]
        events[0] = e.with_origin(events[0], origin)
        if len(piece) > PIECE_BYTES // 4 or len(self.pending) > PIECE_BYTES // 4:
            try:
                for event in events:
                    codec.prepare(event)
            except EventRefused as error:
                self._note(self.lines, f"was stored without its meaning: {error}")
                return [e.ForeignRecorded(origin=origin, occurred_at=time)]
        for child in meaning.children:
            child.created = e.at_time(child.created, time)
            child.events = [e.at_time(event, time) for event in child.events]
        self.children += meaning.children
        folders = {call.invocation_id: self._call(call) for call in meaning.calls}
        for answer in meaning.answers:
            self._answer(answer)
        return [
            replace(event, invocation_dir=folders[event.invocation_id])
            if isinstance(event, e.InvocationLinked) and event.invocation_id in folders and event.tool_name
            else event
            for event in events
        ]

    def _translate_piece(self, piece: bytes, *, keep_odd: bool = True) -> Meaning:
        """Return the meaning of a piece, joined with unfinished pieces before it."""
        text = self.pending + piece
        if not self.pending:
            self.lines += 1
        unfinished = not piece.endswith(b"\n")
        line = None if unfinished and len(piece) == PIECE_BYTES else decode(text)
        self.pending = text if unfinished and line is None and len(text) <= LINE_BYTES else b""
        meaning, odd = self._translated(line) if line is not None else (Meaning(), _oddity(text))
        if keep_odd and odd and not (unfinished and len(piece) == PIECE_BYTES):
            self._note(self.lines, odd)
        self._last = meaning
        return meaning

    def _translated(self, line: dict[str, Any]) -> tuple[Meaning, str]:
        try:
            found = self.translator.read(line)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            return (
                Meaning(),
                f"has fields that do not match its type ({type(error).__name__}): stored without its meaning",
            )
        return found, found.odd

    def _note(self, line: int, text: str) -> None:
        if len(self.odd) == _MOST_ODD:
            self.odd.append("more lines have notes")
        elif len(self.odd) < _MOST_ODD:
            self.odd.append(f"line {line} {text}" if line else text)

    # --- tool calls

    def _record(self, call: ToolCall) -> Record:
        return Record(
            tool=call.tool_name,
            arguments=call.arguments,
            timestamp=call.time or "",
            session_id=self.session_id,
            invocation_id=call.invocation_id,
        )

    def _call(self, call: ToolCall) -> str | None:
        """Create the folder of a call, or find the one that an interrupted import created."""
        history = self.storage.history
        record = self._record(call)
        folder = None
        if history is not None:
            moment = to_datetime(call.time) if call.time else None
            path = history.create(call.tool_name, moment, session_id=self.session_id, invocation_id=call.invocation_id)
            history.write(path, record)
            folder = history.relative(path)
        self.open[call.invocation_id] = _Open(folder, record)
        return folder

    def _answer(self, answer: ToolAnswer) -> None:
        call = self.open.pop(answer.invocation_id, None)
        if call is None or call.folder is None or self.storage.history is None:
            return
        known = {name: getattr(call.record, name) for name in Record.__dataclass_fields__}
        known |= {
            "result": answer.result,
            "duration_ms": answer.duration_ms or 0.0,
            "success": answer.success is not False,
            "error": answer.error,
        }
        self.storage.history.write(Path(call.folder), Record(**known))

    # --- appending

    def _flush(self) -> None:
        """Append the queued events.

        Sub-agents come first: after a crash between the appends, the parent's lines are imported again and repeat them.
        """
        for child in self.children:
            self._append_child(child)
        self.children.clear()
        if not self.batches:
            return
        try:
            result = self.storage.extend(self.session_id, self.batches, expected_version=self.version)
        except VersionConflict:
            raise ImportRefused(
                str(self.path),
                0,
                f"another program wrote to session {self.session_id!r} during the import; what was imported before stays: "
                "import the file again",
            ) from None
        self.added += self.waiting_events
        self.version = result.last
        self.batches, self.waiting_events, self.waiting_bytes = [], 0, 0

    def _append_child(self, child: Child) -> None:
        if child.session_id not in self.begun:
            self.begun.add(child.session_id)
            self.storage.append(child.session_id, [replace(child.created, id="created")], expected_version=0)
        key = child.key
        events = [replace(event, id=f"{key}.{index}" if key else None) for index, event in enumerate(child.events)]
        self.storage.append(child.session_id, events)


def origin_of(form: str, piece: bytes) -> e.Origin:
    """Return a piece of a file as an Origin: as text if it is UTF-8, else as base64."""
    try:
        return e.Origin(form, line=piece.decode())
    except UnicodeDecodeError:
        return e.Origin(form, line_base64=b64encode(piece).decode("ascii"))


def piece_of(origin: e.Origin) -> bytes:
    """Return the bytes of a piece."""
    return b64decode(origin.line_base64 or "") if origin.line is None else origin.line.encode()


def pieces(events: Iterator[e.Event], form: str) -> Iterator[bytes]:
    """Stream the pieces of the file that the events were imported from, in order."""
    return (piece_of(event.origin) for event in events if event.origin is not None and event.origin.format == form)


def redacted_pieces(storage: SessionStorage, session_id: str) -> dict[int, int]:
    """Return the size in bytes of each piece whose event was redacted, by the number of the event."""
    recorded = filter(None, map(codec.read_redaction, storage.log.lines(session_id)))
    return {one.target: one.target_origin_bytes for one in recorded if one.target_origin_bytes is not None}


def _oddity(text: bytes) -> str:
    if not text.strip():
        return ""
    if b"\0" in text:
        return "contains NUL bytes: stored without a meaning"
    return "is incomplete" if not text.endswith(b"\n") else "is not a JSON object: stored without a meaning"
