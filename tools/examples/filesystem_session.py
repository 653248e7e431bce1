"""A session on disk outlives the program that made it."""

import tempfile
from pathlib import Path

from eventstore import FileSystemSessionStorage, SessionManager


def main() -> None:
    """Write a session, open the store again as another program would, and continue it."""
    with tempfile.TemporaryDirectory() as folder:
        sessions_dir, history_dir = Path(folder, ".sessions"), Path(folder, ".history")
        with SessionManager(FileSystemSessionStorage(sessions_dir, history_dir)) as manager:
            manager.create_session("my_session", purpose="Outlive the program")
            manager.add_conversation_message("my_session", "user", "Remember this")
        with SessionManager(FileSystemSessionStorage(sessions_dir, history_dir)) as manager:
            manager.add_conversation_message("my_session", "assistant", "I do")
            for message in manager.conversation("my_session"):
                print(f"{message.role}: {message.content}")
        print(*sorted(path.name for path in (sessions_dir / "my_session").iterdir()))


if __name__ == "__main__":
    main()
