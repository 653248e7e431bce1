"""Copies of sessions in the trash: each is imported as a session first, then moved to the trash of the target."""

from collections.abc import Iterator

from eventstore.errors import SessionNotFound, VersionConflict
from eventstore.ids import id_of
from eventstore.log.base import Head
from eventstore.log.ingest import VerifiedLog, verify_whole
from eventstore.record import hash_chain
from eventstore.store.retention import Expiry, Trashed
from eventstore.store.storage import SessionStorage

__all__ = ["copy_trashed"]

_REASON = "it was in the trash of the store that it was copied from"


def copy_trashed(source: SessionStorage, target: SessionStorage, one: Trashed, names: set[str]) -> tuple[str, int]:
    """Copy a session of the trash; return what came of it, `new`, `continued` or `unchanged`, and how many events came.

    `names` is what was last listed of the trash of the target; it is listed again where its registry knows more.

    If the target has a session of that id with the same first events, that session is continued and moved to the trash. An older
    copy in the trash of the target, from before a redaction, is purged. Raises VersionConflict if the target has another session
    of that id, SessionNotFound if the session is no longer in the trash of the source, LogDamaged, LogTampered.
    """
    log, session_id = source.log, id_of(one.name)
    verified = verify_whole(session_id, _chunks(source, one.name), root=log.trashed_root(one.name))
    with target.registry.locked():
        older = _there(target, session_id, verified, names)
        if any(other.head_hash == verified.head.hash for other in older):
            return "unchanged", 0
        try:
            here = target.log.head(session_id)
        except SessionNotFound:
            attachments = ((name, log.read_trashed(one.name, name)) for name in log.trashed_attachments(one.name))
            target.ingest(verified, _chunks(source, one.name), attachments)
            came, outcome = verified.head.version, "new"
        else:
            came, outcome = _continue(source, target, one, here, verified), "continued"
        target.trash_session(session_id, _REASON)
        purge = [
            Expiry(session_id, "purge", _REASON, name=old.name, head_hash=old.head_hash, since=old.since)
            for old in older
        ]
        target.clean_up(purge)
        return outcome, came


def _continue(source: SessionStorage, target: SessionStorage, one: Trashed, here: Head, verified: VerifiedLog) -> int:
    """Append the missing events to the session of the target; return their number. Raises VersionConflict."""
    session_id, data, last = id_of(one.name), list[bytes](), b""
    for seq, line in enumerate(source.log.trashed_lines(one.name), 1):
        if seq == here.version:
            last = line
        elif seq > here.version:
            data.append(line + b"\n")
    parts = hash_chain.split(last)
    if parts is None or parts[1].hex() != here.hash:
        raise VersionConflict(session_id, verified.head.version, here.version)
    if data:
        target.take(session_id, here, b"".join(data))
    return len(data)


def _there(target: SessionStorage, session_id: str, verified: VerifiedLog, names: set[str]) -> list[Trashed]:
    """Return the copies of a session in the trash of the target."""
    found = target.registry.look(
        lambda state: [
            Trashed(session_id, name, one.since, one.events, one.size_bytes, one.head_hash)
            for name, one in state.trashed.items()
            if one.life.first_hash == verified.first_hash and id_of(name) == session_id
        ]
    )
    if any(one.name not in names for one in found):  # another copy, or an earlier step of this one, put it there
        names |= set(target.log.trashed())
    return [one for one in found if one.name in names]


def _chunks(source: SessionStorage, name: str) -> Iterator[bytes]:
    return (line + b"\n" for line in source.log.trashed_lines(name))
