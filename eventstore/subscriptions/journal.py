"""The position of one subscription to all sessions: the content of its cursors, and the part that is stored.

Nothing is written until a cursor is asked for that would name too many sessions. What was read since the last line that is
written down is then in the journal, and the cursors after it are short again.
"""

import threading
from collections import deque
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice

from eventstore.log.base import BEGINNING, Head
from eventstore.subscriptions.cursor import NO_MARK, Cursor, Mark, Places
from eventstore.subscriptions.positions import (
    Chain,
    Positions,
    day_of,
    header_line,
    is_too_old,
    new_journal,
    place_line,
    today,
)

SHORT, LONG = 8, 256
"""So many sessions a cursor names besides that of its event: one that is given away, and one that is kept under a name."""
_FULL_LINES = 800
"""A journal is rewritten completely for each addition, so it stays below 64 KB; then another one is begun."""
_CHAIN_LINES = 4096
"""When journals that add to each other have so many lines, or twice those of all sessions, one with all sessions is begun."""
_KEPT_CHUNKS = 4096


@dataclass(slots=True)
class Chunk:
    """Events read at once: their session, their first place, and the positions of all sessions before, once that is stored."""

    session_id: str
    start: Head
    end: Head
    number: int = 0
    mark: Mark | None = None


@dataclass(slots=True)
class _Journal:
    """The journal that this subscription writes: its name, all its bytes, and how many lines they are."""

    name: str
    data: bytes
    lines: int

    def is_full(self, more: int) -> bool:
        return self.lines + more > _FULL_LINES or day_of(self.name) != today()


