"""Import many files: each separately, so that a refused one stops no other; and continue with new lines."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import time_ns

from eventstore.errors import EventStoreError
from eventstore.importers.files import import_file
from eventstore.importers.lines import open_transcript
from eventstore.importers.session_import import Rewritten
from eventstore.importers.sources import find_sources, places
from eventstore.importers.transcript import Format, Imported, look
from eventstore.store.storage import SessionStorage

Result = Imported | EventStoreError | OSError
_SETTLE_MS = 300
_LOOK_MS = 500  # between two looks for a folder that is not there yet


@dataclass(frozen=True)
class Options:
    """How to import: see `import_transcript`. With `replace` the session of a rewritten file is moved to the trash first."""

    again: bool = False
    session_id: str | None = None
    replace: bool = False
    records: bool = False


def import_all(
    storage: SessionStorage, files: Iterable[tuple[Format, Path]], options: Options | None = None
) -> Iterator[Result]:
    """Import files in order, and yield what became of each: the result, or the error that refused it."""
    look(storage)
    for form, path in files:
        try:
            yield from _import(storage, form, path, options or Options())
        except (EventStoreError, OSError) as error:
            yield error


def _import(storage: SessionStorage, form: Format, path: Path, options: Options) -> list[Imported]:
    def run(*, session_id: str | None, replaces: bool = False) -> list[Imported]:
        return import_file(
            storage,
            form,
            path,
            looked=True,
            records=options.records,
            again=options.again,
            replaces=replaces,
            session_id=session_id,
        )

    if not options.replace:
        return run(session_id=options.session_id)
    with open_transcript(path) as file:
        name = options.session_id or form.session_id_of(path, file.read(1 << 20))
    try:
        return run(session_id=name)
    except Rewritten:
        storage.trash_session(name, "replaced by another import of its file")
        look(storage)
        return run(session_id=name, replaces=True)


def watch_homes(
    storage: SessionStorage,
    form: str | None = None,
    paths: Sequence[Path] = (),
    options: Options | None = None,
    stop: Event | None = None,
    *,
    since_ns: int | None = None,
) -> Iterator[Result]:
    """Import what is written in the folders of agents, or below the paths, until `stop` is set; yield what became of it.

    A folder or file that is not there yet is waited for. What was written before `since_ns` (nanoseconds since 1970, by default
    now) is left to `import_all`.
    """
    since = time_ns() if since_ns is None else since_ns
    stop = stop or Event()
    there = {one for one in places(form, paths) if one.is_dir()}
    unseen: set[Path] | None = set()  # folders that are new, to be looked at once; None when that is done
    while not stop.is_set():
        missing = [one for one in places(form, paths) if one not in there]
        for changed in _changes(there, stop):
            if changed or unseen is not None:
                files = find_sources(form, paths, waiting=True).files
                now = [one for one in files if _is_new(one[1], changed, unseen, since)]
                unseen = None
                yield from _grown(import_all(storage, now, options))
            if new := {one for one in missing if one.is_dir()}:
                there, unseen = there | new, new
                break
        else:
            return  # Ctrl-C, or `stop`


def _is_new(path: Path, changed: set[Path], folders: set[Path] | None, since_ns: int) -> bool:
    """Return whether a file changed, or must be imported at the first look at some folders.

    A new folder is told of, but not always what was written in it before it was watched.
    """
    resolved = path.resolve()
    if not changed.isdisjoint((resolved, *resolved.parents)):
        return True
    with suppress(OSError):
        return folders is not None and (
            any(path.is_relative_to(one) for one in folders) or path.stat().st_mtime_ns >= since_ns
        )
    return False


def _grown(results: Iterable[Result]) -> Iterator[Result]:
    return (one for one in results if isinstance(one, Exception) or one.events)


def _changes(folders: set[Path], stop: Event) -> Iterator[set[Path]]:
    """Yield the files and folders that changed in folders; an empty set where nothing did for a while."""
    from watchfiles import watch

    if not folders:
        while not stop.wait(_LOOK_MS / 1000):
            yield set()
        return
    watching = watch(
        *sorted(folders),
        stop_event=stop,
        debounce=_SETTLE_MS,
        watch_filter=None,
        yield_on_timeout=True,
        rust_timeout=_LOOK_MS,
    )
    with suppress(KeyboardInterrupt):  # the end of the watch
        for changes in watching:
            yield {Path(name).resolve() for _, name in changes}
