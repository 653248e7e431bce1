"""The store's own log: what came into being, what goes on from what, what was deleted. Forks, templates and deleting."""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eventstore.derived.state_cache import Folds
from eventstore.errors import LogDamaged, SessionExists, SessionNotFound, VersionConflict
from eventstore.events import Event, SessionCreated, StoreSessionCreated, StoreSessionDeleted, StoreSessionForked
from eventstore.ids import STORE_ID, TEMPLATE, check_session_id
from eventstore.log.base import Head
from eventstore.log.engine import EventLog
from eventstore.log.ingest import Whole
from projections import store as store_fold

_STORE_EVENTS = 5_000_000
_LOCK = "_lock"


class Lineages:
    """What the sessions of a log have to do with each other. Safe for threads, with a `folder` for processes too."""

    def __init__(self, log: EventLog, folder: Path | None = None) -> None:
        self._log, self._folder = log, folder
        self._stores = Folds(log, store_fold.projection, _STORE_EVENTS)
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Let go of what another thread held when the process was forked."""
        self._forking = threading.RLock()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold off others who fork, delete, put in the trash or restore: a parent goes only when no fork of it is being made."""
        with self._forking:
            if self._folder is None:
                yield
                return
            self._folder.mkdir(0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            file = os.open(self._folder / _LOCK, flags, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
            finally:
                os.close(file)

    # --- the store's own log

    def note(self, event: Event) -> None:
        """Append to the store's own log, making it where it is not there yet."""
        try:
            self._log.append(STORE_ID, [event])
        except SessionNotFound:
            try:
                self._log.append(STORE_ID, [event], expected_version=0)
            except VersionConflict:
                self._log.append(STORE_ID, [event])

    def note_created(self, session_id: str, version: int = 0) -> None:
        """Note that a session came into being; its own first event stands behind `version` inherited ones."""
        first = next(self._log.read(session_id, version, version + 1))
        self.note(StoreSessionCreated(session_id=session_id, first_hash=first.hash))

    def note_origin(self, whole: Whole) -> None:
        """Note that a log that is taken in is about to go on from another."""
        assert whole.origin is not None  # noqa: S101 - asked before
        origin = whole.origin
        self.note(StoreSessionForked(session_id=whole.session_id, parent=origin.parent, upto=origin.seq))

    def note_adopted(self, whole: Whole, *, ended: int = 0, is_new: bool = False) -> None:
        """Let the store's own log tell of a log that was taken in, where it does not, say because a crash came in between.

        Of one that `is_new` it tells in any case: what was there under that id before, and did not end, is not this one.
        """
        state = self.state()
        if ended > state.used.get(whole.session_id, 0):
            reason = "told by the archive that the session of this id came from"
            self.note(
                StoreSessionDeleted(
                    session_id=whole.session_id, events=ended, size_bytes=0, head_hash="", reason=reason
                )
            )
            state = self.state()
        if whole.origin and whole.session_id not in state.parents:
            self.note_origin(whole)
        if is_new or whole.session_id not in state.there:
            self.note(StoreSessionCreated(session_id=whole.session_id, first_hash=whole.first_hash))

    def state(self) -> store_fold.State:
        """Fold the store's own log; the state is shared, nobody changes it."""
        try:
            return self._stores.get(STORE_ID).state
        except SessionNotFound:
            return store_fold.State()

    # --- forks

    def fork(self, session_id: str, parent: str, version: int, event: SessionCreated) -> None:
        """Begin a session with the first `version` events of another, as `EventLog.fork` does. Raises as that does."""
        with self.locked():
            if self._log.exists(session_id):
                raise SessionExists(session_id)
            self._fork(session_id, parent, version, event)

    def _fork(self, log_id: str, parent: str, version: int, event: SessionCreated) -> None:
        self._log.point_at(parent, version)
        self.note(StoreSessionForked(session_id=log_id, parent=parent, upto=version))
        try:
            self._log.fork(log_id, parent, version, event)
        except VersionConflict:
            raise SessionExists(log_id.removeprefix(TEMPLATE)) from None
        self.note_created(log_id, version)

    def save_template(self, name: str, parent: str, version: int, event: SessionCreated) -> None:
        """Keep the first `version` events of a session as a template. Raises SessionExists where the name is taken."""
        with self.locked():
            if self._log.exists(TEMPLATE + check_session_id(name)):
                raise SessionExists(name)
            self._fork(TEMPLATE + name, parent, version, event)

    def template(self, name: str) -> tuple[str, int]:
        """Give the id of a template's log, and its version. Raises SessionNotFound for the template."""
        try:
            log_id = TEMPLATE + check_session_id(name)
            return log_id, self._log.head(log_id).version
        except SessionNotFound:
            raise SessionNotFound(name) from None

    def templates(self) -> list[str]:
        """List the names of templates, of damaged ones too."""
        return [name for name in self.state().templates() if self._is_there(TEMPLATE + name)]

    def _is_there(self, log_id: str) -> bool:
        try:
            return self._log.exists(log_id)
        except LogDamaged:
            return True

    def make_descendants_whole(self, log_id: str) -> None:
        """Copy to the forks of a session what they have of it, before it goes. Raises LogDamaged."""
        for one in self.state().descendants(log_id):
            with suppress(SessionNotFound):
                self._log.make_whole(one)

    # --- ends

    def delete(self, log_id: str, reason: str | None, forget: Callable[[str], None]) -> bool:
        """Delete a session or a template for good, a damaged one too; False where there was none.

        `forget` is called before the log goes. Raises LogDamaged where a fork cannot be made whole: then nothing is deleted.
        """
        with self.locked():
            while True:
                try:
                    return self._delete(log_id, reason, forget)
                except VersionConflict:
                    continue  # somebody appended since it was told how much goes: tell again

    def _delete(self, log_id: str, reason: str | None, forget: Callable[[str], None]) -> bool:
        version: int | None = None
        try:
            head = self._log.head(log_id)
            version = head.version
        except SessionNotFound:
            return False
        except LogDamaged as damage:
            head = Head(damage.readable, "", "", damage.offset_bytes)
            reason = f"{reason or 'no reason given'}; its log was damaged at line {damage.line}"
        self.make_descendants_whole(log_id)
        self.note(
            StoreSessionDeleted(
                session_id=log_id,
                events=head.version,
                size_bytes=head.size_bytes,
                head_hash=head.hash,
                reason=reason,
            )
        )
        forget(log_id)
        return self._log.remove(log_id, expected_version=version)
