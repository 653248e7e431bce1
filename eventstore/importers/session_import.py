"""Import the lines of one file: those imported before are compared, new ones appended."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from eventstore import events as e
from eventstore.errors import EventRefused, EventStoreError, ImportRefused, SessionNotFound, VersionConflict
from eventstore.importers.children import Children
from eventstore.importers.copies import Copies, Fork, Found, bounds_of, find_complete_fork, find_fork, not_copied
from eventstore.importers.lines import LINE_BYTES, PIECE_BYTES, Line, LineReader
from eventstore.importers.meaning import Ending, Meaning, Translator
from eventstore.importers.pieces import import_start, origin_of, piece_of, redacted_pieces
from eventstore.importers.tool_records import ToolRecords
from eventstore.record import codec
from eventstore.record.clock import to_datetime
from eventstore.store.call_values import set_aside
from eventstore.store.line_marks import LineMarks
from eventstore.store.replaced_lines import target_of
from eventstore.store.storage import SessionStorage

_MOST_ODD = 100  # notes in the result
_GOES_ON = timedelta(days=1)  # a session whose last call or prompt has no answer is given up after that
_LARGE = 64 * 1024  # characters of a value that may be too large for a line
_NO_CONTENT = e.ForeignRecorded, e.SessionUpdated
_encode = msgspec.json.Encoder().encode


class Rewritten(ImportRefused):
    """The file differs from what was imported. `is_same` if it has the same lines, not to the byte."""

    def __init__(self, path: str, line: int, reason: str, *, is_same: bool = False) -> None:
        super().__init__(path, line, reason)
        self.is_same = is_same


@dataclass
class SessionImport:
    """Imports the new lines of one file into its session."""

    storage: SessionStorage
    translator: Translator
    copies: Copies
    path: Path
    session_id: str
    advance: Callable[[int], None]
    start: str | None
    records: ToolRecords
    open: Callable[[], BinaryIO]
    beside: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0
    added: int = 0
    odd: list[str] = field(default_factory=list)
    batches: list[list[e.Event]] = field(default_factory=list)
    waiting_events: int = 0
    waiting_bytes: int = 0
    status: str = "active"
    has_end: bool = False
    is_shorter: bool = False
    inherited: int = 0
    ends: set[int] = field(default_factory=set)
    redacted: AbstractSet[str] = frozenset()
    """Marks of lines that were redacted in this store: other copies of them are not imported."""
    marks: LineMarks = field(default_factory=LineMarks)

    def run(self, file: BinaryIO) -> None:
        """Import the file, which is open at its start. Raises ImportRefused."""
        self.lines, self.children = LineReader(file, self.copies.identity), Children(self.storage)
        try:
            self._resume()
        except SessionNotFound:
            self._begin()
        self._read_new()
        if self.inherited:
            self._withdraw()
        if not self.is_shorter:
            self._end()
        self._flush()
        self.copies.store(self.version if self.added else 0)
        waiting = self.translator.unanswered()
        if waiting:
            self._note(0, f"{waiting} tool calls have no answer")

    def _end(self) -> None:
        """Record how the session ended, from its last lines.

        A session that was left without an answer does not stay active for ever.
        """
        ending, time = self.translator.ending(), self.translator.time
        if ending.status == "active" and time is not None and to_datetime(time) < datetime.now(UTC) - _GOES_ON:
            ending = Ending("abandoned", "ended without an answer")
            is_late = self.status == "active"  # it went on when it was imported last
        else:
            is_late = False
        is_news = self.added or self.batches or is_late or not self.has_end
        if ending.status == self.status or not is_news or not self.lines.number:
            return
        event: e.Event = e.SessionReopened()
        if ending.status != "active":
            event = e.SessionCompleted(status=ending.status, reason=ending.reason or None)
        self._queue([e.at_time(event, time or self.start)], 0)
        self.children.end(f"ended.{self.lines.number}", time)

    # --- lines imported before

    def _resume(self) -> None:
        """Compare the stored pieces with the file, and restore the state of the translator."""
        own = import_start(self.storage, self.session_id)
        stored = self.storage.log.read(self.session_id, own)
        _check_source(next(stored), self.translator.format, self.session_id, self.path)
        self.copies.begin()
        fork = self._fork() if len(self.copies.bounds) > 1 else None
        self.copies.line = fork.line if fork is not None else 0
        self.version = last = own + 1
        redacted = redacted_pieces(self.storage, self.session_id, own)
        for event in stored:
            if event.seq in redacted:
                self.translator.placed(last)
                _translate(self.translator, self._known(self.lines.read(redacted[event.seq])))
            is_line = event.origin is not None and event.origin.format == self.translator.format
            if is_line and event.origin is not None and target_of(event) is None:
                self.translator.placed(last)
                self.has_end = False  # a kill may have come before how it ended was recorded
                if not self._same(piece_of(event.origin), isinstance(event, _NO_CONTENT)):
                    return
            if isinstance(event, e.SessionCompleted | e.SessionReopened):
                self.status = event.status if isinstance(event, e.SessionCompleted) else "active"
                self.has_end = True
            if isinstance(event, e.InvocationEvent) and event.invocation_dir:
                self.records.placed(event.invocation_id, event.invocation_dir)
            self.version = event.seq
            if event.batch is not None or event.origin is not None or event.seq in redacted:
                last = event.seq  # others, such as how the session ended, are of no line
        self.translator.placed(last)

    def _same(self, kept: bytes, is_copy: bool) -> bool:
        """Compare the next piece with the file; False if the file ends before it."""
        found = self.lines.read(len(kept))
        if found == kept:
            line = self._known(kept)
            self.translator.is_copy = is_copy
            meaning, _ = _translate(self.translator, line)
            if is_copy and (meaning.events or meaning.children):
                self.copies.inherited(meaning)
                place = self.copies.place(line.keys, self.copies.find([line.keys]))
                if place is not None:
                    self.translator.placed(place.seq)
                return True
            self.children.known.update(child.session_id for child in meaning.children)
            for call in meaning.calls:
                self.records.known(call)
            for answer in meaning.answers:
                self.records.ended(answer.invocation_id)
            return True
        if kept.startswith(found) and not self.lines.read(1):
            self._note(0, "is shorter than what was imported before; nothing was deleted")
            self.is_shorter = True
            return False
        raise Rewritten(
            str(self.path),
            self.lines.number + 1,
            f"differs from what was imported as session {self.session_id!r}; nothing was imported: "
            "give it another id with --as, or put it in the place of that one with --replace",
            is_same=self._has_same_lines(),
        )

    def _known(self, piece: bytes) -> Line:
        """Decode a piece that was imported before."""
        line = self.lines.decode(piece)
        if self.redacted and line.is_end:
            self.marks.read(line.value)
        return line

    def _has_same_lines(self) -> bool:
        """Return whether the file has lines of the session, although with other bytes: a program rewrote it."""
        other = Copies(self.storage.log, self.storage.line_keys, "", self.copies.make_identity)
        with self.open() as file:
            fork = find_fork(other, file, LINE_BYTES)
        return fork is not None and self.session_id in {
            *other.shared,
            *bounds_of(self.storage.log, fork.place.session_id),
        }

    # --- new lines

    def _begin(self) -> None:
        """Begin the session: as a fork of the session that has the first lines of the file, or as a new one."""
        metadata = {"source": self.translator.format, **self.beside}
        tags = (self.translator.format, *(("sub-agent",) if ".agent-" in self.session_id else ()))
        created = e.SessionCreated(tags=tags, custom_metadata=metadata, occurred_at=self.start)
        with self.open() as file:
            fork = find_complete_fork(self.copies, file, LINE_BYTES)
        if fork is not None:
            try:
                self.storage.fork_session(self.session_id, fork.place.session_id, fork.place.seq, created)
            except EventStoreError:  # it was deleted or damaged since its lines were learnt
                fork = None
        self.copies.begin()
        self.copies.line = fork.line if fork is not None else 0
        if fork is None:
            self._queue([created], 0)
            return
        self.version = self.storage.log.head(self.session_id).version
        self.added += self.version - fork.place.seq
        reset: list[e.Event] = [
            e.SessionAdjusted(custom_metadata=metadata, occurred_at=self.start),
            e.SessionUpdated(purpose=None, occurred_at=self.start),
        ]
        self._queue(reset, 0)
        self.inherited = fork.place.seq

    def _fork(self) -> Fork | None:
        with self.open() as file:
            return find_fork(self.copies, file, LINE_BYTES)

    def _read_new(self) -> None:
        while lines := list(self.lines.window()):
            found = self.copies.find([line.keys for line in lines])
            for line in lines:
                self._import_line(line, found)
                self.advance(len(line.piece))
            if not self.lines.is_at_end:  # the last window is appended together with how the session ended
                self._flush()

    def _import_line(self, line: Line, found: Found) -> None:
        keys, is_inherited = line.keys, self.copies.is_inherited(line.number, line.keys, found)
        is_elsewhere = not is_inherited and self.copies.is_elsewhere(keys, found)
        self.translator.is_copy = is_inherited or is_elsewhere
        meaning, odd = _translate(self.translator, line)
        if self.redacted and line.is_end and not self.redacted.isdisjoint(self.marks.read(line.value)):
            self._withhold(line)
            return
        if odd:
            self._note(line.number, odd)
        place = self.copies.place(keys, found)
        if is_inherited:
            meaning = self.copies.inherited(meaning)
            self.ends.add(place.seq if place is not None else 0)
        elif is_elsewhere:
            meaning = self.copies.elsewhere(meaning)
        else:
            meaning = self.copies.own(meaning, keys, found)
        if self.inherited and line.number > self.copies.line:
            self._withdraw()
        self._queue(self._events(line, meaning), len(line.piece))
        here = self.version + self.waiting_events
        if not is_inherited:
            self.copies.note(keys, here)
            self.translator.placed(here)
        elif place is not None and place.seq:
            self.translator.placed(place.seq)

    def _withhold(self, line: Line) -> None:
        """Keep only the size of a line that was redacted in this store before."""
        self._note(line.number, "was redacted in this store before: --again imports it")
        self._queue([e.at_time(e.ForeignRecorded(withheld_bytes=len(line.piece)), self.start)], len(line.piece))
        self.translator.placed(self.version + self.waiting_events)

    def _withdraw(self) -> None:
        """Behind the copies at the beginning of the file: withdraw inherited messages that the file does not have."""
        version, self.inherited = self.inherited, 0
        if self.copies.identity.between:
            return
        messages = [seq for seq in self.storage.summary(self.session_id, self.version).spoken if seq <= version]
        event = not_copied(self.storage.log, self.session_id, version, messages, self.ends)
        if event is not None:
            self._queue([e.at_time(event, self.start)], 0)

    def _queue(self, events: list[e.Event], size_bytes: int) -> None:
        """Add the events of a piece, as one batch, to the next append."""
        self.batches.append(events)
        self.waiting_events += len(events)
        self.waiting_bytes += size_bytes

    def _events(self, line: Line, meaning: Meaning) -> list[e.Event]:
        """Return the events of a piece; the first has the piece as its origin. Creates the folders of its tool calls."""
        piece = line.piece
        origin = origin_of(self.translator.format, piece)
        time = self.translator.time or self.start
        events = [e.at_time(event, event.occurred_at or time) for event in meaning.events or [e.ForeignRecorded()]]
        events[0] = e.with_origin(events[0], origin)
        if line.size_bytes > PIECE_BYTES // 4:
            try:
                for event in events:
                    codec.prepare(event)
            except EventRefused as error:
                self._note(line.number, f"was stored without its meaning: {error}")
                return [e.ForeignRecorded(origin=origin, occurred_at=time)]
        self.children.add(meaning.children, time)
        events = [self._small(event) for event in events]
        folders = {call.invocation_id: self.records.begin(call) for call in meaning.calls}
        for answer in meaning.answers:
            self.records.end(answer)
        return [
            replace(event, invocation_dir=folders[event.invocation_id])
            if isinstance(event, e.InvocationEvent) and event.invocation_id in folders and event.tool_name
            else event
            for event in events
        ]

    def _small(self, event: e.Event) -> e.Event:
        """Store large inputs and results as attachments of the log. The session exists by then: its first line is not a call."""
        if not isinstance(event, e.InvocationEvent) or not _is_large(event):
            return event
        if not self.storage.log.exists(self.session_id):
            self._flush()
        return set_aside(self.storage.log, self.session_id, event)

    def _note(self, line: int, text: str) -> None:
        if len(self.odd) == _MOST_ODD:
            self.odd.append("more lines have notes")
        elif len(self.odd) < _MOST_ODD:
            self.odd.append(f"line {line} {text}" if line else text)

    # --- appending

    def _flush(self) -> None:
        """Append the queued events.

        Sub-agents come first: after a crash between the appends, the parent's lines are imported again and repeat them.
        """
        self.children.flush()
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
        self.copies.store(self.version)
        self.batches, self.waiting_events, self.waiting_bytes = [], 0, 0


def _is_large(event: e.InvocationEvent) -> bool:
    """Return whether an event has an input or result that may be too large for a line."""
    value = event.input if isinstance(event, e.InvocationStarted) else event.result
    if isinstance(value, str):
        return len(value) > _LARGE
    return value is not UNSET and len(_encode(value)) > _LARGE


def _check_source(first: e.Event, form: str, session_id: str, path: Path) -> None:
    known = first.custom_metadata if isinstance(first, e.SessionCreated) else {}
    if known.get("source") != form or "told_in" in known:
        why = "already exists and was not imported from such a file; nothing was imported: "
        advice = "delete the session or rename the file"
        raise ImportRefused(str(path), 0, f"session {session_id!r} {why}{advice}")


def _translate(translator: Translator, line: Line) -> tuple[Meaning, str]:
    """Return the meaning of a line, and what is odd about it."""
    if line.value is None:
        return Meaning(), line.odd
    try:
        found = translator.read(line.value)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return (
            Meaning(),
            f"has fields that do not match its type ({type(error).__name__}): stored without its meaning",
        )
    return found, found.odd
