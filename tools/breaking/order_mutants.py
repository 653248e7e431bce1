"""Rules of order and durability, taken out one at a time: for each there is one test of the default suite that must fail then."""

# ruff: noqa: E501 - text of the package is quoted as it stands there

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from breaking.case import Counts
from breaking.object_mutants import OBJECTS
from breaking.postgres_mutants import POSTGRES

ROOT = Path(__file__).parents[2]
_COPIED = ("eventstore", "projections", "tools", "tests")


class OrderMutant(NamedTuple):
    """A rule, the text that keeps it, what stands there instead, and the test that must fail then."""

    rule: str
    file: str
    old: str
    new: str
    test: str


_FILES = "eventstore/backends/files"
_HANDLE, _REWRITING, _NAMING = f"{_FILES}/handle.py", f"{_FILES}/rewriting.py", f"{_FILES}/naming.py"
_REDACTION = "eventstore/integrity/redaction_steps.py"
_ATOMIC, _STAGE, _FOLDERS = f"{_FILES}/atomic.py", f"{_FILES}/atomic_folder.py", f"{_FILES}/folders.py"
_BLOBS, _BACKEND, _ENGINE = f"{_FILES}/blobs.py", f"{_FILES}/backend.py", "eventstore/log/engine.py"
_REGISTRY, _RETENTION = "eventstore/store/registry.py", "eventstore/store/retention.py"

_JOINED, _STEP = "eventstore/log/joined.py", "tests/log/test_joined.py::test_"

_CACHE, _CACHES = "eventstore/derived/cache_file.py", "tests/derived/test_cache_file.py::test_"
_DELETED_CACHES = (
    "tests/derived/test_catalog_faults.py::test_answers_are_right_whenever_the_files_of_the_caches_are_deleted"
)

_SIDE_BY_SIDE = "tests/log/test_interleavings.py::test_"

_ORDER = "tests/backends/files/test_files_order.py::test_"
_STORE = "tests/store/test_store_order.py::test_"
_FAULTS = "tests/backends/files/test_files_faults.py::test_"
_APPEND = _ORDER + "an_append_writes_under_the_lock_and_is_durable_when_it_returns"
_REPLACED = _ORDER + "a_replaced_file_is_durable_before_and_after_it_takes_its_place"
_MOVED = _ORDER + "a_move_is_durable_with_all_that_was_appended"
_INGESTED = _ORDER + "an_ingested_log_is_durable_before_it_is_seen"
_CUT = _ORDER + "a_tail_is_cut_when_its_copy_is_durable[no]"
_NEW_ROOT = _ORDER + "all_folders_of_a_new_root_are_durable"
_KEPT = "tests/integrity/test_redacted_records.py::test_"
_DELETED = _ORDER + "a_deletion_is_durable_and_seen_by_earlier_releases"
_BLOB = _ORDER + "a_blob_is_durable_when_it_is_there"

