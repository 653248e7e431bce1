"""The store that the examples in the help of commands speak of: tests run them on it, `terminal_pictures.py` shows them."""

from collections.abc import Iterable

from eventstore import SessionManager


def fill(manager: SessionManager, names: Iterable[str] = ("demo", "gone")) -> None:
    """Make sessions of these names, a template of `demo`, and move `gone` to the trash."""
    for name in names:
        manager.create_session(name, "Why do logins fail?", "ana", ["bug"])
        manager.update_session_metadata(name, custom_metadata={"cwd": "/home/ana/shop"})
        for n in range(4):
            manager.add_conversation_message(name, "user", f"the logins fail {n}")
            with manager.invocation(name, "grep", {"n": n}) as call:
                call.result = "found"
    manager.templates.save("start", "demo", 4)
    manager.trash.put("gone")
