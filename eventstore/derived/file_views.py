"""View files next to a log: projections for people and programs that read files.

`metadata.json`, `conversation.jsonl`, `invocations.json`, `data.json` (where there is data) and the links `invocations/<id>`.
`views.json` holds the version, size in bytes and hash of the log that the views show. A deleted view is rebuilt the same.
"""

import errno
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
from typing import Any

import msgspec

from eventstore.backends.files.atomic import replacing, temporary_name
from eventstore.backends.files.descriptor import FOLDER, LINKED_FOLDER, READ, SAFE
from eventstore.backends.posix import fcntl
from eventstore.events import MessageAdded
from eventstore.log.base import Head
from eventstore.log.engine import EventLog
from eventstore.log.locking import hold_while_forking
from eventstore.record import clock
from eventstore.record.message_run import Message, MessageRun
from projections import conversation as conversation_fold
from projections import summary as summary_fold
from projections.fold import FoldInput
from projections.models import SessionMetadata

Reader = Callable[[int], Iterator[FoldInput]]

STAMP = "views.json"
METADATA = "metadata.json"
CONVERSATION = "conversation.jsonl"
INVOCATIONS = "invocations.json"
DATA = "data.json"
LINKS = "invocations"
_BLOCK = 1 << 16
_LEFT_OUT = -1
_COMPARISONS = 5
MEANING = 2
"""Raised when a release reads old logs differently: `_is_outdated` decides which earlier views are not used."""


class Stamp(msgspec.Struct, frozen=True):
    """The state of the log that a session's views show: sizes in bytes, `metadata` the SHA-256 of metadata.json.

    `conversation_bytes` is -1 where the conversation was left out.
    `meaning` is the `MEANING` of the release that wrote them.
    """

    version: int
    size_bytes: int
    hash: str
    conversation_bytes: int
    metadata: str
    meaning: int = 0


