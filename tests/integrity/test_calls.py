"""Whatever is changed in an input or a result of a call is found, wherever it is kept; and no honest history is accused."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore import events as e
from eventstore.exporters import verify
from eventstore.exporters.archive import export_archive
from eventstore.exporters.bundle import export_audit
from eventstore.importers.archive import import_archive
from eventstore.integrity.verification import verify_all, verify_session
from eventstore.store.rebuild import check_all, rebuild_all
from projections.calls import INLINE_BYTES, large_values

LARGE = "secret-word " + "x" * INLINE_BYTES


@pytest.fixture
def store(tmp_path: Path) -> SessionManager:
    """A session with a call of small values and one of large values."""
    manager = SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history"))
    manager.create_session("s")
    with manager.invocation("s", "transfer", {"to": "bob"}) as call:
        call.result = "paid bob"
    with manager.invocation("s", "read", {"text": LARGE}) as call:
        call.result = [LARGE]
    manager.flush()
    return manager


def files_of(tmp_path: Path) -> list[Path]:
    """Every file that holds an input or a result."""
    found = [*tmp_path.glob(".sessions/s/values/*"), *tmp_path.glob(".history/*/record.jsonl")]
    assert len(found) == 4
    return sorted(found)


def change(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_an_untouched_store_is_whole(store: SessionManager) -> None:
    assert {one.session_id: one.outcome for one in verify_all(store.storage)} == {"s": "whole", "_store": "whole"}


@pytest.mark.parametrize("place", [0, 20, -1])
@pytest.mark.parametrize("which", range(4))
def test_one_changed_byte_beside_the_log_is_found(
    store: SessionManager, tmp_path: Path, which: int, place: int
) -> None:
    change(files_of(tmp_path)[which], place)
    verdict = verify_session(store.storage, "s")
    assert verdict.outcome == "damaged"
    assert {one.part for one in verdict.findings} == {"calls"}


def test_one_changed_byte_of_an_input_in_the_log_is_found(store: SessionManager, tmp_path: Path) -> None:
    path = tmp_path / ".sessions" / "s" / "events.jsonl"
    change(path, path.read_bytes().index(b"bob"))
    assert verify_session(store.storage, "s").outcome == "damaged"


def test_a_value_that_is_gone_is_found_and_a_record_that_is_gone_is_made_again(
    store: SessionManager, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in tmp_path.glob(".history/*/record.jsonl")}
    for path in before:
        path.unlink()
    assert verify_session(store.storage, "s").outcome == "whole"
    storage = store.storage
    assert isinstance(storage, FileSystemSessionStorage)
    assert [one.damage for one in rebuild_all(storage)] == [""]
    assert {path: path.read_bytes() for path in tmp_path.glob(".history/*/record.jsonl")} == before
    next(tmp_path.glob(".sessions/s/values/*")).unlink()
    assert verify_session(store.storage, "s").outcome == "damaged"


def test_a_changed_record_is_named_by_the_check_of_a_rebuild_and_put_right_by_it(
    store: SessionManager, tmp_path: Path
) -> None:
    (path,) = (one for one in files_of(tmp_path) if b"bob" in one.read_bytes())
    before = path.read_bytes()
    path.write_bytes(before.replace(b"bob", b"eve"))
    storage = store.storage
    assert isinstance(storage, FileSystemSessionStorage)
    assert ["is not what the log gives" in one.difference for one in check_all(storage)] == [True]
    list(rebuild_all(storage))
    assert path.read_bytes() == before
    assert [one.difference for one in check_all(storage)] == [""]


def test_a_running_call_and_one_whose_program_died_accuse_nobody(store: SessionManager) -> None:
    with store.invocation("s", "sleep", {"n": 1}):
        assert verify_session(store.storage, "s").outcome == "whole"


def test_a_fork_whose_parent_is_gone_keeps_records_and_values_that_are_verified(
    store: SessionManager, tmp_path: Path
) -> None:
    store.fork_session("s", new_id="f")
    store.delete_session("s")
    assert {one.outcome for one in verify_all(store.storage)} == {"whole"}
    change(next(tmp_path.glob(".sessions/f/values/*")), 5)
    assert verify_session(store.storage, "f").outcome == "damaged"


def test_a_changed_record_of_a_fork_whose_parent_is_gone_is_found(store: SessionManager, tmp_path: Path) -> None:
    store.fork_session("s", new_id="f")
    store.delete_session("s")
    (path,) = (one for one in tmp_path.glob(".history/*/record.jsonl") if b"paid bob" in one.read_bytes())
    path.write_bytes(path.read_bytes().replace(b"bob", b"eve"))
    assert verify_session(store.storage, "f").outcome == "damaged"


# --- redaction


def seqs(manager: SessionManager, kind: type[e.Event]) -> list[int]:
    return [event.seq for event in manager.events("s") if isinstance(event, kind)]


def test_a_redacted_call_leaves_its_text_nowhere_and_the_store_is_whole(store: SessionManager, tmp_path: Path) -> None:
    store.search("secret")
    done = store.redactions.redact("s", seqs(store, e.InvocationStarted) + seqs(store, e.InvocationLinked), "gdpr")
    assert done.left == ()
    store.flush()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"secret-word" in path.read_bytes()]
    assert not list(tmp_path.glob(".sessions/s/values/*"))
    assert {one.outcome for one in verify_all(store.storage)} == {"whole"}
    assert store.search("secret") == []


def test_a_value_that_another_event_has_too_stays(store: SessionManager, tmp_path: Path) -> None:
    with store.invocation("s", "again", {"text": LARGE}) as call:
        call.result = 1
    digest = next(found[0][2] for event in store.events("s") if (found := large_values(event)))
    store.redactions.redact("s", seqs(store, e.InvocationStarted)[1], "gdpr")
    assert digest in store.storage.log.values("s")
    assert verify_session(store.storage, "s").outcome == "whole"
    store.redactions.redact("s", seqs(store, e.InvocationStarted)[-1], "gdpr")
    assert digest not in store.storage.log.values("s")
    assert verify_session(store.storage, "s").outcome == "whole"


def test_a_redacted_message_of_a_call_leaves_the_record_that_its_events_give(store: SessionManager) -> None:
    with store.invocation("s", "grep", {"q": 1}) as call:
        store.add_conversation_message("s", "assistant", "about to look", "grep", call.invocation_id)
        call.result = 2
    store.redactions.redact("s", seqs(store, e.MessageAdded), "gdpr")
    assert verify_session(store.storage, "s").outcome == "whole"


def test_a_secret_in_a_large_value_is_planned_and_removed(store: SessionManager, tmp_path: Path) -> None:
    token = "ghp_" + "a1B2" * 9
    with store.invocation("s", "read") as call:
        call.result = [LARGE, token]
    plan = store.redactions.plan()
    assert [(one.seq, one.type) for one in plan] == [(seqs(store, e.InvocationLinked)[-1], "invocation.linked")]
    store.redactions.carry_out(plan, "a key")
    store.flush()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
    assert {one.outcome for one in verify_all(store.storage)} == {"whole"}


@pytest.mark.parametrize("step", ["remove_value", "redact"])
def test_a_redaction_that_is_killed_half_way_leaves_a_store_that_is_whole_and_is_done_again(
    store: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    wanted = seqs(store, e.InvocationLinked)
    log = store.storage.log
    whole: Callable[..., Any] = getattr(log, step)

    def die(*args: Any, **options: Any) -> Any:
        if step == "remove_value":
            whole(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(log, step, die)
    with pytest.raises(KeyboardInterrupt):
        store.redactions.redact("s", wanted, "gdpr")
    monkeypatch.undo()
    assert {one.outcome for one in verify_all(store.storage)} == {"whole"}
    store.redactions.redact("s", wanted, "gdpr")
    assert {one.outcome for one in verify_all(store.storage)} == {"whole"}
    assert len(log.values("s")) == 1


# --- archives and bundles


def test_an_archive_carries_large_values_also_those_a_fork_inherits(store: SessionManager, tmp_path: Path) -> None:
    store.fork_session("s", new_id="f")
    assert export_archive(store, tmp_path / "a.zip", ["f"]).left_out == ()
    with SessionManager(FileSystemSessionStorage(tmp_path / "other", tmp_path / "history")) as other:
        import_archive(other.storage, tmp_path / "a.zip")
        assert {one.outcome for one in verify_all(other.storage)} == {"whole"}
        assert [hit.session_id for hit in other.search("secret")] != []


def test_a_value_that_was_redacted_does_not_come_back_with_an_archive(store: SessionManager, tmp_path: Path) -> None:
    export_archive(store, tmp_path / "a.zip", ["s"])
    store.redactions.redact("s", seqs(store, e.InvocationLinked), "gdpr")
    store.delete_session("s", history=True)
    import_archive(store.storage, tmp_path / "a.zip")
    assert len(store.storage.log.values("s")) == 1
    assert {one.outcome for one in verify_all(store.storage)} == {"whole"}


def verified(bundle: Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, verify.__file__, str(bundle)], capture_output=True, text=True)
    return done.returncode, done.stdout


def test_a_bundle_carries_large_values_and_its_verifier_checks_them(store: SessionManager, tmp_path: Path) -> None:
    export_audit(store, ["s"], tmp_path / "b")
    assert verified(tmp_path / "b")[0] == 0
    values = sorted((tmp_path / "b" / "sessions" / "s" / "values").iterdir())
    assert len(values) == 2
    table = (tmp_path / "b" / "calls.csv").read_text("utf-8-sig")
    assert "paid bob" in table
    assert f"values/{values[0].name}" in table
    change(values[0], 9)
    assert verified(tmp_path / "b")[0] == 3
    values[0].unlink()
    assert verified(tmp_path / "b")[0] == 3


def test_a_bundle_whose_manifest_was_made_to_fit_another_value_is_tampered(
    store: SessionManager, tmp_path: Path
) -> None:
    from hashlib import sha256

    export_audit(store, ["s"], tmp_path / "b")
    path = min((tmp_path / "b" / "sessions" / "s" / "values").iterdir())
    change(path, 9)
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    name = path.relative_to(tmp_path / "b").as_posix()
    manifest["files"][name]["sha256"] = sha256(path.read_bytes()).hexdigest()
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
    assert verified(tmp_path / "b")[0] == 4
    del manifest["files"][name]
    path.unlink()
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
    status, said = verified(tmp_path / "b")
    assert status == 3
    assert "is not in the bundle" in said


def test_a_damaged_value_is_not_exported_as_if_it_were_whole(store: SessionManager, tmp_path: Path) -> None:
    from eventstore.errors import ExportRefused

    change(next(tmp_path.glob(".sessions/s/values/*")), 5)
    with pytest.raises(ExportRefused, match="not what was recorded"):
        export_archive(store, tmp_path / "a.zip", ["s"])
    with pytest.raises(ExportRefused, match="not what was recorded"):
        export_audit(store, ["s"], tmp_path / "b.zip")
    assert not zipfile.is_zipfile(tmp_path / "a.zip")
