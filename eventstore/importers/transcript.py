"""Import a transcript: the part that is the same for every format with one JSON object per line.

The file is split into pieces: its lines, each with its LF; a very long line is several pieces. Each piece is the origin of one
or more events, so that all pieces joined are the file, byte for byte. A second import compares the stored pieces with the file
and imports the rest.
"""

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from eventstore.errors import ImportRefused, InvalidSessionId
from eventstore.ids import check_session_id
from eventstore.importers.copies import Copies
from eventstore.importers.earlier import must_import_anew
from eventstore.importers.identity import ClaudeIdentity, CodexIdentity, EventKeys, Identity
from eventstore.importers.lines import PIECE_BYTES as PIECE_BYTES
from eventstore.importers.lines import open_transcript
from eventstore.importers.meaning import Translator, decode, time_of
from eventstore.importers.session_import import Rewritten, SessionImport
from eventstore.importers.tool_records import ToolRecords
from eventstore.store.storage import SessionStorage

HEAD_BYTES = 1024 * 1024
"""The part of a file that is searched for the session id, the first time and the agent that wrote it."""

_LOOKED_AT = 100  # lines without an object with a type after which a file is not a transcript
_TIMESTAMP = re.compile(rb'"timestamp"\s*:\s*"([^"\\]{10,40})"')


@dataclass(frozen=True)
class Imported:
    """The result for one file: its number of `lines`, the number of `events` added now, and notes on `odd` lines."""

    path: str
    session_id: str
    lines: int
    events: int
    odd: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**vars(self), "odd": list(self.odd)}


def no_metadata(path: Path) -> Mapping[str, Any]:
    """Return metadata from files next to a transcript: none."""
    return {}


def no_journal(path: Path) -> bool:
    """Return True: every file is a transcript."""
    return False


def nothing_beside(translator: Translator, path: Path) -> None:
    """Give the translator no other file to read."""


_OURS = frozenset([".sessions", ".history"])
"""Folders of stores: their logs are no transcripts."""


@dataclass(frozen=True)
class Format:
    """One foreign format: where its files are, the session id of a file, and its translator.

    `homes` returns the folders of the agent; without it there is `home` alone. `patterns` are the names of files there, by
    default `pattern`. `skipped` says which of them are no transcripts. `beside` returns metadata of a session from files beside
    its own, `attach` gives the translator what it may read there.
    """

    name: str
    home: Path
    pattern: str
    session_id_of: Callable[[Path, bytes], str]
    translator: Callable[[str], Translator]
    identity: Callable[[str], Identity]
    homes: Callable[[], list[Path]] | None = None
    patterns: tuple[str, ...] = ()
    skipped: Callable[[Path], bool] = no_journal
    beside: Callable[[Path], Mapping[str, Any]] = no_metadata
    attach: Callable[[Translator, Path], None] = nothing_beside

    def files(self, path: Path) -> list[Path]:
        """Return the transcripts below a folder, sorted by path; for a file, the file itself."""
        if not path.is_dir():
            return [path]
        patterns = self.patterns or (self.pattern,)
        return sorted(one for one in _below(path) if any(map(one.match, patterns)) and not self.skipped(one))

    def places(self) -> list[Path]:
        """Return the folders in which the agent keeps its files, whether they are there or not."""
        return self.homes() if self.homes else [self.home.expanduser()]

    def folders(self) -> list[Path]:
        """Return the folders of the agent that are there."""
        return [one for one in self.places() if one.is_dir()]


