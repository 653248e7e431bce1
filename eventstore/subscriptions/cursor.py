"""The text of a cursor: a position in one session, or in all of them.

The position in a session is an event's number and hash; the byte after it is only where a reader looks first. The position in
all sessions is a place in a journal (see `positions`) and the sessions that were read further since.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple, TypeAlias

from eventstore.errors import CursorRefused, InvalidSessionId
from eventstore.ids import check_session_id
from eventstore.log.base import BEGINNING, Head

_PLACE = r"([^:,]+):([0-9]{1,15}):([0-9]{1,18}):([A-Za-z0-9_-]{43})"
_ONE = re.compile(f"1:{_PLACE}", re.ASCII)
_ALL_0_1 = re.compile(r"2:([0-9a-f]{24}):([0-9]{1,18}):([0-9a-f]{8}):(?:1:(.+))?", re.ASCII)
_ALL = re.compile(r"3:([0-9]{8}-[0-9a-f]{16}|):([0-9]{1,18}):([0-9a-f]{8}|):(.*)", re.ASCII)
_PLACE_ALONE = re.compile(_PLACE, re.ASCII)
_NO_HASH = "0" * 64

Places: TypeAlias = dict[str, Head]
"""How far each session was read. Version 0: the session is not there any more."""


class Mark(NamedTuple):
    """A place in a journal: after its first `size_bytes` bytes; `check` is the start of their SHA-256."""

    journal: str = ""
    size_bytes: int = 0
    check: str = ""


NO_MARK = Mark()
"""The place where nothing was read of any session; it needs no journal."""


class Cursor(NamedTuple):
    """A position: `moves` are the positions of single sessions. `mark` is None for a cursor of one session.

    In a cursor of all sessions it has the positions of the other sessions, and the last of the moves is the session of
    the event that the cursor was given with.
    """

    mark: Mark | None
    moves: Places

    def __str__(self) -> str:
        places = ",".join(_place_text(session_id, place) for session_id, place in self.moves.items())
        if self.mark is None:
            return f"1:{places}"
        return f"3:{self.mark.journal}:{self.mark.size_bytes}:{self.mark.check}:{places}"


def parse(text: str) -> Cursor:
    """Read the text of a cursor, of 0.1.0 too. Raises CursorRefused."""
    if one := _ONE.fullmatch(text):
        return Cursor(None, dict([_place(text, one[0][2:])]))
    found = _ALL.fullmatch(text) or _ALL_0_1.fullmatch(text)
    if found is None:
        raise CursorRefused(text, "is no cursor")
    mark = Mark(found[1], int(found[2]), found[3])
    if bool(mark.journal) != bool(mark.check) or (not mark.journal and mark.size_bytes):
        raise CursorRefused(text, "is no cursor")
    places = found[4].split(",") if found[4] else []
    return Cursor(mark, dict(_place(text, one) for one in places))


def pack_hash(digest: str) -> str:
    """Write a hash (64 hex digits, or none) as 43 characters of base64url."""
    return urlsafe_b64encode(bytes.fromhex(digest or _NO_HASH)).decode("ascii").rstrip("=")


def unpack_hash(text: str) -> str:
    """Read what `pack_hash` wrote."""
    return urlsafe_b64decode(text + "=").hex()


def _place_text(session_id: str, place: Head) -> str:
    return f"{session_id}:{place.version}:{place.size_bytes}:{pack_hash(place.hash)}"


def _place(cursor: str, text: str) -> tuple[str, Head]:
    found = _PLACE_ALONE.fullmatch(text)
    if found is None:
        raise CursorRefused(cursor, "is no cursor")
    try:
        session_id = check_session_id(found[1])
    except InvalidSessionId:
        raise CursorRefused(cursor, "names no session") from None
    version = int(found[2])
    return session_id, Head(version, "", unpack_hash(found[4]), int(found[3])) if version else BEGINNING