MUTANTS = [
    # reading
    OrderMutant("lines are read in the life in which they were verified", "eventstore/log/states.py", "        if reading.life != span.life:\n            raise _Replaced\n", "", _SIDE_BY_SIDE + "two_operations_leave_a_whole_store_in_every_order_of_their_steps[read]"),
    OrderMutant("a log that was replaced is not gone on with", "eventstore/log/states.py", "                    if state.digest_at(seq) != digest:\n                        raise SessionNotFound(state.session_id) from None\n", "", _SIDE_BY_SIDE + "two_operations_leave_a_whole_store_in_every_order_of_their_steps[read a part]"),
    OrderMutant("callers are collected after the wait that a store asks for", "eventstore/log/group.py", "                if self._apart:\n                    time.sleep(max(self._due - time.monotonic(), 0.0))\n", "", "tests/log/test_group.py::test_who_comes_during_the_wait_between_two_writes_is_served_by_the_second"),
    # folders and new files
    OrderMutant("sync the folders that new parent folders are in", _FOLDERS, "                    sync_folder(os.path.dirname(folder))\n", "                    pass\n", _NEW_ROOT),
    OrderMutant("sync the folder that a root is in, whoever made it", _FOLDERS, "                    sync_folder(os.path.dirname(self.root))\n", "                    pass\n", _ORDER + "a_new_log_in_a_root_that_a_killed_program_made_has_a_durable_root"),
    OrderMutant("sync the folder that a log's folder is in", _FOLDERS, "                        os.fsync(inside)\n", "                        pass\n", _NEW_ROOT),
    OrderMutant("sync the folder of a new log", _FOLDERS, "                os.fsync(folder)\n", "                pass\n", _FAULTS + "a_new_log_is_answered_when_its_folders_are_durable"),
    # replacing files
    OrderMutant("sync the file that replaces another", _ATOMIC, "                sync_data(file)\n", "                pass\n", _REPLACED),
    OrderMutant("sync before the rename", _ATOMIC, "            if durable:\n                sync_data(file)\n            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)\n", "            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)\n            if durable:\n                sync_data(file)\n", _REPLACED),
    OrderMutant("sync the folder of a replaced file", _ATOMIC, "        os.fsync(folder)\n", "        pass\n", _REPLACED),
    OrderMutant("a fork that is made whole is durable", _REWRITING, "replacing(LOG, folder=folder)", "replacing(LOG, folder=folder, durable=False)", _ORDER + "a_fork_that_is_made_whole_is_durable_before_its_parent_may_go"),
    OrderMutant("a saved position is durable", _BLOBS, "            with open_below(folder, inner, create=True) as inside:\n                os.fsync(folder)  # also if the inner folder exists: its maker may have been killed before this\n                replace_file(last, data, folder=inside", "            with open_below(folder, inner, create=True) as inside:\n                replace_file(last, data, durable=False, folder=inside", _BLOB),
    OrderMutant("a deleted blob stays deleted", _BLOBS, "                os.fsync(inside)\n", "                pass\n", _BLOB),
    # appending
    OrderMutant("write before the lock is released", _HANDLE, "                    self._write(lines, expect, found, tip.digest)\n", "                    self._unlock()\n                    self._write(lines, expect, found, tip.digest)\n", _APPEND),
    OrderMutant("flush before the append returns", _BACKEND, "            handle.flush(tip.offset)\n        return life\n", "            pass\n        return life\n", _APPEND),
    OrderMutant("how far a flush reaches is read before it", _HANDLE, '            reached = self.written  # before the flush: bytes written while it runs are not part of it\n            self.sync("flush")\n', '            self.sync("flush")\n            reached = self.written\n', _FAULTS + "one_flush_does_for_all_who_wait_and_for_nobody_who_came_later"),
    OrderMutant("no flush of bytes that were cut is believed", _HANDLE, "                self._shrank_to(start)\n", "                pass\n", _FAULTS + "a_flush_of_what_was_cut_since_counts_for_nothing"),
    OrderMutant("a flush that failed poisons the handle", _HANDLE, "            self.poison = error.errno or errno.EIO\n            raise NotStored(self.path, self.poison, what) from error", "            raise NotStored(self.path, error.errno or errno.EIO, what) from error", _FAULTS + "after_a_flush_that_failed_nothing_more_is_believed"),
    OrderMutant("the file at the path is the one that is open", _HANDLE, "if (found.st_dev, found.st_ino) == self._opened and found.st_nlink == 1:", "if True:", _ORDER + "a_log_that_was_replaced_under_its_writer_is_not_written_to"),
    OrderMutant("a log is marked before it changes", _HANDLE, "            self.feed.before(self.name)\n            try:\n                self._write(lines, expect,", "            try:\n                self._write(lines, expect,", _ORDER + "a_log_is_marked_as_changing_before_it_changes"),
    OrderMutant("a log is marked again after a look", _HANDLE, "                    self.feed.after(self.name)\n                return True\n", "                    pass\n                return True\n", _ORDER + "a_look_during_an_append_is_followed_by_another_mark"),
    OrderMutant("what readers may have seen of a failed write stays", _HANDLE, "            kept = len(lines) if there == len(lines) else _complete_bytes(lines[: max(there, 0)], expect)\n", "            kept = 0\n", "tests/log/test_appends_together.py::test_what_a_reader_has_seen_of_a_write_that_fails_stays"),
    OrderMutant("an awaited append is reported after its flush", "eventstore/sessions/append_queue.py", "        if written is not None and not written.unflushed and not written.left:\n", "        if written is not None:\n", "tests/sessions/test_async_manager.py::test_an_append_is_not_done_before_its_flush_and_the_event_loop_turns_meanwhile"),
    OrderMutant("what is closed is flushed first", _BACKEND, "                    if not handle.poison:\n                        handle.flush(handle.written)\n", "                    pass\n", _ORDER + "what_is_closed_is_durable_first"),
    OrderMutant("a step whose answer was lost is settled with the same lines", _JOINED, "partial(self.settle_later, one, error)", "partial(self._append_later, one.state, one.pieces)", _STEP + "each_append_is_there_once_whatever_happens_to_the_step[None-lost]"),
    OrderMutant("a step that wrote nothing to a log may have been repeated", _JOINED, "partial(self.settle_later, one)\n", "partial(self._append_later, one.state, one.pieces)\n", _STEP + "each_append_is_there_once_whatever_happens_to_the_step[None-again]"),
    OrderMutant("a log that was deleted behind a lost answer is not the one that lacks the lines", _JOINED, "sync=not is_apart, unclear=error\n", "sync=not is_apart\n", _STEP + "an_append_whose_answer_was_lost_and_whose_log_was_deleted_is_unknown"),
    # cutting and overwriting
    OrderMutant("sync the copy before the cut", _BLOBS, "        replace_file(name, data, folder=inside)\n", "        replace_file(name, data, folder=inside, durable=False)\n", _CUT),
    OrderMutant("sync the folder of the copies before the cut", _BLOBS, "        os.fsync(folder)  # also if the inner folder exists: its maker may have been killed before this\n        replace_file(name", "        replace_file(name", _CUT),
    OrderMutant("sync the cut", _REWRITING, '            handle.sync("cut")\n', "", _CUT),
    OrderMutant("the record is durable before the line is overwritten", _REWRITING, "        handle.flush(found.st_size)\n", "", _ORDER + "a_line_is_overwritten_when_all_that_is_behind_it_is_durable[no]"),
    OrderMutant("sync what was overwritten", _REWRITING, '        handle.sync("overwrite", file)\n', "", _ORDER + "a_line_is_overwritten_when_all_that_is_behind_it_is_durable[no]"),
    OrderMutant("the time of a file shows that it was overwritten", _HANDLE, "(self.size == size and self.mtime_ns != mtime_ns)", "False", "tests/backends/files/test_files_backend.py::test_what_another_program_overwrote_has_to_be_read_again"),
    OrderMutant("record a redaction before the line is overwritten", _ENGINE, "            written = self._appender.write(state, batch, expected_version=expected_version)\n            self._carry_out(state, recorded)\n", "            self._carry_out(state, recorded)\n            written = self._appender.write(state, batch, expected_version=expected_version)\n", _STORE + "a_redaction_is_recorded_by_the_registry_then_by_the_log_and_then_carried_out"),
    OrderMutant("streams are kept before an event of them is redacted", _REDACTION, "return is_ours and any(map(has_state, copy.lines.values()))", "return False", _KEPT + "a_replaced_value_that_is_redacted_leaves_the_later_one_in_its_place"),
    OrderMutant("what keeps a stream was made from its end", "eventstore/integrity/kept_state.py", "append(log_id, kept, expected_version=state.version)", "append(log_id, kept)", _KEPT + "a_value_that_is_put_while_others_are_kept_is_not_replaced_by_an_older_one"),
    OrderMutant("what keeps the rest of an event was made from the end of its log", "eventstore/integrity/inside.py", "numbered, expected_version=version)", "numbered)", _KEPT + "a_value_that_is_put_while_others_are_kept_is_not_replaced_by_an_older_one"),
    OrderMutant("a copy that a killed program left goes from a log that is open here too", _BACKEND, "            handle.remove_unfinished()  # another program may have been killed after this one opened the log\n", "            pass\n", "tests/integrity/test_redaction_left.py::test_an_unfinished_copy_of_the_parent_is_removed"),
    # names
    OrderMutant("sync a log before it moves", _BACKEND, '                handle.sync("move")', '                pass', _MOVED),
    OrderMutant("sync the folder that a log moves to", _NAMING, "            os.fsync(new)\n", "", _MOVED),
    OrderMutant("sync the folder that a log moves from", _NAMING, "            os.fsync(old)\n", "", _MOVED),
    OrderMutant("sync the files of an ingested log", _STAGE, "            sync_data(file)\n", "", _INGESTED),
    OrderMutant("sync the folders of an ingested log", _STAGE, "            os.fsync(inside)\n        *folders", "            pass\n        *folders", _INGESTED),
    OrderMutant("sync the folder that an ingested log is put in", _STAGE, "dst_dir_fd=folder)\n            os.fsync(folder)\n", "dst_dir_fd=folder)\n", _INGESTED),
    OrderMutant("sync the folder that an ingested log was made in", _STAGE, "        os.fsync(self._aside)\n", "", _INGESTED),
    OrderMutant("sync the folder that a log is deleted from", _STAGE, "dst_dir_fd=aside)\n        os.fsync(folder)\n", "dst_dir_fd=aside)\n", _DELETED),
    OrderMutant("a deleted log is disowned by a last byte", _NAMING, '                    os.write(handle.descriptor, b"\\0")\n', "                    pass\n", _DELETED),
    # the registry
    OrderMutant("record a fork before it is made", _REGISTRY, "        self.note(StoreSessionForked(session_id=log_id, parent=parent, upto=version))\n        try:\n            self._log.fork(log_id, parent, version, event)\n        except VersionConflict:\n            kind = \"template\" if log_id.startswith(TEMPLATE) else \"session\"\n            raise SessionExists(log_id.removeprefix(TEMPLATE), kind=kind) from None\n", "        try:\n            self._log.fork(log_id, parent, version, event)\n        except VersionConflict:\n            kind = \"template\" if log_id.startswith(TEMPLATE) else \"session\"\n            raise SessionExists(log_id.removeprefix(TEMPLATE), kind=kind) from None\n        self.note(StoreSessionForked(session_id=log_id, parent=parent, upto=version))\n", _STORE + "a_fork_is_recorded_before_it_is_made"),
    OrderMutant("record a deletion before it is made", _REGISTRY, "        self.announce(deleted, log_id)\n        try:\n            is_gone = self._log.remove(log_id, expected_version=version)\n", "        try:\n            is_gone = self._log.remove(log_id, expected_version=version)\n            self.announce(deleted, log_id)\n", _STORE + "a_deletion_is_recorded_before_it_is_made_and_forks_are_copied_first"),
    OrderMutant("forks are copied before their parent is deleted", _REGISTRY, "        self.make_descendants_independent(log_id)\n        deleted", "        deleted", _STORE + "a_deletion_is_recorded_before_it_is_made_and_forks_are_copied_first"),
    OrderMutant("record that a session is trashed before it moves", _RETENTION, "        self._announce(session_id, name, head, reason)\n        try:\n            moved = self._log.trash(session_id, expected_version=head.version)\n", "        try:\n            moved = self._log.trash(session_id, expected_version=head.version)\n            self._announce(session_id, name, head, reason)\n", _STORE + "a_session_is_recorded_as_trashed_before_it_is_moved_and_as_restored_after"),
    OrderMutant("record that a session is restored after it moved", _RETENTION, "            self._log.restore(name)\n            self._take_back(session_id, name)\n", "            self._take_back(session_id, name)\n            self._log.restore(name)\n", _STORE + "a_session_is_recorded_as_trashed_before_it_is_moved_and_as_restored_after"),
    OrderMutant("record a purge before it is made", _RETENTION, "            self._registry.note(StoreTrashPurged(session_id=planned.session_id, name=planned.name))\n            is_gone = self._log.purge(planned.name)\n", "            is_gone = self._log.purge(planned.name)\n            self._registry.note(StoreTrashPurged(session_id=planned.session_id, name=planned.name))\n", _STORE + "a_purge_is_recorded_before_it_is_made"),
    OrderMutant("a purge compares the hash that was planned", _RETENTION, "(recorded.since, recorded.head_hash) != (planned.since, planned.head_hash)", "recorded.since != planned.since", _STORE + "a_purge_that_was_planned_for_another_log_is_not_made"),
    OrderMutant("a cleanup compares the hash that was planned", _RETENTION, "(before.version, before.hash) != (planned.version, planned.head_hash)", "before.version != planned.version", _STORE + "a_session_that_changed_since_it_was_planned_is_not_trashed"),
    OrderMutant("record the parent of an imported fork before it is there", "eventstore/store/branches.py", "                self.registry.record_origin(verified)\n", "                pass\n", _STORE + "an_imported_fork_is_recorded_as_one_before_it_is_there"),
    # what is derived
    OrderMutant("a child closes the connection of its parent", _CACHE, "        self._shut()\n        self._begin()\n", "        self._base = None\n        self._begin()\n", _CACHES + "a_child_has_locks_of_its_own_though_a_thread_refers_to_the_parents_connection"),
    OrderMutant("nobody opens a cache that is being deleted", _CACHE, "        with _alone(folder):\n", "        with _opening:\n", _CACHES + "no_process_opens_or_closes_a_cache_while_another_one_deletes_it"),
    OrderMutant("nobody closes a cache that is being deleted", _CACHE, "            with _alone(self._folder):  # who", "            with _opening:  # who", _CACHES + "no_process_opens_or_closes_a_cache_while_another_one_deletes_it"),
    OrderMutant("a cache is read as a file only while it is closed", _CACHE, "                one._drop()\n        yield\n", "                pass\n        yield\n", "tests/derived/test_catalog_faults.py::test_a_redaction_reads_a_cache_only_while_no_manager_of_this_process_has_it_open"),
    OrderMutant("rows that somebody deletes meanwhile are not compared", "eventstore/derived/database.py", "found, is_settled = read(base), self.is_at(base, state)\n", "found, is_settled = read(base), True\n", _CACHES + "a_check_beside_a_redaction_of_another_program_accuses_no_session[clear]"),
    OrderMutant("an answer is read from the file that was updated", "eventstore/derived/database.py", "            if is_settled:\n                break\n", "            break\n", _DELETED_CACHES),
    OrderMutant("a token stands for the rows of its own file", "eventstore/derived/database.py", "            if not self.is_at(base, state):  # also a new file: the token says that all rows before it are there\n                return False\n", "", _DELETED_CACHES),
    OrderMutant("states are evicted", "eventstore/derived/state_cache.py", "self._events > self._most_events and", "False and", "tests/derived/test_state_cache.py::test_a_session_longer_than_the_cache_is_not_folded_anew_each_time"),
    OrderMutant("views are not replaced by those of an older state", "eventstore/derived/file_views.py", "            if old and old.version > head.version:\n                return\n", "", _STORE + "views_of_an_older_state_do_not_replace_newer_ones"),
    OrderMutant("a position stands for what was dealt with", "eventstore/subscriptions/subscription.py", "found = self._last = self._given = self._ready.popleft()", "found = self._given = self._done = self._ready.popleft()", "tests/subscriptions/test_follow.py::test_what_was_not_dealt_with_comes_again"),
    *(OrderMutant(*one) for one in OBJECTS),
    *(OrderMutant(*one) for one in POSTGRES),
]  # fmt: skip


