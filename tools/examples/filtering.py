"""Finding sessions again: by user, status and tags, the most recently updated first."""

from eventstore import MemorySessionStorage, SessionManager, SessionStatus


def main() -> None:
    """Make some sessions and ask for them."""
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("login", user_id="user123", tags=["bug-fix", "urgent"])
    manager.create_session("search", user_id="user456", tags=["feature"])
    manager.create_session("export", user_id="user123", tags=["bug-fix"])
    manager.complete_session("search")

    def names(**filters: object) -> str:
        return ", ".join(one.metadata.session_id for one in manager.list_sessions(**filters))  # type: ignore[arg-type]

    print("active:", names(status=SessionStatus.ACTIVE))
    print("of user123:", names(user_id="user123"))
    print("bug-fix or urgent:", names(tags=["bug-fix", "urgent"]))
    print("the latest:", names(limit=1))


if __name__ == "__main__":
    main()
