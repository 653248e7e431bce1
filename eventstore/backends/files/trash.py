"""The trash of a folder of logs: what was taken out of it, and can be put back or go for good."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eventstore.backends.files.file import LOG, LogFile
from eventstore.errors import SessionExists, SessionNotFound
from eventstore.ids import free_name, id_of

TRASH = "_trash"


class Trash:
    """The folder `_trash` below the root of the logs, which is made when the first session goes there."""

    def __init__(self, root: Path, max_event_bytes: int) -> None:
        self._root, self._max_event_bytes = root, max_event_bytes

    def take(self, session_id: str) -> str:
        """Move the folder of a session here, with its lock held; return the name it has here."""
        with self._open(create=True) as (root, trash):
            name = free_name(session_id, os.listdir(trash))
            os.rename(session_id, name, src_dir_fd=root, dst_dir_fd=trash)
            os.fsync(trash)
            os.fsync(root)
        return name

    def restore(self, name: str) -> str:
        """Move a folder back to where its session was; return the session's id. Raises SessionNotFound, SessionExists."""
        session_id = id_of(name)
        with self._open(create=False) as (root, trash):
            if name not in os.listdir(trash):
                raise SessionNotFound(name)
            _remove_leftover(self._root / session_id)
            try:
                os.rename(name, session_id, src_dir_fd=trash, dst_dir_fd=root)  # also onto a folder that is empty
            except FileNotFoundError:
                raise SessionNotFound(name) from None
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                raise SessionExists(session_id) from None
            os.fsync(root)
            os.fsync(trash)
        return session_id

    def purge(self, name: str) -> bool:
        """Remove a folder for good; False where it is not here."""
        id_of(name)
        with self._open(create=False) as (_, trash):
            if name not in os.listdir(trash):
                return False
            remove_folder(self._root / TRASH / name)
            os.fsync(trash)
            return True

    def names(self) -> list[str]:
        """Name what is here, sorted."""
        try:
            with self._open(create=False) as (_, trash):
                return sorted(os.listdir(trash))
        except SessionNotFound:
            return []

    def file(self, name: str) -> LogFile:
        """Make a file object for the log of a session that is here. Raises InvalidSessionId; SessionNotFound without a trash."""
        session_id = id_of(name)
        with self._open(create=False):
            return LogFile(self._root / TRASH, session_id, self._max_event_bytes, durable=True, folder=name)

    @contextmanager
    def _open(self, *, create: bool) -> Iterator[tuple[int, int]]:
        """Lend descriptors of the root and of the trash in it, which is no link."""
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(TRASH, 0o700, dir_fd=root)
            try:
                trash = os.open(TRASH, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=root)
            except FileNotFoundError:
                raise SessionNotFound(TRASH) from None
            try:
                yield root, trash
            finally:
                os.close(trash)
        finally:
            os.close(root)


def _remove_leftover(folder: Path) -> None:
    """Remove a session's folder that has no log: what a deletion leaves that was killed, and nothing but views."""
    if folder.is_dir() and not folder.is_symlink() and not os.path.lexists(folder / LOG):
        remove_folder(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder and all in it; a view written meanwhile is removed too."""
    import shutil  # brings five compressors along

    for last in (False, False, True):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if last or error.errno != errno.ENOTEMPTY:
                raise
        else:
            return