class FileViews:
    """The views of all sessions below a sessions folder, with links into a history folder."""

    def __init__(self, log: EventLog, sessions_dir: Path, history_dir: Path) -> None:
        self._log = log
        self.sessions_dir = Path(os.path.realpath(sessions_dir))
        self.history_dir = Path(os.path.realpath(history_dir))
        self._mutex = threading.RLock()
        self._warned = False
        hold_while_forking(self._mutex)

    def write(self, session_id: str, state: summary_fold.State, head: Head, *, imported: bool = False) -> None:
        """Write the views of `state`, the fold of a session's log up to `head`.

        Where all that is new was `imported`, the conversation is left out, unless it is there already: it would be one more copy
        of the file.
        Views of a later version are left alone. A deleted session folder is not created again.
        """
        with suppress(FileNotFoundError), self._mutex, self._locked(session_id) as folder:
            old = _read_stamp(folder)
            if old and old.version > head.version:
                return
            if old and old.version < state.redacted_at:
                old = None  # its files may hold what was redacted
            if old and self._hash_at(session_id, old.version) != old.hash:
                old = None  # it shows another log
            metadata = _pretty(state.metadata.to_model(session_id).to_dict())
            _replace(folder, METADATA, [metadata])
            size = _LEFT_OUT
            if not imported or _exists(folder, CONVERSATION):
                size = _write_conversation(folder, old, state.rewritten_at, self._events(session_id, head))
            known = old.version if old else -1
            if known < state.linked_at or not _exists(folder, INVOCATIONS):
                _replace(folder, INVOCATIONS, _pretty_list(state.metadata.calls))
                self._write_links(folder, session_id, state.links())
            if known < state.kept_at or bool(state.data) != _exists(folder, DATA):
                _replace_or_remove(folder, DATA, _pretty(state.data) if state.data else None)
            stamp = Stamp(head.version, head.size_bytes, head.hash, size, sha256(metadata).hexdigest(), MEANING)
            _replace(folder, STAMP, [_pretty(msgspec.to_builtins(stamp))])

    def check(self, session_id: str, state: summary_fold.State, head: Head) -> Iterator[str]:
        """Compare the files with what `write` would write; yield the differences. Views of an older version are no fault.

        Nothing is said of files that other programs write or remove each time they are compared.
        """
        for _ in range(_COMPARISONS):
            before = self._written(session_id)
            found = list(self._differences(session_id, state, head))
            if not found or self._written(session_id) == before:
                yield from found
                return

    def _written(self, session_id: str) -> tuple[int, int]:
        """Return what differs after the files were written again."""
        try:
            found = os.stat(self.sessions_dir / session_id / STAMP, follow_symlinks=False)
        except OSError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns

    def _differences(self, session_id: str, state: summary_fold.State, head: Head) -> Iterator[str]:
        with self._folder(session_id) as folder:
            stamp = _read_stamp(folder)
            if stamp is not None and stamp.version > head.version:
                yield f"{STAMP} stands for event {stamp.version}, and the log ends at {head.version}: an older log was restored"
            if stamp is None or stamp.version != head.version:
                return
            if stamp.hash != head.hash:
                yield f"{STAMP} stands for another log"
            metadata = state.metadata.to_model(session_id).to_dict()
            # Before 2, times were those of the redaction where the first event of an imported session was redacted.
            is_old = _is_outdated(stamp, metadata) or (stamp.meaning < 2 and state.redacted_at > 0)
            wanted = {
                METADATA: _read_if_there(folder, METADATA) if is_old else _pretty(metadata),
                INVOCATIONS: b"".join(_pretty_list(state.metadata.calls)),
                DATA: _pretty(state.data) if state.data else None,
            }
            for name, data in wanted.items():
                if _read_if_there(folder, name) != data:
                    yield f"{name} is not what the log gives"
            if stamp.conversation_bytes != _LEFT_OUT and not _is_conversation(
                folder, _all_lines(state.rewritten_at, self._events(session_id, head))
            ):
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
                yield f"{link} does not lead to the target in the log"

    def link(self, session_id: str, link: str, target: str) -> None:
        """Create one link of a session, such as `invocations/inv_1`, without waiting for the next write."""
        with suppress(FileNotFoundError), self._mutex, self._locked(session_id) as folder:
            links = _open_folder(folder, LINKS)
            try:
                self._link(links, session_id, link.partition("/")[2], target)
            finally:
                os.close(links)

    def metadata(self, session_id: str) -> SessionMetadata | None:
        """Return the content of metadata.json if it shows the present log, else None."""
        try:
            with self._folder(session_id) as folder:
                stamp = _read_stamp(folder)
                size = os.stat("events.jsonl", dir_fd=folder, follow_symlinks=False).st_size
                if stamp is None or stamp.size_bytes != size:
                    return None
                raw = _read(folder, METADATA)
                if sha256(raw).hexdigest() != stamp.metadata:
                    return None
                shown = json.loads(raw)
                return None if _is_outdated(stamp, shown) else SessionMetadata.from_dict(shown)
        except (OSError, ValueError):
            return None

    def remove(self, session_id: str) -> None:
        """Delete every view of a session, so that the next write rebuilds all of them."""
        with suppress(FileNotFoundError), self._mutex, self._locked(session_id) as folder:
            for name in (STAMP, METADATA, CONVERSATION, INVOCATIONS, DATA):
                _replace_or_remove(folder, name, None)
                _replace_or_remove(folder, temporary_name(name), None)  # of a program that was killed
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
        root = os.open(self.sessions_dir, LINKED_FOLDER)
        try:
            folder = os.open(session_id, FOLDER, dir_fd=root)
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
            return  # not a link: a user's own file, left alone
        try:
            os.symlink(text, name, dir_fd=links)
        except FileExistsError:
            return
        except (OSError, NotImplementedError) as error:
            if getattr(error, "errno", None) != errno.ENAMETOOLONG:  # then others may be made
                self._warn_once(error)

    def _target(self, session_id: str, target: str) -> str | None:
        """Return the target text of a link: relative for a folder inside the history folder, None for one outside."""
        if os.path.isabs(target):
            return target
        inside = os.path.normpath(target)
        if inside == ".." or inside.startswith("../") or "\0" in inside:
            return None
        path = _relative_path(str(self.history_dir), f"{self.sessions_dir}/{session_id}/{LINKS}")
        return path if inside == "." else f"{path}/{inside}"

    def _warn_once(self, error: BaseException) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"this system makes no symbolic links ({error}): sessions work without them", stacklevel=2)


