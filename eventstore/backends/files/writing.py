"""What a writer does to a log under its lock: make it whole, check, number, write, and move the scan behind what it wrote."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from msgspec.structs import replace

from eventstore.backends.files.file import LogFile
from eventstore.backends.files.lines import read_lines
from eventstore.errors import AppendRefused, EventStoreError, IdReused, SessionNotFound, VersionConflict
from eventstore.events import Event, UnknownEvent
from eventstore.log.base import Appended, Written, types_of
from eventstore.log.batch import Batch, find_repeat, prepare, refuse_known, seal
from eventstore.record import clock, codec
from eventstore.record.salvage import Remnant
from eventstore.record.scan import Scan

_TELLING = b'{"type":"event.redacted",'
_REPAIR_BATCH = 200


@contextmanager
def locked(file: LogFile, *, create: bool, wait: bool = True) -> Iterator[None]:
    """Hold the mutex and the lock of a log that is surely the file at its path.

    Raises BlockingIOError where it must not wait and would have to.
    """
    if not file.writing.acquire(blocking=wait):
        raise BlockingIOError(errno.EAGAIN, "somebody is appending", file.text)
    try:
        file.lock(create=create, wait=wait)
        try:
            with file.scanning:
                yield
        finally:
            file.unlock()
    finally:
        file.writing.release()


def append_batch(file: LogFile, batch: Batch, expected_version: int | None) -> Appended:
    """Append one batch, for one caller."""
    try:
        with file.writing:
            file.lock(create=expected_version == 0)
            try:
                with file.scanning:
                    return _append_locked(file, batch, expected_version)
            finally:
                file.unlock()
    except OSError as error:
        raise refused(file, error) from error


def _append_locked(file: LogFile, batch: Batch, expected_version: int | None) -> Appended:
    scan = file.scan if file.is_verified() else ready(file)
    if batch.ids:
        repeat = find_repeat(file.session_id, batch, scan.ids)
        if repeat is not None:
            return repeat
    if expected_version is not None or not scan.here.seq:
        check_version(file, scan, expected_version)
    if scan.fault is not None:
        cut_tail(file, scan)
    here = scan.here
    first, now = here.seq + 1, clock.now()
    data, after = seal(batch, here, now if now > here.at else here.at)
    file.write(data, here.offset)
    scan.here = after
    if batch.ids:
        scan.ids.update(dict.fromkeys(batch.ids, (first, after.seq)))
    return Appended(first, after.seq)


def append_group(file: LogFile, prepared: Sequence[tuple[int, Batch, int | None]], written: Written) -> None:
    """Append batches in order, those that ask for nothing with one write."""
    plain: list[tuple[int, Batch]] = []
    for place, batch, expected_version in prepared:
        if expected_version is None and not batch.ids:
            plain.append((place, batch))
            continue
        _append_plain_locked(file, plain, written)
        plain = []
        try:
            written.outcomes[place] = _append_locked(file, batch, expected_version)
        except (IdReused, VersionConflict, SessionNotFound) as error:
            written.outcomes[place] = error
    _append_plain_locked(file, plain, written)


def _append_plain_locked(file: LogFile, plain: Sequence[tuple[int, Batch]], written: Written) -> None:
    if not plain:
        return
    scan = file.scan if file.is_verified() else ready(file)
    check_version(file, scan, None)
    seq = cut_tail(file, scan)
    seal_and_write(file, scan, [batch for _, batch in plain])
    for place, batch in plain:
        last = seq + len(batch.pieces) - 1
        written.outcomes[place] = Appended(seq, last)
        seq = last + 1


def append_batches(file: LogFile, batches: Sequence[Batch], expected_version: int) -> Appended:
    """Append several batches of one caller with one write."""
    scan = ready(file)
    refuse_known(file.session_id, batches, scan.ids)
    check_version(file, scan, expected_version)
    first = cut_tail(file, scan)
    seal_and_write(file, scan, batches)
    return Appended(first, scan.here.seq)


def ready(file: LogFile) -> Scan:
    """Verify what others wrote, and raise what is damaged."""
    scan = file.verify(file.descriptor)
    if scan.missing_lf:
        file.finish_last_line()
        scan = file.verify(file.descriptor)
    if scan.fault is not None and not scan.fault.torn and _finish_torn_redaction(file, scan):
        scan = file.verify(file.descriptor)
    damage = file.damage(scan)
    if damage:
        raise damage
    finish_redactions(file, scan)
    return scan


def finish_redactions(file: LogFile, scan: Scan) -> None:
    """Overwrite what the log says was redacted, and a crash or somebody else left."""
    for seq in file.own_redactions(scan):
        if seq not in scan.stubs:
            file.redact(seq, scan.redactions[seq])
    file.is_unfinished = False


def _finish_torn_redaction(file: LogFile, scan: Scan) -> bool:
    """Overwrite a line again that a power cut left overwritten in part, if that is what is wrong."""
    assert scan.fault is not None  # noqa: S101 - asked before
    leaf = file.told_redaction(scan.fault.line)
    return leaf is not None and file.redact(scan.fault.line, leaf)


def check_version(file: LogFile, scan: Scan, expected_version: int | None) -> None:
    """Raise SessionNotFound or VersionConflict where a log is not at the version that its caller decided on."""
    version = scan.here.seq
    if not version and expected_version != 0:
        raise SessionNotFound(file.session_id)
    if expected_version is not None and expected_version != version:
        between = read_lines(file.descriptor, expected_version, 20, scan.here.offset)
        raise VersionConflict(file.session_id, expected_version, version, types_of(between))


def cut_tail(file: LogFile, scan: Scan) -> int:
    """Cut a torn tail, record that, and return the number that comes next."""
    if scan.fault is not None:
        seal_and_write(file, scan, [prepare([file.cut(scan, "torn tail")], codec.MAX_EVENT_BYTES)])
    return scan.here.seq + 1


def seal_and_write(file: LogFile, scan: Scan, batches: Sequence[Batch]) -> None:
    """Give batches their places, write them at once, and move the scan behind them."""
    here, at = scan.here, max(clock.now(), scan.here.at)
    parts: list[bytes] = []
    ids: dict[str, tuple[int, int]] = {}
    for batch in batches:
        first = here.seq + 1
        data, here = seal(batch, here, at)
        parts.append(data)
        ids.update(dict.fromkeys(batch.ids, (first, here.seq)))
    data = b"".join(parts)
    file.write(data, scan.here.offset)
    scan.here = here
    if _TELLING in data:
        scan.note(codec.lines(data))
    scan.ids.update(ids)


def append_repair(file: LogFile, scan: Scan, restored: Sequence[Event]) -> None:
    """Cut what is behind the scan, record it, and append the restored events in batches."""
    assert scan.fault is not None  # noqa: S101 - callers repair only where there is a fault
    reason = "torn tail" if scan.fault.torn else f"damage: line {scan.fault.line} {scan.fault.reason}"
    events: list[Event] = [file.cut(scan, reason), *restored]
    for start in range(0, len(events), _REPAIR_BATCH):
        seal_and_write(file, scan, [prepare(events[start : start + _REPAIR_BATCH], codec.MAX_EVENT_BYTES * 2)])


def restorable(remnants: Sequence[Remnant]) -> list[Event]:
    """Pick the records behind damage that can be appended anew: those that are proven or linked and that this release knows."""
    found = (remnant.event() for remnant in remnants if remnant.standing in ("linked", "proven"))
    return [
        replace(event, occurred_at=event.time)
        for event in found
        if event is not None and not isinstance(event, UnknownEvent)
    ]


def give(written: Written, prepared: Sequence[tuple[int, Batch, int | None]], error: EventStoreError) -> None:
    """Let an error be the outcome of all that have none yet."""
    for place, _, _ in prepared:
        written.outcomes[place] = written.outcomes[place] or error


def refused(file: LogFile, error: OSError) -> EventStoreError:
    """Say what an error of the system means for an append."""
    if isinstance(error, EventStoreError):
        return error
    return AppendRefused(file.session_id, file.text, error.errno or errno.EIO)
