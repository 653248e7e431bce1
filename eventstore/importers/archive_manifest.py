"""The manifest of an archive, format `eventstore-archive/1`, and the file names that an archive may contain.

manifest.json                           written last
sessions/<id>/events.jsonl              the log's own lines, without inherited ones
sessions/<id>/checkpoints/<...>.note    signed notes, unchanged
sessions/<id>/quarantine/<...>          bytes that repairs removed
sessions/<id>/values/<sha256>           inputs and results of calls that are too large for a line
history/<folder>/<...>                  the folders of tool calls
"""

import re
import unicodedata
from collections.abc import Iterable

import msgspec

from eventstore.ids import is_attachment

FORMAT = "eventstore-archive/1"
MANIFEST = "manifest.json"
LOG = "events.jsonl"

_ODD = re.compile(r"[\x00-\x1f\x7f\\]")
_DRIVE = re.compile(r"[A-Za-z]:")
_MOST_CHARACTERS, _MOST_BYTES = 4000, 255  # below PATH_MAX (4,096) and at NAME_MAX of Linux


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of an archive: SHA-256 (hex) and size after unpacking."""

    sha256: str
    size_bytes: int


class ForkedFrom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fork point of a session: event `seq` of the parent, and the hash of the chain there (hex)."""

    session_id: str
    seq: int
    hash: str


class SessionEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A session or template of an archive.

    `root` is the id that the hash chain begins with. `events` is the version; the first `inherited` events are in the log of the
    parent only. `ended_events` is the number of events of an earlier session of this id that was deleted in the exporting store.
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
        """The folder of its files in the archive."""
        return f"sessions/{self.session_id}"

    @property
    def log(self) -> str:
        """The path of its log in the archive."""
        return f"{self.folder}/{LOG}"


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of an archive: its sessions, the folders of tool calls, and every file except the manifest."""

    format: str
    made_at: str
    eventstore: str
    sessions: list[SessionEntry]
    history: list[str]
    files: dict[str, FileEntry]


def odd_name(path: str) -> str | None:
    """Return why a path is not safe on every system, or None if it is."""
    if not path or len(path) > _MOST_CHARACTERS:
        return "is empty or too long"
    if _ODD.search(path):
        return "contains a backslash, a NUL or another control character"
    if path.startswith("/"):
        return "is absolute"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "has an empty part, or a part . or .."
        if _DRIVE.match(part):
            return "begins with a drive letter"
        try:
            if len(part.encode()) > _MOST_BYTES:
                return "has a part that is too long"
        except UnicodeEncodeError:
            return "is not Unicode text"
    return None


def find_twins(paths: Iterable[str]) -> tuple[str, str] | None:
    """Return two paths that are the same file on some systems, or None.

    Case and Unicode normal form are ignored. A path that is both a file and a folder counts too.
    """
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
    """Return the owner of a file: `sessions` and the id, or `history` and the rest of the path; None if it has no owner."""
    first, _, rest = path.partition("/")
    if first == "history" and "/" in rest:
        return first, rest
    session_id, _, name = rest.partition("/")
    if first == "sessions" and (name == LOG or is_attachment(name)):
        return first, session_id
    return None


def _fold(path: str) -> str:
    return path if path.isascii() and path.islower() else unicodedata.normalize("NFC", path.casefold())
