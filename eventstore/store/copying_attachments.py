"""Attachments of a copied log: what the target still needs of the source, and what it needs no more."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from eventstore.log.values import FOLDER as VALUES
from eventstore.record import codec
from projections.calls import large_values


class Attached(NamedTuple):
    """The names of the attachments of a log, and how to read one."""

    names: list[str]
    read: Callable[[str], Iterator[bytes]]


def missing_attachments(source: Attached, target: Attached, kinds: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield the attachments of some kinds (`values/`, ...) that the target does not have as the source has them, by name.

    What the source removes in the meantime is left out. Raises SessionNotFound.
    """
    there = set(target.names)
    for name in source.names:
        if name.startswith(kinds) and (name not in there or name.startswith("quarantine/")):
            with suppress(FileNotFoundError):
                data = b"".join(source.read(name))
                if name not in there or data != b"".join(target.read(name)):
                    yield name, data


def unneeded_values(source: Attached, target: Attached, lines: Callable[[], Iterable[bytes]]) -> list[str]:
    """Return the values that only the target has and that no event of its log has any more, for example after a redaction.

    `lines` streams the whole log of the target. A fork in the source reads the values of inherited events from its
    parent; in the target it may have its own, because its parent was deleted there.
    """
    found = {name for name in target.names if name.startswith(VALUES)} - set(source.names)
    for line in lines() if found else ():
        found.difference_update(VALUES + digest for _, _, digest in large_values(codec.read_valued(line)))
    return sorted(found)
