"""The order of the steps of a store: what the registry records before a log changes, and what it records afterwards."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from log.faulty import Passing

from eventstore import FileSystemSessionStorage, SessionManager, SessionStorage
from eventstore import events as e
from eventstore.backends.memory import MemoryBackend
from eventstore.errors import RedactionRefused
from eventstore.exporters import export_archive
from eventstore.ids import STORE_ID
from eventstore.importers import import_archive
from eventstore.log.engine import EventLog
from eventstore.record import codec
from eventstore.store.as_of import ago

R = TypeVar("R")


class Steps(Passing):
    """Notes what changes: `append NAME TYPE` for each event, `delete NAME`, `move NAME`, `overwrite NAME`, `write_whole NAME`."""

    def __init__(self) -> None:
        super().__init__(MemoryBackend())
        self.made: list[str] = []

    def around(self, method: str, do: Callable[[], R], args: tuple[Any, ...] = ()) -> R:
        found = do()
        log = (getattr(do, "args", ()) or ("",))[0]
        if method == "append":
            self.made += [f"append {log} {event.type}" for event in codec.decode_lines(args[1])]
        elif method in ("delete", "move", "overwrite", "write_whole", "put_blob"):
            self.made.append(f"{method} {log}")
        return found

    def in_order(self, *wanted: str) -> None:
        """Check that steps were made once each, in this order."""
        places = [[place for place, one in enumerate(self.made) if one == step] for step in wanted]
        assert all(len(found) == 1 for found in places), f"{wanted} in {self.made}"
        assert places == sorted(places), f"{wanted} in {self.made}"


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def manager(steps: Steps) -> SessionManager:
    manager = SessionManager(SessionStorage(EventLog(steps)))
    manager.create_session("s")
    manager.add_conversation_message("s", "user", "a secret")
    steps.made.clear()
    return manager


def test_a_fork_is_recorded_before_it_is_made(manager: SessionManager, steps: Steps) -> None:
    manager.fork_session("s", new_id="f")
    steps.in_order(f"append {STORE_ID} store.session_forked", "append f session.created")
    steps.in_order("append f session.created", f"append {STORE_ID} store.session_created")


def test_a_deletion_is_recorded_before_it_is_made_and_forks_are_copied_first(
    manager: SessionManager, steps: Steps
) -> None:
    manager.fork_session("s", new_id="f")
    steps.made.clear()
    manager.delete_session("s")
    steps.in_order("write_whole f", f"append {STORE_ID} store.session_deleted", "delete s")


def test_a_session_is_recorded_as_trashed_before_it_is_moved_and_as_restored_after(
    manager: SessionManager, steps: Steps
) -> None:
    manager.fork_session("s", new_id="f")
    steps.made.clear()
    manager.trash.put("s")
    steps.in_order("write_whole f", f"append {STORE_ID} store.session_trashed", "move s")
    steps.made.clear()
    manager.trash.restore("s")
    steps.in_order("move _trash/s", f"append {STORE_ID} store.session_restored")


def test_a_purge_is_recorded_before_it_is_made(manager: SessionManager, steps: Steps) -> None:
    manager.trash.put("s")
    steps.made.clear()
    assert manager.storage.clean_up(manager.storage.plan_cleanup(ago(timedelta(0)), ago(timedelta(seconds=-60))))
    steps.in_order(f"append {STORE_ID} store.trash_purged", "delete _trash/s")


def test_a_redaction_is_recorded_by_the_registry_then_by_the_log_and_then_carried_out(
    manager: SessionManager, steps: Steps
) -> None:
    manager.redactions.redact("s", 2, "a reason")
    steps.in_order(f"append {STORE_ID} store.events_redacted", "append s event.redacted", "overwrite s")


def test_a_redaction_that_is_refused_is_recorded_nowhere(manager: SessionManager, steps: Steps) -> None:
    with pytest.raises(RedactionRefused):
        manager.redactions.redact("s", [2, 9], "a reason")
    assert steps.made == []


def test_a_purge_that_was_planned_for_another_log_is_not_made(manager: SessionManager) -> None:
    storage = manager.storage
    manager.trash.put("s")
    (plan,) = storage.plan_cleanup(ago(timedelta(0)), ago(timedelta(seconds=-60)))
    changed = type(plan)(**{**vars(plan), "head_hash": "0" * 64})
    assert storage.clean_up([changed]) == []
    assert [one.name for one in storage.list_trash()] == ["s"]
    assert storage.clean_up([plan]) == [plan]


def test_a_session_that_changed_since_it_was_planned_is_not_trashed(manager: SessionManager) -> None:
    storage = manager.storage
    (plan,) = storage.plan_cleanup(ago(timedelta(seconds=-60)), ago(timedelta(0)))
    changed = type(plan)(**{**vars(plan), "head_hash": "0" * 64})
    assert storage.clean_up([changed]) == []
    assert storage.clean_up([plan]) == [plan]


def test_an_imported_fork_is_recorded_as_one_before_it_is_there(
    manager: SessionManager, steps: Steps, tmp_path: Path
) -> None:
    manager.fork_session("s", new_id="f")
    archive = tmp_path / "archive.zip"
    export_archive(manager, archive, ["s", "f"])
    manager.delete_session("f")
    steps.made.clear()
    import_archive(manager, archive)
    steps.in_order(f"append {STORE_ID} store.session_forked", "write_whole f")
    steps.in_order("write_whole f", f"append {STORE_ID} store.session_created")


def test_views_of_an_older_state_do_not_replace_newer_ones(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    manager.create_session("s", "first")
    older = files._summaries.get_sized("s")
    manager.update_session_metadata("s", purpose="second")
    files.flush_views()
    path = files.sessions_dir / "s" / "metadata.json"
    newer = path.read_bytes()
    files.views.write("s", older.state, older.head)
    assert path.read_bytes() == newer
    assert b"second" in newer


def test_the_order_of_events_is_noted(steps: Steps) -> None:
    log = EventLog(steps)
    log.append("s", [e.SessionCreated()], expected_version=0)
    assert steps.made == ["append s session.created"]
