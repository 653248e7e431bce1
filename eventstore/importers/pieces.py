"""The pieces of an imported file, as the origins of events hold them."""

from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping

from eventstore import events as e
from eventstore.record import codec
from eventstore.store.replaced_lines import target_of, target_of_id
from eventstore.store.storage import SessionStorage

_WITHHELD = b',"withheld_bytes":'


def origin_of(form: str, piece: bytes) -> e.Origin:
    """Return a piece of a file as an Origin: as text if it is UTF-8, else as base64."""
    try:
        return e.Origin(form, line=piece.decode())
    except UnicodeDecodeError:
        return e.Origin(form, line_base64=b64encode(piece).decode("ascii"))


def piece_of(origin: e.Origin) -> bytes:
    """Return the bytes of a piece."""
    return b64decode(origin.line_base64 or "") if origin.line is None else origin.line.encode()


def pieces(events: Iterator[e.Event], form: str, replaced: Mapping[int, bytes] | None = None) -> Iterator[bytes]:
    """Stream the pieces of the file that the events were imported from, in order.

    `replaced` are those in the place of redacted events, by the numbers of these.
    """
    for event in events:
        if replaced and event.seq in replaced:
            yield replaced[event.seq]
        elif event.origin is not None and event.origin.format == form and target_of(event) is None:
            yield piece_of(event.origin)


def import_start(storage: SessionStorage, session_id: str) -> int:
    """Return the number of events before the ones that were imported from the session's own file.

    A session that is a fork of an imported one, and was not imported itself, has those of the other. Raises SessionNotFound.
    """
    log = storage.log
    point = log.fork_point(session_id)
    while point is not None:
        first = next(log.read(session_id, point.seq, point.seq + 1))
        if isinstance(first, e.SessionCreated) and "source" in first.custom_metadata:
            return point.seq
        point = log.fork_point(point.parent)
    return 0


def redacted_pieces(storage: SessionStorage, session_id: str, after: int = 0) -> dict[int, int]:
    """Return the size in bytes of each piece that was redacted, here or before it came, by the number of its event.

    These are after `after`.
    """
    found = dict[int, int]()
    for line in storage.log.lines(session_id, after):
        one = codec.read_redaction(line)
        if one is not None and one.target_origin_bytes is not None:
            if one.target > after and target_of_id(one.target_id) is None:
                found[one.target] = one.target_origin_bytes
        elif _WITHHELD in line and isinstance(event := codec.decode(line), e.ForeignRecorded) and event.withheld_bytes:
            found[event.seq] = event.withheld_bytes
    return found


def replaced_pieces(storage: SessionStorage, session_id: str, form: str, after: int = 0) -> dict[int, bytes]:
    """Return the pieces without their secrets that replace redacted ones, by the numbers of the redacted events."""
    found, again = dict[int, bytes](), dict[int, int]()
    for event in storage.log.read(session_id, after):
        target = target_of(event)
        if target is not None and event.origin is not None and event.origin.format == form:
            found[target] = piece_of(event.origin)
        elif isinstance(event, e.EventRedacted) and (first := target_of_id(event.target_id)) is not None:
            again[first] = event.target  # the replacement of a redacted event was redacted too
    for first, following in again.items():
        seen = {first}
        while following in again and following not in seen:
            seen.add(following)
            following = again[following]
        if following in found:
            found[first] = found[following]
    return found
