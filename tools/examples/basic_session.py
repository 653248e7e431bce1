"""One session from its beginning to its end, in memory."""

from pathlib import Path

from eventstore import MemorySessionStorage, SessionManager, SessionStatus


def main() -> None:
    """Create a session, talk, link a tool call, complete it and print its figures."""
    manager = SessionManager(MemorySessionStorage())
    session = manager.create_session(
        purpose="Debug authentication issue", user_id="user123", tags=["bug-fix", "authentication"]
    )
    session_id = session.metadata.session_id
    manager.add_conversation_message(session_id, role="user", content="What files were changed?")
    manager.link_invocation(
        session_id,
        invocation_id="inv_001",
        tool_name="git_tool",
        invocation_dir=Path(".history/2024-11-06_14-23-45_123456_git_tool"),
        duration_ms=150.5,
    )
    manager.add_conversation_message(
        session_id, "tool", "3 files changed", tool_name="git_tool", invocation_id="inv_001"
    )
    manager.complete_session(session_id, SessionStatus.COMPLETED)
    found = manager.get_session(session_id)
    assert found is not None
    print(f"{found.metadata.purpose}: {found.metadata.status.value}, {len(found.conversation)} messages")


if __name__ == "__main__":
    main()
