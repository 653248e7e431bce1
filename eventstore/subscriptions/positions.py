"""Positions that outlive a program: named cursors, and journals for the cursors of all sessions. They are blobs of the backend.

A journal is one blob, `YYYYMMDD-HEX.journal`: lines `[session, version, size in bytes, hash]`, of which a later one
replaces an earlier one. A first line `{"after": "JOURNAL:SIZE:CHECK"}` means that it adds to another journal. A cursor
names a journal, how many of its bytes count, and the start of their SHA-256. Journals are replaced completely, and only
grow.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from eventstore.errors import CursorRefused, InvalidSessionId, NotARegularFile, PositionNotSaved
from eventstore.ids import check_session_id
from eventstore.log.base import Head
from eventstore.log.port import Backend, Missing, PortError, Refused
from eventstore.subscriptions.cursor import NO_MARK, Cursor, Mark, Places, pack_hash, parse, unpack_hash

FOLDER = "_cursors"
"""The name of these blobs in the backend."""
CHAIN_DAYS = 30
"""A journal adds to others only where the first of them is no older, so that none of them is deleted while it is needed."""
_KEPT_DAYS = 90 + CHAIN_DAYS
_MOST_JOURNALS = 10_000
_NAMED, _JOURNAL, _UNDATED = ".cursor", ".journal", "undated-"
_OF_0_1 = re.compile(r"[0-9a-f]{24}\.journal", re.ASCII)
_DATED = re.compile(r"([0-9]{8})-[0-9a-f]{16}\.journal", re.ASCII)


class Chain(NamedTuple):
    """The meaning of a mark: the places, and how they are stored.

    `last` names the sessions that the last journal holds, `before` is the journal it adds to, `lines` counts those of all
    journals, `root_lines` those of the first, and `day` is the one the first was begun on.
    """

    places: Places
    last: frozenset[str] = frozenset()
    before: Mark = NO_MARK
    lines: int = 0
    root_lines: int = 0
    day: str = ""


class Positions:
    """The positions that one store keeps, on any backend. Safe for threads.

    `root` is the last journal with all sessions, and its content: subscriptions of one process share it.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.root: tuple[Mark, Chain] | None = None

    # --- named cursors

    def load(self, name: str) -> str | None:
        """Return the cursor that was saved under a name; None if there is none. Raises CursorRefused."""
        blob = _blob_of(name)
        try:
            text = self._get(blob).decode("ascii").strip()
        except Missing:
            return None
        except (PortError, NotARegularFile, UnicodeDecodeError) as error:
            raise CursorRefused(name, f"cannot be read from {self._where(blob)} ({_reason(error)})") from None
        if not text:
            raise CursorRefused(name, f"is empty in {self._where(blob)}")
        return text

    def save(self, name: str, cursor: str) -> None:
        """Keep a cursor under a name, durably; the one before stays where that fails. Raises CursorRefused, PositionNotSaved."""
        self._put(_blob_of(name), cursor.encode("ascii") + b"\n")

    # --- journals

    def read(self, cursor: Cursor) -> Chain:
        """Read the journals that a cursor of all sessions needs. Raises CursorRefused."""
        try:
            return self._read_chain(cursor)
        except (ValueError, TypeError, LookupError) as error:
            if isinstance(error, CursorRefused):
                raise
            raise CursorRefused(str(cursor), "has a journal that holds something else") from None

    def _read_chain(self, cursor: Cursor) -> Chain:
        parts: list[tuple[str, Mark, bytes]] = []
        mark = cursor.mark or NO_MARK
        while mark.journal:
            if len(parts) == _MOST_JOURNALS:
                raise CursorRefused(str(cursor), "has journals that add to each other without end")
            journal, (mark, lines) = mark.journal, self._read(cursor, mark)
            parts.append((journal, mark, lines))
        if not parts:
            return Chain({})
        places: Places = {}
        for _, _, lines in reversed(parts):
            places |= dict(_parse_lines(lines))
        counts = [lines.count(b"\n") for _, _, lines in parts]
        found = {session_id: place for session_id, place in places.items() if place.version}
        last = frozenset(session_id for session_id, _ in _parse_lines(parts[0][2]))
        return Chain(found, last, parts[0][1], sum(counts), counts[-1], day_of(parts[-1][0]))

    def _read(self, cursor: Cursor, mark: Mark) -> tuple[Mark, bytes]:
        """Return the journal that one adds to, and the lines that count."""
        try:
            data = self._get(mark.journal + _JOURNAL, mark.size_bytes)
        except Missing:
            raise CursorRefused(str(cursor), "has no journal in this store any more") from None
        except (PortError, NotARegularFile) as error:
            raise CursorRefused(str(cursor), f"has a journal that cannot be read ({_reason(error)})") from None
        if len(data) != mark.size_bytes or check_of(data) != mark.check:
            raise CursorRefused(str(cursor), "differs from its journal: the journal was changed or lost")
        if not data.startswith(b"{"):
            return NO_MARK, data
        header, _, lines = data.partition(b"\n")
        journal, size, check = json.loads(header)["after"].split(":")
        return Mark(journal, int(size), check), lines

    def write(self, journal: str, data: bytes) -> None:
        """Write a journal, durably, in the place of what it held before. Raises PositionNotSaved."""
        self._put(journal + _JOURNAL, data)

    # --- deleting

    def clean(self) -> None:
        """Delete journals that were not written to for three months, but none that a named cursor needs.

        The backend stores no times: the name of a journal has the date when it was begun. One of 0.1.0 has no date, and
        counts from when it was first seen here.
        """
        with suppress(PortError, NotARegularFile):
            names = self._backend.blobs(FOLDER)
            limit = f"{datetime.now(UTC) - timedelta(days=_KEPT_DAYS):%Y%m%d}"
            expired = {name for name in names if (found := _DATED.fullmatch(name)) and found[1] < limit}
            expired |= self._expired_of_0_1(names, limit)
            if expired:
                expired -= self._needed(names)
            for name in expired:
                self._backend.delete_blob(FOLDER, name)

    def _expired_of_0_1(self, names: list[str], limit: str) -> set[str]:
        undated = {name for name in names if _OF_0_1.fullmatch(name)}
        notes = {name for name in names if name.startswith(_UNDATED)}
        if not undated:
            return notes
        if not notes:
            self._backend.put_blob(FOLDER, _UNDATED + today(), b"")
            return set()
        return undated if min(notes).removeprefix(_UNDATED) < limit else set()

    def _needed(self, names: list[str]) -> set[str]:
        found: set[str] = set()
        for name in names:
            if not name.endswith(_NAMED):
                continue
            with suppress(PortError, NotARegularFile, CursorRefused, UnicodeDecodeError):
                cursor = parse(self._get(name).decode("ascii").strip())
                mark = cursor.mark or NO_MARK
                while mark.journal and mark.journal + _JOURNAL not in found:
                    found.add(mark.journal + _JOURNAL)
                    mark, _ = self._read(cursor, mark)
        return found

    # --- blobs

    def _get(self, name: str, size_bytes: int | None = None) -> bytes:
        """Read a blob, or as much of it as is wanted. Raises Missing, Refused, NotARegularFile."""
        parts: list[bytes] = []
        size = 0
        for chunk in self._backend.get_blob(FOLDER, name):
            parts.append(chunk)
            size += len(chunk)
            if size_bytes is not None and size >= size_bytes:
                break
        return b"".join(parts)[:size_bytes]

    def _put(self, name: str, data: bytes) -> None:
        try:
            self._backend.put_blob(FOLDER, name, data)
        except (PortError, NotARegularFile) as error:
            raise PositionNotSaved(self._where(name), _reason(error)) from None

    def _where(self, name: str) -> str:
        return f"{self._backend.where(FOLDER)}, {name}"


