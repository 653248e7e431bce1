"""What an archive of sessions says of itself, `eventstore-archive/1`, and which names its files may have.

manifest.json                           the last file
sessions/<id>/events.jsonl              the lines of a log that are its own
sessions/<id>/checkpoints/<...>.note    signed notes, as they are
sessions/<id>/quarantine/<...>          what repairs have kept
history/<folder>/<...>                  the folders of tool calls
"""

import re
import unicodedata
from collections.abc import Iterable

import msgspec

from eventstore.ids import is_beside

FORMAT = "eventstore-archive/1"
MANIFEST = "manifest.json"
LOG = "events.jsonl"

_ODD = re.compile(r"[\x00-\x1f\x7f\\]")
_DRIVE = re.compile(r"[A-Za-z]:")
_MOST_CHARACTERS, _MOST_BYTES = 4000, 255


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of an archive, as it is when it is taken out."""

    sha256: str
    size_bytes: int


class ForkedFrom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a session goes on from: event `seq` of another, with the hash (hex) that the chain has there."""

    session_id: str
    seq: int
    hash: str


class SessionEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A session or template of an archive.

    `root` names the log whose chain it is. `events` is its version, of which the first `inherited` are its parent's and not in
    its own log; `ended_events` is how many a session of this id had that was deleted where it came from.
    """

    session_id: str
    root: str
    events: int
    inherited: int
    head_hash: str
    forked_from: ForkedFrom | None = None
    ended_events: int = 0

    @property
    def folder(self) -> str:
        """Where its files are in the archive."""
        return f"sessions/{self.session_id}"

    @property
    def log(self) -> str:
        """Where its log is in the archive."""
        return f"{self.folder}/{LOG}"


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of an archive: its sessions, the folders of tool calls, and every file but this one."""

    format: str
    made_at: str
    eventstore: str
    sessions: list[SessionEntry]
    history: list[str]
    files: dict[str, FileEntry]


def odd_name(path: str) -> str | None:
    """Say why a path is not one of plain names that every system can have; None where it is."""
    if not path or len(path) > _MOST_CHARACTERS:
        return "is empty or too long"
    if _ODD.search(path):
        return "holds a backslash, a NUL or another control character"
    if path.startswith("/"):
        return "is absolute"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "does not stay where it belongs"
        if _DRIVE.match(part):
            return "begins with a drive letter"
        try:
            if len(part.encode()) > _MOST_BYTES:
                return "has a part that is too long"
        except UnicodeEncodeError:
            return "is not Unicode text"
    return None


def find_twins(paths: Iterable[str]) -> tuple[str, str] | None:
    """Find two paths that are one where case or the form of an accent do not count, or of which one is a file and a folder."""
    known: dict[str, str] = {}
    files: set[str] = set()
    for path in paths:
        end = len(path)
        folded = _fold(path)
        if folded in known:
            return known[folded], path
        files.add(folded)
        while end > 0:
            shown = path[:end]
            folded = _fold(shown)
            other = known.setdefault(folded, shown)
            if other != shown or (end < len(path) and folded in files):
                return other, path
            end = shown.rfind("/")
    return None


def place_of(path: str) -> tuple[str, str] | None:
    """Tell what a file of an archive belongs to: `sessions` and the id, or `history` and the rest; None where to nothing."""
    first, _, rest = path.partition("/")
    if first == "history" and "/" in rest:
        return first, rest
    session_id, _, name = rest.partition("/")
    if first == "sessions" and (name == LOG or is_beside(name)):
        return first, session_id
    return None


def _fold(path: str) -> str:
    return path if path.isascii() and path.islower() else unicodedata.normalize("NFC", path.casefold())
