"""Import any file: of lines, of one object that is rewritten, or a database with many sessions.

What is rewritten becomes a transcript that only grows: the lines that were kept of it, and new ones for what is new or changed.
From there on it is imported as every other transcript is.
"""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

from eventstore.errors import ImportRefused, SessionNotFound
from eventstore.importers import detect, gemini, opencode
from eventstore.importers.lines import open_transcript
from eventstore.importers.meaning import decode
from eventstore.importers.pieces import import_start, piece_of, redacted_pieces
from eventstore.importers.transcript import HEAD_BYTES, Format, Imported, import_transcript
from eventstore.store.replaced_lines import target_of
from eventstore.store.storage import SessionStorage

_MOST_BYTES = 1 << 30
"""The largest file of one object: it is held in memory."""


def import_file(
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
) -> list[Imported]:
    """Import a file, each of its sessions as one. The arguments are those of `import_transcript`.

    Raises ImportRefused as that does, and for a file of another agent, which it names.
    """
    with open_transcript(path) as file:
        head = file.read(HEAD_BYTES)
    check_agent(form, path, head)
    if opencode.is_database(head):
        return [
            _import_lines(storage, form, path, name, lines, advance, looked=looked, again=again)
            for name, lines in opencode.sessions(path)
        ]
    if form.name == gemini.FORMAT and _is_whole(head):
        return [_import_snapshot(storage, form, path, advance, looked=looked, again=again)]
    return [
        import_transcript(
            storage,
            form,
            path,
            advance,
            looked=looked,
            records=records,
            again=again,
            replaces=replaces,
            session_id=session_id,
        )
    ]


def check_agent(form: Format, path: Path, head: bytes) -> None:
    """Raise ImportRefused for a file of another agent than the format's."""
    if not head or detect.has_lines(head, form.name):
        return
    found = detect.detect(head)
    if found == form.name:
        return
    if found is not None:
        looks = f"it looks like {detect.agent_of(found)}: import it as {found}"
    elif (other := detect.other_agent(head)) is not None:
        looks = f"it looks like {other}, which cannot be imported"
    elif detect.is_transcript(head):
        looks = "it is of an agent that is not known"
    else:
        return  # not a transcript: `import_transcript` reports why
    raise ImportRefused(
        str(path), 0, f"no line of it is of {detect.agent_of(form.name)}; {looks}; nothing was imported"
    )


def _is_whole(head: bytes) -> bool:
    first = head.split(b"\n", 1)[0]
    return decode(first) is None or b'"messages"' in first[:4_000]


def _import_snapshot(
    storage: SessionStorage, form: Format, path: Path, advance: Callable[[int], None], *, looked: bool, again: bool
) -> Imported:
    with open_transcript(path) as file:
        data = file.read(_MOST_BYTES)
    whole = decode(data)
    session_id = whole.get("sessionId") if whole is not None else None
    if whole is None or not isinstance(session_id, str):
        raise ImportRefused(str(path), 0, "it is no complete chat of Gemini CLI; nothing was imported")
    kept, redacted = _kept(storage, session_id, form.name)
    try:
        new = gemini.snapshot(data, kept, redacted)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ImportRefused(
            str(path), 0, f"it is no complete chat of Gemini CLI ({type(error).__name__}); nothing was imported"
        ) from None
    lines_now = BytesIO(b"".join([*kept, *new]))
    return import_transcript(
        storage, form, path, advance, looked=looked, again=again, opened=lines_now, session_id=session_id
    )


def _import_lines(
    storage: SessionStorage,
    form: Format,
    path: Path,
    session_id: str,
    lines: list[bytes],
    advance: Callable[[int], None],
    *,
    looked: bool,
    again: bool,
) -> Imported:
    kept, redacted = _kept(storage, session_id, form.name)
    new = list(_new(kept, lines, redacted))
    lines_now = BytesIO(b"".join([*kept, *new]))
    return import_transcript(
        storage, form, path, advance, looked=looked, again=again, opened=lines_now, session_id=session_id
    )


def _new(kept: list[bytes], lines: list[bytes], redacted: int) -> Iterator[bytes]:
    """Stream the lines that are new or changed. Of unknown rows the first are those that were redacted."""
    known = {_row_of(line): line for line in kept}
    for line in lines:
        name = _row_of(line)
        if name not in known and redacted:
            redacted -= 1
        elif known.get(name) != line:
            yield line


def _row_of(line: bytes) -> tuple[object, object]:
    found = decode(line) or {}
    return found.get("type"), found.get("id")


def _kept(storage: SessionStorage, session_id: str, form: str) -> tuple[list[bytes], int]:
    """Return the lines that were imported before, and how many of them were redacted: those are spaces here."""
    try:
        start = import_start(storage, session_id)
        redacted = redacted_pieces(storage, session_id, start)
        parts = list[bytes]()
        for event in storage.log.read(session_id, start):
            if event.seq in redacted:
                parts.append(b" " * (redacted[event.seq] - 1) + b"\n")
            elif event.origin is not None and event.origin.format == form and target_of(event) is None:
                parts.append(piece_of(event.origin))
    except SessionNotFound:
        return [], 0
    return b"".join(parts).splitlines(keepends=True), len(redacted)