def new_journal() -> str:
    """Make up the name of a journal that is begun today."""
    return f"{today()}-{os.urandom(8).hex()}"


def day_of(journal: str) -> str:
    """Return the day a journal was begun on, as YYYYMMDD; empty for one of 0.1.0, which does not say."""
    day, dash, _ = journal.partition("-")
    return day if dash else ""


def today() -> str:
    """Return the day it is in UTC, as YYYYMMDD."""
    return f"{datetime.now(UTC):%Y%m%d}"


def is_too_old(day: str) -> bool:
    """Return whether no journal may be based any more on one that was begun on a day."""
    return day < f"{datetime.now(UTC) - timedelta(days=CHAIN_DAYS):%Y%m%d}"


def header_line(before: Mark) -> bytes:
    """Write the first line of a journal that adds to another; nothing for one that does not."""
    return json.dumps({"after": ":".join(map(str, before))}).encode("ascii") + b"\n" if before.journal else b""


def place_line(session_id: str, place: Head) -> bytes:
    """Write a line of a journal."""
    fields = [session_id, place.version, place.size_bytes, pack_hash(place.hash)]
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"


def check_of(data: bytes) -> str:
    """Return what a mark keeps of the hash of a journal's bytes."""
    return sha256(data).hexdigest()[:8]


def _parse_lines(lines: bytes) -> Iterator[tuple[str, Head]]:
    for line in _split(lines):
        session_id, version, size, packed = json.loads(line)
        yield session_id, Head(version, "", unpack_hash(packed) if version else "", size)


def _split(lines: bytes) -> Iterable[bytes]:
    return lines.split(b"\n")[:-1]


def _blob_of(name: str) -> str:
    try:
        return check_session_id(name) + _NAMED
    except InvalidSessionId as error:
        raise CursorRefused(name, f"is invalid: {error.reason}", "name of a position") from None


def _reason(error: Exception) -> str:
    if isinstance(error, Refused):
        return os.strerror(error.errno) if error.errno else error.cause
    return str(error)
