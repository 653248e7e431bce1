"""The system: an errno at every position of every call, resources used up, a kernel that writes less than it reports."""

import ctypes
import errno
import fcntl
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from breaking.case import Counts, contents, folder, opened, said
from eventstore import EventStoreError, FileSystemEventLog, OutcomeUnknown
from eventstore import events as e
from eventstore.errors import HandlePoisoned

ERRNOS = [
    errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE, errno.ENFILE,
    errno.ENOMEM, errno.EBADF, errno.EINVAL, errno.EFBIG, errno.ENOLCK, errno.ESTALE, errno.ENODEV,
]  # fmt: skip
CALLS = (
    "open", "dup", "close", "pread", "write", "ftruncate", "fsync", "fdatasync",
    "fstat", "stat", "mkdir", "replace", "unlink", "flock",
)  # fmt: skip
Arm = Callable[[str, int, int, bool], None]


class Stand:
    """Wraps calls of `os` and `fcntl` and makes the n-th of a kind fail."""

    def __init__(self) -> None:
        self.fired = 0
        self._kind, self._left, self._errno, self._on = "", 0, 0, False

    def arm(self, kind: str, position: int, number: int, on: bool) -> None:
        """Let the call of that kind at that position fail, once or from then on."""
        self._kind, self._left, self._errno, self._on = kind, position, number, on

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Stand in front while the block runs."""
        kept = {name: getattr(fcntl if name == "flock" else os, name) for name in CALLS}
        try:
            for name, call in kept.items():
                setattr(fcntl if name == "flock" else os, name, self._before(name, call))
            yield
        finally:
            for name, call in kept.items():
                setattr(fcntl if name == "flock" else os, name, call)

    def _before(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def calling(*arguments: Any, **options: Any) -> Any:
            if name == self._kind:
                self._left -= 1
                if self._left == 0 or (self._on and self._left < 0):
                    self.fired += 1
                    raise OSError(self._errno, os.strerror(self._errno))
            return call(*arguments, **options)

        return calling


def errnos(full: bool) -> Counts:
    """Fail every system call at every position: each failure is refused or unknown, accepted events stay, and it works again."""
    stand = Stand()
    counts = {"runs": 0, "fired": 0, "accepted": 0, "refused": 0, "unknown": 0, "shim_fired": 0, "skipped": 0}
    with stand.standing():
        _each_position(full, stand.arm, lambda: stand.fired, counts)
    counts["fired"] = stand.fired
    lies(counts)
    if full:
        _through_shim(counts)
    return counts


def _each_position(full: bool, arm: Arm, fired: Callable[[], int], counts: Counts) -> None:
    for kind in CALLS:
        for number in ERRNOS if full else ERRNOS[::5]:
            for on in (False, True):
                for position in range(1, 60):
                    before = fired()
                    _one_run(kind, position, number, on, arm, fired, counts)
                    if fired() == before:
                        break


def _one_run(
    kind: str, position: int, number: int, on: bool, arm: Arm, fired: Callable[[], int], counts: Counts
) -> None:
    with folder() as root:
        with opened(root, "always") as first:
            first.append("s", [e.SessionCreated()], expected_version=0)
            first.append("s", [said("before")])
        if position % 2:
            with (root / "s" / "events.jsonl").open("ab") as stream:
                stream.write(b'{"torn')
        log = opened(root, "always")
        accepted, refused, unknown = ["before"], set[str](), set[str]()
        arm(kind, position, number, on)
        for n in range(4):
            poisoned = bool(unknown) and kind == "fdatasync"
            before, failed = len(accepted), fired()
            _append(log, f"faulty {n}", accepted, refused, unknown)
            is_flushed = kind != "fdatasync" or fired() == failed
            assert is_flushed or len(accepted) == before, "an append was acknowledged though its flush failed"
            assert not poisoned or len(accepted) == before, "an append was believed after a failed flush"
        arm("", 0, 0, False)
        log = _works_again(root, log, accepted)
        found = contents(log)
        log.close()
        assert [text for text in found if text not in unknown] == accepted, f"{kind} {position} {number}"
        assert not refused & set(found), f"{kind} {position} {number}: what was refused is there"
        counts["runs"] += 1
        counts["accepted"] += len(accepted)
        counts["refused"] += len(refused)
        counts["unknown"] += len(unknown)


def _append(log: FileSystemEventLog, text: str, accepted: list[str], refused: set[str], unknown: set[str]) -> None:
    try:
        log.append("s", [said(text), said(text + "+")])
        accepted += [text, text + "+"]
    except OutcomeUnknown:
        unknown |= {text, text + "+"}
    except EventStoreError:
        refused |= {text, text + "+"}


def _works_again(root: Path, log: FileSystemEventLog, accepted: list[str]) -> FileSystemEventLog:
    """Append after the fault has ended: on the same object, unless a failed flush has poisoned it."""
    try:
        log.append("s", [said("after")])
    except HandlePoisoned:
        log.close()
        log = opened(root, "always")
        log.append("s", [said("after")])
    accepted.append("after")
    return log


def lies(counts: Counts) -> None:
    """Let writes be short, honestly and not: a short write is finished, a lie is found, a refused append leaves no tail."""
    write = os.write
    for lie in (False, True):
        for size in (1, 7, 100, 300):
            with folder() as root, opened(root) as log:
                log.append("s", [e.SessionCreated()], expected_version=0)

                def short(descriptor: int, data: bytes, size: int = size, lie: bool = lie) -> int:
                    count = write(descriptor, data[:size])
                    return len(data) if lie else count

                os.write = short  # type: ignore[assignment]
                try:
                    log.append("s", [said("x" * 500)])
                    assert not lie, "a lie was believed"
                except EventStoreError:
                    assert lie, "a short write was not finished"
                finally:
                    os.write = write
                assert log.tail("s") is None, "a refused append left a tail"
                log.append("s", [said("after")])
                assert contents(log) == ([] if lie else ["x" * 500]) + ["after"]
                counts["fired"] += 1


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/types.h>
static char kind[16]; static long left; static int number, on; long fault_fired;
void fault_arm(const char *k, long p, int n, int o) { strncpy(kind, k, 15); left = p; number = n; on = o; }
static int hit(const char *k) {
  if (strcmp(k, kind)) return 0;
  left--;
  if (left == 0 || (on && left < 0)) { fault_fired++; errno = number; return 1; }
  return 0;
}
#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)
ssize_t write(int, const void *, size_t); int fsync(int); int fdatasync(int); int flock(int, int);
int ftruncate64(int, off64_t);
ssize_t write(int f, const void *b, size_t n) { REAL(write); return hit("write") ? -1 : real(f, b, n); }
int fsync(int f) { REAL(fsync); return hit("fsync") ? -1 : real(f); }
int fdatasync(int f) { REAL(fdatasync); return hit("fdatasync") ? -1 : real(f); }
int flock(int f, int o) { REAL(flock); return hit("flock") ? -1 : real(f, o); }
int ftruncate64(int f, off64_t n) { REAL(ftruncate64); return hit("ftruncate") ? -1 : real(f, n); }
int openat64(int d, const char *p, int f, ...) {
  REAL(openat64); va_list a; va_start(a, f); mode_t m = va_arg(a, mode_t); va_end(a);
  return hit("open") ? -1 : real(d, p, f, m);
}
"""


