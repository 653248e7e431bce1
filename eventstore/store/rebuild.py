"""Rebuild all views from the logs, or compare them with the logs, on all cores."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.store.local_storage import FileSystemSessionStorage
from eventstore.store.processes import spread


class Rebuilt(NamedTuple):
    """The result for one session: `damage` if its log cannot be read, `difference` if a view differs from the log."""

    session_id: str
    damage: str = ""
    difference: str = ""


def rebuild_all(storage: FileSystemSessionStorage, jobs: int | None = None) -> Iterator[Rebuilt]:
    """Settle the store, delete every view and the catalogue, rebuild them, and yield each session.

    The views of a damaged session stay as they are. Raises OperationRefused where a view cannot be written: the log
    is read instead.
    """
    storage.settle()
    storage.flush_views()
    storage.clear_caches()
    yield from _spread(storage, _rebuild_some, jobs)


def check_all(storage: FileSystemSessionStorage, jobs: int | None = None) -> Iterator[Rebuilt]:
    """Compare views, catalogue, search and figures with the logs, and yield each session. Changes no view.

    Only the first difference of a session is reported. A damaged search index is reported as "all sessions".
    """
    storage.flush_views()
    caches = dict(storage.check_caches())
    if "" in caches:
        yield Rebuilt("all sessions", difference=caches[""])
    for one in _spread(storage, _check_some, jobs):
        difference = one.difference
        if not difference and not one.damage:
            difference = caches.get(one.session_id, "")
        yield one._replace(difference=difference)


def _spread(
    storage: FileSystemSessionStorage, work: Callable[[Path, Path, Sequence[str]], list[Rebuilt]], jobs: int | None
) -> Iterator[Rebuilt]:
    """Distribute sessions to processes, some at a time; few sessions are processed here."""
    do = partial(work, storage.sessions_dir, storage.history_dir)
    yield from spread(sorted(storage.log.ids()), do, jobs or os.cpu_count() or 1)


def _rebuild_some(sessions_dir: Path, history_dir: Path, names: Sequence[str]) -> list[Rebuilt]:
    with FileSystemSessionStorage(sessions_dir, history_dir, fsync="no") as storage:
        return [Rebuilt(name, damage=_damage(storage.rebuild_session, name)) for name in names]


def _check_some(sessions_dir: Path, history_dir: Path, names: Sequence[str]) -> list[Rebuilt]:
    found = []
    with FileSystemSessionStorage(sessions_dir, history_dir, fsync="no") as storage:
        for name in names:
            differences: list[str] = []
            damage = _damage(lambda one: differences.extend(_differences(storage, one)), name)  # noqa: B023 - used at once
            found.append(Rebuilt(name, damage, differences[0] if differences else ""))
    return found


def _differences(storage: FileSystemSessionStorage, session_id: str) -> Iterator[str]:
    yield from storage.check_views(session_id)
    yield from storage.check_calls(session_id)


def _damage(work: Callable[[str], object], name: str) -> str:
    try:
        work(name)
    except LogDamaged as damage:
        return str(damage)
    except SessionNotFound:
        pass  # deleted in the meantime
    return ""
