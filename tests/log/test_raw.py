"""Reading a log unverified, while others write to it."""

from pathlib import Path
from typing import Any

import pytest

from eventstore import FileSystemEventLog
from eventstore import events as e


def test_a_log_that_grows_with_each_read_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, other = FileSystemEventLog(tmp_path), FileSystemEventLog(tmp_path)
    log.append("s", [e.SessionCreated(), e.DataSet(key="k", value=0)], expected_version=0)
    read, reads = log.backend.read, 0

    def growing(*given: Any, **named: Any) -> Any:
        nonlocal reads
        reads += 1
        assert reads < 20, "the end was looked for again and again"
        other.append("s", [e.DataSet(key="k", value=reads)])
        return read(*given, **named)

    monkeypatch.setattr(log.backend, "read", growing)
    data = b"".join(log.raw("s").chunks)
    assert data.endswith(b"\n")
    assert data.count(b"\n") > 2
