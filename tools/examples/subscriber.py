"""A handler that is called for each event of a type, in all sessions, and continues at its last position."""

from eventstore import CustomEvent, Delivered, MemorySessionStorage, SessionManager


class Deployed(CustomEvent, tag="acme.deployed"):
    """A service was deployed."""

    service: str
    version: str


def mail(one: Delivered) -> None:
    """Stand in for a mail server."""
    assert isinstance(one.event, Deployed)
    print(f"mail: {one.event.service} {one.event.version}")


def main() -> None:
    """Handle what is there, twice. With `live=True`, the default, `run` would wait for more."""
    manager = SessionManager(MemorySessionStorage())
    deployed = [Deployed(service="api", version="1.4.0"), Deployed(service="web", version="2.0.0")]
    manager.append("release-14", deployed, create=True)
    first = manager.subscribe("mailer", mail, types=["acme.deployed"], live=False).run()
    manager.append("release-15", [Deployed(service="api", version="1.4.1")], create=True)
    second = manager.subscribe("mailer", mail, types=["acme.deployed"], live=False).run()
    print(f"handled {first}, then {second}")


if __name__ == "__main__":
    main()
