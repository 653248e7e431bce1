"""Attachments of a copied log: what the target still needs of the source, and what it needs no more."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from eventstore.log.engine import EventLog
from eventstore.log.values import FOLDER as VALUES
from eventstore.record import codec
from projections.calls import large_values


class Attached(NamedTuple):
    """The names of the attachments of a log, and how to read one."""

    names: list[str]
    read: Callable[[str], Iterator[bytes]]


class Attachments:
    """The attachments of a log in the source of a copy, and in its target, where `trashed` is its name in the trash."""

    def __init__(self, source: Attached, target: EventLog, session_id: str, trashed: str | None = None) -> None:
        self._source, self._log, self._session_id, self._trashed = source, target, session_id, trashed
        self._target = of_trash(target, trashed) if trashed is not None else of_session(target, session_id)

    @property
    def lacks_any(self) -> bool:
        """Return whether the source has an attachment of a name that the target does not have."""
        return bool(set(self._source.names) - set(self._target.names))

    def take(self, *kinds: str) -> None:
        """Store the attachments of some kinds (`values/`, ...) as the source has them.

        What the source removes in the meantime is left out. Raises SessionNotFound, AppendRefused.
        """
        there = set(self._target.names)
        for name in self._source.names:
            if name.startswith(kinds) and (name not in there or name.startswith("quarantine/")):
                with suppress(FileNotFoundError):
                    data = b"".join(self._source.read(name))
                    if name not in there or data != b"".join(self._target.read(name)):
                        self._log.take_attachment(self._session_id, name, data, trashed=self._trashed)

    def remove_unneeded(self) -> None:
        """Remove the values that only the target has and that no event of its log has any more, for example after a redaction.

        A fork in the source reads the values of inherited events from its parent; in the target it may have its own, because
        its parent was deleted there. Raises as `take`.
        """
        found = {name for name in self._target.names if name.startswith(VALUES)} - set(self._source.names)
        for line in lines_of(self._log, self._session_id, self._trashed) if found else ():
            found.difference_update(VALUES + digest for _, _, digest in large_values(codec.read_valued(line)))
        for name in sorted(found):
            self._log.take_attachment(self._session_id, name, None, trashed=self._trashed)


def of_session(log: EventLog, session_id: str) -> Attached:
    """Return the attachments of a session. Raises SessionNotFound."""
    return Attached(log.attachments(session_id), partial(log.read_beside, session_id))


def of_trash(log: EventLog, name: str) -> Attached:
    """Return the attachments of a session in the trash. Raises SessionNotFound."""
    return Attached(log.trashed_attachments(name), partial(log.read_trashed, name))


def lines_of(log: EventLog, session_id: str, trashed: str | None) -> Iterator[bytes]:
    """Stream the lines of a session, or of the one of this name in the trash."""
    return log.lines(session_id) if trashed is None else log.trashed_lines(trashed)
