"""Cursors: where a follower stands, as a short text that survives it.

In one session that is the number of an event, its hash, and the byte behind it. In all sessions it is a line of a journal, a
file below `_cursors` to which a follower appends where it stands once somebody asked for a cursor; it is checked by its hash.
In front of the first event that a follower gives it is a line with no event after it, or event 0.
"""

import json
import os
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from eventstore.backends.files.durability import sync_data
from eventstore.backends.posix import fcntl
from eventstore.derived.database import make_private
from eventstore.errors import CursorRefused, InvalidSessionId
from eventstore.ids import check_session_id
from eventstore.log.base import BEGINNING, Head

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

FOLDER = "_cursors"
_KEPT_SECONDS = 90 * 24 * 3600
_ENOUGH_BYTES = 4 << 20
_MOST_WAITING = 1000
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_ONE = re.compile(r"1:([^:]+):([0-9]{1,15}):([0-9]{1,18}):([A-Za-z0-9_-]{43})", re.ASCII)
_ALL = re.compile(r"2:([0-9a-f]{24}):([0-9]{1,18}):([0-9a-f]{8}):(.*)", re.ASCII)
_NO_HASH = "0" * 64

Places = dict[str, Head]


class Cursor(NamedTuple):
    """What a cursor says: the place in the session it was given at and, of a follower of all, the line of its journal before.

    Of a follower of all that has given nothing yet there is no session, only the journal's line.
    """

    session_id: str
    place: Head
    journal: str = ""
    offset: int = 0
    check: str = ""

    def __str__(self) -> str:
        version, _, digest, size = self.place
        one = f"1:{self.session_id}:{version}:{size}:{_pack(digest or _NO_HASH)}" if self.session_id else ""
        return f"2:{self.journal}:{self.offset}:{self.check}:{one}" if self.journal else one


def parse(text: str) -> Cursor:
    """Read a cursor. Raises CursorRefused."""
    found = _ALL.fullmatch(text)
    if found is not None and not found[4]:
        return Cursor("", BEGINNING, found[1], int(found[2]), found[3])
    one = _ONE.fullmatch(found[4] if found else text)
    if one is None:
        raise CursorRefused(text, "is none")
    try:
        session_id = check_session_id(one[1])
    except InvalidSessionId:
        raise CursorRefused(text, "names no session") from None
    place = Head(int(one[2]), "", _unpack(one[4]), int(one[3])) if int(one[2]) else BEGINNING
    return Cursor(session_id, place, found[1], int(found[2]), found[3]) if found else Cursor(session_id, place)


def _pack(digest: str) -> str:
    return urlsafe_b64encode(bytes.fromhex(digest)).decode("ascii").rstrip("=")


def _unpack(text: str) -> str:
    return urlsafe_b64decode(text + "=").hex()