def _below(folder: Path) -> Iterator[Path]:
    """Stream the files below a folder, without those of stores. A folder that may not be read gives a warning."""

    def refused(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            warnings.warn(f"{error.filename} was not looked at: {error.strerror}", RuntimeWarning, stacklevel=3)

    for place, folders, names in os.walk(folder, onerror=refused):
        folders[:] = [one for one in folders if one not in _OURS]
        for name in names:
            yield Path(place, name)


def import_transcript(
    storage: SessionStorage,
    form: Format,
    path: Path,
    advance: Callable[[int], None] = lambda size_bytes: None,
    *,
    looked: bool = False,
    records: bool = False,
    again: bool = False,
    replaces: bool = False,
    session_id: str | None = None,
    opened: BinaryIO | None = None,
) -> Imported:
    """Import one file, or only its new lines. `advance` is called with the size of each new piece in bytes.

    `looked` says that `look` was called since others last wrote: for who imports many files. With `records` each tool call gets
    a folder in the history folder. A session that was deleted or is in the trash is not imported, and neither is a line of which
    a copy was redacted in this store, but `again` does it; `replaces` says that the session in the trash is the one to replace.
    `session_id` is an id to use instead of the one that the file has; `opened` are lines to import instead of
    those of the file. A file that was rewritten, by a program that moved its project for example, is imported under an id of its
    own, as a fork of the session that has the same lines.

    Raises ImportRefused if the file cannot be read, has no valid session id, or differs from the file that its session was
    imported from. Then nothing was imported.
    """
    data = None if opened is None else opened.read()
    source = partial(open_transcript, path) if data is None else partial(BytesIO, data)
    with source() as file:
        head = file.read(HEAD_BYTES)
    name = _name(form, path, head, session_id)
    if not head:
        return Imported(str(path), name, 0, 0, ("is empty: nothing to import",))
    if data is None and not storage.session_exists(name):
        _refuse_other(path, head)
    if not looked:
        look(storage)
    if not (again or replaces) and storage.was_used(name) and not storage.session_exists(name):
        return Imported(str(path), name, 0, 0, ("was deleted or is in the trash: --again imports it",))
    redacted = frozenset[str]() if again else storage.registry.look(lambda state: frozenset(state.redacted_lines))
    steps = _Steps(storage, form, path, head, advance, records, source, redacted)
    if storage.session_exists(name) and must_import_anew(storage, name, form.name, head):
        storage.trash_session(name, "imported anew: version 0.1 counted the history that its file copies")
        look(storage)
    try:
        return steps.run(name)
    except Rewritten as error:
        if session_id is not None or not error.is_same:
            raise
        moved = f"{name}.moved-{sha256(str(path.resolve().parent).encode('utf-8', 'replace')).hexdigest()[:8]}"
        if not again and storage.was_used(moved) and not storage.session_exists(moved):
            return Imported(str(path), moved, 0, 0, ("was deleted or is in the trash: --again imports it",))
        done = steps.run(moved)
        note = f"differs from what was imported as session {name}: it is a separate session, which continues that one"
        return replace(done, odd=(note, *done.odd))


@dataclass(frozen=True)
class _Steps:
    storage: SessionStorage
    form: Format
    path: Path
    head: bytes
    advance: Callable[[int], None]
    records: bool
    source: Callable[[], BinaryIO]
    redacted: frozenset[str]

    def run(self, session_id: str) -> Imported:
        """Import the file as a session with this id."""
        storage, form, path = self.storage, self.form, self.path
        translator = form.translator(session_id)
        form.attach(translator, path)
        done = SessionImport(
            storage,
            translator,
            Copies(storage.log, storage.line_keys, session_id, form.identity),
            path,
            session_id,
            self.advance,
            _first_time(self.head),
            ToolRecords(storage.history if self.records else None, session_id),
            self.source,
            form.beside(path),
            redacted=self.redacted,
        )
        with self.source() as file:
            done.run(file)
        for one in (session_id, *done.children.known):  # an import that was killed may have left them outdated
            storage.renew_views(one, imported=True)
        return Imported(str(path), session_id, done.lines.number, done.added, tuple(done.odd))


def look(storage: SessionStorage) -> None:
    """Learn which imported lines the store has, where other programs wrote since."""
    storage.line_keys.catch_up(lambda: EventKeys({"claude-code": ClaudeIdentity, "codex": CodexIdentity}))


def _refuse_other(path: Path, head: bytes) -> None:
    """Refuse a file that is not a transcript: none of its first lines is an object with a type."""
    texts = head.split(b"\n", _LOOKED_AT)[:_LOOKED_AT]
    is_long = len(head) >= PIECE_BYTES // 2 and b"\n" not in head
    if is_long or any(isinstance((decode(text) or {}).get("type"), str) for text in texts):
        return
    count = min(head.count(b"\n") + (not head.endswith(b"\n")), _LOOKED_AT)
    what = f"none of its first {count} lines is" if count > 1 else "its only line is not"
    raise ImportRefused(str(path), 0, f"it is not a transcript: {what} a JSON object with a type; nothing was imported")


def _first_time(head: bytes) -> str | None:
    found = _TIMESTAMP.search(head)
    return time_of(found[1].decode("utf-8", "replace")) if found else None


def _name(form: Format, path: Path, head: bytes, session_id: str | None) -> str:
    try:
        return check_session_id(form.session_id_of(path, head) if session_id is None else session_id)
    except InvalidSessionId as error:
        raise ImportRefused(str(path), 0, f"{error}; rename the file to import it") from None
