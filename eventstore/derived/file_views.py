"""The seed's files beside a log: projections written out for people and programs that read files.

`metadata.json`, `conversation.jsonl`, `invocations.json`, `data.json` (where there is data) and the links `invocations/<id>`.
`views.json` tells for which log they stand: its version, size in bytes and hash. Delete any of them: they come back the same.
"""

import json
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from eventstore.backends.fork_safety import hold_while_forking
from eventstore.backends.posix import fcntl
from eventstore.events import MessageAdded
from eventstore.log.base import Head
from eventstore.log.engine import EventLog
from eventstore.record import clock
from eventstore.record.message_run import Message, MessageRun
from projections import conversation as conversation_fold
from projections import summary as summary_fold
from projections.models import SessionMetadata
from projections.projection import FoldInput

Reader = Callable[[int], Iterator[FoldInput]]

STAMP = "views.json"
METADATA = "metadata.json"
CONVERSATION = "conversation.jsonl"
INVOCATIONS = "invocations.json"
DATA = "data.json"
LINKS = "invocations"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Stamp(msgspec.Struct, frozen=True):
    """For what the views of a session stand: sizes in bytes, `metadata` the SHA-256 of metadata.json."""

    version: int
    size_bytes: int
    hash: str
    conversation_bytes: int
    metadata: str


