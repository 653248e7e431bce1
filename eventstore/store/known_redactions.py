"""Recorded redactions, applied again to copies that return from the trash or from an archive."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.events import EventRedacted, InvocationEvent, MessageAdded, StoreEventsRedacted
from eventstore.ids import STORE_ID
from eventstore.log.base import tip_of
from eventstore.log.batch import prepare, seal
from eventstore.log.engine import EventLog
from eventstore.log.ingest import VerifiedLog
from eventstore.log.redact import missing_records, record_redaction
from eventstore.log.values import FOLDER
from eventstore.record import clock, codec, tombstone
from eventstore.record.fragment import blank
from eventstore.store.removed_text import Removed
from projections.calls import large_values

Known = dict[bytes, StoreEventsRedacted]
_RECORDS = b'{"type":"store.events_redacted",'


def known_redactions(log: EventLog) -> Known:
    """Map the leaf hashes of redacted events, 32 bytes, to their records in the registry. Reads the registry once."""
    known: Known = {}
    with suppress(SessionNotFound):
        for line in log.lines(STORE_ID):
            event = codec.decode(line) if line.startswith(_RECORDS) else None
            if isinstance(event, StoreEventsRedacted):
                known.update((bytes.fromhex(leaf), event) for leaf in event.leaves)
    return known


def redact_in_trash(log: EventLog, session_id: str, forget_views: Callable[[str], None]) -> None:
    """Apply known redactions to the copies of a session in the trash. The caller holds the registry's lock.

    A copy that is damaged stays as it is.
    """
    names = [name for name in log.trashed() if name.partition("~")[0] == session_id]
    known = known_redactions(log) if names else {}
    for name in names if known else ():
        with suppress(SessionNotFound, LogDamaged):
            if _redact(log, session_id, known, log.trashed_lines(name), trashed=name):
                forget_views(name)


def redact_here(log: EventLog, session_id: str) -> bool:
    """Apply known redactions to a session or template, which records them; return whether there were any.

    A fork also records what was redacted in its parent. The caller holds the registry's lock. Raises SessionNotFound,
    LogDamaged, AppendRefused.
    """
    known = known_redactions(log)
    return bool(known) and _redact(log, session_id, known, log.lines(session_id), inherited=log.inherited(session_id))


def _redact(
    log: EventLog,
    session_id: str,
    known: Known,
    lines: Iterable[bytes],
    *,
    inherited: int = 0,
    trashed: str | None = None,
) -> bool:
    found: dict[str, tuple[StoreEventsRedacted, list[int]]] = {}
    removed, values, kept = Removed(), set[str](), set[str]()
    stubs, recorded = dict[int, bytes](), set[int]()
    for seq, line in enumerate(lines, 1):
        stub, told = tombstone.read_tombstone(line), codec.read_redaction(line)
        if stub is not None and seq <= inherited:
            stubs[seq] = stub.leaf
        if told is not None:
            recorded.add(told.target)
        why = _record_of(line, known)
        (kept if why is None else values).update(_values_of(line))
        if why is not None:
            found.setdefault(why.hash, (why, []))[1].append(seq)
            removed.add(codec.decode(line))
    for seq, leaf in stubs.items():
        if seq not in recorded and leaf in known:
            found.setdefault(known[leaf].hash, (known[leaf], []))[1].append(seq)
    if found:
        log.scrub(session_id, removed.values(), trashed=trashed)
    for digest in values - kept:
        log.remove_value(session_id, digest, trashed=trashed)
    for why, seqs in found.values():
        if new := [seq for seq in seqs if seq not in recorded]:
            log.redact(session_id, new, why.reason, why.by, trashed=trashed)
    return bool(found)


def _values_of(line: bytes) -> set[str]:
    return {digest for _, _, digest in large_values(codec.read_valued(line))}


def _record_of(line: bytes, known: Known) -> StoreEventsRedacted | None:
    """Return the record of a line's redaction if the line still has its content; else None."""
    if tombstone.read_tombstone(line) is not None:
        return None
    return known.get(tombstone.leaf_of(line) or b"")


class RedactingImport:
    """The stream of an imported log with known redactions applied, before anything is written.

    Lines become tombstones, and event.redacted events are added at the end, also those missing for inherited tombstones.
    Lines that still have their content although the log records their redaction become tombstones too.
    """

    def __init__(self, verified: VerifiedLog, known: Known, past: Iterable[bytes] = ()) -> None:
        self._verified, self._known, self._past = verified, known, past
        self._events: list[EventRedacted] = []
        self.removed = Removed()
        self._kept_values, self._removed_values = set[str](), set[str]()

    def log(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Stream a log's own lines, redacted, from chunks of any size."""
        rest, seq, recorded = b"", self._verified.inherited, dict[int, bytes]()
        for chunk in chunks:
            data, lf, rest = (rest + chunk).rpartition(b"\n")
            lines = list(codec.lines(data + lf))
            for place, line in enumerate(lines):
                seq += 1
                lines[place] = self._line(seq, line)
                event = codec.read_redaction(line)
                if event is not None:
                    recorded[event.target] = bytes.fromhex(event.leaf)
            yield b"".join(line + b"\n" for line in lines)
        yield rest
        self._events += missing_records(self._past, recorded)
        yield self._ending()

    def _line(self, seq: int, line: bytes) -> bytes:
        why, recorded = _record_of(line, self._known), self._verified.redactions.get(seq)
        is_recorded = recorded is not None and recorded == tombstone.leaf_of(line)
        left = tombstone.make_tombstone(line) if why is not None or is_recorded else None
        values = _values_of(line)
        if left is None:
            self._kept_values |= values
            return line
        self._removed_values |= values
        if why is not None and not is_recorded:
            self._events.append(record_redaction(self._verified.session_id, seq, line, why.reason, why.by))
        self.removed.add(codec.decode(line))
        return left

    def _ending(self) -> bytes:
        if not self._events:
            return b""
        here = tip_of(self._verified.head)
        return seal(prepare(self._events, codec.MAX_EVENT_BYTES), here, max(clock.now(), here.at))[0]

    def attachments(self, files: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[tuple[str, Iterable[bytes]]]:
        """Stream the attachments, after the log: in damaged lines that a repair cut, the removed texts are blanked.

        Large values of redacted events are left out.
        """
        for name, chunks in files:
            if name.removeprefix(FOLDER) in self._removed_values - self._kept_values:
                continue
            if name.startswith("quarantine/") and self.removed.values():
                yield name, [blank(b"".join(chunks), self.removed.values())]
            else:
                yield name, chunks


def redacted_folders(lines: Iterable[bytes], known: Known) -> set[str]:
    """Return the folders of the tool calls that known redacted events of a log belong to."""
    calls, folders = set[str](), dict[str, str]()
    for line in lines:
        is_link = line.startswith(codec.INVOCATION)
        why = _record_of(line, known)
        if not is_link and why is None:
            continue
        event = codec.decode(line)
        if isinstance(event, InvocationEvent) and event.invocation_dir:
            folders[event.invocation_id] = event.invocation_dir
        if why is not None and isinstance(event, MessageAdded | InvocationEvent) and event.invocation_id is not None:
            calls.add(event.invocation_id)
    return {folders[one] for one in calls & folders.keys()}
