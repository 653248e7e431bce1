"""What a client has seen of a session, so that none of its answers mixes two logs that have one id after the other.

A client sends `Eventstore-Seen: VERSION:HASH`, an event that it was shown and its hash. Where the session does not have this
event any more, the answer is 410: the session was deleted and created anew, or an older log was restored.
"""

import re

from eventstore.errors import SessionNotFound
from eventstore.record import hash_chain
from eventstore.server.problems import Refusal
from eventstore.sessions.manager import SessionManager

HEADER = "eventstore-seen"
_SEEN = re.compile(r"([0-9]{1,15}):([0-9a-f]{64})", re.ASCII)


def hash_at(manager: SessionManager, session_id: str, version: int) -> str:
    """Return the hash of an event, as hex digits; empty where there is none. Raises SessionNotFound, LogDamaged."""
    data = b"".join(manager.storage.log.window(session_id, version - 1, version))
    return hash_chain.read_hash(data.rstrip(b"\n")).hex() if data else ""


def check_seen(manager: SessionManager, session_id: str, text: str) -> None:
    """Check that a session still has the event that a client has seen. Raises Refusal, LogDamaged."""
    found = _SEEN.fullmatch(text)
    if found is None or found[1].startswith("0"):
        raise Refusal(422, f"{HEADER} holds no version and hash, such as 12:8f3a…", "Wrong argument")
    try:
        if hash_at(manager, session_id, int(found[1])) == found[2]:
            return
    except SessionNotFound:
        pass
    reason = "it was deleted, or another log has its id now; what is shown is of the earlier one: load it again"
    raise Refusal(410, f"session {session_id!r} has not event {found[1]} that was shown: {reason}", "Another log")
