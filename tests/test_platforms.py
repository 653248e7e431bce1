"""Other systems: what works without the modules and calls that only some systems have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.integrity import verify_all

IN_MEMORY = """
import io, os, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in ("fcntl", "resource"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Hidden())

import eventstore
from eventstore import FileSystemEventLog, FileSystemSessionStorage, MemorySessionStorage, SessionManager
from eventstore.errors import NotSupported
from eventstore.exporters import audit_session, export_table, write_markdown
from eventstore.integrity import verify_all

for name in eventstore.__all__:
    getattr(eventstore, name)
manager = SessionManager(MemorySessionStorage())
manager.create_session("s", "a purpose")
manager.add_conversation_message("s", "user", "a question about zebras")
manager.set_data("s", "k", 1)
manager.fork_session("s", new_id="f")
assert sorted(one.metadata.session_id for one in manager.list_sessions()) == ["f", "s"]
assert manager.search("zebras")
with manager.follow("s", live=False, name="n") as follower:
    assert [one.event.type for one in follower] == ["session.created", "message.added", "data.set"]
assert b"zebras" in b"".join(export_table(manager.storage, "s"))
text = io.BytesIO()
write_markdown(text, [audit_session(manager.storage, "s")])
assert b"zebras" in text.getvalue()
manager.redactions.redact("s", 2, "a secret")
manager.trash.put("f")
manager.trash.restore("f")
assert manager.delete_session("f")
assert all(one.outcome == "whole" for one in verify_all(manager.storage))
for make in (lambda path: FileSystemSessionStorage(path, path), FileSystemEventLog):
    try:
        make(sys.argv[1])
    except NotSupported as error:
        assert "keep sessions in memory" in str(error) and sys.argv[1] in str(error), str(error)
    else:
        raise AssertionError("files were opened without locks")
assert not os.path.exists(sys.argv[1])
print("done")
"""


def test_sessions_are_kept_in_memory_on_a_system_without_posix_locks(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", IN_MEMORY, str(tmp_path / "files")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (result.stdout, result.stderr) == ("done\n", "")


def test_a_store_works_on_a_system_without_fdatasync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fdatasync")
    storage = FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="always")
    with SessionManager(storage) as manager:
        manager.create_session("s")
        manager.add_conversation_message("s", "user", "a secret", id="k")
        with manager.invocation("s", "grep", {"q": 1}) as call:
            call.result = 1
        manager.fork_session("s", new_id="f")
        manager.add_conversation_message("f", "user", "its own")
        for name, session_id in (("one", "s"), ("all", None)):
            with manager.follow(session_id, live=False, name=name) as follower:
                assert len(list(follower)) > 2
        manager.redactions.redact("s", 2, "a secret")
        assert manager.trash.put("s")
        manager.trash.restore("s")
        assert manager.delete_session("s")
        assert [one.metadata.session_id for one in manager.list_sessions()] == ["f"]
        assert all(one.outcome == "whole" for one in verify_all(manager.storage))
