"""An event type of one's own: appended, read back and matched."""

from eventstore import CustomEvent, MemorySessionStorage, SessionManager
from eventstore.events import MessageAdded, SessionCreated


class Deployed(CustomEvent, tag="acme.deployed"):
    """A service was deployed. The tag is stored in every event and never changes."""

    service: str
    version: str


def main() -> None:
    """Append a batch that creates its session, and print what was stored."""
    manager = SessionManager(MemorySessionStorage())
    events = [Deployed(service="api", version="1.4.0"), MessageAdded(role="assistant", content="The api is deployed.")]
    manager.append("release-14", events, create=SessionCreated(purpose="Release 14"), by={"actor": "ci"})
    for event in manager.events("release-14"):
        match event:
            case Deployed(service=service, version=version):
                print(f"{event.seq} {event.type}: {service} is now {version} (by {(event.by or {})['actor']})")
            case MessageAdded(content=text):
                print(f"{event.seq} {event.type}: {text}")
            case _:
                print(f"{event.seq} {event.type}")


if __name__ == "__main__":
    main()
