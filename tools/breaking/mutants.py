"""Mutants: the package with one safety rule taken out; some program must notice each."""

# ruff: noqa: E501 - a mutant is one row

import subprocess
from pathlib import Path
from typing import NamedTuple

from breaking.case import Counts
from breaking.order_mutants import broken, copied, run_python


class Mutant(NamedTuple):
    """A rule, the text that keeps it, what stands there instead, and the program that should notice."""

    rule: str
    file: str
    old: str
    new: str
    program: str


_HANDLE, _REWRITING = "eventstore/backends/files/handle.py", "eventstore/backends/files/rewriting.py"
_FOLDERS, _DESCRIPTOR = "eventstore/backends/files/folders.py", "eventstore/backends/files/descriptor.py"
_ATOMIC, _CHUNKS = "eventstore/backends/files/atomic.py", "eventstore/backends/files/chunks.py"
_DURABILITY = "eventstore/backends/files/durability.py"
_APPEND, _ENGINE, _REDACT = "eventstore/log/append.py", "eventstore/log/engine.py", "eventstore/log/redact.py"
_REDACTION = "eventstore/integrity/redaction_steps.py"
_SCAN, _CHAIN = "eventstore/record/scan.py", "eventstore/record/hash_chain.py"
_DUE, _JOURNAL = "eventstore/subscriptions/due.py", "eventstore/subscriptions/journal.py"
_WRITER = "eventstore/log/writer.py"
MUTANTS = [
    Mutant("flock", _HANDLE, "fcntl.flock(self.descriptor, fcntl.LOCK_EX)", "pass", "writers"),
    Mutant("same inode as the path", _HANDLE, "                if (found.st_dev, found.st_ino) == self._opened and found.st_nlink == 1:\n                    if", "                if True:\n                    if", "replaced"),
    Mutant("check the chain", _SCAN, "if digest != parts[1]:", "if False:", "flip"),
    Mutant("check the chain by the chunk", _CHAIN, """return digest if line[-HASH_AT:] == b',"hash":"%b"}' % hexlify(digest) else None""", "return digest", "flip"),
    Mutant("whole batches only, by the chunk", _SCAN, "if batch is None or batch[0] + 1 == batch[1]:", "if True:", "cut"),
    Mutant("whole batches only", _SCAN, "if stub is not None or head.batch is None or head.batch[0] + 1 == head.batch[1]:\n            self._commit", "if True:\n            self._commit", "flip"),
    Mutant("cut a torn tail", _APPEND, "        if scan.fault is not None:\n            if not self.cut_tail", "        if False:\n            if not self.cut_tail", "cut"),
    Mutant("copy before the cut", _REWRITING, "put_below(folder, [QUARANTINE], name, blocks(handle.descriptor, start, size))", "pass", "cut"),
    Mutant("sync the copy", _ATOMIC, "                sync_data(file)\n", "                pass\n", "simulate"),
    Mutant("sync the copy's folder", _ATOMIC, "        os.fsync(folder)\n", "        pass\n", "simulate"),
    Mutant("flush", _DURABILITY, """getattr(os, "fdatasync", os.fsync)(descriptor)""", "pass", "simulate"),
    Mutant("sync the folder of a new file", _FOLDERS, "                os.fsync(folder)\n", "                pass\n", "simulate"),
    Mutant("sync the root of a new folder", _FOLDERS, "                        os.fsync(inside)\n", "                        pass\n", "simulate"),
    Mutant("surface a failed flush", _HANDLE, "raise NotStored(self.path, self.poison, what) from error", "return", "errnos"),
    Mutant("poison after a failed flush", _HANDLE, "        if self.poison:\n            raise Poisoned", "        if False:\n            raise Poisoned", "errnos"),
    Mutant("cut back on error", _HANDLE, "                os.ftruncate(self.descriptor, start + kept)\n", "                pass\n", "errnos"),
    Mutant("finish short writes", _HANDLE, "            while written < len(lines):", "            while False:", "errnos"),
    Mutant("check the size after a write", _HANDLE, "if self.note_change(found, digest) != start + len(lines):", "if self.note_change(found, digest) < 0:", "errnos"),
    Mutant("time never goes back", _WRITER, "at = at if at > here.at else here.at", "at = clock.now()", "clock"),
    Mutant("expected version", _APPEND, "if expected_version is not None and expected_version != version:", "if False:", "machine"),
    Mutant("keys survive a restart", _SCAN, "self.ids.setdefault(head.id, (head.seq - index, head.seq - index + count - 1))", "pass", "machine"),
    Mutant("follow no link", _DESCRIPTOR, "os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW", "os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC", "links"),
    Mutant("an offset is a hint only", _CHUNKS, "        if block.startswith(end):\n            following = SEQ.match(block, len(end))\n            if (following and int(following[1]) == tip.seq + 1) or _is_numbered(descriptor, tip):\n                return tip.offset\n", "        return tip.offset\n", "follow"),
    Mutant("look without a hint", _DUE, "        if now >= self._next_look:\n            self.look()", "        pass", "follow"),
    Mutant("write down where all stood", _JOURNAL, "        self._positions.write(journal.name, journal.data)\n", "", "follow"),
    Mutant("finish what was told", _REDACT, "    for seq in state.unfinished:\n", "    for seq in ():\n", "redact"),
    Mutant("finish what a reader saw first", _APPEND, " or bool(state.unfinished)", "", "redact"),
    Mutant("record a redaction, then overwrite", _ENGINE, "            written = self._appender.write(state, batch, expected_version=expected_version)\n            self._carry_out(state, recorded)\n", "            self._carry_out(state, recorded)\n            written = self._appender.write(state, batch, expected_version=expected_version)\n", "redact"),
    Mutant("remove what a killed copy left", _HANDLE, "os.unlink(temporary_name(LOG), dir_fd=folder)", "pass", "redact"),
    Mutant("forks record a redaction first", _REDACTION, "key=lambda one: not one.inherits()", "key=lambda one: one.inherits()", "redact"),
    Mutant("clean records while the log has the text", _REDACTION, "        self._records, self._untouched = clean_records(storage, folders, self._clean)\n", "        self._redact_logs(copies)\n        self._records, self._untouched = clean_records(storage, folders, self._clean)\n", "redact"),
    Mutant("scrub quarantine while the log has the text", _REDACTION, "                storage.log.scrub(copy.log.log_id, self.removed.values(), trashed=copy.log.trashed)\n", "                pass\n", "redact"),
]  # fmt: skip


def mutants(_: bool) -> Counts:
    """Remove one safety rule at a time from the package and run the program that guards it: each removal must be noticed."""
    counts = {"mutants": 0, "noticed": 0, "passed_unchanged": 0}
    missed: list[str] = []
    with copied() as place:
        for program in sorted({mutant.program for mutant in MUTANTS}):
            assert not _fails(place, program), f"{program} fails without any change"
            counts["passed_unchanged"] += 1
        for mutant in MUTANTS:
            counts["mutants"] += 1
            with broken(place, *mutant[:4]):
                if _fails(place, mutant.program):
                    counts["noticed"] += 1
                else:
                    missed.append(mutant.rule)
    assert not missed, f"not noticed: {missed}"
    return counts


def _fails(place: Path, program: str) -> bool:
    """Return whether a program of a copy fails, or hangs, which none does for so long."""
    try:
        return run_python(place, str(place / "tools" / "faults.py"), program) == 1
    except subprocess.TimeoutExpired:
        return True
