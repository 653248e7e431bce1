"""Lines that a released version wrote are read for ever."""

from pathlib import Path

import pytest
from golden_events import EVENTS_OF
from msgspec.structs import replace

from eventstore import FileSystemEventLog
from eventstore import events as e

GOLDEN = sorted(Path(__file__).with_name("golden").glob("*.jsonl"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_line_means_what_it_meant(path: Path, tmp_path: Path) -> None:
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "events.jsonl").write_bytes(path.read_bytes())
    with FileSystemEventLog(tmp_path) as log:
        found = list(log.read("golden"))
        log.append("golden", [e.DataCleared()])
    bare = [replace(event, seq=0, at="", batch=None, salt=None, hash="") for event in found]
    assert bare == EVENTS_OF[path.stem]
    assert found[-1].batch == (1, 2)


def test_every_type_of_event_has_a_golden_line() -> None:
    assert {type(event) for events in EVENTS_OF.values() for event in events} == set(e.EVENT_TYPES.values())
    assert GOLDEN