@lru_cache(64)
def _relative_path(folder: str, start: str) -> str:
    """Return the relative path of a folder. Cached: it is needed once per link, and the same for all links of a session."""
    return os.path.relpath(folder, start)


def _write_conversation(folder: int, old: Stamp | None, rewritten_at: int, events: Reader) -> int:
    """Append the new messages if the file is the one in the stamp, else rewrite it; return its size."""
    is_known = old is not None and old.conversation_bytes != _LEFT_OUT
    if old and is_known and old.version >= rewritten_at and _size(folder, CONVERSATION) == old.conversation_bytes:
        return old.conversation_bytes + _append(folder, CONVERSATION, _lines_of(events(old.version)))
    return _replace(folder, CONVERSATION, _all_lines(rewritten_at, events))


def _all_lines(rewritten_at: int, events: Reader) -> Iterator[bytes]:
    """Stream the lines of the conversation. It is folded only where messages were removed."""
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
        file = os.open(CONVERSATION, READ, dir_fd=folder)
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


def _pretty_list(texts: Iterable[str]) -> Iterator[bytes]:
    """Stream texts as `_pretty` writes a list, without a list of all pieces: there may be 100,000."""
    begin = "[\n  "
    for text in texts:
        yield f"{begin}{json.dumps(text, ensure_ascii=False)}".encode()
        begin = ",\n  "
    yield b"[]\n" if begin[0] == "[" else b"\n]\n"


def _read_stamp(folder: int) -> Stamp | None:
    try:
        return msgspec.json.decode(_read(folder, STAMP), type=Stamp)
    except (OSError, msgspec.DecodeError, ValueError):
        return None


def _is_outdated(stamp: Stamp, metadata: dict[str, Any]) -> bool:
    """Return whether views show what an earlier release read in a log: the tokens of rollouts of Codex."""
    return stamp.meaning < 1 and metadata.get("custom_metadata", {}).get("source") == "codex"


def _read(folder: int, name: str) -> bytes:
    file = os.open(name, READ, dir_fd=folder)
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
    flags = os.O_WRONLY | os.O_APPEND | SAFE
    with os.fdopen(os.open(name, flags, dir_fd=folder), "ab") as stream:
        return sum(map(stream.write, chain([first], lines)))


def _replace(folder: int, name: str, parts: Iterable[bytes]) -> int:
    """Replace a file in one step, and return its size in bytes."""
    size = 0
    with replacing(name, folder=folder, durable=False) as write:  # not flushed: a view can be rebuilt
        for part in _joined(parts):
            write(part)
            size += len(part)
    return size


def _joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join short pieces: a conversation may come as 100,000 of them, and each write is a system call."""
    pieces, size = list[bytes](), 0
    for part in parts:
        pieces.append(part)
        size += len(part)
        if size >= _BLOCK:
            yield b"".join(pieces)
            pieces, size = [], 0
    yield b"".join(pieces)


def _replace_or_remove(folder: int, name: str, data: bytes | None) -> None:
    if data is not None:
        _replace(folder, name, [data])
        return
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _open_folder(folder: int, name: str) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
    return os.open(name, FOLDER, dir_fd=folder)


def _unlink_link(links: int, name: str) -> None:
    """Remove a link. A user's own file or folder stays."""
    found = os.stat(name, dir_fd=links, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        os.unlink(name, dir_fd=links)
