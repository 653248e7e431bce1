"""What a repair breaks, and what it cannot mend, is said."""

from pathlib import Path

import pytest
from commands import run

from eventstore import FileSystemSessionStorage, SessionManager


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with a session of nine events, and forks of it after three and after eight, the latter forked again."""
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        manager.create_session("s", "p")
        for n in range(8):
            manager.add_conversation_message("s", "user", f"message {n}")
        manager.fork_session("s", 3, "early")
        manager.fork_session("s", 8, "late")
        manager.fork_session("late", None, "later")
        manager.fork_session("late", 2, "newest")
    return tmp_path


def damage(store: Path) -> None:
    path = store / ".sessions" / "s" / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b"message 4", b"message X"))


def test_a_plan_names_the_forks_that_it_leaves_without_a_past(store: Path) -> None:
    damage(store)
    with FileSystemSessionStorage(store / ".sessions", store / ".history", fsync="no") as storage:
        plan = storage.repair_session("s")
        assert plan is not None
        assert (plan.kept, plan.forks, plan.checkpoint) == (5, ("late", "later"), 0)
        assert storage.repair_session("s", dry_run=False) == plan
        assert storage.log.head("early").version == 4
        assert storage.log.head("newest").version == 3


def test_the_command_says_which_forks_and_which_checkpoint_it_breaks(store: Path) -> None:
    run("keygen", "me", "-o", "k", cwd=store)
    run("checkpoint", "s", "--key", "k", cwd=store)
    damage(store)
    for status, more in ((1, []), (0, ["--yes"])):
        said = run("repair", "s", *more, cwd=store, check=status).stdout
        assert "and become damaged: late, later\n" in said
        assert "before event 9, the last one of a signed checkpoint" in said


def test_nothing_to_mend_is_not_nothing_wrong(store: Path) -> None:
    assert run("repair", "--all", cwd=store).stdout == "no faults found\n"
    (store / ".sessions" / "early" / "events.jsonl").write_bytes(b"")
    assert "session 'early' has no log any more" in run("repair", "early", cwd=store, check=1).stderr
    found = run("repair", "--all", cwd=store, check=1)
    assert found.stdout == "nothing that repair can fix\n"
    assert "session early is missing" in found.stderr


def test_a_fork_without_a_past_and_a_session_that_is_gone_are_not_nothing_wrong(store: Path) -> None:
    log = store / ".sessions" / "s" / "events.jsonl"
    log.unlink()
    assert "late: " in run("repair", "late", cwd=store, check=1).stderr
    found = run("repair", "--all", cwd=store, check=1)
    assert found.stdout == "nothing that repair can fix\n"
    assert "session s is missing" in found.stderr


def test_one_log_that_is_no_file_does_not_hinder_the_repair_of_others(store: Path) -> None:
    damage(store)
    log = store / ".sessions" / "early" / "events.jsonl"
    log.unlink()
    log.mkdir()
    found = run("repair", "--all", "--yes", cwd=store, check=1)
    assert "appended again" in found.stdout
    assert "'early'" in found.stderr
