"""Mutants: the package with one safety rule taken out; some program must notice each."""

# ruff: noqa: E501 - a mutant is one row

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from breaking.case import Counts

ROOT = Path(__file__).parents[2]


class Mutant(NamedTuple):
    """A rule, the text that keeps it, what stands there instead, and the program that should notice."""

    rule: str
    file: str
    old: str
    new: str
    program: str


_FILE, _READING, _WRITING = (
    "eventstore/backends/files/file.py",
    "eventstore/backends/files/reading.py",
    "eventstore/backends/files/writing.py",
)
_BESIDE, _DESCRIPTOR = "eventstore/backends/files/attachments.py", "eventstore/backends/files/descriptor.py"
_FILES, _REDACTION = "eventstore/backends/files/filesystem.py", "eventstore/integrity/redaction.py"
_SCAN, _CODEC = "eventstore/record/scan.py", "eventstore/record/codec.py"
_DUE, _JOURNAL = "eventstore/subscriptions/due.py", "eventstore/subscriptions/journal.py"
MUTANTS = [
    Mutant("flock", _FILE, "fcntl.flock(self.descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass", "writers"),
    Mutant("same inode as the path", _FILE, "return (found.st_dev, found.st_ino) == self._opened and found.st_nlink == 1", "return True", "replaced"),
    Mutant("check the chain", _SCAN, "if digest != parts[1]:", "if False:", "flip"),
    Mutant("check the chain by the chunk", _CODEC, """return digest if line[-HASH_AT:] == b',"hash":"%b"}' % hexlify(digest) else None""", "return digest", "flip"),
    Mutant("whole batches only, by the chunk", _SCAN, "if batch is None or batch[0] + 1 == batch[1]:", "if True:", "cut"),
    Mutant("cut a torn tail", _WRITING, "    if scan.fault is not None:\n        seal_and_write", "    if False:\n        seal_and_write", "cut"),
    Mutant("copy before the cut", _FILE, "keep_bytes(folder, name, self.descriptor, start, size)", "pass", "cut"),
    Mutant("sync the copy", _BESIDE, "            os.fsync(copy)\n", "", "simulate"),
    Mutant("sync the copy's folder", _BESIDE, "        os.fsync(quarantine)\n", "", "simulate"),
    Mutant("flush", _FILE, "os.fdatasync(self.descriptor)", "pass", "simulate"),
    Mutant("sync the folder of a new file", _FILE, "                os.fsync(folder)\n", "                pass\n", "simulate"),
    Mutant("sync the root of a new folder", _FILE, "            os.fsync(root)\n", "            pass\n", "simulate"),
    Mutant("surface a failed flush", _FILE, "raise OutcomeUnknown(self.session_id, self.text, self.poison) from error", "return", "errnos"),
    Mutant("poison after a failed flush", _FILE, "        if self.poison is not None:\n            raise HandlePoisoned", "        if False:\n            raise HandlePoisoned", "errnos"),
    Mutant("cut back on error", _FILE, "                os.ftruncate(self.descriptor, start)\n            except", "                pass\n            except", "errnos"),
    Mutant("finish short writes", _FILE, "    while written < len(data):", "    while False:", "errnos"),
    Mutant("check the size after a write", _FILE, "if os.lseek(self.descriptor, 0, os.SEEK_END) != start + len(data):", "if False:", "errnos"),
    Mutant("whole batches only", _SCAN, "if stub is not None or head.batch is None or head.batch[0] + 1 == head.batch[1]:\n            self._commit", "if True:\n            self._commit", "flip"),
    Mutant("time never goes back", _WRITING, "now if now > here.at else here.at", "now", "clock"),
    Mutant("expected version", _WRITING, "if expected_version is not None and expected_version != version:", "if False:", "machine"),
    Mutant("keys survive a restart", _SCAN, "self.ids.setdefault(head.id, (first, last))", "pass", "machine"),
    Mutant("follow no link", _DESCRIPTOR, "os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW", "os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC", "links"),
    Mutant("the hash at a cursor", _READING, "if after.version and (after.version, digest) != (place.seq, place.digest):", "if False:", "follow"),
    Mutant("an offset is a hint only", _FILE, "if block.startswith(end) and following is not None and int(following[1]) == seq + 1:", "if True:", "follow"),
    Mutant("look without a hint", _DUE, "        if now >= self._next_look:\n            self.look()", "        pass", "follow"),
    Mutant("write down where all stood", _JOURNAL, "        self._positions.write(journal.name, journal.data)\n", "", "follow"),
    Mutant("finish what was told", "eventstore/backends/files/writing.py", "        if seq not in scan.stubs:\n            file.redact", "        if False:\n            file.redact", "redact"),
    Mutant("finish what a reader saw first", _FILE, "            and not self.is_unfinished\n", "", "redact"),
    Mutant("record a redaction, then overwrite", _FILES, "        seal_and_write(file, scan, [batch])\n        file.flush(file.written)\n        finish_redactions(file, scan)", "        [file.redact(one.target, bytes.fromhex(one.leaf)) for one in told]\n        seal_and_write(file, scan, [batch])\n        file.flush(file.written)", "redact"),
    Mutant("forks record a redaction first", _REDACTION, "key=lambda one: not one.inherits()", "key=lambda one: one.inherits()", "redact"),
    Mutant("clean records while the log has the text", _REDACTION, "        records, untouched = _clean_records(storage, folders, self._clean)\n        self._redact_logs(copies)\n", "        self._redact_logs(copies)\n        records, untouched = _clean_records(storage, folders, self._clean)\n", "redact"),
    Mutant("scrub quarantine while the log has the text", _REDACTION, "                storage.log.scrub(copy.log.log_id, self.removed.values(), trashed=copy.log.trashed)\n", "                pass\n", "redact"),
]  # fmt: skip


def mutants(_: bool) -> Counts:
    """Remove one safety rule at a time from the package and run the program that guards it: each removal must be noticed."""
    counts = {"mutants": 0, "noticed": 0, "passed_unchanged": 0}
    missed: list[str] = []
    for program in sorted({mutant.program for mutant in MUTANTS}):
        unchanged = Mutant("none", _FILE, "", "", program)
        assert not _is_noticed(unchanged), f"{program} fails without any change"
        counts["passed_unchanged"] += 1
    for mutant in MUTANTS:
        counts["mutants"] += 1
        if _is_noticed(mutant):
            counts["noticed"] += 1
        else:
            missed.append(mutant.rule)
    assert not missed, f"not noticed: {missed}"
    return counts


def _is_noticed(mutant: Mutant) -> bool:
    with tempfile.TemporaryDirectory(prefix="eventstore-mutant-") as place:
        for name in ("eventstore", "projections", "tools", "tests"):
            shutil.copytree(ROOT / name, Path(place, name), ignore=shutil.ignore_patterns("__pycache__"))
        path = Path(place, mutant.file)
        text = path.read_text("utf-8")
        assert mutant.old in text, f"the text of the rule {mutant.rule!r} is gone from {mutant.file}"
        path.write_text(text.replace(mutant.old, mutant.new), "utf-8")
        command = [sys.executable, str(Path(place, "tools", "faults.py")), mutant.program]
        environment = {**os.environ, "PYTHONPATH": place}
        try:
            result = subprocess.run(command, cwd=place, env=environment, capture_output=True, timeout=60)
        except subprocess.TimeoutExpired:
            return True
        return result.returncode == 1
