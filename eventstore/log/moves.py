"""Moving a log to another name: an answer that was lost is settled by looking where the log is."""

from contextlib import suppress

from eventstore.log.port import Backend, Exists, Missing, Moved, Tip, Unclear

_TRIES = 3


def move_log(backend: Backend, log: str, to: str, *, expect: Tip | None) -> None:
    """Give a log another name. Raises Missing, Exists, Moved, Refused; Unclear where nobody can know."""
    known = expect or _find(backend, log)
    for attempt in range(1, _TRIES + 1):
        try:
            backend.move(log, to, expect=expect)
        except (
            Missing,
            Exists,
            Moved,
        ):  # the move may have been made by an attempt that the engine of storage repeated
            if not _is_at(backend, to, known):
                raise
        except Unclear:
            if not _is_at(backend, to, known):
                if attempt == _TRIES:
                    raise
                continue
        return


def _find(backend: Backend, log: str) -> Tip | None:
    """Return the end of a log, None where it is damaged. Raises Missing."""
    try:
        return backend.tip(log)
    except Moved:
        return None


def _is_at(backend: Backend, log: str, known: Tip | None) -> bool:
    """Tell whether a log ends where another one did."""
    with suppress(Missing, Moved):
        tip = backend.tip(log)
        return known is not None and (tip.digest, tip.seq) == (known.digest, known.seq)
    return False
