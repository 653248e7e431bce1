"""The tool side: one folder for each tool call, `YYYY-mm-dd_HH-MM-SS_ffffff_<tool>`, with its `record.jsonl`."""

import errno
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import MAXYEAR, UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from eventstore.backends.files.atomic import replace_file, temporary_name
from eventstore.backends.files.atomic_folder import open_stage
from eventstore.backends.files.descriptor import FOLDER, LINKED_FOLDER, READ
from eventstore.ids import file_name
from eventstore.record.clock import to_datetime, to_utc
from projections.calls import Call, Value

RECORD = "record.jsonl"
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Record:
    """The record of a tool call. `timestamp` is ISO text, `duration_ms` in milliseconds."""

    tool: str
    arguments: Any
    result: Any = None
    timestamp: str = ""
    duration_ms: float = 0.0
    success: bool = True
    error: str | None = None
    session_id: str | None = None
    invocation_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in the order of the file; the last three only where they are known."""
        names = ("timestamp", "tool", "arguments", "result", "duration_ms", "success")
        optional = ("error", "session_id", "invocation_id")
        found = {name: getattr(self, name) for name in names}
        return found | {name: value for name in optional if (value := getattr(self, name)) is not None}

    def to_line(self) -> bytes:
        """Return the content of the file. A value that JSON cannot hold is written as its `repr`."""
        text = json.dumps(_faithful(self.to_dict()), ensure_ascii=False, default=repr)
        return text.encode("utf-8", "replace") + b"\n"


def read_record(data: bytes) -> Record:
    """Read a record, also one of several lines. Raises ValueError."""
    try:
        found, _ = json.JSONDecoder().raw_decode(data.decode("utf-8").lstrip())
        return Record(**{name: found[name] for name in Record.__dataclass_fields__ if name in found})
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def record_of(call: Call, session_id: str | None) -> Record:
    """Return the record of a call that ended, as its events give it: the same events give the same record."""
    known = call.known
    return Record(
        tool=call.tool_name or "",
        arguments=_plain(call.input),
        result=_plain(call.result),
        timestamp=to_datetime(call.start).isoformat(timespec="microseconds"),
        duration_ms=known.duration_ms or 0.0,
        success=known.success is not False,
        error=known.error,
        session_id=session_id,
        invocation_id=call.invocation_id,
    )


def _plain(value: Value) -> Any:
    """Return a value as JSON gives it back: lists for tuples, say."""
    found = value.text if value.value is UNSET else value.value
    return msgspec.json.decode(msgspec.json.encode(found))


class ToolHistory:
    """The history folder: the tool calls of all sessions, and those without a session."""

    def __init__(self, history_dir: Path | str) -> None:
        self.path = Path(os.path.abspath(history_dir))

    def create(
        self, tool_name: str, moment: datetime | None = None, *, session_id: str | None = None, invocation_id: str = ""
    ) -> Path:
        """Create the folder of one call and return it. A taken name is changed to the next free microsecond.

        A folder that already holds the record of this call, by both ids, is returned unchanged.
        """
        self.path.mkdir(0o700, parents=True, exist_ok=True)
        when = datetime.now(UTC) if moment is None else to_utc(moment)
        step = timedelta(microseconds=1 if when.year < MAXYEAR else -1)  # there is no later year to count up into
        while True:
            stamp = when.isoformat("_", "microseconds")[:26].replace(":", "-").replace(".", "_")
            folder = self.path / f"{stamp}_{file_name(tool_name)}"
            try:
                folder.mkdir(0o700)
            except FileExistsError:
                if invocation_id and self._holds(folder, session_id, invocation_id):
                    return folder
                when += step
            else:
                return folder

    def _holds(self, folder: Path, session_id: str | None, invocation_id: str) -> bool:
        try:
            record = self.read(folder)
        except (OSError, ValueError):
            return False
        return (record.session_id, record.invocation_id) == (session_id, invocation_id)

    def write(self, folder: Path | str, record: Record, clean: Callable[[Any], Any] | None = None) -> None:
        """Replace the record of a call in one step. A value that JSON cannot hold is written as its `repr`.

        `clean`, where given, is applied to the arguments, the result and the error, which are JSON values.

        Raises ValueError if the folder is not inside the history folder, whatever links are on the way, and OSError.
        """
        line = record.to_line()
        if clean is not None:
            found = json.loads(line)
            text = json.dumps(found | _cleaned_fields(found, clean), ensure_ascii=False)
            line = text.encode("utf-8", "replace") + b"\n"
        with self._inside(folder) as inside:
            replace_file(RECORD, line, folder=inside, durable=False)

    def ensure(self, folder: Path | str) -> None:
        """Create the folder of a call if it is not there. Raises OSError, and ValueError as `write` does."""
        path = Path(os.path.normpath(self.path / folder))
        if path.parent != self.path:
            return  # only folders right below the history folder are made by it
        self.path.mkdir(0o700, parents=True, exist_ok=True)
        path.mkdir(0o700, exist_ok=True)

    def line(self, folder: Path | str) -> bytes | None:
        """Return the bytes of a call's record, None if there is none. Raises OSError, and ValueError as `write` does."""
        try:
            with self._inside(folder) as inside, os.fdopen(os.open(RECORD, READ, dir_fd=inside), "rb") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def redact(self, folder: Path | str, clean: Callable[[Any], Any]) -> bool:
        """Apply `clean` to a call's arguments, result and error; False if nothing changed.

        Raises as `read` and `write` do.
        """
        record = self.read(folder)
        fields = record.to_dict()
        changed = _cleaned_fields(fields, clean)
        if all(value is fields[name] for name, value in changed.items()):
            return False
        self.write(folder, replace(record, **changed))
        return True

    def remove_unfinished(self, folder: Path | str) -> bool:
        """Remove the incomplete record of a killed program; False if there is none. Raises ValueError, OSError."""
        try:
            with self._inside(folder) as inside:
                os.unlink(temporary_name(RECORD), dir_fd=inside)
        except FileNotFoundError:
            return False
        return True

    def others(self, folder: Path | str) -> list[str]:
        """Return the names of the other files in the folder of a call. Raises ValueError, OSError."""
        with self._inside(folder) as inside:
            return sorted(name for name in os.listdir(inside) if name != RECORD)

    def remove(self, folder: Path | str) -> bool:
        """Delete the folder of a call and its content; False if there is none. Raises ValueError, OSError."""
        import shutil  # here, since it imports five compressors

        path = Path(os.path.normpath(self.path / folder))
        if path == self.path:
            raise ValueError(f"{path} is the history folder itself; it was left alone")
        try:
            with self._inside(path.parent) as inside:
                shutil.rmtree(path.name, dir_fd=inside)
        except FileNotFoundError:
            return False
        return True

    def read(self, folder: Path | str) -> Record:
        """Read the record of a call, also one of several lines.

        Raises FileNotFoundError, and ValueError naming the file where the record cannot be read.
        """
        with self._inside(folder) as inside, os.fdopen(os.open(RECORD, READ, dir_fd=inside), "rb") as stream:
            text = stream.read()
        try:
            return read_record(text)
        except ValueError as error:
            file = os.path.join(folder, RECORD)
            raise ValueError(f"{file} holds no record of a tool call ({error}); it was left alone") from None

    def files(self, folder: str) -> Iterator[tuple[str, int | None]]:
        """Stream the names of all files below a folder, in a fixed order, each with the descriptor of a regular file.

        A descriptor is valid until the next name; it is None for links and devices. Raises FileNotFoundError, and
        ValueError for a folder that is not inside the history folder, whatever links are on the way.
        """
        with self._inside(folder) as inside:
            for where, folders, names, descriptor in os.fwalk(".", dir_fd=inside, follow_symlinks=False):
                links = {name for name in folders if not _is_folder(name, descriptor)}
                folders[:] = sorted(set(folders) - links)
                for name in sorted([*names, *links]):
                    path = os.path.normpath(os.path.join(where, name))
                    file = _open_regular(name, descriptor)
                    try:
                        yield path, file
                    finally:
                        if file is not None:
                            os.close(file)

    def holds(self, folder: str, wanted: Mapping[str, str]) -> bool | None:
        """Return whether a folder has exactly these regular files, SHA-256 by name; None if there is no such folder.

        Raises ValueError as `files` does.
        """
        try:
            found = {name: _sha256(file) for name, file in self.files(folder) if file is not None}
        except FileNotFoundError:
            return None
        return found == wanted

    def ingest(self, folder: str, files: Iterable[tuple[str, Iterable[bytes]]]) -> None:
        """Create a folder of imported files in one step.

        `folder` and the names of the files are paths of plain names. Raises FileExistsError, OSError.
        """
        with open_stage(self.path) as stage:
            stage.begin()
            for name, chunks in files:
                with stage.open(name) as write:
                    for chunk in chunks:
                        write(chunk)
            try:
                stage.put(folder)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise FileExistsError(errno.EEXIST, "is there already", str(self.path / folder)) from None
                raise

    def records(self) -> Iterator[tuple[Path, Record]]:
        """Stream all calls in the order of their folders' names; folders without a readable record are skipped."""
        names = sorted(os.listdir(self.path)) if self.path.is_dir() else []
        for name in names:
            folder = self.path / name
            with suppress(OSError, ValueError):
                yield folder, self.read(folder)

    def session_of(self, folder: Path | str) -> str | None:
        """Return the id of the session that a call belongs to, or None."""
        try:
            return self.read(folder).session_id
        except (OSError, ValueError):
            return None

    def relative(self, folder: Path | str) -> str:
        """Return a folder's path as events hold it: relative to the history folder if inside, else absolute."""
        path = os.path.abspath(folder)
        real, root = os.path.realpath(path), os.path.realpath(self.path)
        if real != root and os.path.commonpath([real, root]) == root:
            return os.path.relpath(real, root)
        return path

    @contextmanager
    def _inside(self, folder: Path | str) -> Iterator[int]:
        """Yield the descriptor of a folder below the history folder, opened without following any link. Raises ValueError."""
        path = os.path.join(self.path, folder)
        relative = os.path.relpath(os.path.normpath(path), self.path)
        if relative.startswith(".."):
            relative = os.path.relpath(os.path.realpath(path), os.path.realpath(self.path))
        parts = Path(relative).parts
        inside = os.open(self.path, LINKED_FOLDER)
        try:
            for part in parts:
                if part == "..":
                    raise ValueError(f"{path} is not inside the history folder {self.path}; it was left alone")
                inside = _step(inside, part, path)
            yield inside
        finally:
            os.close(inside)