def _through_shim(counts: Counts) -> None:
    """Do the same below Python, with a library that wraps the C library's calls."""
    if shutil.which("gcc") is None:
        counts["skipped"] += 1
        return
    with tempfile.TemporaryDirectory() as made:
        source, library = Path(made, "shim.c"), Path(made, "shim.so")
        source.write_text(SHIM)
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        tools = str(Path(__file__).parents[1])
        program = f"import sys; sys.path.insert(0, {tools!r}); from breaking.system import shimmed; print(shimmed())"
        environment = {**os.environ, "LD_PRELOAD": str(library), "EVENTSTORE_SHIM": str(library)}
        told = subprocess.run(
            [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
        )
        counts["shim_fired"] = int(told.stdout)


def shimmed() -> int:
    """Run the positions under the preloaded library; return how many faults fired."""
    library = ctypes.CDLL(os.environ["EVENTSTORE_SHIM"])
    fired = ctypes.c_long.in_dll(library, "fault_fired")

    def arm(kind: str, position: int, number: int, on: bool) -> None:
        library.fault_arm(kind.encode(), ctypes.c_long(position), number, int(on))

    counts = {"runs": 0, "accepted": 0, "refused": 0, "unknown": 0}
    _each_position(True, arm, lambda: fired.value, counts)
    return fired.value


def resources(full: bool) -> Counts:
    """Use up file size, descriptors and, as root, a small disk and its inodes: appends are refused, nothing is torn."""
    counts = {"rounds": 0, "accepted": 0, "refused": 0, "skipped": 0}
    for n in range(450 if full else 40):
        for limit in (_file_size, _descriptors):
            _in_child(limit, n, counts)
    if os.geteuid() == 0 and full:
        for n in range(100):
            _small_disk("size=64k" if n % 2 else "size=1m,nr_inodes=9", counts)
    elif full:
        counts["skipped"] += 1
    assert counts["refused"] > 0
    return counts


def _in_child(limit: Callable[[Path, int], tuple[int, int]], n: int, counts: Counts) -> None:
    with folder() as root:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            status = 1
            try:
                accepted, refused = limit(root, n)
                os.write(writing, f"{accepted} {refused}".encode())
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            told = stream.read().split()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, limit.__name__
        counts["rounds"] += 1
        counts["accepted"] += int(told[0])
        counts["refused"] += int(told[1])


def _file_size(root: Path, n: int) -> tuple[int, int]:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000 + 61 * n, resource.RLIM_INFINITY))

    def lifted() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    return _until_refused(root, limited, lifted)


