"""The calls of a session, for tests of integrations."""

from eventstore import SessionManager
from projections.calls import Call, begin, call_of


def calls_of(manager: SessionManager, session_id: str) -> list[Call]:
    """Return the calls of a session in the order in which they began."""
    found: dict[str, Call] = {}
    for event in manager.events(session_id):
        name = call_of(event)
        if name in found:
            found[name].add(event)
        elif name is not None:
            found[name] = begin(event)
    return list(found.values())
