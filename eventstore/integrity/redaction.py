"""Redaction: remove the content of events from logs and everything derived from them; what, when, why and who stay.

Events of a session may be in other logs too: those of its parents, its forks, and sessions in the trash. All logs are
redacted together, and each records it. Order: 1. the store's own log records the redaction; 2. copies that can only be
found by the text are cleaned; 3. each log records the redaction, on stable storage, and is overwritten; 4. derived data
is rebuilt; 5. every file of the store is searched for remains.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from eventstore.ids import STORE_ID, TEMPLATE
from eventstore.integrity.inside import keep_rest
from eventstore.integrity.redaction_files import clean_records, roots_of, still_there
from eventstore.integrity.redaction_plan import (
    Copy,
    Log,
    check_found,
    copies_of,
    facts_lost,
    filled,
    holder_of,
    lines_of,
    read_lines,
    read_with_origins,
    relatives,
    searched,
)
from eventstore.integrity.redaction_plan import Redactable as Redactable
from eventstore.integrity.redaction_plan import plan_redactions as plan_redactions
from eventstore.log.redact import record_redaction
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


def redact(
    storage: SessionStorage,
    session_id: str,
    seqs: Sequence[int],
    reason: str,
    by: dict[str, Any] | None = None,
    *,
    trashed: str | None = None,
    patterns: Patterns | None = None,
) -> Redacted:
    """Remove the content of events permanently: from the log, and from everything that was derived from it or has a copy.

    Copies are in the logs of forks, parents and templates, also in the trash; views, catalogue and search index, snapshots,
    quarantine, unfinished files of programs that were killed, and the records of the tool calls that the events belong to
    (with `patterns`, only the matches in them). With an imported event, its foreign line is removed too. On an event that
    was redacted before, this finishes the remaining steps. A step that fails outside the logs is named in `left`; the next
    call does it again.

    Raises RedactionRefused if an event has no text, or the log needs the event; SessionNotFound; LogDamaged: nothing is
    changed then. Raises AppendRefused if a log cannot be written: call again.
    """
    if not reason or not reason.strip():
        raise RedactionRefused(session_id, min(seqs, default=0), "no reason was given")
    with storage.registry.locked():
        earlier = finish_redactions(storage)
        log = Log(session_id, trashed)
        one = _Redaction(storage, log, reason, by, patterns)
        done = one.run({*seqs, *copies_of(storage, log, seqs)})
    left = dict.fromkeys([*done.left, *(name for other in earlier for name in other.left)])
    return replace(done, left=(*left, *still_there(storage, one.removed, left)))


def finish_redactions(storage: SessionStorage) -> list[Redacted]:
    """Finish the redactions that a crash or a failed step left unfinished; return what was done. The next redaction calls it too.

    A redaction of what patterns found that no log has recorded yet is left to the patterns: they find it again.
    """
    if not storage.registry.look(lambda state: bool(state.unfinished)):
        return []
    with storage.registry.locked():
        found = [_finish(storage, seq) for seq in storage.registry.look(lambda state: sorted(state.unfinished))]
    return [one for one in found if one is not None]


def _finish(storage: SessionStorage, record: int) -> Redacted | None:
    (event,) = storage.log.read(STORE_ID, record - 1, record)
    if not isinstance(event, StoreEventsRedacted):
        return None
    log = holder_of(storage, event) or Log(event.session_id)
    try:
        return _Redaction(storage, log, event.reason, event.by, None).finish(event)
    except (EventStoreError, OSError) as error:
        return Redacted(log.log_id, (), left=(f"{_name(log)}: an earlier redaction is not finished: {error}",))


def redact_plan(
    storage: SessionStorage,
    plan: Iterable[Redactable],
    patterns: Patterns | None,
    reason: str,
    by: dict[str, Any] | None = None,
    *,
    inside: bool = False,
) -> list[Redacted]:
    """Carry out a plan; skip places that have an obstacle. Raises as `redact` does; completed steps stay done.

    What is removed from texts is what the plan's own patterns find, and these, if given.

    With `inside`, only the matches are removed: the rest of each event is appended before the event is removed. In the
    trash and in templates, events are removed completely. Forks lose them too: they do not have what is appended to
    their parent.

    The files of the store are searched once, at the end; `left` of the last result names what was found.
    """
    events: dict[Log, list[Redactable]] = {}
    folders: dict[str, list[Redactable]] = {}
    for one in plan:
        if one.obstacle:
            continue
        if one.seq:
            events.setdefault(Log(one.session_id, one.trashed or None), []).append(one)
        else:
            folders.setdefault(one.session_id, []).append(one)
    finders = {log: searched(found, patterns) for log, found in events.items()}
    for log, found in events.items():
        check_found(storage, log, found, finders[log], inside=inside)
    done, removed = finish_redactions(storage), Removed()
    for log, found in events.items():
        seqs, finder = {one.seq for one in found}, finders[log]
        kept = _keep_rest(storage, log, seqs, finder, reason) if inside else 0
        with storage.registry.locked():
            redaction = _Redaction(storage, log, reason, by, finder, inside=inside and log.trashed is None)
            done.append(replace(redaction.run(seqs), kept=kept))
            removed.update(redaction.removed)
    for session_id, found in folders.items():
        storage.registry.note(StoreEventsRedacted(session_id=session_id, targets=(), reason=reason, by=by))
        names = dict.fromkeys(one.folder for one in found)
        records, left = clean_records(storage, names, searched(found, patterns).replace_in)
        unknown = {one.folder for one in found if one.patterns is None} - {*records}
        left += [f"{name}: the patterns found nothing in its record" for name in names if name in unknown]
        if records or left:
            done.append(Redacted(session_id, (), (), tuple(records), tuple(left)))
    if done:
        known = {name for one in done for name in one.left}
        done[-1] = replace(done[-1], left=(*done[-1].left, *still_there(storage, removed, known)))
    return done


def _keep_rest(storage: SessionStorage, log: Log, seqs: set[int], patterns: Patterns, reason: str) -> int:
    if log.trashed is not None or log.log_id.startswith(TEMPLATE):
        return 0
    lines = read_with_origins(storage, log, seqs)
    for seq, line in lines.items():
        if tombstone.read_tombstone(line) is None:
            record_redaction(log.log_id, seq, line, reason, None)  # raises the errors that would stop the redaction
    return keep_rest(storage, log.log_id, lines, patterns)


# --- carrying it out


class _Redaction:
    """One redaction, with the store's lock held: its findings, and the steps that failed."""

    def __init__(
        self,
        storage: SessionStorage,
        asked: Log,
        reason: str,
        by: dict[str, Any] | None,
        patterns: Patterns | None,
        *,
        inside: bool = False,
    ) -> None:
        self._storage, self._asked, self._reason, self._by = storage, asked, reason, by
        self._secrets = (
            patterns.secrets if patterns is not None and inside else None
        )  # everything that is removed while the rest stays
        self._clean: Callable[[Any], Any] = patterns.replace_in if patterns else mark
        self._is_whole = patterns is None
        self.removed, self._calls, self._whole_calls = Removed(), set[str](), set[str]()
        self._left: dict[str, None] = {}

    def run(self, seqs: Collection[int]) -> Redacted:
        """Redact. Steps that need the text run before the logs lose it: after a crash in between, the next call can do them."""
        storage, asked = self._storage, self._asked
        lines = read_with_origins(storage, asked, seqs)
        self._check(lines)
        copies = self._copies(lines)
        new = sorted({seq for copy in copies for seq in copy.todo()})
        record = 0
        if new:
            leaves = tuple(leaf.hex() for seq in new if (leaf := tombstone.leaf_of(lines[seq])))
            record = storage.registry.note(
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
        return self._carry_out(copies, new, record)

    def finish(self, record: StoreEventsRedacted) -> Redacted | None:
        """Do what is left of a recorded redaction; None if the patterns that it was made with have to do it.

        A log records it after all steps that need the text: then only logs and derived data are left.
        """
        lines = read_lines(self._storage, self._asked, record.targets)
        copies = self._copies(lines)
        new = sorted({seq for copy in copies for seq in copy.todo()})
        if new and not any(self._has_recorded(copy) for copy in copies):
            if not record.whole:
                return None
            return self._carry_out(copies, new, record.seq)
        return self._end(copies, new, record.seq)

    def _copies(self, lines: dict[int, bytes]) -> list[Copy]:
        return (
            [copy for one in relatives(self._storage, self._asked) if (copy := self._copy(one, lines)).lines]
            if lines
            else []
        )

    def _has_recorded(self, copy: Copy) -> bool:
        after = lines_of(self._storage, copy.log, min(copy.lines))
        return copy.lines.keys() <= {one.target for one in map(codec.read_redaction, after) if one is not None}

    def _carry_out(self, copies: list[Copy], new: list[int], record: int) -> Redacted:
        storage = self._storage
        self._look_at(copies)
        folders = self._folders(copies)
        for copy in copies:
            with self._noting(f"{_name(copy.log)}/quarantine"):
                storage.log.scrub(copy.log.log_id, self.removed.values(), trashed=copy.log.trashed)
        records, untouched = clean_records(storage, folders, self._clean)
        for copy in copies:
            with self._noting(f"{_name(copy.log)}/values"):
                self._remove_values(copy)
        self._keep_facts(copies)
        return self._end(copies, new, record, records, untouched)

    def _end(
        self,
        copies: list[Copy],
        new: list[int],
        record: int,
        records: Sequence[str] = (),
        untouched: Sequence[str] = (),
    ) -> Redacted:
        """Redact the logs and what is derived from them, and record that it is done unless a step failed."""
        storage = self._storage
        self._redact_logs(copies)
        self._remove_derived(copies)
        self._check_catalog()
        if not self._left:
            with self._noting("the store's own log"):
                self._record_finished(copies, record)
        logs = tuple(copy.log.log_id for copy in copies) if record else ()
        left = dict.fromkeys([*untouched, *self._left])
        residue = storage.log.capabilities.residue if record else ()
        return Redacted(self._asked.log_id, tuple(new), logs, tuple(records), tuple(left), residue=residue)

    def _record_finished(self, copies: Iterable[Copy], record: int) -> None:
        """Record that a redaction is done, and with it earlier ones of the same events that a kill stopped."""
        registry, log_id = self._storage.registry, self._asked.log_id
        leaves = {leaf.hex() for copy in copies for line in copy.lines.values() if (leaf := tombstone.leaf_of(line))}
        for seq in registry.look(lambda state: sorted(state.unfinished)):
            (event,) = self._storage.log.read(STORE_ID, seq - 1, seq)
            if seq == record or (isinstance(event, StoreEventsRedacted) and leaves.issuperset(event.leaves)):
                registry.note(StoreRedactionFinished(session_id=log_id, record=seq))

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Continue after an error, and name in `left` what was not done."""
        try:
            yield
        except (EventStoreError, OSError, ValueError, sqlite3.Error) as error:
            self._left[f"{what}: {error}"] = None

    def _check(self, lines: dict[int, bytes]) -> None:
        """Raise RedactionRefused for an event that cannot be redacted, unless it was redacted before."""
        for seq, line in lines.items():
            if tombstone.read_tombstone(line) is None:
                record_redaction(self._asked.log_id, seq, line, self._reason, self._by)

    def _copy(self, log: Log, wanted: dict[int, bytes]) -> Copy:
        """Find which of the events a log has, by their leaf hashes."""
        if log == self._asked:
            return self._with_recorded(Copy(log, self._inherited(log), wanted))
        lines: dict[int, bytes] = {}
        try:
            found = read_lines(self._storage, log, wanted)
            lines = {
                seq: line for seq, line in found.items() if tombstone.leaf_of(line) == tombstone.leaf_of(wanted[seq])
            }
            return self._with_recorded(Copy(log, self._inherited(log) if lines else 0, lines))
        except SessionNotFound:
            return Copy(log, 0, {})  # deleted in the meantime
        except LogDamaged as damage:
            self._left[f"{_name(log)}: {damage}"] = None
            return Copy(log, 0, {})

    def _inherited(self, log: Log) -> int:
        return 0 if log.trashed else self._storage.log.inherited(log.log_id)

    def _with_recorded(self, copy: Copy) -> Copy:
        if copy.lines and copy.inherits():
            after = lines_of(self._storage, copy.log, min(copy.lines))
            copy.recorded = {one.target for one in map(codec.read_redaction, after) if one is not None}
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
        gone -= self._other_values(copy) if gone else set()
        texts = {digest: log.read_value(log_id, digest, trashed=trashed) for digest in gone}
        for digest in gone:
            log.remove_value(log_id, digest, trashed=trashed)
        # A concurrent append stored the value before it was removed here, and has recorded it since.
        for digest in gone & self._other_values(copy) if gone and not trashed else ():
            log.put_value(log_id, texts[digest])

    def _other_values(self, copy: Copy) -> set[str]:
        """Return the large values that other events of a log have."""
        lines = enumerate(lines_of(self._storage, copy.log), 1)
        return {
            digest
            for seq, line in lines
            if seq not in copy.lines
            for _, _, digest in large_values(codec.read_valued(line))
        }

    def _keep_facts(self, copies: Iterable[Copy]) -> None:
        """Append the facts that stay known about calls that lose their events, as in their records: no input, result or error."""
        for copy in copies if self._whole_calls else ():
            if copy.log.trashed:
                continue
            lines = enumerate(lines_of(self._storage, copy.log), 1)
            facts = facts_lost(lines, copy.lines, self._whole_calls)
            if facts:
                self._storage.log.append(copy.log.log_id, facts)

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
                self._left[f"{_name(copy.log)}: {error}"] = None
            except EventStoreError as error:
                if copy.log == self._asked or copy.inherits():
                    raise
                self._left[f"{_name(copy.log)}: {error}"] = None

    def _redact_log(self, copy: Copy) -> None:
        log, todo = copy.log, copy.todo()
        try:
            self._storage.log.redact(log.log_id, todo, self._reason, self._by, trashed=log.trashed)
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
            with self._noting(f"{_name(copy.log)}: its views"):
                if copy.log.trashed:
                    storage.forget_trashed_views(copy.log.trashed)
                else:
                    storage.refresh_derived(copy.log.log_id)
        with self._noting("_adopt"):
            for root in roots_of(storage):
                clear_stage(root)
        live = [copy.log.log_id for copy in copies if not copy.log.trashed]
        if not self._compact(live):
            with self._noting(CATALOG):
                storage.clear_caches()  # in use, or the disk is full: the next list rebuilds it

    def _compact(self, session_ids: Iterable[str]) -> bool:
        """Drop the sessions from lists, search and figures, and rewrite those files; return False if that failed."""
        try:
            self._storage.forget_found(session_ids)
            self._storage.compact()
        except (sqlite3.Error, OSError, EventStoreError):
            return False
        return True

    def _check_catalog(self) -> None:
        """Delete the catalogue if it still has a text: another program may have written it back in the meantime."""
        if folders := self._storage.local_folders():
            names = [needle(name) for name in self.removed.names if not self._is_said(name)]
            with self._noting(CATALOG):
                if find_left([one / CATALOG for one in folders], [*self.removed.needles(), *names]):
                    self._storage.clear_caches()

    def _is_said(self, name: str) -> bool:
        """Check whether the log still has a name that a redacted event also had."""
        text = needle(name).pieces[0]
        return any(text in line for line in lines_of(self._storage, self._asked))


def _name(log: Log) -> str:
    return f"_trash/{log.trashed}" if log.trashed else log.log_id
