"""The folders of logs below one root: opened by descriptors, following no link, and created so that they survive a power loss."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from eventstore.backends.files.descriptor import FOLDER, LINKED_FOLDER, SAFE, kind_of
from eventstore.backends.files.durability import sync_folder
from eventstore.errors import NotARegularFile
from eventstore.log.port import Missing

LOG = "events.jsonl"
"""The name of the file that holds a log, in the folder that has the log's name."""


class Folders:
    """The root folder, and one folder for each log below it. With `durable`, each new folder survives a power loss."""

    def __init__(self, root: Path, *, durable: bool) -> None:
        self.root, self._durable = str(root), durable
        self._root_is_durable = False

    def path(self, log: str) -> str:
        """Return the path of a log's folder; that of the root for an empty name."""
        return f"{self.root}/{log}" if log else self.root

    def open(self, log: str, *, create: bool = False) -> int:
        """Open the folder of a log, following no link below the root. The caller closes the descriptor.

        Raises Missing, NotARegularFile, OSError.
        """
        try:
            if not create and "/" not in log:  # the system checks only the last part of a path for being a link
                return os.open(self.path(log), FOLDER if log else LINKED_FOLDER)
            return self._walk([part for part in log.split("/") if part], create=create)
        except FileNotFoundError:
            raise Missing(log) from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                where = self.path(log)
                raise NotARegularFile(where, kind_of(where), "a folder", name_of(log)) from None
            raise

    def _walk(self, parts: list[str], *, create: bool) -> int:
        inside = self._open_root(create=create)
        try:
            for part in parts:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(part, 0o700, dir_fd=inside)
                    if self._durable:  # also if it exists: the process that made it may have been killed before this
                        os.fsync(inside)
                outer, inside = inside, os.open(part, FOLDER, dir_fd=inside)
                os.close(outer)  # after the swap: a Ctrl-C here would have it closed twice
        except BaseException:
            os.close(inside)
            raise
        return inside

    def _open_root(self, *, create: bool) -> int:
        if create and not self._root_is_durable:
            missing = [str(folder) for folder in (Path(self.root), *Path(self.root).parents) if not folder.exists()]
            Path(self.root).mkdir(0o700, parents=True, exist_ok=True)
            if self._durable:
                for folder in missing:
                    sync_folder(os.path.dirname(folder))
                with suppress(OSError):  # made by another user: there may be no permission to open its parent folder
                    sync_folder(os.path.dirname(self.root))
            self._root_is_durable = True
        return os.open(self.root, LINKED_FOLDER)

    def open_log(self, log: str, flags: int = os.O_RDONLY, *, create: bool = False) -> int:
        """Open the file of a log; with `create` make it. The caller closes the descriptor.

        Raises Missing, NotARegularFile, OSError.
        """
        folder = self.open(log, create=create)
        try:
            descriptor = open_regular(folder, LOG, flags | (os.O_CREAT if create else 0), self.path(log), name_of(log))
            if create and self._durable and not os.fstat(descriptor).st_size:
                os.fsync(folder)
            return descriptor
        finally:
            os.close(folder)


def open_regular(folder: int, name: str, flags: int, where: str, session_id: str) -> int:
    """Open a plain file with one name in a folder; `where` is the folder's path. Raises Missing, NotARegularFile, OSError."""
    path = f"{where}/{name}"
    try:
        descriptor = os.open(name, flags | SAFE, 0o600, dir_fd=folder)
    except FileNotFoundError:
        raise Missing(path) from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise NotARegularFile(path, kind_of(path), session_id=session_id) from None
        raise
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    if not found.st_nlink:
        raise Missing(path)
    raise NotARegularFile(path, kind_of(path), session_id=session_id)


def name_of(log: str) -> str:
    """Return the name of a log for errors: without the prefix of the trash."""
    return log.rpartition("/")[2]
