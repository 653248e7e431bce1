"""A redaction that was killed anywhere is finished by the next redaction, also by one that finds nothing."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.errors import SessionNotFound
from eventstore.events import RecordPut, RecordRemoved, StoreEventsRedacted, StoreRedactionFinished
from eventstore.ids import STORE_ID
from eventstore.integrity import verify_session, verify_store
from eventstore.integrity.redaction import Redacted

SECRET = "ghp_" + "a1B2" * 9
VALUES = [("b", f"was {SECRET}"), ("c", 1), ("b", "is")]
STREAMS = {"map": [("b", "is"), ("c", 1)], "list": [(None, "stays")]}

KILLED = """
import os, signal, sys
from eventstore import FileSystemSessionStorage, SessionManager
steps, last, how = [0], int(sys.argv[2]), sys.argv[3]

def step():
    steps[0] += 1
    if steps[0] == last:
        os.kill(os.getpid(), signal.SIGKILL)

def hook(event, args):
    if event in ("os.rename", "os.remove", "os.truncate", "os.rmdir", "sqlite3.connect") or (
        event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    ):
        step()

def counted(call):
    def then(*args):
        done = call(*args)
        step()
        return done
    return then

manager = SessionManager(FileSystemSessionStorage(sys.argv[1] + "/.sessions", sys.argv[1] + "/.history"))
manager.page_sessions(), manager.search("token")
sys.addaudithook(hook)
os.write, os.pwrite, os.fsync = counted(os.write), counted(os.pwrite), counted(os.fsync)
if how == "events":
    manager.redactions.redact("s", [2, 4, 5, 9], "why")
else:
    manager.redactions.carry_out(manager.redactions.plan(), "why", inside=how == "inside")
steps.append(0)
print(steps[0])
os._exit(0)
"""


def opened(root: Path) -> SessionManager:
    return SessionManager(FileSystemSessionStorage(root / ".sessions", root / ".history"))


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("killed") / "store"
    with opened(root) as manager:
        manager.create_session("s", purpose="p")
        manager.add_conversation_message("s", "user", f"my token is {SECRET}, keep it")
        with manager.invocation("s", "login", {"user": "ana"}) as call:
            call.result = f"{SECRET} is accepted"
        manager.append("s", [RecordPut(stream="map", key=key, value=value) for key, value in VALUES])
        manager.append("s", [RecordPut(stream="list", value=value) for value in ("stays", SECRET)])
        manager.append("s", [RecordRemoved(stream="list", last=True)])
        manager.fork_session("s", new_id="f")
        manager.add_conversation_message("f", "user", "and on")
        manager.page_sessions()
        manager.search("token")
    return root


def holding(root: Path) -> list[str]:
    paths = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return [str(path.relative_to(root)) for path in paths if SECRET.encode() in path.read_bytes()]


def killed(before: Path, root: Path, at: int, how: str) -> bool:
    """Redact in a copy of a store, and kill the program at a step; return whether it was killed."""
    shutil.copytree(before, root, symlinks=True)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(root), str(at), how], check=False, capture_output=True)
    assert ended.returncode in (0, -9), ended.stderr
    return ended.returncode != 0


def finish(root: Path, how: str) -> list[Redacted]:
    """Redact again: what is found where matches were redacted, and nothing at all where events were."""
    with opened(root) as manager:
        plan = [] if how == "events" and recorded(manager) else manager.redactions.plan()
        done = manager.redactions.carry_out(plan, "why", inside=how == "inside")
        manager.flush()
        for session_id in manager.storage.log.ids():
            verdict = verify_session(manager.storage, session_id)
            assert (verdict.findings, verdict.notes) == ((), ("4 redacted",))
            records = manager.records
            names = records.streams(session_id)
            assert {one: [(item.key, item.value) for item in records.list(session_id, one)] for one in names} == STREAMS
        assert verify_store(manager.storage).findings == ()
        assert manager.redactions.plan() == []
        assert manager.redactions.carry_out([], "again") == []
    return done


def recorded(manager: SessionManager) -> bool:
    try:
        return any(isinstance(one, StoreEventsRedacted) for one in manager.events(STORE_ID))
    except SessionNotFound:
        return False


def sweep(before: Path, root: Path, how: str, steps: Iterator[int]) -> int:
    """Kill at each step until the program ends first; return how many kills left the text where no search of events finds it."""
    hidden = 0
    for at in steps:
        if not killed(before, root, at, how):
            return hidden
        with opened(root) as manager:
            if not manager.redactions.plan() and holding(root):
                hidden += 1
                assert "not finished" in str(verify_session(manager.storage, "s").notes)
        finish(root, how)
        assert holding(root) == [], f"killed at step {at}"
        shutil.rmtree(root)
    raise AssertionError("it never ended")


@pytest.mark.parametrize("how", ["inside", "matches", "events"])
def test_a_redaction_killed_anywhere_is_finished_by_the_next_one(before: Path, tmp_path: Path, how: str) -> None:
    assert sweep(before, tmp_path / "store", how, iter(range(9, 10_000, 20))) > 0


@pytest.mark.long
@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.patient)])
@pytest.mark.parametrize("how", ["inside", "matches", "events"])
def test_a_redaction_killed_at_every_step_is_finished_by_the_next_one(
    before: Path, tmp_path: Path, how: str, stride: int
) -> None:
    assert sweep(before, tmp_path / "store", how, iter(range(1, 10_000, stride))) > 0


def test_a_redaction_is_recorded_as_finished_only_when_every_step_is_done(
    before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "store"
    shutil.copytree(before, root, symlinks=True)
    with opened(root) as manager:

        def fail(*_: object) -> None:
            raise OSError(28, "no space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(manager.storage, "refresh_derived", fail)
            assert "no space left" in manager.redactions.redact("s", 2, "why").left[0]
        (announced,) = [one for one in manager.events(STORE_ID) if isinstance(one, StoreEventsRedacted)]
        assert announced.whole is True
        assert not [one for one in manager.events(STORE_ID) if isinstance(one, StoreRedactionFinished)]
        (done,) = manager.redactions.carry_out([], "nothing is planned")
        assert (done.session_id, done.seqs, done.logs, done.left) == ("s", (), ("s", "f"), ())
        (ended,) = [one for one in manager.events(STORE_ID) if isinstance(one, StoreRedactionFinished)]
        assert (ended.session_id, ended.record) == ("s", announced.seq)
        assert manager.redactions.carry_out([], "nothing is left") == []
