"""A simulated disk: the system calls of the log recorded, and every state that a power cut could leave of them opened again.

The disk forgets what was not forced to it: written bytes without a flush of the file, names without a flush of their folder. A
state keeps any part of what is pending: nothing, all, a torn last write, a size without its bytes, some writes and not others.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from breaking.case import Counts, contents, folder, opened, said
from eventstore import EventStoreError, LogDamaged, SessionNotFound
from eventstore import events as e
from eventstore.ids import Fsync

TORN = b'{"type":"message.added","seq":'


@dataclass
class Call:
    """One call: what it did to which path; `accepted` messages had been acknowledged when it was made.

    `inode` names the file, whatever it is called; `to` is the new path of what was renamed.
    """

    kind: str
    path: str
    offset: int = 0
    data: bytes = b""
    inode: int = 0
    to: str = ""
    accepted: int = 0


_RECORDED = ("open", "dup", "write", "ftruncate", "fsync", "fdatasync", "mkdir", "rename", "replace", "unlink")


@dataclass
class Recorder:
    """Writes down what is done below a folder."""

    root: str
    calls: list[Call] = field(default_factory=list)
    paths: dict[int, str] = field(default_factory=dict)
    accepted: int = 0

    def note(self, call: Call) -> None:
        if call.path.startswith(self.root):
            call.accepted = self.accepted
            self.calls.append(call)

    def note_file(self, kind: str, descriptor: int, offset: int = 0, data: bytes = b"") -> None:
        path = self.paths.get(descriptor, "")
        self.note(Call(kind, path, offset, data, inode=os.fstat(descriptor).st_ino))

    def whole(self, path: Any, dir_fd: int | None) -> str:
        return os.path.join(self.paths[dir_fd], path) if dir_fd is not None else os.fspath(path)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Wrap the calls of `os` while the block runs."""
        kept = {name: getattr(os, name) for name in _RECORDED}
        try:
            for name, call in kept.items():
                setattr(os, name, getattr(self, f"_{name}")(call))
            yield
        finally:
            for name, call in kept.items():
                setattr(os, name, call)

    def _open(self, call: Callable[..., int]) -> Callable[..., int]:
        def opening(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            whole = self.whole(path, dir_fd)
            new = bool(flags & os.O_CREAT) and not os.path.lexists(whole)
            descriptor = call(path, flags, mode, dir_fd=dir_fd)
            self.paths[descriptor] = whole
            if new:
                self.note_file("create", descriptor)
            return descriptor

        return opening

    def _dup(self, call: Callable[[int], int]) -> Callable[[int], int]:
        def doubling(descriptor: int) -> int:
            other = call(descriptor)
            self.paths[other] = self.paths.get(descriptor, "")
            return other

        return doubling

    def _write(self, call: Callable[..., int]) -> Callable[..., int]:
        def writing(descriptor: int, data: bytes) -> int:
            size = os.fstat(descriptor).st_size
            count = call(descriptor, data)
            self.note_file("write", descriptor, size, bytes(data[:count]))
            return count

        return writing

    def _ftruncate(self, call: Callable[..., None]) -> Callable[..., None]:
        def cutting(descriptor: int, size: int) -> None:
            call(descriptor, size)
            self.note_file("truncate", descriptor, size)

        return cutting

    def _fsync(self, call: Callable[..., None]) -> Callable[..., None]:
        def flushing(descriptor: int) -> None:
            call(descriptor)
            self.note_file("sync", descriptor)

        return flushing

    _fdatasync = _fsync

    def _mkdir(self, call: Callable[..., None]) -> Callable[..., None]:
        def making(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
            call(path, mode, dir_fd=dir_fd)
            self.note(Call("mkdir", self.whole(path, dir_fd)))

        return making

    def _rename(self, call: Callable[..., None]) -> Callable[..., None]:
        def renaming(old: Any, new: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
            call(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            to = self.whole(new, dst_dir_fd)
            self.note(Call("rename", self.whole(old, src_dir_fd), inode=os.lstat(to).st_ino, to=to))

        return renaming

    _replace = _rename

    def _unlink(self, call: Callable[..., None]) -> Callable[..., None]:
        def removing(path: Any, *, dir_fd: int | None = None) -> None:
            call(path, dir_fd=dir_fd)
            self.note(Call("unlink", self.whole(path, dir_fd)))

        return removing


def scenario(recorder: Recorder, root: Path, level: Fsync) -> list[str]:
    """Create a session, append single events and batches, tear its tail, append again; return all messages."""
    said_so_far: list[str] = []

    def append(*texts: str) -> None:
        log.append("s", [said(text) for text in texts])
        said_so_far.extend(texts)
        recorder.accepted = len(said_so_far)

    with opened(root / "logs", level) as log:
        log.append("s", [e.SessionCreated()], expected_version=0)
        append("one")
        append("two", "three", "four " + "x" * 600)
        append("five")
        descriptor = os.open(root / "logs" / "s" / "events.jsonl", os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, TORN)
        os.fsync(descriptor)
        os.close(descriptor)
        append("six")
        append("seven", "eight")
    return said_so_far


Names = dict[str, int | None]
"""Paths, each with the file that is there; None is a folder."""


class Disk:
    """What is on the disk for sure, and what is pending, after some calls."""

    def __init__(self, calls: list[Call], root: str) -> None:
        self.content: dict[int, bytes] = {}
        self.names: Names = {root: None}
        self.pending: dict[int, list[Call]] = {}
        self.pending_names: list[Call] = []
        for call in calls:
            self._take(call)

    def _take(self, call: Call) -> None:
        if call.kind in ("create", "mkdir", "rename", "unlink"):
            assert os.path.dirname(call.to or call.path) == os.path.dirname(call.path), "a rename across folders"
            self.pending_names.append(call)
            if call.kind == "create":
                self.content[call.inode] = b""
        elif call.kind in ("write", "truncate"):
            self.pending.setdefault(call.inode, []).append(call)
        elif call.inode in self.content:
            self.content[call.inode] = apply(self.content[call.inode], self.pending.pop(call.inode, []))
        else:
            done = [one for one in self.pending_names if os.path.dirname(one.path) == call.path]
            self.names = renamed(self.names, done)
            self.pending_names = [one for one in self.pending_names if one not in done]

    def states(self, rng: random.Random, count: int) -> Iterator[dict[str, bytes | None]]:
        """Yield trees, path to bytes (None: a folder), that the disk may hold."""
        yield self._tree(self.names, lambda data, _: data)
        everything = renamed(self.names, self.pending_names)
        yield self._tree(everything, apply)
        yield self._tree(everything, lambda data, _: data)
        for _ in range(count):
            names = renamed(self.names, [one for one in self.pending_names if rng.random() < 0.7])
            yield self._tree(names, lambda data, calls: torn(data, calls, rng))

    def _tree(self, names: Names, fate: Callable[[bytes, list[Call]], bytes]) -> dict[str, bytes | None]:
        every = set(names)
        return {
            name: None if inode is None else fate(self.content[inode], self.pending.get(inode, []))
            for name, inode in names.items()
            if all(part in every or len(part) < 2 for part in _parents(name, every))
        }


def renamed(names: Names, calls: list[Call]) -> Names:
    """Do calls that change names, in order; what was not made, because that call is left out, is not moved either."""
    found = dict(names)
    for call in calls:
        if call.kind == "create":
            found[call.path] = call.inode
        elif call.kind == "mkdir":
            found[call.path] = None
        elif call.kind == "unlink":
            found.pop(call.path, None)
        else:
            found.pop(call.path, None)
            found[call.to] = call.inode
    return found


def _parents(name: str, names: set[str]) -> list[str]:
    shortest = min(map(len, names))
    found, parent = [], os.path.dirname(name)
    while len(parent) >= shortest:
        found.append(parent)
        parent = os.path.dirname(parent)
    return found


def apply(data: bytes, calls: list[Call]) -> bytes:
    """Do all calls to a file's bytes."""
    for call in calls:
        if call.kind == "truncate":
            data = data[: call.offset].ljust(call.offset, b"\0")
        else:
            data = data[: call.offset].ljust(call.offset, b"\0") + call.data
    return data


def torn(data: bytes, calls: list[Call], rng: random.Random) -> bytes:
    """Do some calls, in order: completely, cut anywhere, as a size without bytes, with a hole, or not at all."""
    kept = calls[: rng.randrange(len(calls) + 1)]
    for index, call in enumerate(kept):
        if call.kind == "truncate":
            data = apply(data, [call])
            continue
        fate = rng.randrange(5) if index == len(kept) - 1 else rng.choice([0, 0, 0, 2])
        written = call.data
        if fate == 1:
            written = written[: rng.randrange(len(written) + 1)]
        elif fate == 2:
            written = b"\0" * len(written)
        elif fate == 3:
            start = rng.randrange(len(written) + 1)
            end = min(len(written), start + rng.choice([1, 64, 512]))
            written = written[:start] + b"\0" * (end - start) + written[end:]
        data = data[: call.offset].ljust(call.offset, b"\0") + written
    return data


def simulate(full: bool) -> Counts:
    """Open the store after each possible power cut: `always` loses nothing, other levels keep a valid prefix or report damage."""
    counts = {"states": 0, "accepted": 0, "damage_reported": 0, "shorter": 0, "went_on": 0}
    levels: list[Fsync] = ["always", "everysec", "no"]
    for level in levels:
        with folder() as root:
            recorder = Recorder(str(root))
            with recorder.recording():
                truth = scenario(recorder, root, level)
            counts["accepted"] += len(truth)
            rng = random.Random(31)
            per_point = (100_000 // 3 // len(recorder.calls) + 1) if full else 25
            for point in range(1, len(recorder.calls) + 1):
                disk = Disk(recorder.calls[:point], str(root))
                reached = recorder.calls[point].accepted if point < len(recorder.calls) else recorder.accepted
                for tree in disk.states(rng, per_point):
                    _survives(tree, str(root), truth, reached if level == "always" else 0, counts)
    return counts


def _survives(tree: dict[str, bytes | None], root: str, truth: list[str], promised: int, counts: Counts) -> None:
    with folder() as place:
        for name in sorted(tree):
            path = place / os.path.relpath(name, root)
            data = tree[name]
            if data is None:
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(data)
        counts["states"] += 1
        with opened(place / "logs") as log:
            _read_again(log, place, truth, promised, counts)


def _read_again(log: Any, place: Path, truth: list[str], promised: int, counts: Counts) -> None:
    try:
        found = contents(log)
    except SessionNotFound:
        assert not promised, "an accepted session is gone"
        return
    except LogDamaged as damage:
        counts["damage_reported"] += 1
        readable = log.read("s", 0, damage.readable) if damage.readable else ()
        whole = [event for event in readable if isinstance(event, e.MessageAdded)]
        assert len(whole) >= promised, "accepted events are unreadable"
        return
    assert found == truth[: len(found)], "what is read was never said"
    assert len(found) >= promised, f"lost: {len(found)} of {promised}"
    counts["shorter"] += len(found) < len(truth)
    _nothing_cut_is_gone(log, place)
    log.append("s", [said("after the crash")])
    assert contents(log)[-1] == "after the crash"
    counts["went_on"] += 1


def _nothing_cut_is_gone(log: Any, place: Path) -> None:
    """Look for the bytes that each repair cut: they must be in quarantine by then."""
    for event in log.read("s"):
        if isinstance(event, e.LogRepaired):
            kept = place / "logs" / "s" / event.quarantine
            assert kept.is_file(), "the copy of a torn tail is gone"
            assert kept.read_bytes() == TORN, "the copy of a torn tail is torn"


def views(full: bool) -> Counts:
    """Cut, drop, mix and age the derived files and the snapshot: no answer is wrong, and a rebuild gives the same bytes."""
    from eventstore import FileSystemSessionStorage, SessionManager
    from eventstore.derived import snapshots

    counts = {"states": 0, "stale_seen": 0, "snapshots_used": 0}
    rng = random.Random(37)
    names = ["metadata.json", "conversation.jsonl", "invocations.json", "data.json", "views.json", snapshots.NAME]
    with folder() as root, FileSystemSessionStorage(root / "s", root / "h", fsync="no") as storage:
        manager = SessionManager(storage)
        manager.create_session("s", "first")
        storage.append("s", [said("before")] * snapshots.LEAST_EVENTS)
        place = root / "s" / "s"
        ages: list[dict[str, bytes]] = []
        for n in range(4):
            manager.update_session_metadata("s", purpose=f"purpose {n}")
            manager.add_conversation_message("s", "user", str(n))
            manager.set_data("s", "n", n)
            storage.rebuild_session("s")
            ages.append({name: (place / name).read_bytes() for name in names})
        wanted = storage.statistics("s")
        for _ in range(3000 if full else 150):
            for name in names:
                data = rng.choice(ages)[name]
                (place / name).unlink(missing_ok=True)
                if rng.random() < 0.9:
                    (place / name).write_bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data)
            with FileSystemSessionStorage(root / "s", root / "h", fsync="no") as fresh:
                assert fresh.metadata("s").purpose == "purpose 3"
                assert fresh.statistics("s") == wanted
                assert fresh.summary("s").data == {"n": 3}
                counts["stale_seen"] += fresh.views.metadata("s") is None
                counts["snapshots_used"] += fresh.snapshots.shown("s") is not None
                try:
                    list(fresh.rebuild())
                except EventStoreError as error:
                    raise AssertionError("rebuild failed") from error
            assert {name: (place / name).read_bytes() for name in names} == ages[-1]
            counts["states"] += 1
    return counts