class Cursors:
    """The cursors that a store keeps, below its sessions folder; without one they live as long as the object."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._named: dict[str, str] = {}
        self._journals: dict[str, bytearray] = {}

    def load(self, name: str) -> str | None:
        """Return the cursor that was saved under a name; None where there is none. Raises CursorRefused."""
        path = self._path(name)
        if path is None:
            return self._named.get(name)
        try:
            text = path.read_text("ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise CursorRefused(name, f"cannot be read from {path} ({error})") from None
        if not text:
            raise CursorRefused(name, f"is empty in {path}")
        return text

    def save(self, name: str, cursor: str, *, durable: bool = True) -> None:
        """Keep a cursor under a name: whole, or the one before."""
        path = self._path(name)
        if path is None:
            self._named[name] = cursor
            return
        make_private(path.parent)
        is_new = not path.exists()
        temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FLAGS, 0o600), "w") as stream:
            stream.write(cursor + "\n")
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        temporary.replace(path)
        if durable and is_new:
            _flush_folder(path.parent)

    def _path(self, name: str) -> Path | None:
        try:
            check_session_id(name)
        except InvalidSessionId:
            raise CursorRefused(name, "has a name that no session could have") from None
        return None if self._folder is None else self._folder / f"{name}.cursor"

    def places(self, cursor: Cursor) -> Places:
        """Tell where a follower of all sessions stood at a cursor. Raises CursorRefused."""
        data = self._read(cursor)
        if len(data) != cursor.offset or _check(sha256(data)) != cursor.check:
            raise CursorRefused(str(cursor), "is not what its journal says: that was changed or lost")
        found: Places = {}
        for line in data.split(b"\n")[:-1]:
            session_id, version, size, packed = json.loads(line)
            if version:
                found[session_id] = Head(version, "", _unpack(packed), size)
            else:
                found.pop(session_id, None)
        if cursor.session_id:
            found[cursor.session_id] = cursor.place
        return found

    def _read(self, cursor: Cursor) -> bytes:
        if self._folder is None:
            return bytes(self._journals.get(cursor.journal, b"")[: cursor.offset])
        try:
            with (self._folder / f"{cursor.journal}.journal").open("rb") as stream:
                return stream.read(cursor.offset)
        except FileNotFoundError:
            raise CursorRefused(str(cursor), "has no journal in this store any more") from None
        except OSError as error:
            raise CursorRefused(str(cursor), f"has a journal that cannot be read ({error.strerror})") from None

    def journal(self, places: Places, after: Cursor | None = None) -> "Journal":
        """Begin a journal with where a follower stands, or go on with that of its last cursor."""
        if self._folder is None:
            return Journal(None, self._journals, places)
        make_private(self._folder)
        self._clean(self._folder)
        return Journal(self._folder, self._journals, places, after)

    @staticmethod
    def _clean(folder: Path) -> None:
        """Remove journals that nobody has written to for three months."""
        before = time.time() - _KEPT_SECONDS
        for path in folder.glob("*.journal"):
            with suppress(OSError):
                if path.stat().st_mtime < before:
                    path.unlink()


class Journal:
    """Where one follower of all sessions stood, line by line; only what a cursor was asked for is written."""

    def __init__(
        self, folder: Path | None, memory: dict[str, bytearray], places: Places, after: Cursor | None = None
    ) -> None:
        self._memory, self._file, self._waiting = memory, -1, list[bytes]()
        self._written, self._hash = 0, sha256()
        if folder is None or after is None or not self._go_on(folder, after, places):
            self.name, self.end, self.check = os.urandom(12).hex(), 0, _check(self._hash)
            if folder is not None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | _FLAGS
                self._file = os.open(folder / f"{self.name}.journal", flags, 0o600)
                fcntl.flock(self._file, fcntl.LOCK_EX)
            for session_id, place in places.items():
                self.add(session_id, place)
        self.enough = max(_ENOUGH_BYTES, 4 * self.end)

    def _go_on(self, folder: Path, after: Cursor, places: Places) -> bool:
        """Go on with the file of a cursor, where nobody else does and it has not grown large.

        What stands in it behind the cursor is taken back: other cursors may need it.
        """
        try:
            file = os.open(folder / f"{after.journal}.journal", os.O_RDWR | os.O_APPEND | _FLAGS)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = os.pread(file, _ENOUGH_BYTES + 1, 0)
        except OSError:
            data = b"somebody else's"
        whole = not data or data.endswith(b"\n")
        if not whole or len(data) > _ENOUGH_BYTES or _check(sha256(data[: after.offset])) != after.check:
            os.close(file)
            return False
        self._file, self.name, self.end, self._written = file, after.journal, len(data), len(data)
        self._hash.update(data)
        self.check = _check(self._hash)
        behind = {json.loads(line)[0] for line in data[after.offset : -1].split(b"\n") if line}
        for session_id in sorted({*behind, after.session_id} - {""}):
            self._put(session_id, places.get(session_id, BEGINNING))
        return True

    def add(self, session_id: str, place: Head) -> None:
        """Tell that a session was read to a place."""
        if place.version:
            self._put(session_id, place)

    def _put(self, session_id: str, place: Head) -> None:
        line = _line(session_id, place)
        self._waiting.append(line)
        self.end += len(line)
        self._hash.update(line)
        self.check = _check(self._hash)
        if len(self._waiting) >= _MOST_WAITING:
            self.write()

    def write(self, *, durable: bool = False) -> None:
        """Write what is still to be written: every cursor given so far can be gone on from."""
        data = b"".join(self._waiting)
        if self._file < 0:
            self._memory.setdefault(self.name, bytearray()).extend(data)
        elif data:
            self._append(data)
        self._waiting.clear()
        if durable and self._file >= 0:
            sync_data(self._file)

    def _append(self, data: bytes) -> None:
        """Append all bytes to the file, or none."""
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        except BaseException:
            os.ftruncate(self._file, self._written)
            raise
        self._written += written

    def close(self) -> None:
        """Write what is still to be written, and let go of the file."""
        if self._file >= 0:
            self.write()
            os.close(self._file)
            self._file = -1


def _line(session_id: str, place: Head) -> bytes:
    fields: list[Any] = [session_id, place.version, place.size_bytes, _pack(place.hash)]
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"


def _check(digest: "Hash") -> str:
    return digest.hexdigest()[:8]


def _flush_folder(folder: Path) -> None:
    """Make names in a folder survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
