"""A stranger verifies a log with nothing but the standard library and the formulas of `record/README.md`."""

import hashlib
import json
from pathlib import Path

from eventstore import FileSystemSessionStorage, SessionManager


def check(path: Path, session_id: str) -> int:
    """Verify a log and count its events, sharing no code with the package."""
    digest = hashlib.sha256(b"eventstore/1\n" + session_id.encode("ascii")).digest()
    count = 0
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        body, mark, claimed = line.rpartition(b',"hash":"')
        assert mark
        leaf = hashlib.sha256(b"\x00" + body).digest()
        digest = hashlib.sha256(b"\x01" + digest + leaf).digest()
        assert claimed == digest.hex().encode("ascii") + b'"}'
        record = json.loads(line)
        assert record["seq"] == number
        count += 1
    return count


def test_a_log_is_verified_with_the_standard_library_alone(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    manager = SessionManager(files)
    manager.create_session("s", "p")
    for n in range(20):
        manager.add_conversation_message("s", "user", f"message {n}")
    manager.complete_session("s")
    assert check(tmp_path / ".sessions" / "s" / "events.jsonl", "s") == 22
    assert check(tmp_path / ".sessions" / "_store" / "events.jsonl", "_store") == 1
