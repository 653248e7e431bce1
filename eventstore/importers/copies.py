"""Copied history: which lines of a file are in another session of the store already, and where that session is forked.

A response belongs to one session of the store. The lines that a file begins with and that are in another session are not
repeated: the new session is a fork of the other one by reference. Its log keeps the bytes of these lines, without a meaning.
A known line further down has a meaning, but its events are marked as copied and are counted and found where they were first.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, TypeAlias

from msgspec.structs import replace

from eventstore import events as e
from eventstore.derived.line_keys import LineKeys, Place
from eventstore.importers.identity import Identity, Keys
from eventstore.importers.meaning import Meaning, decode
from eventstore.log.engine import EventLog
from eventstore.record import codec

_FIRST, _MORE = 4, 256  # lines that are looked up at once: most files have no copies, which the first lines show
_WITHDRAWN = b'{"type":"messages.withdrawn"'
_COUNTED = e.MessageAdded, e.InvocationStarted, e.InvocationLinked, e.UsageRecorded


Found: TypeAlias = dict[bytes, list[Place]]


class Fork(NamedTuple):
    """The copies at the beginning of a file: the place of the last one, and its line number in the file."""

    place: Place
    line: int


@dataclass
class Copies:
    """What one file has in common with the other sessions of the store."""

    log: EventLog
    known: LineKeys
    session_id: str
    make_identity: Callable[[str], Identity]
    line: int = 0
    """Lines up to this one are copies of what the session inherits."""
    bounds: dict[str, int] = field(default_factory=dict)
    """The sessions that it inherits from, each with the last event that it has of it, and itself."""
    rows: list[tuple[bytes, int]] = field(default_factory=list)
    shared: Counter[str] = field(default_factory=Counter)
    """How many lines at the beginning of the file are in each of the other sessions."""
    places: list[Place] = field(default_factory=list)
    """Where the lines at the beginning of the file are."""
    _new: set[bytes] = field(default_factory=set)
    _counted: dict[str, dict[str, int]] = field(default_factory=dict)
    _elsewhere: dict[str, dict[str, list[e.UsageRecorded]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.identity = self.make_identity(self.session_id)

    def begin(self) -> None:
        """Find out what the session, which may not be there yet, inherits."""
        self.bounds = bounds_of(self.log, self.session_id)

    def find(self, keys: Iterable[Keys]) -> Found:
        """Return the places of the lines that are known, here or in another session."""
        wanted = [key for one in keys for key in (one.line, one.use) if key is not None]
        found = self.known.find(wanted)
        here = Place(self.session_id, 0, frozenset())
        return found | {key: [here] for key in wanted if key in self._new}

    def note(self, keys: Keys, seq: int) -> None:
        """Record where a new line is. `store` writes it, together with its events."""
        for key in keys.all():
            self.rows.append((key, seq))
            self._new.add(key)

    def store(self, version: int) -> None:
        """Write the places of the noted lines, which are in the log by now."""
        if self.rows or version:
            self.known.add(self.session_id, self.rows, version, self.identity.family)
        self.rows.clear()
        self._new.clear()

    # --- what is made of a line

    def place(self, keys: Keys, found: Found) -> Place | None:
        """Return where a line is that the session inherits, or that its own log has already."""
        places = found.get(keys.line, ()) if keys.line is not None else ()
        return next((one for one in places if one.seq <= self.bounds.get(one.session_id, -1)), None)

    def is_inherited(self, number: int, keys: Keys, found: Found) -> bool:
        """Return whether the session inherits a line, or has it in its own log already."""
        if self.identity.between:
            return number <= self.line
        return self.place(keys, found) is not None

    def is_elsewhere(self, keys: Keys, found: Found) -> bool:
        """Return whether a line is in a session that this one does not inherit from."""
        return keys.line in found and not self.identity.needs_family

    def inherited(self, meaning: Meaning) -> Meaning:
        """Return what is left of the meaning of an inherited line: names and folders."""
        self._remember(meaning.events)
        own = [one for one in meaning.waited if isinstance(one, e.MessageAdded) and not one.copied]
        return Meaning([*own, *(one for one in meaning.events if isinstance(one, e.SessionUpdated))])

    def elsewhere(self, meaning: Meaning) -> Meaning:
        """Return the meaning of a line that is counted elsewhere."""
        self._remember(meaning.events)
        waited = {id(one) for one in meaning.waited}
        events = [
            replace(one, copied=True) if isinstance(one, _COUNTED) and id(one) not in waited else one
            for one in meaning.events
        ]
        return Meaning(events, odd=meaning.odd)

    def own(self, meaning: Meaning, keys: Keys, found: Found) -> Meaning:
        """Return the meaning of a new line. Of a response that is counted elsewhere only what is more counts here."""
        places = found.get(keys.use, ()) if keys.use is not None else ()
        is_used = any(one.session_id != self.session_id for one in places)
        for index, event in enumerate(meaning.events):
            if not isinstance(event, e.UsageRecorded) or event.key is None:
                continue
            counted = self._counted.get(event.key)
            if counted is None and is_used:
                counted = self._counted_elsewhere(event.key, places)
                if all(count <= counted.get(kind, 0) for kind, count in event.tokens.items()):
                    meaning.events[index] = replace(event, copied=True)
                    continue
            if counted is not None:
                more = {kind: max(count - counted.get(kind, 0), 0) for kind, count in event.tokens.items()}
                key = f"{event.key}+{self.session_id}"
                meaning.events[index] = replace(event, tokens=more, key=key)
        return meaning

    def _counted_elsewhere(self, key: str, places: Iterable[Place]) -> Counter[str]:
        """Return the tokens of a response that other sessions count, a part of whose lines is here."""
        most, more = dict[str, int](), Counter[str]()
        for name in {one.session_id for one in places} - {self.session_id}:
            for event in self._uses_in(name).get(key, ()):
                if event.key == key:
                    most |= {kind: max(count, most.get(kind, 0)) for kind, count in event.tokens.items()}
                else:
                    more.update(event.tokens)
        return Counter(most) + more

    def _uses_in(self, session_id: str) -> dict[str, list[e.UsageRecorded]]:
        """Return what a session counts itself, by response. It is read once for a file."""
        found = self._elsewhere.get(session_id)
        if found is None:
            found = self._elsewhere[session_id] = {}
            for event in self.log.read(session_id, self.log.inherited(session_id)):
                if isinstance(event, e.UsageRecorded) and event.key is not None and not event.copied:
                    found.setdefault(event.key.partition("+")[0], []).append(event)
        return found

    def _remember(self, events: Sequence[e.Event]) -> None:
        for event in events:
            if isinstance(event, e.UsageRecorded) and event.key is not None:
                known = self._counted.setdefault(event.key, {})
                known.update({kind: max(count, known.get(kind, 0)) for kind, count in event.tokens.items()})


def find_fork(copies: Copies, file: BinaryIO, limit_bytes: int) -> Fork | None:
    """Return where the copies at the beginning of a file end; None if it begins with none. Reads the file from its start."""
    found = _find_forks(copies, file, limit_bytes)
    return found[-1] if found else None


def find_complete_fork(copies: Copies, file: BinaryIO, limit_bytes: int) -> Fork | None:
    """Return the last fork that has every message of the copies up to it: other sessions may have withdrawn some of them."""
    return next((one for one in reversed(_find_forks(copies, file, limit_bytes)) if not _lacks(copies, one)), None)


def _lacks(copies: Copies, fork: Fork) -> bool:
    """Return whether the session at the place of a fork withdrew messages of lines that the file begins with."""
    session_id, version = fork.place.session_id, fork.place.seq
    taken = list[int]()
    for line in copies.log.lines(session_id, 0, version):
        if line.startswith(_WITHDRAWN):
            event = codec.decode(line)
            taken += event.targets if isinstance(event, e.MessagesWithdrawn) else ()
    if not taken:
        return False
    bounds = bounds_of(copies.log, session_id) | {session_id: version}
    ends = {one.seq for one in copies.places if one.seq <= bounds.get(one.session_id, -1)}
    batches = _batch_ends(copies.log, session_id, version)
    return any(batches.get(seq, seq) in ends for seq in taken)


def _find_forks(copies: Copies, file: BinaryIO, limit_bytes: int) -> list[Fork]:
    """Return the last fork in each session that the copies go on in, in the order of the file."""
    identity, forks = copies.make_identity(copies.session_id), list[Fork]()
    copies.places.clear()
    family = identity.family if identity.needs_family else None  # known when the first line with a key comes
    waiting: list[tuple[int, Keys]] = []
    size = _FIRST
    for number, keys in _keys_of(identity, file, limit_bytes):
        waiting.append((number, keys))
        if len(waiting) == size:
            if not _match(copies, family, waiting, forks):
                return forks
            waiting, size = [], _MORE
    _match(copies, family, waiting, forks)
    return forks


def _keys_of(identity: Identity, file: BinaryIO, limit_bytes: int) -> Iterator[tuple[int, Keys]]:
    number = 0
    while text := file.readline(limit_bytes):
        number += 1
        line = decode(text)
        try:
            keys = identity.read(line) if line is not None else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            keys = None
        if keys is not None and keys.line is not None:
            yield number, keys


def _match(copies: Copies, family: set[str] | None, lines: Sequence[tuple[int, Keys]], forks: list[Fork]) -> bool:
    """Add to the forks by some lines; return whether all of these lines are copies."""
    found = copies.known.find([key for _, keys in lines for key in (keys.line, keys.tally) if key is not None])
    for number, keys in lines:
        places = [
            one
            for one in found.get(keys.line or b"") or found.get(keys.tally or b"") or ()
            if one.session_id != copies.session_id
            and (family is None or one.family & family)
            and (not copies.bounds or one.seq <= copies.bounds.get(one.session_id, -1))
        ]
        if not places:
            return False
        copies.places += places
        copies.shared.update(one.session_id for one in places)
        if keys.is_reply:
            named = family or set[str]()  # the parent before those that copied it too
            place = max(places, key=lambda one: (one.session_id in named, copies.shared[one.session_id]))
            if forks and forks[-1].place.session_id == place.session_id:
                forks.pop()
            forks.append(Fork(place, number))
    return True


def bounds_of(log: EventLog, session_id: str) -> dict[str, int]:
    """Return the sessions that a session inherits from, each with the last event that it has of it, and itself."""
    found = {session_id: 2**62}
    if not log.exists(session_id):
        return found
    point = log.fork_point(session_id)
    while point is not None:
        found[point.parent] = point.seq
        point = log.fork_point(point.parent)
    return found


def not_copied(log: EventLog, session_id: str, version: int, messages: Sequence[int], ends: set[int]) -> e.Event | None:
    """Return the event that withdraws inherited messages that the file does not have; None if it has all.

    `messages` are the numbers of those inherited, `ends` those of the last events of the lines that the file has.
    """
    batches = _batch_ends(log, session_id, version)
    missing = tuple(seq for seq in messages if batches.get(seq, seq) not in ends)
    return e.MessagesWithdrawn(targets=missing) if missing else None


def _batch_ends(log: EventLog, session_id: str, version: int) -> dict[int, int]:
    """Return the last event of the batch of each event that is not the last of its own."""
    found = dict[int, int]()
    for line in log.lines(session_id, 0, version):
        head = codec.head(line)
        if head is not None and head.batch is not None:
            found[head.seq] = head.seq + head.batch[1] - 1 - head.batch[0]
    return found
