"""Small files next to a log, and those of the store itself: signed checkpoints, quarantine, positions of followers."""

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence

from eventstore.backends.files.atomic import replace_file
from eventstore.backends.files.atomic_folder import open_below
from eventstore.backends.files.change_feed import NAME as FEED
from eventstore.backends.files.chunks import Chunks
from eventstore.backends.files.descriptor import SAFE, kind_of
from eventstore.backends.files.folders import LOG, Folders, name_of
from eventstore.errors import NotARegularFile
from eventstore.ids import TEMPLATE, TRASH
from eventstore.log.port import Missing, Refused

CHECKPOINTS, QUARANTINE, VALUES = "checkpoints", "quarantine", "values"
"""The folders of a log's blobs."""
_NAME = re.compile(r"[A-Za-z0-9_%][A-Za-z0-9._~%+=@-]{0,249}", re.ASCII)
_TEMPORARY = ".blob.new"
"""Shared by all blobs of a store folder: temporary files with random names would stay for ever after a kill."""
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR})


class Blobs:
    """The blobs of all logs below one root. Those of a session, a template or a log in the trash need that log.

    Other folders, for example `_store` and `_cursors`, and the root itself (an empty name), are made with the first
    blob. The blobs of a log are in its folders `checkpoints`, `quarantine` and `values`; those of another folder are
    its plain files.
    """

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    def list(self, log: str) -> list[str]:
        """List the blobs of a log, sorted. Raises Missing, OSError."""
        try:
            folder = self._open(log)
        except Missing:
            if needs_log(log):
                raise
            return []
        try:
            found = [
                f"{inner}/{name}"
                for inner in (CHECKPOINTS, QUARANTINE, VALUES)
                for name in _plain_files(folder, inner)
                if _NAME.fullmatch(name)
            ]
            if not needs_log(log):
                found += [
                    name for name in _plain_files(folder, "") if _NAME.fullmatch(name) and name not in (LOG, FEED)
                ]
            return sorted(found)
        finally:
            os.close(folder)

    def get(self, log: str, name: str) -> Iterator[bytes]:
        """Stream a blob. Raises Missing, NotARegularFile, OSError."""
        *inner, last = check_blob(name)
        folder = self._open(log)
        path = f"{self._folders.path(log)}/{name}"
        try:
            with open_below(folder, inner) as inside:
                descriptor = os.open(last, os.O_RDONLY | SAFE, dir_fd=inside)
        except OSError as error:
            if error.errno in _GONE:
                raise Missing(f"{log}/{name}") from None
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise NotARegularFile(path, kind_of(path), session_id=name_of(log)) from None
            raise
        finally:
            os.close(folder)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise NotARegularFile(path, kind_of(path), session_id=name_of(log))
        return Chunks(descriptor, 0, found.st_size, path)

    def put(self, log: str, name: str, data: bytes) -> None:
        """Write a blob, atomically and durably. Raises Missing, OSError."""
        *inner, last = check_blob(name)
        folder = self._open(log, create=not needs_log(log))
        try:
            with open_below(folder, inner, create=True) as inside:
                os.fsync(folder)  # also if the inner folder exists: its maker may have been killed before this
                replace_file(last, data, folder=inside, temporary=None if needs_log(log) else _TEMPORARY)
        finally:
            os.close(folder)

    def delete(self, log: str, name: str) -> None:
        """Delete a blob, durably; do nothing if it does not exist. Raises OSError."""
        *inner, last = check_blob(name)
        try:
            folder = self._open(log)
        except Missing:
            return
        try:
            with open_below(folder, inner) as inside:
                os.unlink(last, dir_fd=inside)
                os.fsync(inside)
        except OSError as error:
            if error.errno not in _GONE:
                raise
        finally:
            os.close(folder)

    def _open(self, log: str, *, create: bool = False) -> int:
        if log and not all(map(_NAME.fullmatch, log.split("/"))):
            raise Refused(log[:80], errno.EINVAL, "this is not a name of a log")
        folder = self._folders.open(log, create=create)
        if needs_log(log):
            try:
                os.stat(LOG, dir_fd=folder, follow_symlinks=False)
            except OSError as error:
                os.close(folder)
                if error.errno in _GONE:
                    raise Missing(log) from None
                raise
        return folder


def put_below(folder: int, inner: Sequence[str], name: str, data: bytes | Iterable[bytes]) -> None:
    """Write a file, atomically and durably, in a folder below another, which is created if missing. Raises OSError."""
    with open_below(folder, inner, create=True) as inside:
        os.fsync(folder)  # also if the inner folder exists: its maker may have been killed before this
        replace_file(name, data, folder=inside)


def needs_log(log: str) -> bool:
    """Return whether a name is that of a session, a template or a log in the trash, not a folder of the store itself."""
    return log.startswith((TRASH, TEMPLATE)) or (log != "" and not log.startswith("_"))


def check_blob(name: str) -> list[str]:
    """Split the name of a blob. Raises Refused for a name that is hidden, leads elsewhere, or is that of a log."""
    parts = name.split("/")
    if not all(map(_NAME.fullmatch, parts)) or parts[-1] == LOG:
        raise Refused(name[:80], errno.EINVAL, "this is not a name of a blob")
    return parts


def _plain_files(folder: int, inner: str) -> list[str]:
    try:
        with open_below(folder, [inner] if inner else []) as inside, os.scandir(inside) as entries:
            return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError as error:
        if error.errno == errno.ENOENT:
            return []
        if error.errno in (errno.ENOTDIR, errno.ELOOP):  # a link or a file in the place of the folder
            raise NotARegularFile(inner, "no folder", "a folder") from None
        raise
