"""Judge one log: read every byte again, check the rules, and find what signed checkpoints prove.

The rules are those of `exporters/verify.py`, but the code is not shared: two independent programs that agree prove more.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from eventstore.errors import CheckpointRefused, EventStoreError
from eventstore.events import EventRedacted, LogRepaired
from eventstore.ids import STORE_ID, check_log_id
from eventstore.integrity.checkpoint import Checkpoint, VerifierKey, open_note, parse_note
from eventstore.integrity.merkle import Tree
from eventstore.integrity.reader import Chain, Link, leaf_behind, split_lines
from eventstore.log.base import Raw
from eventstore.log.engine import EventLog
from eventstore.record import codec, hash_chain, tombstone
from eventstore.record.fork_point import read_fork_point

Outcome: TypeAlias = Literal["whole", "damaged", "tampered", "incomplete", "unreadable"]

MOST_FLAWS = 50
"""How many flaws of one kind are reported for one log."""

_ORIGIN = "eventstore/"
_SIGNED = b'{"type":"checkpoint.signed"'
_RECORD_ONLY = {"type", "seq", "at", "size", "root", "note", "salt", "hash"}
_INSIGHT = frozenset(["event.redacted", "session.created", "checkpoint.signed", "log.repaired"])


_NO_EVENT = (msgspec.MsgspecError, ValueError, KeyError, TypeError)  # any error that a forged line causes


class Flaw(NamedTuple):
    """One fault of a log, its outcome, and its place if it has one: line from 1, byte of the file from 0."""

    outcome: Outcome
    text: str
    line: int = 0
    offset_bytes: int = 0

    def __str__(self) -> str:
        return f"line {self.line}, byte {self.offset_bytes}: {self.text}" if self.line else self.text


class Claim(NamedTuple):
    """A note of an eventstore log, read but not verified: its log, its checkpoint, and the text of the note."""

    session_id: str
    checkpoint: Checkpoint
    chain: str
    note: str


class Record(NamedTuple):
    """An event that records a checkpoint: its number and its fields."""

    seq: int
    claim: Claim


def read_claim(note: str | bytes) -> Claim:
    """Read a checkpoint of an eventstore log, unverified. Raises CheckpointRefused."""
    checkpoint = parse_note(note).checkpoint
    chains = [line[6:] for line in checkpoint.extensions if line.startswith("chain ")]
    session_id = checkpoint.origin.removeprefix(_ORIGIN)
    if (
        len(chains) != 1
        or not _is_hash(chains[0])
        or not checkpoint.size
        or not _is_ours(checkpoint.origin, session_id)
    ):
        raise CheckpointRefused("malformed", "it is not a checkpoint of an eventstore log")
    return Claim(session_id, checkpoint, chains[0], note.decode() if isinstance(note, bytes) else note)


def _is_ours(origin: str, session_id: str) -> bool:
    try:
        return origin == _ORIGIN + check_log_id(session_id)
    except EventStoreError:
        return False


def _is_hash(text: str) -> bool:
    return len(text) == 64 and not text.strip("0123456789abcdef")


class Checkpoints:
    """What checkpoints prove about one log: its first `signed` and `anchored` events. Keys and anchors come from the caller.

    `anchors` are those of this log; `has_anchors`: the caller kept some, of any log. `last_other` is the number of the
    last event that is more than a record of a checkpoint, whoever signed that checkpoint. A checkpoint that fits covers
    the first `covered` events.
    """

    def __init__(self, keys: Sequence[VerifierKey], anchors: Sequence[Claim], *, has_anchors: bool) -> None:
        self.keys, self.anchors, self.has_anchors = keys, anchors, has_anchors
        self.signed = self.anchored = self.unsigned = self.covered = self.last_other = 0
        self.flaws: list[Flaw] = []
        self.records: list[Record] = []
        self._trailing: list[Record] = []
        self._kinds: dict[str, str] = {}

    @property
    def proven(self) -> int:
        """How many events are proven: by checkpoints kept outside if there are any, else by signatures."""
        return self.anchored if self.has_anchors else self.signed

    def take_record(self, log: "Examination", line: bytes, seq: int) -> None:
        """Process an event that records a checkpoint."""
        record: dict[str, Any] = msgspec.json.decode(line)
        count = len(self.records)
        claim = self._recorded(log, record)
        if len(self.records) == count or not _RECORD_ONLY.issuperset(record):
            self.take_other(seq)
        elif claim is None:
            self._trailing.clear()
        else:
            self._trailing.append(Record(seq, claim))

    def take_other(self, seq: int) -> None:
        """Process any other event."""
        self._trailing.clear()
        self.last_other = seq

    def _recorded(self, log: "Examination", record: dict[str, Any]) -> Claim | None:
        try:
            claim = read_claim(str(record.get("note")))
        except CheckpointRefused:
            self.unsigned += 1
            return None
        told = record.get("size"), record.get("root")
        checkpoint = claim.checkpoint
        if told != (checkpoint.size, checkpoint.to_text().split("\n")[2]):
            text = "records a checkpoint with another size or root than its note"
            self._find(Flaw("tampered", text, log.line, log.offset_bytes))
            return None
        self.records.append(Record(log.line, claim))
        where = Flaw("tampered", "records a checkpoint that", log.line, log.offset_bytes)
        return claim if self.judge(log, claim, where, log.owner) else None

    def take_notes(self, log: "Examination", notes: Iterable[tuple[str, bytes]]) -> None:
        """Compare the log with the notes that are attached to it. Call after reading the log."""
        for name, note in notes:
            try:
                claim = read_claim(note)
            except CheckpointRefused:
                self._find(Flaw("damaged", f"{name} is not a checkpoint"))
            else:
                self.judge(log, claim, Flaw("tampered", name), log.session_id)

    def take_anchors(self, log: "Examination") -> None:
        """Compare the log with the checkpoints that were kept outside. Call after reading the log."""
        for claim in self.anchors:
            where = Flaw("tampered", f"the checkpoint of {claim.checkpoint.size} events that was kept outside")
            if self.judge(log, claim, where, log.session_id):
                self.anchored = max(self.anchored, claim.checkpoint.size)

    def judge(self, log: "Examination", claim: Claim, where: Flaw, owner: str) -> bool:
        """Check whether a checkpoint fits the log and is signed by a given key, if keys were given."""
        kind = self._kind(claim.note)
        why = (
            "has a forged or broken signature of a key that you trust"
            if kind == "forged"
            else _why_no_fit(log, claim, owner)
        )
        if why:
            self._find(where._replace(text=f"{where.text} {why}"))
            return False
        self.covered = max(self.covered, claim.checkpoint.size)
        if kind == "good":
            self.signed = max(self.signed, claim.checkpoint.size)
        else:
            self.unsigned += 1
        return kind == "good" or not self.keys

    def is_signed(self, note: str) -> bool:
        """Check whether a given key signed a note."""
        return self._kind(note) == "good"

    def _kind(self, note: str) -> str:
        """Judge the signatures of a note: good, forged, or only of other keys."""
        if note not in self._kinds:
            try:
                open_note(note, self.keys)
                self._kinds[note] = "good"
            except CheckpointRefused as refused:
                self._kinds[note] = refused.kind
        return self._kinds[note]

    def _find(self, flaw: Flaw) -> None:
        if len(self.flaws) < MOST_FLAWS:
            self.flaws.append(flaw)

    def recorded(self) -> int:
        """Return the last event up to which only records of proven checkpoints follow the proven events."""
        known = {claim.checkpoint for claim in self.anchors}
        last = proven = self.proven
        for seq, claim in self._trailing:
            if seq == last + 1 and claim.checkpoint.size <= proven and (self.keys or claim.checkpoint in known):
                last = seq
        return last


def _why_no_fit(log: "Examination", claim: Claim, owner: str) -> str:
    size = claim.checkpoint.size
    if claim.session_id != owner:
        return f"is of another session: {claim.session_id}"
    if size not in log.points:
        return f"is of {size} events, and the log has {log.tree.size}: it was truncated or set back"
    root, chain = log.points[size]
    if root != claim.checkpoint.root:
        return f"does not fit: the first {size} events are not those that were signed"
    if chain and chain != claim.chain:
        return f"does not fit: its chain line is not the hash of event {size}"
    return ""


class Examination:
    """A log as far as it is read: the first `events` are intact and fit. After a `fault`, lines are only leaves of the tree.

    `points` are the roots and chain hashes after the requested sizes.
    """

    def __init__(
        self,
        session_id: str,
        raw: Raw,
        sizes: set[int],
        checkpoints: Checkpoints,
        others: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.session_id, self.root, self.checkpoints = session_id, raw.root, checkpoints
        self.events, self.hash, self.owner = 0, "", raw.root
        self.line = self.offset_bytes = 0
        self._chain = Chain(raw.root)
        self.tree = Tree()
        self.points: dict[int, tuple[bytes, str]] = {}
        self.fault: Flaw | None = None
        self.redacted: dict[int, EventRedacted] = {}
        self._vague: dict[int, EventRedacted] = {}
        self._denied: set[int] = set()
        self.unfinished: set[int] = set()
        self.quarantine: set[str] = set()
        self._inherited, self._sizes, self._others = raw.inherited, sizes, others
        self._at = ""
        self._batch: tuple[int, int] | None = None
        self._loose_stubs = 0
        self._stubs: dict[int, tuple[tombstone.Tombstone, int]] = {}

    def read(self, chunks: Iterable[bytes]) -> None:
        """Read all lines."""
        for line, is_ended in split_lines(chunks):
            if self.line == self._inherited:
                self.offset_bytes = 0
            self.line += 1
            if self.fault is None:
                self._take(line, is_ended=is_ended)
            else:
                self._grow(leaf_behind(line))
            self.offset_bytes += len(line) + is_ended
        if self.fault is None and self._batch is not None:
            self.line += 1
            self._fail("damaged", f"is missing: the last batch has {self._batch[0]} of its {self._batch[1]} events")

    def _fail(self, outcome: Outcome, text: str) -> None:
        if self.fault is None:
            self.fault = Flaw(outcome, text, self.line, self.offset_bytes)

    def _take(self, line: bytes, *, is_ended: bool) -> None:
        link = self._chain.take(line, is_ended=is_ended)
        if link is None:
            self._fail(*self._why_not(line, is_ended=is_ended))
            self._grow(leaf_behind(line))
            return
        head, stub = codec.head(line), tombstone.read_tombstone(line)
        if head is None:
            self._fail("tampered", "fits the chain but is not an event: not one JSON object with type, seq and at")
        else:
            self._judge(link, head, stub)
        self._grow(link.leaf)

    def _why_not(self, line: bytes, *, is_ended: bool) -> tuple[Outcome, str]:
        leaf, parts = tombstone.leaf_of(line), hash_chain.split(line)
        if not is_ended:
            return "damaged", "is truncated or too long: it has no LF"
        if leaf is None or parts is None:
            return "damaged", "does not end like an event"
        for other in self._others() if self.line == 1 else ():
            if hash_chain.next_hash(hash_chain.first_hash(other), leaf) == parts[1]:
                return "tampered", f"begins the chain of session {other}, not of {self.root}"
        return "damaged", "has a hash that does not fit: this line, or the line before it, is not what was written"

    def _grow(self, leaf: bytes) -> None:
        self.tree.append(leaf)
        if self.tree.size in self._sizes:
            self.points[self.tree.size] = self.tree.root(), "" if self.fault else self._chain.digest.hex()

    def _judge(self, link: Link, head: codec.Head, stub: tombstone.Tombstone | None) -> None:
        """Judge an event whose hash fits. A fault found here was made on purpose."""
        if head.seq != self.line:
            self._fail("tampered", f"fits the chain but does not have seq {self.line}")
        elif head.at < self._at:
            self._fail("tampered", "fits the chain but its time is before that of the previous line")
        elif not (self._place(head.batch) if stub is None else self._place_stub()):
            self._fail("tampered", "fits the chain but does not continue its batch")
        else:
            self._at = head.at
            if self._batch is None:
                self.events, self.hash = self.line, link.digest.hex()
            if stub is not None:
                self._stubs[self.line] = stub, self.offset_bytes
                self.checkpoints.take_other(self.line)
            else:
                try:
                    self._understand(link.line, head.type)
                except _NO_EVENT:
                    self._fail("tampered", "fits the chain but is not an event: its fields are not those of its type")

    def _place(self, batch: tuple[int, int] | None) -> bool:
        """Check and record the place in a batch that an event claims; return False if it cannot have that place."""
        loose, self._loose_stubs = self._loose_stubs, 0
        if batch is None:
            return self._batch is None
        index, count = batch
        if not 0 <= index < count or count < 2 or (self._batch != batch if self._batch else index > loose):
            return False
        self._batch = (index + 1, count) if index + 1 < count else None
        return True

    def _place_stub(self) -> bool:
        """Give a redacted line the place that its neighbours leave free: its batch is not known."""
        if self._batch is None:
            self._loose_stubs += 1
        else:
            index, count = self._batch
            self._batch = (index + 1, count) if index + 1 < count else None
        return True

    def _understand(self, line: bytes, kind: str) -> None:
        if self.session_id == STORE_ID:
            codec.decode(line)
        if kind not in _INSIGHT:
            self.checkpoints.take_other(self.line)
            return
        if kind == "checkpoint.signed":
            self.checkpoints.take_record(self, line, self.line)
            return
        self.checkpoints.take_other(self.line)
        told = codec.read_redaction(line)
        if told is not None:
            self._redact(told)
        elif kind == "session.created":
            self._fork(line)
        elif isinstance(event := codec.decode(line), LogRepaired):
            self.quarantine.add(event.quarantine)

    def _redact(self, told: EventRedacted) -> None:
        """Compare a record of a redaction with its tombstone. Only a record that names type and time confirms it."""
        if not 0 < told.target < self.line:
            return  # it makes no redacted line legitimate
        if told.target not in self._stubs:
            self.unfinished.add(told.target)
            return
        stub, _ = self._stubs[told.target]
        if not stub.is_as_told(told):
            self._denied.add(told.target)
        elif stub.leaf.hex() == told.leaf:
            is_full = told.target_type is not None and told.target_at is not None
            if is_full and self.redacted.get(told.target) is None:
                self.redacted[told.target] = told
            elif not is_full:
                self._vague.setdefault(told.target, told)

    def _fork(self, line: bytes) -> None:
        """Follow a fork: from a session to the fork that continues it."""
        point = read_fork_point(line)
        if point is not None and (point.seq, point.digest, point.root) == (
            self.line - 1,
            self._chain.before,
            self.root,
        ):
            self.owner = point.into

    def flaws(self) -> Iterator[Flaw]:
        """Return what is wrong with the complete log. Call after reading. After a fault nothing more is known."""
        if self.fault is not None:
            yield self.fault
            return
        if not self.events:
            yield Flaw("damaged", "has no event")
            return
        if self.owner != self.session_id:
            yield Flaw("tampered", f"no session.created at the right place leads from {self.root} to this session")
        covered = max((self.checkpoints.covered, *self._sizes.intersection(self.points)))
        for line in sorted(self._stubs.keys() - (self.redacted.keys() - self._denied))[:MOST_FLAWS]:
            if line in self._denied:
                text = "the event that records its redaction names another type or time"
            elif line not in self._vague:
                text = "no later event records its redaction"
            elif line <= covered:
                text = "a checkpoint covers it, and no later event confirms its type and time"
            else:
                continue
            yield Flaw("tampered", f"is redacted, and {text}", line, self._stubs[line][1])

    @property
    def tombstones(self) -> set[int]:
        """The numbers of redacted lines."""
        return set(self._stubs)

    def redacted_at(self) -> dict[int, str]:
        """Return when the redaction of each tombstone was recorded, where it was."""
        return {seq: event.at for seq, event in {**self._vague, **self.redacted}.items()}

    def notes(self) -> Iterator[str]:
        """Return what is worth knowing but not wrong."""
        redacted = (self.redacted.keys() | self._vague.keys()) - self._denied
        if redacted:
            yield f"{len(redacted)} redacted"
        vague = self._vague.keys() - self.redacted.keys()
        if vague:
            yield f"no event confirms type and time of redacted {_events(vague)}"
        proven = self.checkpoints.proven
        late = {seq for seq, told in self.redacted.items() if seq <= proven < told.seq}
        if late:
            yield f"type and time of redacted {_events(late)} are confirmed by an unproven event only"
        if self.unfinished and self.fault is None:
            yield f"redaction recorded but not finished: {_events(self.unfinished)}; the next append finishes it"
        if self.checkpoints.keys and self.checkpoints.unsigned:
            yield f"{self.checkpoints.unsigned} checkpoints are unproven: no key of yours signed them"


def _events(seqs: Iterable[int]) -> str:
    found = sorted(seqs)
    return f"event{'s' if len(found) > 1 else ''} {', '.join(map(str, found[:MOST_FLAWS]))}"


def sizes_told(chunks: Iterable[bytes]) -> set[int]:
    """Read the sizes of the checkpoints that a log records, unverified."""
    found = set()
    for line, _ in split_lines(chunks):
        if line.startswith(_SIGNED):
            try:
                size = msgspec.json.decode(line)["size"]
            except (*_NO_EVENT, RecursionError):
                continue
            if isinstance(size, int):
                found.add(size)
    return found


def _told(chunks: Iterable[bytes], on_read: Callable[[int], None]) -> Iterator[bytes]:
    lines = 0
    for chunk in chunks:
        yield chunk
        lines += chunk.count(b"\n")
        on_read(lines)


def examine(
    log: EventLog,
    session_id: str,
    checkpoints: Checkpoints,
    *,
    sizes: Iterable[int] = (),
    others: Callable[[], Iterable[str]] = tuple,
    on_read: Callable[[int], None] | None = None,
) -> Examination:
    """Read a log twice: first to find the sizes of its checkpoints, then to judge it together with its attached notes.

    `sizes` are further sizes; `others` names the logs that a first line may have been copied from. `on_read` is called with the
    number of lines that were judged, from time to time. Raises SessionNotFound, OSError, LogDamaged if the events that a fork
    inherits are missing, and what `on_read` raises.
    """
    wanted = {*sizes, *(claim.checkpoint.size for claim in checkpoints.anchors)}
    notes = log.notes(session_id)
    for _, note in notes:
        try:
            wanted.add(read_claim(note).checkpoint.size)
        except CheckpointRefused:
            continue
    wanted |= sizes_told(log.raw(session_id).chunks)
    raw = log.raw(session_id)
    found = Examination(session_id, raw, wanted, checkpoints, others)
    found.read(raw.chunks if on_read is None else _told(raw.chunks, on_read))
    checkpoints.take_notes(found, notes)
    checkpoints.take_anchors(found)
    return found
