"""Which sessions a store has, as far as that can be said of a store that is being verified."""

from collections.abc import Iterator
from contextlib import suppress

from eventstore.errors import EventStoreError
from eventstore.ids import STORE_ID, TEMPLATE, check_log_id, id_of
from eventstore.integrity.store_record import StoreRecord, read_store_record
from eventstore.store.storage import SessionStorage


def all_ids(storage: SessionStorage) -> Iterator[str]:
    """List all existing sessions and templates. An empty log is not a session: a refused creation left it."""
    found = set(storage.log.ids())
    with suppress(EventStoreError, OSError):  # if the store's own log cannot be read, its own verdict reports that
        found.update(TEMPLATE + name for name in storage.templates())
    return (one for one in found if is_there(storage, one))


def is_there(storage: SessionStorage, session_id: str) -> bool:
    """Return whether a session exists, also one that cannot be read. Its log is not verified: one read of its end says it."""
    try:
        return storage.log.size_bytes(session_id) > 0 or storage.log.exists(session_id)
    except (EventStoreError, OSError):
        return True  # it exists but cannot be read


def in_trash(storage: SessionStorage) -> set[str]:
    """Name what is in the trash."""
    with suppress(FileNotFoundError):
        return set(storage.log.trashed())
    return set()


def is_known(storage: SessionStorage, session_id: str) -> bool:
    """Return whether anything of a session exists, or the store's own log records that it should exist."""
    check_log_id(session_id)
    return is_there(storage, session_id) or session_id in read_store_record(storage).made


def read_settled(storage: SessionStorage) -> tuple[StoreRecord, list[str]]:
    """Read the store's own log; also return notes on what a crash between two steps explains."""
    record = read_store_record(storage)
    return record, record.settle(set(all_ids(storage)), in_trash(storage))


def read_record(storage: SessionStorage) -> StoreRecord:
    """Read the store's own log as `read_settled` does, and look only at the sessions whose move to or from the trash is open."""
    record, trashed = read_store_record(storage), in_trash(storage)
    record.settle({one for one in map(id_of, record.aside.keys() ^ trashed) if is_there(storage, one)}, trashed)
    return record


def lost_ids(storage: SessionStorage) -> list[str]:
    """List the sessions that the store's own log says should exist, and that have no log: somebody removed or emptied it.

    Empty where the store's own log cannot be read: `verify` reports that.
    """
    found = _missing(storage)
    again = _missing(storage) if found else {}  # one that is deleted or created meanwhile is not missing at both looks
    return sorted(one for one, about in found.items() if again.get(one) == about)


def _missing(storage: SessionStorage) -> dict[str, tuple[object, ...]]:
    """Return the sessions that should exist and have no log, each with what is recorded of it."""
    record, _ = read_settled(storage)
    names = set(record.made).difference(all_ids(storage)) if record.made else ()
    return {one: record.about(one) for one in names}


def is_empty(storage: SessionStorage) -> bool:
    """Return whether there is no session, none in the trash, and no log of the store's own."""
    with suppress(FileNotFoundError):
        return not (any(all_ids(storage)) or in_trash(storage) or is_known(storage, STORE_ID))
    return True
