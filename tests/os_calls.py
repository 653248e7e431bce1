"""Recorded calls of the system: what was written, forced to stable storage, renamed, cut and locked, in which order."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class OsCall(NamedTuple):
    """One call: `sync` stands for fsync, fdatasync; `rename` for rename, replace; `path` is relative to the root."""

    name: str
    path: str


SYNC, WRITE, RENAME, CUT, LOCK, UNLOCK = "sync", "write", "rename", "cut", "lock", "unlock"
_BY_DESCRIPTOR = {"fsync": SYNC, "fdatasync": SYNC, "write": WRITE, "pwrite": WRITE, "ftruncate": CUT}


class OsCalls:
    """The calls that were made on what lies in a folder. A rename is recorded by the new name."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        self.made: list[OsCall] = []

    def note(self, name: str, path: str) -> None:
        if path == self._root or path.startswith(self._root + "/"):
            self.made.append(OsCall(name, os.path.relpath(path, self._root)))

    def first(self, name: str, path: str, after: int = -1) -> int:
        """Return the place of a call; one that was not made fails the test."""
        found = [place for place, one in enumerate(self.made) if place > after and one == (name, path)]
        assert found, f"no {name} of {path} behind call {after} of {self.made}"
        return found[0]

    def in_order(self, *wanted: tuple[str, str]) -> None:
        """Check that calls were made, each behind the one before."""
        place = -1
        for name, path in wanted:
            place = self.first(name, path, place)


def _path_of(descriptor: int) -> str:
    get_path = getattr(fcntl, "F_GETPATH", None)
    if get_path is not None:
        return bytes(fcntl.fcntl(descriptor, get_path, bytes(1024))).rstrip(b"\0").decode()
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


@contextmanager
def recorded(root: Path) -> Iterator[OsCalls]:
    """Record the calls that are made on a folder while the block runs."""
    calls = OsCalls(root)
    with pytest.MonkeyPatch.context() as patch:
        for name, noted in _BY_DESCRIPTOR.items():
            patch.setattr(os, name, _by_descriptor(calls, noted, getattr(os, name)))
        for name in ("rename", "replace"):
            patch.setattr(os, name, _by_name(calls, getattr(os, name)))
        patch.setattr(fcntl, "flock", _locking(calls, fcntl.flock))
        yield calls


def _by_descriptor(calls: OsCalls, noted: str, call: Any) -> Any:
    def do(descriptor: int, *args: Any) -> Any:
        path = _path_of(descriptor)
        found = call(descriptor, *args)
        calls.note(noted, path)
        return found

    return do


def _by_name(calls: OsCalls, call: Any) -> Any:
    def do(old: Any, new: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        call(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        folder = Path.cwd() if dst_dir_fd is None else Path(_path_of(dst_dir_fd))
        calls.note(RENAME, str(folder / new))

    return do


def _locking(calls: OsCalls, call: Any) -> Any:
    def do(descriptor: int, operation: int) -> None:
        path = _path_of(descriptor)
        call(descriptor, operation)
        calls.note(UNLOCK if operation & fcntl.LOCK_UN else LOCK, path)

    return do