class Trail:
    """The positions of one subscription to all sessions, in the order it came to them. Safe for threads.

    `base` are all positions before the oldest chunk that is still known, `moved` are the sessions in which that differs
    from what is written down at `anchor`.
    """

    def __init__(self, positions: Positions, cursor: Cursor | None) -> None:
        self._positions = positions
        self._mutex = threading.Lock()
        chain = Chain({}) if cursor is None else positions.read(cursor)
        moves = {} if cursor is None else cursor.moves
        self._base = chain.places | moves
        self._anchor = NO_MARK if cursor is None or cursor.mark is None else cursor.mark
        self._moved = dict.fromkeys(moves)
        self._chain = chain
        if self._is_old():
            self._anchor, self._moved, self._chain = NO_MARK, dict.fromkeys(self._base), Chain({})
        self._journal: _Journal | None = None
        self._recent: deque[Chunk] = deque()
        self._next_number = 0
        self._counted, self._before = -1, Places()

    def places(self) -> Places:
        """Copy the positions of all sessions at the beginning."""
        return {session_id: place for session_id, place in self._base.items() if place.version}

    def skip(self, places: Places) -> None:
        """Begin after these places."""
        self._base |= places
        self._moved |= dict.fromkeys(places)

    def add(self, chunk: Chunk) -> None:
        """Advance after a chunk that was read."""
        with self._mutex:
            chunk.number, self._next_number = self._next_number, self._next_number + 1
            self._recent.append(chunk)
            if len(self._recent) > _KEPT_CHUNKS:
                self._forget(self._recent.popleft())

    def _forget(self, chunk: Chunk) -> None:
        self._base[chunk.session_id] = chunk.end
        self._moved[chunk.session_id] = None

    # --- cursors

    def cursor(self, most: int | None = None) -> str:
        """Make the cursor of where the oldest chunk that is still known begins. Raises PositionNotSaved."""
        with self._mutex:
            if len(self._moved) > (SHORT if most is None else most) or self._is_old():
                return str(Cursor(self._write(), {}))
            return str(Cursor(self._anchor, {session_id: self._base[session_id] for session_id in self._moved}))

    def cursor_at(self, chunk: Chunk, place: Head, most: int | None = None) -> str:
        """Make the cursor of a place in a chunk. Raises ValueError where thousands came later, PositionNotSaved."""
        with self._mutex:
            if chunk.mark is not None:
                return str(Cursor(chunk.mark, {chunk.session_id: place}))
            if not self._recent or chunk.number < self._recent[0].number:
                raise ValueError("the cursor of an event is to be asked for before thousands of later ones are taken")
            moves = self._moves_before(chunk.number, SHORT if most is None else most)
            if moves is None:
                self._write()
                return str(Cursor(chunk.mark, {chunk.session_id: place}))
            moves.pop(chunk.session_id, None)
            return str(Cursor(self._anchor, {**moves, chunk.session_id: place}))

    def _is_old(self) -> bool:
        """Return whether the journal of the anchor may be deleted before a cursor that is returned now."""
        return self._anchor.journal != "" and is_too_old(self._chain.day)

    def _moves_before(self, number: int, most: int) -> Places | None:
        """List how far sessions were read between the anchor and a chunk; None if they are more than `most`.

        Cursors are mostly requested in order, so it continues from the last answer.
        """
        if len(self._moved) > most or self._is_old():
            return None
        first = self._recent[0].number
        if not first <= self._counted <= number:
            self._counted = first
            self._before = {session_id: self._base[session_id] for session_id in self._moved}
        for chunk in islice(self._recent, self._counted - first, number - first):
            self._before[chunk.session_id] = chunk.end
        self._counted = number
        return dict(self._before) if len(self._before) <= most else None

    # --- the journal

    def _write(self) -> Mark:
        """Store all positions so far; return the place before the oldest known chunk."""
        count = len(self._moved) + len(self._recent)
        if self._journal is None:
            self._positions.clean()
        if self._journal is not None and not self._journal.is_full(count) and not self._is_old():
            journal = _Journal(self._journal.name, self._journal.data, self._journal.lines)
            chain, sessions = self._chain, set(self._moved)
        else:
            journal, chain, sessions = self._begin(count)
        lines = [place_line(session_id, self._base.get(session_id, BEGINNING)) for session_id in sorted(sessions)]
        head = journal.data + b"".join(lines)
        digest = sha256(head)
        start = Mark(journal.name, len(head), digest.hexdigest()[:8])
        marks, parts, size = [start], [head], len(head)
        for chunk in self._recent:
            line = place_line(chunk.session_id, chunk.end)
            digest.update(line)
            parts.append(line)
            size += len(line)
            marks.append(Mark(journal.name, size, digest.hexdigest()[:8]))
        journal.data = b"".join(parts)
        journal.lines += len(lines) + len(self._recent)
        self._positions.write(journal.name, journal.data)
        if not chain.lines and len(lines) >= _FULL_LINES:  # it holds all sessions, and they are many
            self._positions.root = start, Chain(dict(self._base), lines=len(lines), root_lines=len(lines), day=today())
        self._journal = journal
        self._chain = chain._replace(
            lines=chain.lines + len(lines) + len(self._recent),
            root_lines=chain.root_lines or len(lines),
            day=chain.day or today(),
        )
        self._settle(marks)
        return start

    def _settle(self, marks: list[Mark]) -> None:
        """Stand at what was written."""
        for chunk, mark in zip(self._recent, marks, strict=False):
            chunk.mark = mark
            self._base[chunk.session_id] = chunk.end
        self._recent.clear()
        self._moved.clear()
        self._anchor = marks[-1]

    def _begin(self, count: int) -> tuple[_Journal, Chain, set[str]]:
        """Begin a journal: return it, what it adds to, and the sessions to write into it."""
        chain, before, sessions = self._chain, self._anchor, {*self._moved}
        if self._journal is None and len(chain.last) <= _FULL_LINES // 2:  # a small one is not added to, but replaced
            before, sessions = chain.before, {*self._moved, *chain.last}
        is_long = chain.lines + count > max(_CHAIN_LINES, 2 * chain.root_lines)
        if not before.journal or is_long or is_too_old(chain.day):
            shared = self._positions.root
            differing = None if shared is None else self._differing(shared[1])
            if shared is None or differing is None:
                return _Journal(new_journal(), b"", 0), Chain({}), set(self._base)
            (before, chain), sessions = shared, differing
        return _Journal(new_journal(), header_line(before), 0), chain, sessions

    def _differing(self, root: Chain) -> set[str] | None:
        """List the sessions whose positions differ from a journal of all sessions; None if it is better to begin another one."""
        if root.day != today():
            return None
        found = {session_id for session_id, place in self._base.items() if root.places.get(session_id) != place}
        found |= root.places.keys() - self._base.keys()
        return found if len(found) <= _FULL_LINES else None