def _descriptors(root: Path, n: int) -> tuple[int, int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + n % 4, hard))

    def lifted() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return _until_refused(root, limited, lifted, many=True)


def _until_refused(
    root: Path, limited: Callable[[], None], lifted: Callable[[], None], *, many: bool = False
) -> tuple[int, int]:
    """Append until something is refused, lift the limit, and go on with the same object."""
    log = opened(root, "always")
    log.append("s", [e.SessionCreated()], expected_version=0)
    accepted, refused = 0, 0
    limited()
    for n in range(60):
        name = f"t{n}" if many else "s"
        try:
            log.append(
                name,
                [e.SessionCreated()] if many else [said(f"{n} " + "x" * 150)],
                expected_version=0 if many else None,
            )
            accepted += 1
        except EventStoreError:
            refused += 1
            break
    lifted()
    log.append("s", [said("after")])
    assert contents(log)[-1] == "after"
    if not many:
        assert len(contents(log)) == accepted + 1
        assert log.quarantine("s") == [], "a refused append left a tail"
    log.close()
    return accepted, refused


def _small_disk(options: str, counts: Counts) -> None:
    place = Path(tempfile.mkdtemp(prefix="eventstore-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        log = opened(place, "always")
        log.append("s", [e.SessionCreated()], expected_version=0)
        accepted = []
        for n in range(2000):
            try:
                if "inodes" in options:
                    log.append(f"t{n}", [e.SessionCreated()], expected_version=0)
                else:
                    log.append("s", [said(f"{n} " + "x" * 900)])
                    accepted.append(n)
            except EventStoreError:
                counts["refused"] += 1
                break
        subprocess.run(["mount", "-o", "remount,size=8m,nr_inodes=999", place], check=True)
        log.append("s", [said("after")])
        assert [text.split()[0] for text in contents(log)] == [*map(str, accepted), "after"]
        log.close()
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        with suppress(EventStoreError):
            log.append("s", [said("never")])
            raise AssertionError("a read-only disk took an append")
        log.close()
        subprocess.run(["mount", "-o", "remount,rw", place], check=True)
        with opened(place, "always") as fresh:
            fresh.append("s", [said("again")])
            assert contents(fresh)[-2:] == ["after", "again"]
        counts["rounds"] += 1
        counts["accepted"] += len(accepted)
    finally:
        subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()