def cleaned_record(data: bytes, clean: Callable[[Any], Any]) -> bytes:
    """Return a record with `clean` applied to its arguments, result and error.

    Returns no bytes for what is no record of a tool call.
    """
    try:
        found = json.JSONDecoder().raw_decode(data.decode("utf-8").lstrip())[0]
        line = json.dumps(found | _cleaned_fields(found, clean), ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        return b""
    return line.encode("utf-8", "replace") + b"\n"


def _cleaned_fields(found: dict[str, Any], clean: Callable[[Any], Any]) -> dict[str, Any]:
    names = ("arguments", "result", "error")
    return {name: clean(found[name]) for name in names if name in found}


def _step(inside: int, part: str, path: str) -> int:
    """Open a folder in the folder `inside`, and close that one."""
    try:
        found = os.open(part, FOLDER, dir_fd=inside)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise ValueError(
                f"{path} is not inside the history folder: {part} is a link or a file; it was left alone"
            ) from None
        raise
    os.close(inside)
    return found


def _is_folder(name: str, inside: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=inside, follow_symlinks=False).st_mode)


def _open_regular(name: str, inside: int) -> int | None:
    """Open a regular file for reading; None for anything else. Follows no link and waits for no pipe."""
    try:
        file = os.open(name, READ, dir_fd=inside)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENOENT):
            return None
        raise
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    return None


def _sha256(file: int) -> str:
    found = sha256()
    while data := os.read(file, _BLOCK):
        found.update(data)
    return found.hexdigest()


def _faithful(value: Any) -> Any:
    """Replace NaN, infinities and keys that are no text by their `repr`: JSON has none of them."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else repr(key): _faithful(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_faithful(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return repr(value)
    return value
