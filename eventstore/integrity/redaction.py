"""Redaction: remove the content of events from logs and everything derived from them; what, when, why and who stay.

Events of a session may be in other logs too: those of its parents, its forks, and sessions in the trash. All logs are
redacted together, and each records it. Order: 1. the store's own log records the redaction; 2. copies that can only be
found by the text are cleaned; 3. each log records the redaction, on stable storage, and is overwritten; 4. derived data
is rebuilt; 5. every file of the store is searched for remains.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from eventstore.errors import EventStoreError, LogDamaged, RedactionRefused, SessionNotFound
from eventstore.events import DataSet, Event, MessageAdded, RecordPut, StoreEventsRedacted
from eventstore.ids import STORE_ID, TEMPLATE
from eventstore.integrity.inside import keep_rest
from eventstore.integrity.redaction_files import clean_records, still_there
from eventstore.integrity.redaction_plan import (
    Log,
    check_found,
    check_redactable,
    holder_of,
    inherited_of,
    leaves_of,
    read_lines,
    read_with_origins,
    relatives,
    searched,
)
from eventstore.integrity.redaction_plan import Redactable as Redactable
from eventstore.integrity.redaction_plan import plan_redactions as plan_redactions
from eventstore.integrity.redaction_steps import Redacted as Redacted
from eventstore.integrity.redaction_steps import Redaction, name_of
from eventstore.integrity.repeats import Repeats
from eventstore.record import codec, tombstone
from eventstore.secret_patterns import Patterns
from eventstore.store.removed_text import Removed
from eventstore.store.storage import SessionStorage

_REPEATED = MessageAdded, RecordPut, DataSet


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
        raise RedactionRefused(
            session_id, min(seqs, default=0), "no reason was given", "give one, for the log records it"
        )
    with storage.registry.locked():
        earlier = finish_redactions(storage)
        log = Log(session_id, trashed)
        lines = read_with_origins(storage, log, seqs)
        check_redactable(session_id, lines)
        events = [codec.decode(lines[seq]) for seq in seqs]
        repeats = Repeats(storage, log)
        originals = repeats.originals(seqs)
        own = {*seqs, *repeats.of(events, originals)}
        leaves = leaves_of(read_with_origins(storage, log, own))
        others = _repeated_elsewhere(storage, log, leaves, events, originals)
        then, kept = leaves.union(*map(leaves_of, others.values())), set[Log]()
        forks = [
            Redaction(storage, other, reason, by, patterns, then=then, kept=kept).run(found)
            for other, found in others.items()
        ]
        one = Redaction(storage, log, reason, by, patterns, kept=kept)
        done = one.run(own)
    left = dict.fromkeys(name for other in (done, *forks, *earlier) for name in other.left)
    more = dict.fromkeys(name for fork in forks for name in fork.logs if name not in done.logs)
    return replace(done, logs=(*done.logs, *more), left=(*left, *still_there(storage, one.removed, left)))


def _repeated_elsewhere(
    storage: SessionStorage,
    asked: Log,
    leaves: set[bytes],
    events: Sequence[Event],
    originals: Mapping[int, bytes],
) -> dict[Log, dict[int, bytes]]:
    """Return what earlier redactions appended to other logs, such as forks, that repeats events without being one of them.

    It is redacted before the events: after a crash in between, it could not be found any more.
    """
    found = dict[Log, dict[int, bytes]]()
    for log in relatives(storage, asked) if any(isinstance(event, _REPEATED) for event in events) else ():
        if log == asked:
            continue
        with suppress(SessionNotFound, LogDamaged):  # it is named in `left` for the events themselves
            lines = read_lines(storage, log, Repeats(storage, log).of(events, originals))
            found[log] = {seq: line for seq, line in lines.items() if tombstone.leaf_of(line) not in leaves}
    return {log: lines for log, lines in found.items() if lines}


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
        return Redaction(storage, log, event.reason, event.by, None).finish(event)
    except (EventStoreError, OSError) as error:
        return Redacted(log.log_id, (), left=(f"{name_of(log)}: an earlier redaction is not finished: {error}",))


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
    then = set[bytes]()
    for log, found in events.items():
        check_found(storage, log, found, finders[log], inside=inside)
        then |= set() if inside else leaves_of(read_lines(storage, log, [one.seq for one in found]))
    done, removed, kept_logs = finish_redactions(storage), Removed(), set[Log]()
    # Forks come first: what they keep of inherited events has no secrets then. What is redacted completely is not kept at all.
    for log, found in sorted(events.items(), key=lambda pair: -inherited_of(storage, pair[0])):
        seqs, finder = {one.seq for one in found}, finders[log]
        kept = _keep_rest(storage, log, seqs, finder) if inside else 0
        with storage.registry.locked():
            redaction = Redaction(
                storage, log, reason, by, finder,
                inside=inside and log.trashed is None, then=then, kept=None if inside else kept_logs,
            )  # fmt: skip
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


def _keep_rest(storage: SessionStorage, log: Log, seqs: set[int], patterns: Patterns) -> int:
    if log.trashed is not None or log.log_id.startswith(TEMPLATE):
        return 0
    lines = read_with_origins(storage, log, seqs)
    check_redactable(log.log_id, lines)  # before anything is appended
    return keep_rest(storage, log.log_id, lines, patterns)
