"""Sessions that version 0.1 imported: those whose file copies history are imported anew, since that was counted twice."""

from eventstore.importers import codex
from eventstore.importers.identity import relatives
from eventstore.importers.meaning import decode
from eventstore.store.storage import SessionStorage

_USE, _ORIGIN, _BATCH = b'{"type":"usage.recorded",', b',"origin":{', b',"batch":['


def must_import_anew(storage: SessionStorage, session_id: str, form: str, head: bytes) -> bool:
    """Tell whether version 0.1 imported a rollout that goes on from another one, and nothing else was done with the session.

    `head` is the beginning of the file. A session that a program continued, and one with redactions, stays as it is.
    """
    if form != codex.FORMAT or not _goes_on(head):
        return False
    is_earlier, is_fork = False, storage.log.fork_point(session_id) is not None
    for number, line in enumerate(() if is_fork else storage.log.lines(session_id)):
        own, has_line, _ = line.partition(_ORIGIN)
        if number and not has_line and _BATCH not in own:
            return False
        is_earlier = is_earlier or (line.startswith(_USE) and bool(has_line) and b',"key":' not in own)
    return is_earlier


def _goes_on(head: bytes) -> bool:
    """Tell whether the first line of a rollout names other sessions."""
    first = decode(head.split(b"\n", 1)[0]) or {}
    payload = first.get("payload")
    if first.get("type") != "session_meta" or not isinstance(payload, dict):
        return False
    return bool(set(relatives(payload)) - {payload.get("id")})