def order(_: bool) -> Counts:
    """Remove one rule of order or durability at a time from the package, and run the test that guards it: it must fail."""
    counts = {"mutants": 0, "noticed": 0, "passed_unchanged": 0}
    with copied() as place:
        tests = sorted({mutant.test for mutant in MUTANTS})
        failed = run(place, *tests)
        assert failed == 0, f"tests fail without any change (pytest ended with status {failed})"
        counts["passed_unchanged"] = len(tests)
        missed: list[str] = []
        for mutant in MUTANTS:
            counts["mutants"] += 1
            status = run_changed(place, mutant)
            if status == 1:
                counts["noticed"] += 1
            else:
                missed.append(f"{mutant.rule} (pytest ended with status {status})")
    assert not missed, f"not noticed: {missed}"
    return counts


@contextmanager
def copied() -> Iterator[Path]:
    """Copy the package and its tests to a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="eventstore-order-") as folder:
        place = Path(folder)
        for name in _COPIED:
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", place)
        yield place


def changed(text: str, rule: str, file: str, old: str, new: str) -> str:
    """Take a rule out of the text of its file. A rule whose text is not there exactly once fails: it moved or was rewritten."""
    count = text.count(old)
    assert count == 1, f"the text of the rule {rule!r} is {count} times in {file}, not once"
    return text.replace(old, new)


@contextmanager
def broken(place: Path, rule: str, file: str, old: str, new: str) -> Iterator[None]:
    """Take a rule out of a copy for a while."""
    path = place / file
    text = path.read_text("utf-8")
    path.write_text(changed(text, rule, file, old, new), "utf-8")
    try:
        yield
    finally:
        path.write_text(text, "utf-8")


def run_changed(place: Path, mutant: OrderMutant) -> int:
    """Run the test of a mutant on the changed copy, which is as before afterwards; return the status that pytest ended with."""
    with broken(place, *mutant[:4]):
        return run(place, mutant.test)


def run(place: Path, *tests: str) -> int:
    """Run tests of a copy on the package of that copy; return the status that pytest ended with."""
    return run_python(place, "-m", "pytest", "-q", "-x", "-n", "0", "-m", "", "-p", "no:cacheprovider", *tests)


def run_python(place: Path, *arguments: str) -> int:
    """Run Python on the package of a copy; return its status. Raises TimeoutExpired after 300 seconds.

    It writes no bytecode, which could be taken for that of a file that was changed in the same second.
    """
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, timeout=300).returncode
