"""Templates: saved beginnings from which sessions are created."""

from collections.abc import Callable

from eventstore.events import SessionCreated
from eventstore.store.as_of import At
from eventstore.store.storage import SessionStorage
from projections.models import Session


class Templates:
    """The templates of a store: `manager.templates`. `create_session(template=name)` creates a session from one."""

    def __init__(self, storage: SessionStorage, begin: Callable[[], SessionCreated]) -> None:
        self._storage, self._begin = storage, begin

    def save(self, name: str, from_session: str, at: At | None = None, *, recorded: bool = False) -> None:
        """Save a session, up to a version or time, as a template. Raises like `SessionManager.fork_session`."""
        version = fork_version(self._storage, from_session, at, recorded=recorded)
        self._storage.save_template(name, from_session, version, self._begin())

    def list(self) -> list[str]:
        """List the names of templates."""
        return self._storage.templates()

    def get(self, name: str) -> Session:
        """Return a template as a session. Raises SessionNotFound."""
        return self._storage.load_template(name)

    def remove(self, name: str) -> bool:
        """Delete a template. Sessions created from it do not change. False if it did not exist."""
        return self._storage.remove_template(name)


def fork_version(storage: SessionStorage, session_id: str, at: At | None, *, recorded: bool) -> int:
    """Return the version to fork at. A time inside a batch means the end of the batch before, since batches are atomic."""
    version = storage.version_at(session_id, at, recorded=recorded)
    if at is None or isinstance(at, int):
        return version
    first, last = storage.log.batch_of(session_id, version)
    return version if last == version else first - 1