class Views:
    """The views of all sessions below a sessions folder, with links into a history folder."""

    def __init__(self, log: EventLog, sessions_dir: Path, history_dir: Path) -> None:
        self._log = log
        self.sessions_dir = Path(os.path.realpath(sessions_dir))
        self.history_dir = Path(os.path.realpath(history_dir))
        self._mutex = threading.Lock()
        self._told = False
        hold_while_forking(self._mutex)

    def write(self, session_id: str, state: summary_fold.State, head: Head) -> None:
        """Make the views of a session stand for `state`, the fold of its log up to `head`.

        Views that stand for a later version already are left alone. A session folder that is gone stays gone.
        """
        with suppress(FileNotFoundError), self._mutex, self._locked(session_id) as folder:
            old = _read_stamp(folder)
            if old and old.version > head.version:
                return
            if old and old.version < state.redacted_at:
                old = None  # its files may hold what was redacted
            if old and self._hash_at(session_id, old.version) != old.hash:
                old = None  # it stands for another log
            metadata = _pretty(state.metadata.to_model(session_id).to_dict())
            _replace(folder, METADATA, [metadata])
            size = _write_conversation(folder, old, state.rewritten_at, self._events(session_id, head))
            known = old.version if old else -1
            if known < state.linked_at or not _exists(folder, INVOCATIONS):
                _replace(folder, INVOCATIONS, [_pretty_list(state.metadata.calls)])
                self._write_links(folder, session_id, state.links())
            if known < state.kept_at or bool(state.data) != _exists(folder, DATA):
                _replace_or_remove(folder, DATA, _pretty(state.data) if state.data else None)
            stamp = Stamp(head.version, head.size_bytes, head.hash, size, sha256(metadata).hexdigest())
            _replace(folder, STAMP, [_pretty(msgspec.to_builtins(stamp))])

    def check(self, session_id: str, state: summary_fold.State, head: Head) -> Iterator[str]:
        """Compare what is there with what `write` would make; yield what differs. Views that are behind are no fault."""
        with self._folder(session_id) as folder:
            stamp = _read_stamp(folder)
            if stamp is not None and stamp.version > head.version:
                yield f"{STAMP} stands for event {stamp.version}, and the log ends at {head.version}: an older log was put back"
            if stamp is None or stamp.version != head.version:
                return
            if stamp.hash != head.hash:
                yield f"{STAMP} stands for another log"
            wanted = {
                METADATA: _pretty(state.metadata.to_model(session_id).to_dict()),
                INVOCATIONS: _pretty_list(state.metadata.calls),
                DATA: _pretty(state.data) if state.data else None,
            }
            for name, data in wanted.items():
                if _read_if_there(folder, name) != data:
                    yield f"{name} is not what the log gives"
            if not _is_conversation(folder, _all_lines(state.rewritten_at, self._events(session_id, head))):
                yield f"{CONVERSATION} is not what the log gives"
            yield from self._check_links(folder, session_id, state.links())

    def _hash_at(self, session_id: str, version: int) -> str:
        return next((event.hash for event in self._log.read(session_id, version - 1, version)), "")

    def _events(self, session_id: str, head: Head) -> Reader:
        return lambda after: self._log.skim(session_id, after, head.version)

    def _check_links(self, folder: int, session_id: str, tree: dict[str, str]) -> Iterator[str]:
        for link, target in tree.items():
            text = self._target(session_id, target)
            try:
                found = os.readlink(link, dir_fd=folder)
            except OSError:
                found = None
            if text is not None and found != text:
                yield f"{link} does not lead where the log says"

    def link(self, session_id: str, link: str, target: str) -> None:
        """Make one link of a session's tree at once, such as `invocations/inv_1`."""
        with suppress(FileNotFoundError), self._mutex, self._locked(session_id) as folder:
            links = _open_folder(folder, LINKS)
            try:
                self._link(links, session_id, link.partition("/")[2], target)
            finally:
                os.close(links)

    def metadata(self, session_id: str) -> SessionMetadata | None:
        """Read metadata.json if it stands for the log as it is now, else None."""
        try:
            with self._folder(session_id) as folder:
                stamp = _read_stamp(folder)
                size = os.stat("events.jsonl", dir_fd=folder, follow_symlinks=False).st_size
                if stamp is None or stamp.size_bytes != size:
                    return None
                raw = _read(folder, METADATA)
                if sha256(raw).hexdigest() != stamp.metadata:
                    return None
                return SessionMetadata.from_dict(json.loads(raw))
        except (OSError, ValueError):
            return None

    def remove(self, session_id: str) -> None:
        """Delete every view of a session, so that the next write starts from nothing."""
        with suppress(FileNotFoundError), self._mutex, self._locked(session_id) as folder:
            for name in (STAMP, METADATA, CONVERSATION, INVOCATIONS, DATA):
                _replace_or_remove(folder, name, None)
                _replace_or_remove(folder, f".{name}.new", None)  # of a program that was killed
            links = _open_folder(folder, LINKS)
            try:
                for name in os.listdir(links):
                    _unlink_link(links, name)
            finally:
                os.close(links)
            with suppress(OSError):
                os.rmdir(LINKS, dir_fd=folder)

    @contextmanager
    def _folder(self, session_id: str) -> Iterator[int]:
        root = os.open(self.sessions_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            folder = os.open(session_id, _FOLDER, dir_fd=root)
        finally:
            os.close(root)
        try:
            yield folder
        finally:
            os.close(folder)

    @contextmanager
    def _locked(self, session_id: str) -> Iterator[int]:
        """Hold the lock on the session's folder: only one process writes its views at a time."""
        with self._folder(session_id) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield folder

    def _write_links(self, folder: int, session_id: str, tree: dict[str, str]) -> None:
        if not tree and not _exists(folder, LINKS):
            return
        links = _open_folder(folder, LINKS)
        try:
            with os.scandir(links) as found:
                stale = [one.name for one in found if f"{LINKS}/{one.name}" not in tree]
            for name in stale:
                _unlink_link(links, name)
            for link, target in tree.items():
                self._link(links, session_id, link.partition("/")[2], target)
            with os.scandir(links) as found:
                empty = next(found, None) is None
        finally:
            os.close(links)
        if empty:
            os.rmdir(LINKS, dir_fd=folder)

    def _link(self, links: int, session_id: str, name: str, target: str) -> None:
        text = self._target(session_id, target)
        if text is None:
            return
        try:
            if os.readlink(name, dir_fd=links) == text:
                return
            os.unlink(name, dir_fd=links)
        except FileNotFoundError:
            pass
        except OSError:
            return  # not a link: somebody's own file, left alone
        try:
            os.symlink(text, name, dir_fd=links)
        except FileExistsError:
            return
        except (OSError, NotImplementedError) as error:
            self._tell_once(error)

    def _target(self, session_id: str, target: str) -> str | None:
        """Make a link's text: relative for what lies in the history folder, None for what would lead out of it."""
        if os.path.isabs(target):
            return target
        inside = os.path.normpath(target)
        if inside == ".." or inside.startswith("../") or "\0" in inside:
            return None
        way = _way(str(self.history_dir), f"{self.sessions_dir}/{session_id}/{LINKS}")
        return way if inside == "." else f"{way}/{inside}"

    def _tell_once(self, error: BaseException) -> None:
        if not self._told:
            self._told = True
            warnings.warn(f"this system makes no symbolic links ({error}): sessions work without them", stacklevel=2)


@lru_cache(64)
def _way(folder: str, start: str) -> str:
    """Tell the relative path of a folder; it is asked for once a link, and the same for all of a session."""
    return os.path.relpath(folder, start)


def _write_conversation(folder: int, old: Stamp | None, rewritten_at: int, events: Reader) -> int:
    """Append the new messages where the file is the one the stamp speaks of, else write it anew; return its size."""
    if old and old.version >= rewritten_at and _size(folder, CONVERSATION) == old.conversation_bytes:
        return old.conversation_bytes + _append(folder, CONVERSATION, _lines_of(events(old.version)))
    return _replace(folder, CONVERSATION, _all_lines(rewritten_at, events))


def _all_lines(rewritten_at: int, events: Reader) -> Iterator[bytes]:
    """Stream the whole conversation; only one that lost messages has to be folded."""
    if rewritten_at:
        kept = conversation_fold.projection.fold(events(0)).messages
        return (_encode_lines(kept[start : start + 200]) for start in range(0, len(kept), 200))
    return _lines_of(events(0))


def _lines_of(events: Iterable[FoldInput]) -> Iterator[bytes]:
    """Stream the lines of messages, as they come."""
    for event in events:
        if isinstance(event, MessageRun):
            yield _encode_lines(event.read())
        elif isinstance(event, MessageAdded):
            yield _encode_lines([event])


class _Line(msgspec.Struct, omit_defaults=True, gc=False):
    """One line of conversation.jsonl."""

    role: str
    content: str
    timestamp: str
    tool_name: str | None = None
    invocation_id: str | None = None


_encode_all = msgspec.json.Encoder().encode_lines


def _encode_lines(messages: Sequence[Message | MessageAdded]) -> bytes:
    return _encode_all(
        [_Line(one.role, one.content, clock.to_iso(one.time), one.tool_name, one.invocation_id) for one in messages]
    )


def _is_conversation(folder: int, lines: Iterator[bytes]) -> bool:
    try:
        file = os.open(CONVERSATION, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return False
    with os.fdopen(file, "rb") as stream:
        return all(stream.read(len(line)) == line for line in lines) and not stream.read(1)


def _read_if_there(folder: int, name: str) -> bytes | None:
    try:
        return _read(folder, name)
    except FileNotFoundError:
        return None


def _pretty(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


def _pretty_list(texts: Iterable[str]) -> bytes:
    """Write texts as `_pretty` does, without a list of all the pieces: there may be a hundred thousand."""
    lines = ",\n  ".join(json.dumps(text, ensure_ascii=False) for text in texts)
    return f"[\n  {lines}\n]\n".encode() if lines else b"[]\n"


def _read_stamp(folder: int) -> Stamp | None:
    try:
        return msgspec.json.decode(_read(folder, STAMP), type=Stamp)
    except (OSError, msgspec.DecodeError, ValueError):
        return None


def _read(folder: int, name: str) -> bytes:
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(file, "rb") as stream:
        return stream.read()


def _size(folder: int, name: str) -> int:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _append(folder: int, name: str, lines: Iterator[bytes]) -> int:
    """Append lines to a file, if there are any, and return their size."""
    first = next(lines, None)
    if first is None:
        return 0
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, dir_fd=folder), "ab") as stream:
        return _write_all(stream, chain([first], lines))


def _replace(folder: int, name: str, parts: Iterable[bytes]) -> int:
    """Write a file whole or not at all, under a temporary name that is then the file's; return its size."""
    temporary = f".{name}.new"
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=folder), "wb") as stream:
        size = _write_all(stream, parts)
    os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    return size


def _write_all(stream: BinaryIO, parts: Iterable[bytes]) -> int:
    return sum(map(stream.write, parts))


def _replace_or_remove(folder: int, name: str, data: bytes | None) -> None:
    if data is not None:
        _replace(folder, name, [data])
        return
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _open_folder(folder: int, name: str) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
    return os.open(name, _FOLDER, dir_fd=folder)


def _unlink_link(links: int, name: str) -> None:
    """Remove a link; what is not a link is somebody's own and stays."""
    found = os.stat(name, dir_fd=links, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        os.unlink(name, dir_fd=links)
