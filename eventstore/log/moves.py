"""Move a log to another name, and check where a log is: that settles a lost answer."""

from contextlib import suppress

from eventstore.errors import ReadRefused
from eventstore.log.base import Head
from eventstore.log.port import Backend, Exists, Missing, Moved, Tip, Unclear

_TRIES = 3


def move_log(backend: Backend, log: str, to: str, *, expect: Tip | None) -> None:
    """Move a log to another name. Raises Missing, Exists, Moved, Refused; Unclear if the outcome cannot be known."""
    known = expect or _find(backend, log)
    clear_leftover(backend, to)
    for attempt in range(1, _TRIES + 1):
        try:
            backend.move(log, to, expect=expect)
        except Exists:
            # as below; but where both are there, the other is a copy of this log, such as one from an archive
            if is_there(backend, log) or not _is_at(backend, to, known):
                raise
        except (Missing, Moved):  # an earlier attempt, repeated by the storage engine, may have made the move
            if not _is_at(backend, to, known):
                raise
        except Unclear:
            if not _is_at(backend, to, known):
                if attempt == _TRIES:
                    raise
                continue
        return


def clear_leftover(backend: Backend, log: str) -> None:
    """Remove the remains of a killed creation or deletion under a name that no log has."""
    if not is_there(backend, log):
        with suppress(Moved):
            backend.delete(log, expect=Tip(b""))


def _find(backend: Backend, log: str) -> Tip | None:
    """Return the end of a log, None if it is damaged. Raises Missing."""
    try:
        return backend.tip(log)
    except Moved:
        return None


def _is_at(backend: Backend, log: str, known: Tip | None) -> bool:
    """Check whether a log ends where another one did."""
    with suppress(Missing, Moved):
        tip = backend.tip(log)
        return known is not None and (tip.digest, tip.seq) == (known.digest, known.seq)
    return False


def is_there(backend: Backend, log: str) -> bool:
    """Check whether there is a log of that name, a damaged one too."""
    try:
        _find(backend, log)
    except Missing:
        return False
    return True


def ends_at(backend: Backend, log: str, head: Head) -> bool:
    """Check whether a log ends at a version with a hash; False if that cannot be read."""
    with suppress(Missing, Moved, ReadRefused):
        tip = backend.tip(log)
        return (tip.seq, tip.digest.hex()) == (head.version, head.hash)
    return False
