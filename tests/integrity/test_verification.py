"""Checkpoints signed, kept outside and held against logs; proofs for strangers; what verification finds, and what it cannot."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from commands import in_terminal, objects, run

from eventstore import (
    FileSystemSessionStorage,
    LogDamaged,
    NoSuchMoment,
    SessionManager,
    SessionNotFound,
    SessionStorage,
)
from eventstore import events as e
from eventstore.errors import CheckpointRefused, LogTampered
from eventstore.exporters import export_archive, export_audit
from eventstore.exporters import verify as verifier
from eventstore.importers import import_archive
from eventstore.integrity import (
    Checkpoint,
    SigningKey,
    Verdict,
    open_note,
    parse_note,
    sign,
    verify_all,
    verify_consistency,
    verify_inclusion,
    verify_session,
    verify_sessions,
    verify_store,
)
from eventstore.log.contract import said
from eventstore.record import clock, hash_chain, tombstone

ANA, EVE = SigningKey.generate("ana"), SigningKey.generate("eve")


@pytest.fixture
def told(manager: SessionManager) -> SessionManager:
    """A session of five events."""
    manager.create_session("s", "find out")
    for n in range(4):
        manager.add_conversation_message("s", "user", f"message {n}")
    return manager


def log_of(storage: FileSystemSessionStorage, session_id: str = "s") -> Path:
    return storage.sessions_dir / session_id / "events.jsonl"


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]


def write(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def verified(storage: SessionStorage, *notes: str, key: SigningKey = ANA, session_id: str = "s") -> Verdict:
    return verify_session(storage, session_id, keys=[key.verifier_key], anchors=notes)


# --- signing


def test_a_checkpoint_says_how_long_a_session_is_and_what_is_in_it(told: SessionManager) -> None:
    head = told.head("s")
    note = told.proofs.sign_checkpoint("s", ANA)
    checkpoint = open_note(note, [ANA.verifier_key]).checkpoint
    assert (checkpoint.origin, checkpoint.size) == ("eventstore/s", 5)
    at, chain = checkpoint.extensions
    assert chain == f"chain {head.hash}"
    assert clock.to_datetime(at.removeprefix("at "))
    *_, last = told.events("s")
    assert isinstance(last, e.CheckpointSigned)
    assert (last.seq, last.size, last.note, last.id, last.by) == (6, 5, note, None, None)
    *_, last = told.storage.log.read("_store")
    assert isinstance(last, e.StoreCheckpointSigned)
    assert (last.session_id, last.size, last.key) == ("s", 5, ANA.verifier_key.id)


def test_signing_again_signs_only_what_is_new(told: SessionManager) -> None:
    first = told.proofs.sign_checkpoint("s", ANA)
    assert told.proofs.sign_checkpoint("s", ANA) == first
    other = told.proofs.sign_checkpoint("s", EVE)
    assert told.proofs.sign_checkpoint("s", ANA) == first
    assert told.head("s").version == 7
    told.add_conversation_message("s", "user", "more")
    last = told.proofs.sign_checkpoint("s", ANA)
    assert told.proofs.checkpoints("s") == [first, other, last]
    assert [parse_note(note).checkpoint.size for note in told.proofs.checkpoints("s")] == [5, 6, 8]


def test_the_note_lies_beside_the_log_for_its_owner_only(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    note = manager.proofs.sign_checkpoint("s", ANA)
    folder = files.sessions_dir / "s" / "checkpoints"
    (kept,) = folder.iterdir()
    assert kept.name == f"000000000001-{ANA.verifier_key.hash.hex()}.note"
    assert kept.read_text("utf-8") == note
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(kept.stat().st_mode)) == (0o700, 0o600)
    store = manager.proofs.sign_checkpoint("_store", ANA)
    assert [one.read_text("utf-8") for one in (files.sessions_dir / "_store" / "checkpoints").iterdir()] == [store]


def test_a_link_where_notes_belong_is_not_followed(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    (tmp_path / "elsewhere").mkdir()
    (files.sessions_dir / "s" / "checkpoints").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match="s"):
        manager.proofs.sign_checkpoint("s", ANA)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert manager.head("s").version == 1
    assert verified(files).outcome == "unreadable"


def test_a_kill_in_the_first_creation_of_a_store_is_no_damage(
    storage: SessionStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is there, and the store's own log has not begun; the next creation begins it."""

    class Killed(BaseException):
        pass

    def kill(created: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(storage.registry, "note_created", kill)
        with pytest.raises(Killed):
            SessionManager(storage).create_session("first")
    assert [one.outcome for one in verify_all(storage)] == ["whole", "whole"]
    assert "begins the log" in verify_all(storage)[-1].notes[0]
    SessionManager(storage).create_session("second")
    assert [(one.session_id, one.outcome, one.events) for one in verify_all(storage)][-1] == ("_store", "whole", 2)
    storage.log.remove("_store")
    assert verify_all(storage)[-1].outcome == "damaged"


def test_a_note_whose_event_a_crash_took_is_told_of_the_next_time(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    before = log_of(files).read_bytes()
    note = manager.proofs.sign_checkpoint("s", ANA)
    log_of(files).write_bytes(before)
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as anew:
        assert SessionManager(anew).proofs.sign_checkpoint("s", ANA) == note
        assert anew.log.head("s").version == 2
        assert verified(anew, note).is_whole


def test_what_is_damaged_or_not_what_was_signed_is_not_signed(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    with pytest.raises(SessionNotFound):
        manager.proofs.sign_checkpoint("s", ANA)
    manager.create_session("s")
    for n in range(3):
        manager.add_conversation_message("s", "user", f"message {n}")
    manager.proofs.sign_checkpoint("s", ANA)
    path = log_of(files)
    whole = lines_of(path)
    write(path, [*whole[:2], whole[2].replace(b"message 1", b"message 9"), *whole[3:]])
    with pytest.raises(LogDamaged, match="line 3"):
        manager.proofs.sign_checkpoint("s", ANA)
    write(path, whole[:3])
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as anew, pytest.raises(LogTampered):
        SessionManager(anew).proofs.sign_checkpoint("s", ANA)
    assert len(lines_of(path)) == 3


def test_what_becomes_of_notes_when_sessions_end_and_fork(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    manager.add_conversation_message("s", "user", "hi")
    manager.fork_session("s", new_id="early")
    note = manager.proofs.sign_checkpoint("s", ANA)
    manager.fork_session("s", new_id="late")
    assert manager.proofs.checkpoints("early") == manager.proofs.checkpoints("late") == []
    assert not (files.sessions_dir / "late" / "checkpoints").exists()
    fork_note = manager.proofs.sign_checkpoint("late", ANA)
    manager.trash.put("s")
    assert not (
        files.sessions_dir / "late" / "checkpoints" / f"000000000002-{ANA.verifier_key.hash.hex()}.note"
    ).exists()
    assert verified(files, fork_note, session_id="late").is_whole
    manager.create_session("s")
    assert manager.proofs.checkpoints("s") == []
    assert verify_session(files, "s").is_whole
    manager.delete_session("s")
    manager.trash.restore("s")
    assert manager.proofs.checkpoints("s") == [note]
    assert verified(files, note).is_whole
    manager.delete_session("s")
    assert not (files.sessions_dir / "s").exists()
    assert verified(files, fork_note, session_id="late").is_whole
    assert verify_store(files).is_whole


def test_templates_and_the_store_s_own_log_are_signed_too(told: SessionManager) -> None:
    told.templates.save("t", "s")
    notes = [told.proofs.sign_checkpoint(name, ANA) for name in ("s", "_template.t", "_store")]
    verdicts = verify_all(told.storage, [ANA.verifier_key], notes)
    assert [(one.session_id, one.outcome) for one in verdicts] == [
        ("_template.t", "whole"),
        ("s", "whole"),
        ("_store", "whole"),
    ]
    assert told.proofs.sign_checkpoint("_store", ANA) == notes[-1]


# --- proofs


def test_a_stranger_with_a_checkpoint_believes_proofs(told: SessionManager) -> None:
    told.fork_session("s", 3, "f")
    for session_id in ("s", "f"):
        old = parse_note(told.proofs.sign_checkpoint(session_id, ANA)).checkpoint
        for n in range(6):
            told.add_conversation_message(session_id, "user", f"more {n}")
        new = parse_note(told.proofs.sign_checkpoint(session_id, ANA)).checkpoint
        lines = list(told.storage.log.lines(session_id))
        for seq in range(1, new.size + 1):
            proof = told.proofs.prove_inclusion(session_id, seq, new.size)
            assert proof.leaf == tombstone.leaf_of(lines[seq - 1])
            assert (proof.size, proof.root) == (new.size, new.root)
            assert verify_inclusion(proof.leaf, proof.index, proof.size, proof.hashes, new.root)
            assert not verify_inclusion(proof.leaf, proof.index, proof.size, proof.hashes, old.root)
        grown = told.proofs.prove_consistency(session_id, old.size, new.size)
        assert (grown.old_root, grown.new_root) == (old.root, new.root)
        assert verify_consistency(grown.old, grown.new, old.root, new.root, grown.hashes)
        told_as = told.proofs.prove_inclusion(session_id, 1).to_dict()
        assert bytes.fromhex(told_as["leaf"]) == tombstone.leaf_of(lines[0])
        assert told_as["size"] == len(lines)
        assert json.loads(json.dumps(grown.to_dict()))["old_root_base64"] == old.to_text().split("\n")[2]


def test_what_is_not_there_is_not_proven(told: SessionManager) -> None:
    for seq, size in ((0, None), (6, None), (3, 2), (1, 6), (1, 0)):
        with pytest.raises(NoSuchMoment):
            told.proofs.prove_inclusion("s", seq, size)
    for old, new in ((0, None), (6, None), (3, 2), (1, 6)):
        with pytest.raises(NoSuchMoment):
            told.proofs.prove_consistency("s", old, new)
    with pytest.raises(SessionNotFound):
        told.proofs.prove_inclusion("nope", 1)


def test_proofs_read_the_bytes_anew(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    manager.create_session("s", "purpose")
    unnoticed(files, b"purpose", b"purpoze")
    with pytest.raises(LogDamaged, match="line 1"):
        manager.proofs.prove_inclusion("s", 1)


# --- what is proven


def test_keys_and_anchors_say_what_is_proven_and_the_rest_is_incomplete(told: SessionManager) -> None:
    plain = verify_session(told.storage, "s")
    assert (plain.outcome, plain.signed_to, plain.anchored_to, plain.proven_to) == ("whole", 0, 0, 0)
    assert verified(told.storage).outcome == "incomplete"
    note = told.proofs.sign_checkpoint("s", ANA)
    for found in (
        verified(told.storage),
        verified(told.storage, note),
        verify_session(told.storage, "s", anchors=[note]),
    ):
        assert (found.outcome, found.events, found.proven_to, found.recorded_to) == ("whole", 6, 5, 6)
    assert verified(told.storage, note).anchored_to == verified(told.storage, note).signed_to == 5
    told.proofs.sign_checkpoint("s", EVE)
    assert verified(told.storage, note).recorded_to == 5  # what Eve signed is nothing that Ana's key proves
    both = verify_session(told.storage, "s", keys=[ANA.verifier_key, EVE.verifier_key])
    assert (both.proven_to, both.recorded_to) == (6, 7)
    assert verified(told.storage, key=EVE).outcome == "whole"
    told.add_conversation_message("s", "user", "more")
    found = verified(told.storage, note)
    assert (found.outcome, found.proven_to, found.to_dict()["unproven"]) == ("incomplete", 5, [6, 8])
    assert "events 6-8 are unproven" in found.describe(with_keys=True)
    told.proofs.sign_checkpoint("s", ANA)
    assert verified(told.storage).outcome == "whole"
    assert verified(told.storage, note).outcome == "incomplete"


def test_signatures_of_others_prove_nothing(told: SessionManager) -> None:
    note = told.proofs.sign_checkpoint("s", ANA)
    found = verified(told.storage, note, key=EVE)
    assert (found.outcome, found.signed_to, found.anchored_to) == ("incomplete", 0, 0)
    assert "no key of yours signed them" in found.notes[0]
    body, _, signature = note.rstrip("\n").rpartition(" ")
    forged = f"{body} {signature[:8]}{'A' if signature[8] != 'A' else 'B'}{signature[9:]}\n"
    found = verified(told.storage, forged)
    assert (found.outcome, found.findings[0].part) == ("tampered", "checkpoint")
    assert "forged or broken signature" in found.findings[0].text


def test_an_anchor_that_is_no_checkpoint_is_refused(told: SessionManager) -> None:
    with pytest.raises(CheckpointRefused):
        verified(told.storage, "nonsense")
    foreign = sign(Checkpoint("other/s", 1, b"0" * 32), ANA)
    with pytest.raises(CheckpointRefused, match="not a checkpoint of an eventstore log"):
        verified(told.storage, foreign)


def test_a_session_that_is_anchored_and_gone_is_tampering(told: SessionManager) -> None:
    told.create_session("t")
    note = told.proofs.sign_checkpoint("t", ANA)
    told.storage.log.remove("t")  # past the manager, which would record the end
    verdicts = {one.session_id: one for one in verify_all(told.storage, [ANA.verifier_key], [note])}
    assert verdicts["t"].outcome == "tampered"
    assert "is missing, and a checkpoint of 1 events" in verdicts["t"].findings[0].text
    assert verdicts["s"].outcome == "incomplete"


def test_redactions_and_repairs_of_views_leave_what_was_signed_proven(told: SessionManager) -> None:
    told.fork_session("s", 4, "f")
    notes = [told.proofs.sign_checkpoint(name, ANA) for name in ("s", "f")]
    told.redactions.redact("s", [2, 3], "asked for")
    for session_id, note in zip("sf", notes, strict=True):
        found = verified(told.storage, note, session_id=session_id)
        assert (found.outcome, found.findings, found.anchored_to) == ("incomplete", (), 5)
        assert "2 redacted" in found.notes


# --- what is found


def unnoticed(files: FileSystemSessionStorage, old: bytes, new: bytes, session_id: str = "s") -> None:
    """Change bytes of a log, with its size and times kept, behind an open storage that verified it before."""
    path = log_of(files, session_id)
    files.log.head(session_id)
    before = path.stat()
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_bytes_changed_behind_an_open_storage_are_noticed(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    manager.create_session("s", "find out")
    manager.add_conversation_message("s", "user", "yes")
    manager.add_conversation_message("s", "user", "no")
    assert verify_session(files, "s").is_whole
    unnoticed(files, b'"yes"', b'"yea"')
    assert files.log.head("s").version == 3  # the storage believes what it saw
    (finding,) = verify_session(files, "s").findings
    assert (finding.part, finding.outcome) == ("log", "damaged")
    assert finding.text.startswith("line 2, byte ")
    manager.fork_session("s", new_id="f")
    assert verify_session(files, "f").outcome == "damaged"


def test_what_a_redacted_line_still_says_cannot_be_changed(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    manager = SessionManager(files)
    manager.create_session("s", "find out")
    manager.add_conversation_message("s", "user", "something long enough")
    manager.redactions.redact("s", 2, "why")
    path = log_of(files)
    first, stub, told = lines_of(path)
    bundle = tmp_path / "b.zip"
    for old, new in ((b"message.added", b"message.addee"), (b"T", b"U"), (b'Z"', b'z"')):
        write(path, [first, stub.replace(old, new, 1), told])
        assert verify_session(files, "s").outcome in ("damaged", "tampered")
    write(path, [first, stub.replace(b"message.added", b"message.addee"), told])
    (finding,) = verify_session(files, "s").findings
    assert (finding.outcome, "the event that records its redaction names another type or time" in finding.text) == (
        "tampered",
        True,
    )
    write(path, [first, stub, told])
    export_audit(files, ["s"], bundle)
    with zipfile.ZipFile(bundle) as found:
        parts = {name: found.read(name) for name in found.namelist()}
    name = "sessions/s/events.jsonl"
    parts[name] = parts[name].replace(b'message.added","seq":2', b'message.addee","seq":2')
    manifest = json.loads(parts["manifest.json"])
    manifest["files"][name]["sha256"] = sha256(parts[name]).hexdigest()
    parts["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(bundle, "w") as changed:
        for one, data in parts.items():
            changed.writestr(one, data)
    program = Path(verifier.__file__)
    done = subprocess.run([sys.executable, "-I", "-S", program, bundle], capture_output=True, text=True)
    assert (done.returncode, "the event that records its redaction names another type or time" in done.stdout) == (
        4,
        True,
    )


def test_a_line_blanked_without_a_word_is_tampering(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    manager.create_session("s", "find out")
    manager.add_conversation_message("s", "user", "something long enough")
    manager.fork_session("s", new_id="f")
    path = log_of(files)
    first, second = lines_of(path)
    stub = tombstone.make_tombstone(second)
    assert stub is not None
    write(path, [first, stub])
    for session_id in ("s", "f"):
        found = verify_session(files, session_id)
        assert found.outcome == "tampered"
        assert "no later event records its redaction" in found.findings[0].text
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as anew, pytest.raises(LogTampered):
        list(anew.log.read("s"))
    respelled = bytearray(stub)
    respelled[stub.index(b'"redacted":"') + 12 + 42] ^= 1
    assert tombstone.read_tombstone(bytes(respelled)) is None


def test_a_log_in_the_place_of_another_is_tampering(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    for name in "st":
        manager.create_session(name)
    one, other = log_of(files).read_bytes(), log_of(files, "t").read_bytes()
    log_of(files).write_bytes(other)
    log_of(files, "t").write_bytes(one)
    found = verify_session(files, "s")
    assert found.outcome == "tampered"
    assert "begins the chain of session t, not of s" in found.findings[0].text


def test_an_older_state_is_seen_with_an_anchor_and_by_the_store_s_own_log(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    manager.proofs.sign_checkpoint("s", ANA)
    kept = log_of(files).parent
    older = {one.relative_to(kept): one.read_bytes() for one in kept.rglob("*") if one.is_file()}
    manager.add_conversation_message("s", "user", "more")
    note = manager.proofs.sign_checkpoint("s", ANA)
    files.flush()
    for one in [path for path in kept.rglob("*") if path.is_file()]:
        one.unlink()
    for name, data in older.items():
        (kept / name).write_bytes(data)
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as anew:
        (finding,) = verified(anew).findings  # without an anchor too: the store's own log tells of it
        assert (finding.part, finding.outcome) == ("store", "tampered")
        found = verified(anew, note)
        assert (found.outcome, found.findings[0].part) == ("tampered", "checkpoint")
        assert "was truncated or set back" in found.findings[0].text
        (finding,) = verify_store(anew).findings
        assert (finding.session_id, finding.outcome) == ("s", "tampered")


def test_what_the_store_knows_and_the_disk_does_not_is_tampering(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    for name in ("s", "t", "u"):
        manager.create_session(name)
    manager.trash.put("t")
    assert verify_store(files).is_whole
    (files.sessions_dir / "_trash" / "t").rename(files.sessions_dir.parent / "t")
    (files.sessions_dir / "s").rename(files.sessions_dir.parent / "s")
    (files.sessions_dir / "u").rename(files.sessions_dir / "_trash" / "u")
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as anew:
        found = verify_store(anew)
    assert {(one.session_id, one.outcome) for one in found.findings} == {("s", "tampered"), ("t", "tampered")}
    assert ["session u: a move to or from the trash was not finished" in one for one in found.notes] == [True]


def test_a_session_is_verified_without_opening_the_others(
    files: FileSystemSessionStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = SessionManager(files)

    def create(*numbers: int) -> None:
        for number in numbers:
            manager.create_session(f"s{number}", "one of many")
        manager.flush()

    def opened_by(*numbers: int) -> int:
        opened, real = list[Any](), os.open

        def counted(path: Any, *more: Any, **named: Any) -> int:
            opened.append(path)
            return real(path, *more, **named)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", counted)
            assert all(one.is_whole for one in verify_sessions(files, [f"s{number}" for number in numbers]))
        return len(opened)

    create(*range(12))
    manager.trash.put("s11")
    few = opened_by(0)
    create(*range(12, 48))
    assert opened_by(0) == few > 0
    assert opened_by(0, 1, 2) - opened_by(0, 1) < few  # the store's own log is read once


def test_processes_give_the_same_verdicts_in_the_same_order(
    files: FileSystemSessionStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.store.processes._WORTH_A_PROCESS", 2)
    monkeypatch.setattr("eventstore.store.processes._AT_ONCE", 2)
    manager = SessionManager(files)
    for name in "abcde":
        manager.create_session(name)
        manager.add_conversation_message(name, "user", "message 1")
    note = manager.proofs.sign_checkpoint("b", ANA)
    files.flush()
    write(log_of(files, "d"), lines_of(log_of(files, "d"))[:-1])
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as anew:
        alone = verify_all(anew, [ANA.verifier_key], [note])
        assert verify_all(anew, [ANA.verifier_key], [note], jobs=2) == alone
    assert [one.session_id for one in alone] == [*"abcde", "_store"]
    assert len({one.outcome for one in alone}) > 1


def test_a_chain_computed_anew_does_not_fit_what_the_store_s_own_log_tells(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    for name in ("s", "t"):
        manager.create_session(name)
        manager.add_conversation_message(name, "user", "message 1")
        manager.proofs.sign_checkpoint(name, ANA)
    files.flush()
    path = log_of(files)
    write(path, rechain(lines_of(path)[:-1], hash_chain.first_hash("s"), put(b"message 1", b"MESSAGE 1")))
    shutil.rmtree(path.parent / "checkpoints")
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as anew:
        anew.rebuild_session("s")
        anew.flush()
        for found in (verify_session(anew, "s"), verify_store(anew), verify_all(anew)[0]):
            (finding,) = found.findings
            assert (finding.session_id, finding.part, finding.outcome) == ("s", "store", "tampered")
            assert "does not fit the checkpoint of 2 events" in finding.text
        assert verify_session(anew, "t").is_whole
        assert [one.outcome for one in verify_all(anew)] == ["tampered", "whole", "whole"]
        SessionManager(anew).delete_session("s")
        SessionManager(anew).create_session("s")
        assert all(one.is_whole for one in verify_all(anew))


@pytest.mark.parametrize("way", ["create", "empty", "fork", "template", "extend"])
def test_what_is_made_again_without_an_end_is_tampering_for_good(files: FileSystemSessionStorage, way: str) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    manager.create_session("other")
    manager.templates.save("form", "other")
    files.flush()
    if way == "empty":
        log_of(files).write_bytes(b"")
    else:
        shutil.rmtree(log_of(files).parent)
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as anew:
        again = SessionManager(anew)
        assert verify_session(anew, "s").outcome == "tampered"
        assert anew.was_used("s")
        if way == "fork":
            again.fork_session("other", new_id="s")
        elif way == "extend":
            anew.extend("s", [[e.SessionCreated(used_before=True)]], expected_version=0)
        else:
            again.create_session("s", template="form" if way == "template" else None)
        created = [event for event in again.events("s") if isinstance(event, e.SessionCreated)]
        assert created[-1].used_before
        for _ in range(2):
            (finding,) = verify_store(anew).findings
            assert (finding.session_id, finding.outcome) == ("s", "tampered")
            assert finding.text == "was created again, and no event records the end of the earlier one"
            again.delete_session("s")


def test_what_an_archive_brings_in_place_of_what_is_gone_is_told_of(
    files: FileSystemSessionStorage, tmp_path: Path
) -> None:
    SessionManager(files).create_session("s")
    with FileSystemSessionStorage(tmp_path / "other", tmp_path / "history") as other:
        SessionManager(other).create_session("s")
        export_archive(other, tmp_path / "a.zip")
    files.flush()
    shutil.rmtree(log_of(files).parent)
    with FileSystemSessionStorage(files.sessions_dir, files.history_dir) as anew:
        import_archive(anew, tmp_path / "a.zip")
        (finding,) = verify_store(anew).findings
        assert (finding.session_id, finding.outcome) == ("s", "tampered")
        assert "was created again" in finding.text


def test_what_ended_may_be_made_again(told: SessionManager) -> None:
    told.trash.put("s")
    told.create_session("s")
    told.delete_session("s")
    told.trash.restore("s")
    told.delete_session("s")
    told.create_session("s")
    assert verify_store(told.storage).is_whole


def test_purged_sessions_are_not_missed(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    manager.cleanup_old_sessions(0)
    manager.cleanup_old_sessions(0, 0)
    assert files.log.trashed() == []
    assert verify_store(files).is_whole


def test_nothing_is_never_whole(storage: SessionStorage) -> None:
    (verdict,) = verify_all(storage)
    assert (verdict.session_id, verdict.outcome) == ("_store", "damaged")
    assert verify_session(storage, "s").outcome == "damaged"


def test_what_cannot_be_read_is_unreadable(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    SessionManager(files).create_session("s")
    path = log_of(files)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    (finding,) = verify_session(files, "s").findings
    assert finding.outcome == "unreadable"
    assert "symbolic link" in finding.text
    path.unlink()
    (tmp_path / "elsewhere").rename(path)


def test_a_made_up_event_with_a_fitting_hash_is_tampering_and_no_accident(files: FileSystemSessionStorage) -> None:
    SessionManager(files).create_session("s")
    (line,) = lines_of(log_of(files))
    digest = hash_chain.first_hash("s")
    for made in (
        b'{"type":"session.created","seq":1,"at":"2026-01-01T00:00:00.000000Z","v":"x"',
        b'{"type":"checkpoint.signed","seq":1,"at":"2026-01-01T00:00:00.000000Z","size":1,"note":["\xff"]',
        b'{"type":"checkpoint.signed","seq":1,"at":"2026-01-01T00:00:00.000000Z","size":[],"note":{}',
        b'{"type":"log.repaired","seq":1,"at":"2026-01-01T00:00:00.000000Z","v":[]',
    ):
        forged = hash_chain.next_hash(digest, hash_chain.leaf_hash(made)).hex().encode()
        write(log_of(files), [made + b',"hash":"' + forged + b'"}'])
        assert verified(files).outcome in ("tampered", "incomplete")
        assert not verified(files).is_whole
    write(log_of(files), [line])


def test_notes_that_are_none_or_of_another_session_are_found(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    for name in "st":
        manager.create_session(name)
    note = manager.proofs.sign_checkpoint("t", ANA)
    manager.proofs.sign_checkpoint("s", ANA)
    folder = log_of(files).parent / "checkpoints"
    (folder / "x.note").write_bytes(b"nonsense")
    assert [(one.part, one.outcome) for one in verified(files).findings] == [("checkpoint", "damaged")]
    (folder / "x.note").write_bytes(note.encode())
    found = verified(files)
    assert found.outcome == "tampered"
    assert found.findings[0].text == "x.note is of another session: t"


def rechain(lines: list[bytes], digest: bytes, forge: Callable[[bytes], bytes]) -> list[bytes]:
    """Change lines, and compute all hashes anew, as whoever knows the format can."""
    made = []
    for line in map(forge, lines):
        leaf = tombstone.leaf_of(line)
        assert leaf is not None
        digest = hash_chain.next_hash(digest, leaf)
        made.append(line[: -hash_chain.HASH_AT] + b',"hash":"%b"}' % digest.hex().encode())
    return made


def put(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda line: line.replace(old, new)


@pytest.mark.parametrize(
    ("forge", "outcome", "words"),
    [
        (put(b'"seq":3', b'"seq":7'), "tampered", "does not have seq 3"),
        (put(b'"seq":3,"at":"2', b'"seq":3,"at":"1'), "tampered", "its time is before that of the previous line"),
        (put(b'"batch":[1,3]', b'"batch":[2,3]'), "tampered", "does not continue its batch"),
        (put(b'"leaf":"', b'"leaf":"0'), "tampered", "no later event records its redaction"),
        (put(b'"target":2', b'"target":1'), "tampered", "no later event records its redaction"),
        (put(b'"size":9', b'"size":8'), "tampered", "with another size or root than its note"),
        (put(b'"root":"', b'"root":"0'), "tampered", "with another size or root than its note"),
        (put(b'"size":9', b'"size":9,"by":{"actor":"eve"}'), "incomplete", "event 10 is unproven"),
        (put(b"", b""), "whole", "event 10 only records a checkpoint (1 redacted"),
    ],
)
def test_what_a_forger_leaves_in_a_chain_that_fits_is_found_by_both(
    files: FileSystemSessionStorage, tmp_path: Path, forge: Callable[[bytes], bytes], outcome: str, words: str
) -> None:
    files.log.append("s", [e.SessionCreated()], expected_version=0)
    files.log.append("s", [said("something long enough")])
    for n in range(3):
        files.log.append("s", [said(f"message {n}")])
    files.log.append("s", [said(f"batch {n}") for n in range(3)])
    files.log.redact("s", [2], "asked for")
    files.log.append("_store", [e.StoreSessionCreated(session_id="s", first_hash="")], expected_version=0)
    SessionManager(files).proofs.sign_checkpoint("s", ANA)
    files.flush()
    files.views.remove("s")
    done = export_audit(files, ["s"], tmp_path / "b")
    lines = rechain(lines_of(log_of(files)), hash_chain.first_hash("s"), forge)
    write(log_of(files), lines)
    found = verified(files)
    assert found.outcome == outcome
    assert words in (found.findings[0].text if found.findings else found.describe(with_keys=True))
    log = done.path / "sessions" / "s" / "events.jsonl"
    write(log, lines)
    manifest = json.loads((done.path / "manifest.json").read_bytes())
    manifest["sessions"][0] |= {"events": len(lines), "head_hash": json.loads(lines[-1])["hash"]}
    size, digest = log.stat().st_size, sha256(log.read_bytes()).hexdigest()
    manifest["files"]["sessions/s/events.jsonl"] = {"size_bytes": size, "sha256": digest}
    (done.path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    theirs = verifier.verify(done.path, [verifier.read_key(ANA.verifier_key.to_text())], [], 1 << 30)
    assert verifier.WORDS[theirs.verdicts[0].status(is_proof_wanted=True)] == outcome
    assert words in theirs.verdicts[0].describe(with_keys=True)


def test_root_and_chain_of_a_checkpoint_must_both_fit(told: SessionManager) -> None:
    good = parse_note(told.proofs.sign_checkpoint("s", ANA)).checkpoint
    others = (
        Checkpoint(good.origin, good.size, b"0" * 32, good.extensions),
        Checkpoint(good.origin, good.size, good.root, ("at x", f"chain {'0' * 64}")),
        Checkpoint(good.origin, good.size - 1, good.root, good.extensions),
        Checkpoint("eventstore/t", good.size, good.root, good.extensions),
    )
    assert verified(told.storage, sign(good, ANA)).is_whole
    for other in others[:3]:
        assert verified(told.storage, sign(other, ANA)).outcome == "tampered"
    assert verified(told.storage, sign(others[3], ANA)).outcome == "incomplete"
    assert {one.outcome for one in verify_all(told.storage, anchors=[sign(others[3], ANA)])} == {
        "tampered",
        "incomplete",
    }


def test_a_record_of_what_is_not_proven_is_not_let_pass(told: SessionManager) -> None:
    note = told.proofs.sign_checkpoint("s", ANA)
    told.proofs.sign_checkpoint("s", EVE)
    found = verify_session(told.storage, "s", keys=[ANA.verifier_key, EVE.verifier_key], anchors=[note])
    assert (found.outcome, found.proven_to, found.recorded_to, found.events) == ("incomplete", 5, 6, 7)


def test_a_batch_that_lost_its_end_is_a_torn_tail(files: FileSystemSessionStorage) -> None:
    files.log.append("s", [said("one")], expected_version=0)
    files.log.append("s", [said("two"), said("three")])
    path = log_of(files)
    write(path, lines_of(path)[:2])
    (finding,) = verify_session(files, "s").findings
    assert (finding.part, finding.outcome) == ("tail", "damaged")
    assert "line 3, byte " in finding.text


def test_a_fork_that_does_not_go_on_from_what_it_says_is_tampering(files: FileSystemSessionStorage) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    manager.add_conversation_message("s", "user", "hi")
    manager.fork_session("s", new_id="f")
    digest = manager.head("s").hash.encode()
    manager.delete_session("s")
    files.flush()
    files.views.remove("f")
    assert verify_session(files, "f").is_whole
    other = put(b'"hash":"%b","root"' % digest, b'"hash":"%b","root"' % (b"0" * 64))
    write(log_of(files, "f"), rechain(lines_of(log_of(files, "f")), hash_chain.first_hash("s"), other))
    found = verify_session(files, "f")
    assert found.outcome == "tampered"
    assert "no session.created at the right place leads from s" in found.findings[0].text


def test_notes_do_not_outlive_a_session_whose_removal_was_cut_short(
    files: FileSystemSessionStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    manager.add_conversation_message("s", "user", "hi")
    manager.proofs.sign_checkpoint("s", ANA)
    files.flush()

    def fail(*_: object, **__: object) -> None:
        raise OSError("killed")

    monkeypatch.setattr("shutil.rmtree", fail)
    assert manager.delete_session("s")
    manager.create_session("s")
    assert manager.proofs.checkpoints("s") == []
    assert "checkpoint" not in {finding.part for finding in verified(files).findings}


# --- the auditor's verifier says the same


def test_a_bundle_of_a_signed_store_is_whole_for_a_stranger_until_something_is_added(tmp_path: Path) -> None:
    asked = ("--store", "store")
    with FileSystemSessionStorage(tmp_path / "store" / ".sessions", tmp_path / "store" / ".history") as storage:
        manager = SessionManager(storage)
        manager.create_session("s", "find out")
        for n in range(5):
            manager.add_conversation_message("s", "user", f"message {n}")
        manager.fork_session("s", 4, "f")
        manager.add_conversation_message("f", "user", "on")
        manager.redactions.redact("s", [2, 5], "asked for")
    vkey = run("keygen", "ana", "-o", "ana.key", cwd=tmp_path).stdout.strip()
    run("keygen", "ana", "-o", "ana.key", cwd=tmp_path, check=1)
    shown = run("checkpoint", "--all", "--store-log", "--key", "ana.key", "--out", "kept", *asked, cwd=tmp_path).stdout
    kept = sorted((tmp_path / "kept").iterdir())
    assert [one.name.rpartition("-")[0] for one in kept] == ["_store-000000000007", "f-000000000007", "s-000000000008"]
    assert shown.startswith("3 notes in kept")
    pinned = ["--key", vkey, *(part for one in kept for part in ("--checkpoint", str(one)))]

    def stranger() -> int:
        run("audit", "export", "--all", "--store-log", "-o", "b.zip", "--force", *asked, cwd=tmp_path)
        command = [sys.executable, "-I", "-S", verifier.__file__, "b.zip", *pinned]
        return subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, timeout=60).returncode

    assert stranger() == 0
    whole = run("verify", "--all", *pinned, *asked, cwd=tmp_path).stdout
    assert (
        "s: whole to event 9, signed to 8, anchored outside to 8; event 9 only records a checkpoint (2 redacted)"
        in whole
    )
    assert whole.endswith("whole (exit status 0)\n")
    with FileSystemSessionStorage(tmp_path / "store" / ".sessions", tmp_path / "store" / ".history") as storage:
        SessionManager(storage).add_conversation_message("s", "user", "one more")
    assert stranger() == 5
    run("verify", "--all", *pinned, *asked, cwd=tmp_path, check=5)
    (tmp_path / "store" / ".sessions" / "f").rename(tmp_path / "f")
    assert "is missing, and no event records" in run("verify", "--all", *pinned, *asked, cwd=tmp_path, check=4).stdout


def test_both_verifiers_agree_in_words(told: SessionManager, tmp_path: Path) -> None:
    told.fork_session("s", 4, "f")
    notes = [told.proofs.sign_checkpoint(name, ANA) for name in ("s", "f", "_store")]
    told.add_conversation_message("s", "user", "more")
    told.redactions.redact("s", [3], "asked for")
    told.proofs.sign_checkpoint("f", ANA)
    done = export_audit(told, ["s", "f"], tmp_path / "b", include_store=True)
    anchors = [(str(n), verifier.read_checkpoint(note.encode())) for n, note in enumerate(notes)]
    for use_keys, use_anchors in ((True, True), (True, False), (False, True), (False, False)):
        keys = [ANA.verifier_key] if use_keys else []
        theirs = verifier.verify(
            done.path,
            [verifier.read_key(one.to_text()) for one in keys],
            anchors if use_anchors else [],
            1 << 30,
        )
        ours = {one.session_id: one for one in verify_all(told.storage, keys, notes if use_anchors else ())}
        for verdict in theirs.verdicts:
            mine = ours[verdict.session_id]
            assert mine.describe(with_keys=use_keys) == verdict.describe(with_keys=use_keys)
            status = verdict.status(is_proof_wanted=use_keys or use_anchors)
            assert mine.outcome == verifier.WORDS[status]


# --- commands


def test_what_is_not_there_at_all_is_not_verified_and_what_should_be_is_tampering(tmp_path: Path) -> None:
    assert "no sessions: nothing was verified" in run("verify", "--all", cwd=tmp_path, check=1).stderr
    assert "not found" in run("verify", "nope", cwd=tmp_path, check=1).stderr
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        for name in ("s", "t", "gone"):
            manager.create_session(name)
        manager.delete_session("gone")
    run("verify", "s", cwd=tmp_path)
    shown = run("verify", "s", "nope", cwd=tmp_path, check=1)
    assert ("not found" in shown.stderr, shown.stdout) == (True, "")
    assert "not found" in run("verify", "gone", cwd=tmp_path, check=1).stderr
    shutil.rmtree(tmp_path / ".sessions" / "s")
    assert "is missing, and no event records" in run("verify", "s", cwd=tmp_path, check=4).stdout
    (tmp_path / ".sessions" / "t" / "events.jsonl").write_bytes(b"")
    run("verify", "t", cwd=tmp_path, check=4)
    run("verify", "--all", cwd=tmp_path, check=4)


def test_an_event_is_proven_for_the_newest_checkpoint_that_covers_it(tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        manager.create_session("s")
        manager.proofs.sign_checkpoint("s", ANA)
        manager.add_conversation_message("s", "user", "one")
        root = parse_note(manager.proofs.sign_checkpoint("s", ANA)).checkpoint.root
    shown = run("prove", "s", "--event", "1", "--json", cwd=tmp_path)
    (found,) = objects(shown.stdout)
    assert (found["size"], found["root"]) == (3, root.hex())
    assert "for the first 3 events, the size of the newest checkpoint that covers event 1" in shown.stderr
    shown = run("prove", "s", "--event", "4", "--json", cwd=tmp_path)
    assert (objects(shown.stdout)[0]["size"], "for all 4 events" in shown.stderr) == (4, True)


def test_a_folder_of_notes_is_a_checkpoint_each_and_a_secret_key_is_none_to_verify_with(tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        for name in ("s", "t"):
            SessionManager(storage).create_session(name)
    run("keygen", "ana", "-o", "ana.key", cwd=tmp_path)
    run("checkpoint", "--all", "--key", "ana.key", "--out", "kept", cwd=tmp_path)
    assert run("verify", "--checkpoint", "kept", cwd=tmp_path).stdout.count("anchored outside to 1") == 2
    (tmp_path / "empty").mkdir()
    assert "without *.note" in run("verify", "--checkpoint", "empty", cwd=tmp_path, check=2).stderr
    secret = (tmp_path / "ana.key").read_text("utf-8").strip()
    for given in ("ana.key", secret):
        shown = " ".join(run("verify", "s", "--key", given, cwd=tmp_path, check=2).stderr.split())
        assert "holds a secret key" in shown
        assert secret[-20:] not in shown
    shown = " ".join(run("verify", "s", "--key", "ana.key", cwd=tmp_path, check=2).stderr.split())
    assert "ana.key holds a secret key, which cannot verify: pass the verifier key" in shown


def test_prove_prints_what_a_stranger_needs(tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        storage.append("s", [said("hi"), said("ho"), said("hu")], expected_version=0)
        lines = list(storage.log.lines("s"))
    (found,) = objects(run("prove", "s", "--event", "2", "--size", "3", "--json", cwd=tmp_path).stdout)
    hashes = [bytes.fromhex(one) for one in found["hashes"]]
    leaf = tombstone.leaf_of(lines[1])
    assert leaf is not None
    assert verify_inclusion(leaf, found["index"], 3, hashes, bytes.fromhex(found["root"]))
    shown = run("prove", "s", "--since", "1", cwd=tmp_path).stdout
    assert "old_root_base64" in shown
    run("prove", "s", cwd=tmp_path, check=2)
    run("prove", "s", "--event", "9", cwd=tmp_path, check=1)


def test_keys_are_read_from_files_and_what_is_none_is_a_misunderstanding(tmp_path: Path) -> None:
    run("keygen", "example.com/ana", cwd=tmp_path)
    (key,) = tmp_path.glob("*.key")
    vkey = SigningKey.load(key).verifier_key.to_text()
    (tmp_path / "vkey").write_text(vkey, "utf-8")
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        SessionManager(storage).create_session("s")
    (tmp_path / "note").write_text(run("checkpoint", "s", "--key", key, cwd=tmp_path).stdout, "utf-8")
    assert "anchored outside to 1" in run("verify", "--key", "vkey", "--checkpoint", "note", cwd=tmp_path).stdout
    shown = re.sub(r"\x1b\[[0-9;]*m", "", in_terminal(["verify", "s", "--key", vkey], tmp_path)).replace("\r", "")
    assert re.search(r"^SESSION +INTACT TO EVENT +SIGNED TO\ns +2 +1$", shown, re.MULTILINE), shown
    run("verify", "s", "--key", "nonsense", cwd=tmp_path, check=2)
    run("verify", "s", "--checkpoint", "vkey", cwd=tmp_path, check=2)
    run("checkpoint", "--key", key, cwd=tmp_path, check=2)
    run("checkpoint", "nope", "--key", key, cwd=tmp_path, check=1)
    path = tmp_path / ".sessions" / "s" / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b"at", b"ta", 1))
    assert "is damaged" in run("checkpoint", "s", "--key", key, cwd=tmp_path, check=1).stderr
