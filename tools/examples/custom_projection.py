"""A projection of one's own: which version of each service is deployed."""

from eventstore import CustomEvent, MemorySessionStorage, Projection, SessionManager
from eventstore.events import Event


class Deployed(CustomEvent, tag="acme.deployed"):
    """A service was deployed."""

    service: str
    version: str


def evolve(state: dict[str, str], event: Event) -> dict[str, str]:
    """Return the versions after an event."""
    if isinstance(event, Deployed):
        state[event.service] = event.version
    return state


VERSIONS = Projection(initial=dict[str, str](), evolve=evolve)


def main() -> None:
    """Fold a session as it is, and as it was."""
    manager = SessionManager(MemorySessionStorage())
    manager.append("release-14", [Deployed(service="api", version="1.4.0")], create=True)
    manager.append("release-14", [Deployed(service="web", version="2.0.0"), Deployed(service="api", version="1.4.1")])
    print("now:", manager.project("release-14", VERSIONS))
    print("after event 2:", manager.project("release-14", VERSIONS, at=2))


if __name__ == "__main__":
    main()
