"""The steps of a redaction, in all logs that share its events.

Order: 1. the store's own log records the redaction; 2. copies that can only be found by the text are cleaned; 3. each log
records the redaction, on stable storage, and is overwritten, forks first; 4. derived data is rebuilt.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from eventstore.backends.files.atomic_folder import clear_stage
from eventstore.derived.catalog import FOLDER as CATALOG
from eventstore.errors import EventStoreError, LogDamaged, RedactionRefused, SessionNotFound
from eventstore.events import (
    InvocationEvent,
    MessageAdded,
    RedactedEvent,
    StoreEventsRedacted,
    StoreRedactionFinished,
)
from eventstore.ids import STORE_ID
from eventstore.integrity.kept_state import has_state, keep_state, redact_keeping
from eventstore.integrity.redaction_files import clean_records, roots_of
from eventstore.integrity.redaction_plan import (
    Copy,
    Log,
    check_redactable,
    facts_lost,
    filled,
    inherited_of,
    leaves_of,
    lines_of,
    read_lines,
    read_with_origins,
    relatives,
)
from eventstore.record import codec, tombstone
from eventstore.secret_patterns import Patterns
from eventstore.store.line_marks import marks_of
from eventstore.store.removed_text import Removed, find_left, mark, needle
from eventstore.store.storage import SessionStorage
from projections.calls import has_input, large_values


@dataclass(frozen=True)
class Redacted:
    """The result of a redaction: which events (`seqs`) of a session, in which logs, in which records of tool calls.

    Events that were redacted before are not included. `kept` is the number of events that have the remaining content.
    `left` names what a person should check: files that tools left; files that still contain a removed text of 8
    characters or more, for example because another event has the same text; and steps that failed, which the next call
    does again. `residue` names where the storage engine keeps removed data for a while; this program cannot change
    that.
    """

    session_id: str
    seqs: tuple[int, ...]
    logs: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    kept: int = 0
    residue: tuple[str, ...] = ()


class Redaction:
    """One redaction, with the store's lock held: its findings, and the steps that failed.

    `imported` are the ids of sessions that an import is about to replace by copies that have the redaction. They are not redacted
    between `begin` and `end`: they would not be beginnings of these copies any more. `then` are the leaf hashes of events that
    the caller redacts with other redactions: nothing of them is appended again. `kept` are the logs whose records and data such
    a redaction has kept already, for all of these events: what they show until the last is redacted does not count.
    """

    def __init__(
        self,
        storage: SessionStorage,
        asked: Log,
        reason: str,
        by: dict[str, Any] | None,
        patterns: Patterns | None,
        *,
        inside: bool = False,
        imported: Collection[str] = (),
        then: Collection[bytes] = (),
        kept: set[Log] | None = None,
    ) -> None:
        self._storage, self._asked, self._reason, self._by = storage, asked, reason, by
        self._imported, self._then, self._lines = imported, then, dict[int, bytes]()
        self._kept = set() if kept is None else kept
        self._kept_before, self._versions = frozenset(self._kept), dict[Log, int]()
        self._new, self._record = list[int](), 0
        self._records, self._untouched = list[str](), list[str]()
        self._secrets = (
            patterns.secrets if patterns is not None and inside else None
        )  # everything that is removed while the rest stays
        self._clean: Callable[[Any], Any] = patterns.replace_in if patterns else mark
        self._is_whole = patterns is None
        self.removed, self._calls, self._whole_calls = Removed(), set[str](), set[str]()
        self._left: dict[str, None] = {}

    def run(self, seqs: Collection[int]) -> Redacted:
        """Redact the events, and those of the same appends that have their foreign lines.

        Steps that need the text run before the logs lose it: after a crash in between, the next call can do them.
        """
        copies = self._announced(read_with_origins(self._storage, self._asked, seqs))
        self._prepare(copies)
        return self._end(copies)

    def begin(self, lines: dict[int, bytes]) -> None:
        """Record the redaction of exactly these lines, also in forks, and do the steps that need the text."""
        copies = self._announced(lines)
        self._prepare(copies)
        self._redact_logs(copy for copy in copies if copy.inherits() and not self._is_imported(copy.log))

    def end(self) -> Redacted:
        """Redact what still has the content after the import, and do the steps that are left."""
        return self._end(self._copies(self._lines))

    def _announced(self, lines: dict[int, bytes]) -> list[Copy]:
        """Record the redaction of lines in the store's own log; return the copies of them."""
        storage, asked = self._storage, self._asked
        check_redactable(asked.log_id, lines)
        self._lines, copies = lines, self._copies(lines)
        self._new = new = sorted({seq for copy in copies for seq in copy.todo()})
        if new:
            leaves = tuple(leaf.hex() for seq in new if (leaf := tombstone.leaf_of(lines[seq])))
            self._record = storage.registry.note(
                StoreEventsRedacted(
                    session_id=asked.log_id,
                    targets=tuple(new),
                    reason=self._reason,
                    by=self._by,
                    leaves=leaves,
                    lines=marks_of(lambda: lines_of(storage, asked), new),
                    whole=self._is_whole,
                )
            )
        return copies

    def _is_imported(self, log: Log) -> bool:
        return log.trashed is None and log.log_id in self._imported

    def finish(self, record: StoreEventsRedacted) -> Redacted | None:
        """Do what is left of a recorded redaction; None if the patterns that it was made with have to do it.

        A log records it after all steps that need the text: then only logs and derived data are left.
        """
        lines = read_lines(self._storage, self._asked, record.targets)
        copies = self._copies(lines)
        self._new, self._record = sorted({seq for copy in copies for seq in copy.todo()}), record.seq
        if self._new and not any(self._has_recorded(copy) for copy in copies):
            if not record.whole:
                return None
            self._prepare(copies)
        return self._end(copies)

    def _copies(self, lines: dict[int, bytes]) -> list[Copy]:
        return (
            [copy for one in relatives(self._storage, self._asked) if (copy := self._copy(one, lines)).lines]
            if lines
            else []
        )

    def _has_recorded(self, copy: Copy) -> bool:
        return copy.lines.keys() <= _recorded_in(self._storage, copy)

    def _prepare(self, copies: list[Copy]) -> None:
        """Do the steps that need the text."""
        storage = self._storage
        self._look_at(copies)
        folders = self._folders(copies)
        for copy in copies:
            with self._noting(f"{name_of(copy.log)}/quarantine"):
                storage.log.scrub(copy.log.log_id, self.removed.values(), trashed=copy.log.trashed)
        self._records, self._untouched = clean_records(storage, folders, self._clean)
        for copy in copies:
            with self._noting(f"{name_of(copy.log)}/values"):
                self._remove_values(copy)
        self._keep_others(copies)

    def _end(self, copies: list[Copy]) -> Redacted:
        """Redact the logs and what is derived from them, and record that it is done unless a step failed."""
        storage, record = self._storage, self._record
        self._redact_logs(copies)
        self._remove_derived(copies)
        self._check_catalog()
        if not self._left:
            with self._noting("the store's own log"):
                _record_finished(storage, self._asked.log_id, copies, record)
        logs = tuple(copy.log.log_id for copy in copies) if record else ()
        left = dict.fromkeys([*self._untouched, *self._left])
        residue = storage.log.capabilities.residue if record else ()
        return Redacted(self._asked.log_id, tuple(self._new), logs, tuple(self._records), tuple(left), residue=residue)

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Continue after an error, and name in `left` what was not done."""
        try:
            yield
        except (EventStoreError, OSError, ValueError, sqlite3.Error) as error:
            self._left[f"{what}: {error}"] = None

    def _copy(self, log: Log, wanted: dict[int, bytes]) -> Copy:
        """Find which of the events a log has, by their leaf hashes."""
        if log == self._asked:
            return self._with_recorded(Copy(log, inherited_of(self._storage, log), wanted))
        lines: dict[int, bytes] = {}
        try:
            found = read_lines(self._storage, log, wanted)
            lines = {
                seq: line for seq, line in found.items() if tombstone.leaf_of(line) == tombstone.leaf_of(wanted[seq])
            }
            return self._with_recorded(Copy(log, inherited_of(self._storage, log) if lines else 0, lines))
        except SessionNotFound:
            return Copy(log, 0, {})  # deleted in the meantime
        except LogDamaged as damage:
            self._left[f"{name_of(log)}: {damage}"] = None
            return Copy(log, 0, {})

    def _with_recorded(self, copy: Copy) -> Copy:
        if copy.lines and copy.inherits():
            copy.recorded = _recorded_in(self._storage, copy)
        return copy

    def _look_at(self, copies: Iterable[Copy]) -> None:
        """Collect the content of the events, from any copy that still has it."""
        seen = set[int]()
        for copy in copies:
            for seq, line in copy.lines.items():
                event = codec.decode(line)
                if seq in seen or isinstance(event, RedactedEvent):
                    continue
                seen.add(seq)
                whole = filled(self._storage, copy.log, event)
                if self._secrets is None:
                    self.removed.add(whole)
                else:
                    for _, secret in self._secrets(whole):
                        self.removed.add_text(secret)
                if isinstance(event, InvocationEvent):
                    self._whole_calls.add(event.invocation_id)
                if isinstance(event, MessageAdded | InvocationEvent) and event.invocation_id is not None:
                    self._calls.add(event.invocation_id)

    def _folders(self, copies: Iterable[Copy]) -> dict[str, None]:
        """Find the folders of the tool calls that the events belong to, from the links in all the logs.

        The record of a call is not cleaned if it is derived from events that stay: then only a message of the call is redacted.
        """
        found: dict[str, None] = {}
        derived = set[str]()
        for copy in copies if self._calls else ():
            for line in lines_of(self._storage, copy.log):
                event = codec.read_invocation(line)
                if has_input(event) and event.invocation_id not in self._whole_calls:
                    derived.add(event.invocation_id)
                if event is not None and event.invocation_dir and event.invocation_id in self._calls - derived:
                    found[event.invocation_dir] = None
        return found

    def _remove_values(self, copy: Copy) -> None:
        """Remove the events' large values from a log's stored values, unless another event of the log has the same value."""
        log, log_id, trashed = self._storage.log, copy.log.log_id, copy.log.trashed
        gone = {digest for line in copy.lines.values() for _, _, digest in large_values(codec.decode(line))}
        gone &= set(log.values(log_id, trashed=trashed))
        gone -= _other_values(self._storage, copy) if gone else set()
        texts = {digest: log.read_value(log_id, digest, trashed=trashed) for digest in gone}
        for digest in gone:
            log.remove_value(log_id, digest, trashed=trashed)
        # A concurrent append stored the value before it was removed here, and has recorded it since.
        for digest in gone & _other_values(self._storage, copy) if gone and not trashed else ():
            log.put_value(log_id, texts[digest])

    def _keep_others(self, copies: Iterable[Copy]) -> None:
        """Append what stays known of calls that lose their events, no input, result or error, and what keeps records and data."""
        for copy in copies:
            log = copy.log
            if log.trashed or self._is_imported(log):
                continue
            try:
                lines = enumerate(lines_of(self._storage, log), 1)
                facts = facts_lost(lines, copy.lines, self._whole_calls) if self._whole_calls else ()
                if facts:
                    self._storage.log.append(log.log_id, facts)
                if self._has_state(copy):
                    self._versions[log] = keep_state(self._storage, log.log_id, copy.lines, self._then)
                    self._kept.add(log)
            except (LogDamaged, SessionNotFound) as error:
                if log == self._asked:
                    raise
                self._left[f"{name_of(log)}: {error}"] = None

    def _has_state(self, copy: Copy) -> bool:
        """Return whether records or data of a log have to be kept, and this redaction has to do it."""
        log = copy.log
        is_ours = not log.trashed and not self._is_imported(log) and log not in self._kept_before
        return is_ours and any(map(has_state, copy.lines.values()))

    def _redact_logs(self, copies: Iterable[Copy]) -> None:
        """Redact in each log. Forks record it first: otherwise a redaction in the parent would look like tampering to them."""
        for copy in sorted(copies, key=lambda one: not one.inherits()):
            if not copy.todo():
                continue
            try:
                self._redact_log(copy)
            except (LogDamaged, SessionNotFound) as error:
                if copy.log == self._asked:
                    raise
                self._left[f"{name_of(copy.log)}: {error}"] = None
            except EventStoreError as error:
                if copy.log == self._asked or copy.inherits():
                    raise
                self._left[f"{name_of(copy.log)}: {error}"] = None

    def _redact_log(self, copy: Copy) -> None:
        log, todo = copy.log, copy.todo()
        redact = partial(self._storage.log.redact, log.log_id, todo, self._reason, self._by, trashed=log.trashed)
        try:
            if self._has_state(copy):
                redact_keeping(redact, self._storage, log.log_id, copy.lines, self._then, self._versions.get(log))
            else:
                redact()
        except (
            RedactionRefused
        ):  # a redaction that a crash interrupted is finished by the next process that locks the log
            copy.lines = read_lines(self._storage, log, copy.lines)
            again = self._with_recorded(copy).todo()
            if again == todo:
                raise
            if again:
                self._storage.log.redact(log.log_id, again, self._reason, self._by, trashed=log.trashed)

    def _remove_derived(self, copies: Iterable[Copy]) -> None:
        """Rebuild what is derived from the logs. No error here may stop the other steps."""
        storage = self._storage
        for copy in copies:
            with self._noting(f"{name_of(copy.log)}: its views"):
                if copy.log.trashed:
                    storage.forget_trashed_views(copy.log.trashed)
                else:
                    storage.refresh_derived(copy.log.log_id)
        with self._noting("_adopt"):
            for root in roots_of(storage):
                clear_stage(root)
        live = [copy.log.log_id for copy in copies if not copy.log.trashed]
        if not _compact(storage, live):
            with self._noting(CATALOG):
                storage.clear_caches()  # in use, or the disk is full: the next list rebuilds it

    def _check_catalog(self) -> None:
        """Delete the catalogue if it still has a text: another program may have written it back in the meantime."""
        if folders := self._storage.local_folders():
            names = [needle(name) for name in self.removed.names if not _is_said(self._storage, self._asked, name)]
            with self._noting(CATALOG):
                roots = [one / CATALOG for one in folders]
                if find_left(roots, [*self.removed.needles(), *names]):
                    self._storage.clear_caches()


def _compact(storage: SessionStorage, session_ids: Iterable[str]) -> bool:
    """Drop the sessions from lists, search and figures, and rewrite those files; return False if that failed."""
    try:
        storage.forget_found(session_ids)
        storage.compact()
    except (sqlite3.Error, OSError, EventStoreError):
        return False
    return True


def _record_finished(storage: SessionStorage, log_id: str, copies: Iterable[Copy], record: int) -> None:
    """Record that a redaction is done, and with it earlier ones of the same events that a kill stopped."""
    registry = storage.registry
    leaves = {leaf.hex() for copy in copies for leaf in leaves_of(copy.lines)}
    for seq in registry.look(lambda state: sorted(state.unfinished)):
        (event,) = storage.log.read(STORE_ID, seq - 1, seq)
        if seq == record or (isinstance(event, StoreEventsRedacted) and leaves.issuperset(event.leaves)):
            registry.note(StoreRedactionFinished(session_id=log_id, record=seq))


def _other_values(storage: SessionStorage, copy: Copy) -> set[str]:
    """Return the large values that other events of a log have."""
    lines = enumerate(lines_of(storage, copy.log), 1)
    return {
        digest for seq, line in lines if seq not in copy.lines for _, _, digest in large_values(codec.read_valued(line))
    }


def _is_said(storage: SessionStorage, log: Log, name: str) -> bool:
    """Check whether the log still has a name that a redacted event also had."""
    text = needle(name).pieces[0]
    return any(text in line for line in lines_of(storage, log))


def _recorded_in(storage: SessionStorage, copy: Copy) -> set[int]:
    """Return the numbers of the events whose redaction a log records."""
    return {one.target for one in codec.read_redactions(lines_of(storage, copy.log, min(copy.lines)))}


def name_of(log: Log) -> str:
    """Return the name of a log as `left` shows it."""
    return f"_trash/{log.trashed}" if log.trashed else log.log_id
