"""Find the transcripts to import: in the folders of every known agent, or in files and folders that are named."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eventstore.errors import ImportRefused
from eventstore.importers.detect import detect
from eventstore.importers.formats import FORMATS
from eventstore.importers.identity import relatives
from eventstore.importers.lines import open_transcript
from eventstore.importers.meaning import decode
from eventstore.importers.transcript import Format

_HEAD_BYTES = 256 * 1024


@dataclass
class Sources:
    """The transcripts that were found, in the order of import, and the `homes` of agents that are there, with their numbers."""

    files: list[tuple[Format, Path]] = field(default_factory=list)
    homes: list[tuple[Format, Path, int]] = field(default_factory=list)


def find_sources(form: str | None = None, paths: Sequence[Path] = (), *, waiting: bool = False) -> Sources:
    """Find transcripts of one format, or of all: below the paths, or in the folders of the agents.

    A file that a path names is in the list in any case; without a format, its content decides. Raises
    ImportRefused for a path that is not there, and for a file of no known format; who is `waiting` for them gets the others.
    """
    found = Sources()
    wanted = [FORMATS[form]] if form is not None else list(FORMATS.values())
    for path in paths:
        try:
            found.files += _at(path, form, wanted)
        except ImportRefused:
            if not waiting:
                raise
    for one in () if paths else wanted:
        for home in one.folders():
            files = one.files(home)
            found.homes.append((one, home, len(files)))
            found.files += [(one, file) for file in files]
    found.files = _in_order(found.files)
    return found


def places(form: str | None = None, paths: Sequence[Path] = ()) -> list[Path]:
    """Return the folders in which `find_sources` looks, whether they are there or not."""
    if paths:
        return sorted({path if path.is_dir() else path.parent for path in paths})
    wanted = FORMATS.values() if form is None else [FORMATS[form]]
    return sorted({place for one in wanted for place in one.places()})


def _at(path: Path, form: str | None, wanted: Sequence[Format]) -> list[tuple[Format, Path]]:
    if not path.exists():
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise ImportRefused(str(path), 0, f"there is no such file or folder{where}; nothing was imported")
    if path.is_dir():
        return _below(path, wanted) if form is None else [(wanted[0], file) for file in wanted[0].files(path)]
    return [(wanted[0] if form is not None else _recognised(path), path)]


def _below(folder: Path, forms: Iterable[Format]) -> list[tuple[Format, Path]]:
    """Return the transcripts below a folder, each with the format of its content; of no known one, with that of its name."""
    found: dict[Path, Format] = {}
    for form in forms:
        for path in form.files(folder):
            if not any(one.skipped(path) for one in FORMATS.values()):
                found.setdefault(path, form)
    return [(_known(path) or form, path) for path, form in sorted(found.items())]


def _known(path: Path) -> Format | None:
    try:
        return FORMATS.get(detect(_head(path)) or "")
    except ImportRefused:
        return None


def _recognised(path: Path) -> Format:
    known = detect(_head(path))
    if known is None:
        names = ", ".join(FORMATS)
        raise ImportRefused(str(path), 0, f"its content is of no format that is known ({names}); nothing was imported")
    return FORMATS[known]


def _head(path: Path) -> bytes:
    with open_transcript(path) as file:
        return file.read(_HEAD_BYTES)


def _in_order(files: Iterable[tuple[Format, Path]]) -> list[tuple[Format, Path]]:
    """Order files after the files that they continue: then a fork is imported after its parent."""
    known = list(dict.fromkeys(files))
    parents = {path: _parents(path) for _, path in known}
    ids = {path.name.removesuffix(".zst").removesuffix(".jsonl")[-36:]: path for _, path in known}
    depths: dict[Path, int] = {}

    def depth(path: Path, seen: frozenset[Path]) -> int:
        if path not in depths:
            above = [ids[one] for one in parents[path] if one in ids and ids[one] not in seen]
            depths[path] = max((depth(one, seen | {one}) + 1 for one in above), default=0)
        return depths[path]

    return sorted(known, key=lambda one: depth(one[1], frozenset([one[1]])))


def _parents(path: Path) -> list[str]:
    """Return the ids of the sessions that a file continues, according to its first line."""
    try:
        line = decode(_head(path).split(b"\n", 1)[0])
    except ImportRefused:
        return []
    if line is None:
        return []
    payload: Any = line.get("payload")
    if line.get("type") == "session_meta" and isinstance(payload, dict):
        return [one for one in relatives(payload) if one != payload.get("id")]
    source = line.get("forkedFrom")
    name = source.get("sessionId") if isinstance(source, dict) else None
    return [name] if isinstance(name, str) else []
