"""A stranger verifies a bundle with one file and no packages, and every forgery is found."""

import base64
import hashlib
import json
import os
import random
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from histories import HISTORIES
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from eventstore import MemorySessionStorage, SessionManager, SessionStorage
from eventstore import events as e
from eventstore.exporters import verify as verifier
from eventstore.integrity import SigningKey

PROGRAM = Path(verifier.__file__)
Lines = list[bytes]


# --- a small maker of bundles, which shares no code with the verifier


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def leaf(line: bytes) -> bytes:
    body = line.rpartition(b',"hash":"')[0]
    record = json.loads(line)
    if "redacted" in record:
        return base64.urlsafe_b64decode(record["redacted"] + "=")
    return sha(b"\0" + body)


def merkle(leaves: Lines) -> bytes:
    """Compute a root as RFC 6962 defines it."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return sha(b"\1" + merkle(leaves[:half]) + merkle(leaves[half:]))


def lines_of(manager: SessionManager, session_id: str) -> Lines:
    return [line.rstrip(b"\n") + b"\n" for line in manager.storage.log.lines(session_id)]


def last_hash(lines: Lines) -> str:
    found = re.search(rb'"hash":"([0-9a-f]{64})"}\n?$', lines[-1]) if lines else None
    return found[1].decode() if found else "0" * 64


def rechain(lines: Iterable[bytes], root: str) -> Lines:
    """Compute all hashes anew, as a forger would."""
    digest, made = sha(b"eventstore/1\n" + root.encode()), []
    for line in lines:
        digest = sha(b"\1" + digest + leaf(line))
        made.append(line.rpartition(b',"hash":"')[0] + b',"hash":"' + digest.hex().encode() + b'"}\n')
    return made


class Signer:
    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.private = Ed25519PrivateKey.from_private_bytes(bytes([seed] * 32))
        self.data = b"\1" + self.private.public_key().public_bytes_raw()
        self.key_id = sha(name.encode() + b"\n" + self.data)[:4]
        self.vkey = f"{name}+{self.key_id.hex()}+{base64.b64encode(self.data).decode()}"

    def sign(self, lines: Lines, session_id: str, size: int | None = None) -> bytes:
        kept = lines[:size]
        root = base64.b64encode(merkle([leaf(line) for line in kept])).decode()
        chain = json.loads(kept[-1])["hash"]
        text = f"eventstore/{session_id}\n{len(kept)}\n{root}\nat 2026-01-01T00:00:00Z\nchain {chain}\n"
        return self.sign_text(text)

    def sign_text(self, text: str) -> bytes:
        signature = base64.b64encode(self.key_id + self.private.sign(text.encode())).decode()
        return f"{text}\n\u2014 {self.name} {signature}\n".encode()


ANA, EVE = Signer("ana", 1), Signer("ana", 2)


class Bundle:
    """What a bundle holds, to be changed and then written."""

    def __init__(self) -> None:
        self.logs: dict[str, Lines] = {}
        self.roots: dict[str, str] = {}
        self.notes: dict[str, list[bytes]] = {}
        self.more: dict[str, bytes] = {}

    def add(self, manager: SessionManager, session_id: str, root: str | None = None) -> None:
        self.logs[session_id] = lines_of(manager, session_id)
        self.roots[session_id] = root or session_id

    def files(self) -> dict[str, bytes]:
        files = dict(self.more)
        for session_id, lines in self.logs.items():
            files[f"sessions/{session_id}/events.jsonl"] = b"".join(lines)
            for number, note in enumerate(self.notes.get(session_id, [])):
                files[f"sessions/{session_id}/checkpoints/{number:012d}-00000000.note"] = note
        return files

    def manifest(self) -> dict[str, Any]:
        files = self.files()
        return {
            "format": "eventstore-audit/1",
            "made_at": "2026-01-01T00:00:00Z",
            "eventstore": "0",
            "sessions": [
                {
                    "session_id": session_id,
                    "root": self.roots[session_id],
                    "log": f"sessions/{session_id}/events.jsonl",
                    "events": len(lines),
                    "head_hash": last_hash(lines),
                    "checkpoints": [name for name in files if name.startswith(f"sessions/{session_id}/checkpoints/")],
                }
                for session_id, lines in self.logs.items()
            ],
            "files": {
                name: {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
                for name, data in files.items()
            },
        }

    def write(self, path: Path, manifest: dict[str, Any] | None = None) -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("manifest.json", json.dumps(manifest or self.manifest()))
            for name, data in self.files().items():
                archive.writestr(name, data)
        return path

    def write_folder(self, path: Path) -> Path:
        for name, data in [("manifest.json", json.dumps(self.manifest()).encode()), *self.files().items()]:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
        return path


def run(path: Path, *arguments: str) -> tuple[int, str]:
    """Run the one file as an auditor does, with no packages."""
    command = [sys.executable, "-I", "-S", str(PROGRAM), str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr
    assert (done.stdout + done.stderr).isascii()
    return done.returncode, done.stdout + done.stderr


def make_store(storage: SessionStorage | None = None) -> SessionManager:
    manager = SessionManager(storage or MemorySessionStorage())
    for name in ("s", "t"):
        manager.create_session(name, "find out")
        for n in range(4):
            manager.add_conversation_message(name, "user", f"secret {n} \x1b[31m")
        manager.storage.append(name, [e.MessageAdded(role="user", content=f"batch {n}") for n in range(3)])
    return manager


@pytest.fixture(scope="module")
def manager() -> SessionManager:
    return make_store()


@pytest.fixture
def bundle(manager: SessionManager) -> Bundle:
    """Two sessions of eight events each."""
    made = Bundle()
    made.add(manager, "s")
    made.add(manager, "t")
    return made


@pytest.fixture
def keep(tmp_path: Path) -> Callable[[bytes], list[str]]:
    """Keep a note outside of the bundle: the arguments that say so."""

    def keep(note: bytes, name: str = "kept.note") -> list[str]:
        (tmp_path / name).write_bytes(note)
        return ["--checkpoint", str(tmp_path / name)]

    return keep


Keep = Callable[[bytes], list[str]]


def key(signer: Signer) -> list[str]:
    return ["--key", signer.vkey]


# --- what is whole


def test_a_whole_bundle_is_whole_and_what_is_not_proven_is_said(bundle: Bundle, tmp_path: Path) -> None:
    status, text = run(bundle.write(tmp_path / "b.zip"))
    assert status == 0
    assert "s: whole to event 8, signatures not checked, not anchored outside\n" in text
    assert "nothing was proven" in text
    assert "secret" not in text
    assert run(bundle.write_folder(tmp_path / "folder")) == (status, text)


def test_what_is_signed_and_kept_outside_is_proven_and_the_rest_is_not(
    bundle: Bundle, tmp_path: Path, keep: Keep
) -> None:
    del bundle.logs["t"]
    bundle.notes["s"] = [ANA.sign(bundle.logs["s"], "s", 7)]
    path = bundle.write(tmp_path / "b.zip")
    kept = keep(ANA.sign(bundle.logs["s"], "s", 3))
    status, text = run(path, *key(ANA), *kept)
    assert status == 5
    assert "s: whole to event 8, signed to 7, anchored outside to 3; events 4-8 are unproven" in text
    assert run(path, *key(ANA))[0] == 5
    assert run(path, *kept)[0] == 5
    whole = keep(ANA.sign(bundle.logs["s"], "s"))
    assert run(path, *key(ANA), *whole)[0] == 0
    status, text = run(path, *whole)
    assert status == 0
    assert "no signature was checked" in text


def test_signatures_to_the_end_are_whole_and_a_return_to_them_is_said_to_be_unseen(
    bundle: Bundle, tmp_path: Path
) -> None:
    for name, lines in bundle.logs.items():
        bundle.notes[name] = [ANA.sign(lines, name)]
    status, text = run(bundle.write(tmp_path / "b.zip"), *key(ANA))
    assert status == 0
    assert "a return to an older, signed state would not be detected" in text


def test_json_says_the_same(bundle: Bundle, tmp_path: Path, keep: Keep) -> None:
    kept = keep(ANA.sign(bundle.logs["s"], "s", 3))
    status, text = run(bundle.write(tmp_path / "b.zip"), "--json", *key(ANA), *kept)
    found = json.loads(text)
    assert (status, found["status"], found["outcome"]) == (5, 5, "incomplete")
    one, other = found["sessions"]
    assert (one["anchored_to"], one["signed_to"], one["unproven"]) == (3, 3, [4, 8])
    assert (other["anchored_to"], other["events"], other["unproven"]) == (0, 8, [1, 8])


def signed_log() -> tuple[Lines, bytes]:
    """A log whose last event records a checkpoint of the eight before it."""
    manager = make_store()
    lines = lines_of(manager, "s")
    note = ANA.sign(lines, "s")
    told = e.CheckpointSigned(size=8, root=note.decode().split("\n")[2], note=note.decode())
    manager.storage.append("s", [told])
    return lines_of(manager, "s"), note


def test_checkpoints_in_the_log_count_and_their_record_is_let_pass(tmp_path: Path, keep: Keep) -> None:
    bundle = Bundle()
    bundle.logs["s"], note = signed_log()
    bundle.roots["s"] = "s"
    path = bundle.write(tmp_path / "b.zip")
    for more in (key(ANA), keep(note), [*key(ANA), *keep(note)]):
        status, text = run(path, *more)
        assert status == 0, text
        assert "event 9 only records a checkpoint" in text
    assert run(path, *key(EVE))[0] == 5
    lines, _ = signed_log()
    for old, new, expected in (
        (b'"size":8', b'"size":7', 4),
        (b'"root":"', b'"root":"x', 4),
        (b'"size":8', b'"size":8,"by":{"actor":"eve"}', 5),
    ):
        bundle.logs["s"] = rechain([*lines[:-1], lines[-1].replace(old, new)], "s")
        assert run(bundle.write(path), *key(ANA))[0] == expected


def test_forks_are_followed_from_the_first_session_of_their_line(
    storage: SessionStorage, tmp_path: Path, keep: Keep
) -> None:
    manager = make_store(storage)
    manager.fork_session("s", 5, "f")
    manager.add_conversation_message("f", "user", "on")
    manager.fork_session("f", 3, "g")
    manager.fork_session("f", new_id="h")
    manager.add_conversation_message("h", "user", "on")
    bundle = Bundle()
    for name in "sfgh":
        bundle.add(manager, name, "s")
    bundle.add(manager, "_store")
    path = bundle.write(tmp_path / "b.zip")
    status, text = run(path, *keep(ANA.sign(bundle.logs["h"], "h")))
    assert status == 5, text
    assert "h: whole to event 9, signatures not checked, anchored outside to 9\n" in text
    for swapped in ("gh", "fh", "fg", "sf"):
        logs = dict(bundle.logs)
        one, other = swapped
        logs[one], logs[other] = logs[other], logs[one]
        forged = Bundle()
        forged.logs, forged.roots = logs, bundle.roots
        del forged.logs["_store"]
        assert run(forged.write(path))[0] == 4


def redact(
    lines: Lines,
    target: int,
    root: str,
    *,
    told: bool = True,
    leaf_told: str | None = None,
    named: dict[str, str] | None = None,
    claimed: bytes = b"",
) -> Lines:
    """Overwrite an event with its tombstone, and record that at the end."""
    kind = json.loads(lines[target - 1])["type"]
    kept = leaf(lines[target - 1])
    line = lines[target - 1]
    place = line[: line.index(b'"at":"') + 34]
    place = place.replace(kind.encode(), claimed) if claimed else place
    body, _, tail = line.rpartition(b',"hash":"')
    stub = place + b',"redacted":"' + base64.urlsafe_b64encode(kept)[:-1] + b'"'
    made = [*lines]
    made[target - 1] = stub + b" " * (len(body) - len(stub)) + b',"hash":"' + tail
    if told:
        at = line[line.index(b'"at":"') + 6 :][:27].decode()
        last = json.loads(lines[-1])["at"]
        event: dict[str, Any] = {"type": "event.redacted", "seq": len(lines) + 1, "at": max(at, last), "target": target}
        event["leaf"] = leaf_told or kept.hex()
        event |= {"reason": "gdpr", **(named if named is not None else {"target_type": kind, "target_at": at})}
        made = rechain([*made, json.dumps(event, separators=(",", ":")).encode()[:-1] + b',"hash":""}\n'], root)
    return made


def test_redacted_lines_are_whole_where_a_later_event_tells_of_them(bundle: Bundle, tmp_path: Path, keep: Keep) -> None:
    before = ANA.sign(bundle.logs["s"], "s")
    lines = bundle.logs["s"]
    for target in range(2, 9):  # 6, 7 and 8 are a batch
        bundle.logs["s"] = redact(lines, target, "s")
        status, text = run(bundle.write(tmp_path / "b.zip"), *keep(before))
        assert status == 5, text
        assert "anchored outside to 8; event 9 is unproven (1 redacted; type and time of redacted" in text
    for target in (6, 7, 8, 7):
        bundle.logs["s"] = redact(lines, target, "s")
        lines = bundle.logs["s"]
    assert run(bundle.write(tmp_path / "b.zip"))[0] == 0


def test_a_line_blanked_without_a_word_is_tampering(bundle: Bundle, tmp_path: Path) -> None:
    lines = bundle.logs["s"]
    for told, leaf_told in ((False, None), (True, "0" * 64)):
        bundle.logs["s"] = redact(lines, 3, "s", told=told, leaf_told=leaf_told)
        status, text = run(bundle.write(tmp_path / "b.zip"))
        assert status == 4
        assert f"line 3, byte {len(b''.join(lines[:2]))}: is redacted, and no later event records" in text


def test_a_blanked_line_of_the_store_s_own_log_is_tampering(tmp_path: Path) -> None:
    manager = make_store()
    bundle = Bundle()
    bundle.add(manager, "_store")
    bundle.logs["_store"] = redact(bundle.logs["_store"], 2, "_store", told=False)
    status, text = run(bundle.write(tmp_path / "b.zip"))
    assert (status, "line 2, byte " in text, "is redacted, and no later event records" in text) == (4, True, True)


def test_an_unfinished_redaction_is_noted(bundle: Bundle, tmp_path: Path) -> None:
    stubbed = redact(bundle.logs["s"], 3, "s")
    bundle.logs["s"] = rechain([*bundle.logs["s"], stubbed[-1]], "s")
    status, text = run(bundle.write(tmp_path / "b.zip"))
    assert status == 0
    assert "redaction recorded but not finished: event 3" in text


# --- forgeries of a log


def edit(lines: Lines, others: Lines) -> Lines:
    return [*lines[:2], lines[2].replace(b"secret", b"forged"), *lines[3:]]


def insert(lines: Lines, others: Lines) -> Lines:
    return [*lines[:3], others[3], *lines[3:]]


def delete(lines: Lines, others: Lines) -> Lines:
    return [*lines[:3], *lines[4:]]


def reorder(lines: Lines, others: Lines) -> Lines:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def repeat(lines: Lines, others: Lines) -> Lines:
    return [*lines[:3], lines[2], *lines[3:]]


def swap_line(lines: Lines, others: Lines) -> Lines:
    return [*lines[:3], others[3], *lines[4:]]


def cut_batch(lines: Lines, others: Lines) -> Lines:
    return lines[:7]


def cut_line(lines: Lines, others: Lines) -> Lines:
    return [*lines[:-1], lines[-1][:-20]]


def drop_lf(lines: Lines, others: Lines) -> Lines:
    return [*lines[:-1], lines[-1][:-1]]


def join_lines(lines: Lines, others: Lines) -> Lines:
    return [*lines[:2], lines[2][:-1], *lines[3:]]


def change_hash(lines: Lines, others: Lines) -> Lines:
    return [*lines[:2], lines[2][:-5] + bytes([lines[2][-5] ^ 1]) + lines[2][-4:], *lines[3:]]


def swap_file(lines: Lines, others: Lines) -> Lines:
    return others


FORGERIES = [
    edit,
    insert,
    delete,
    reorder,
    repeat,
    swap_line,
    cut_batch,
    cut_line,
    drop_lf,
    join_lines,
    change_hash,
    swap_file,
]


@pytest.mark.parametrize("forge", FORGERIES)
def test_a_changed_log_is_never_whole(
    forge: Callable[[Lines, Lines], Lines], bundle: Bundle, tmp_path: Path, keep: Keep
) -> None:
    """Damaged where an accident may be behind it; tampered where a checkpoint or the identity of the log says otherwise."""
    lines = bundle.logs["s"]
    truth = bundle.manifest()
    bundle.logs["s"] = forge(lines, bundle.logs["t"])
    path = bundle.write(tmp_path / "b.zip")
    status, text = run(path)
    assert status == (4 if forge is swap_file else 3), text
    assert "line " in text
    assert run(bundle.write(path, truth))[0] in (3, 4)
    kept = keep(ANA.sign(lines, "s"))
    expected = 3 if forge in (change_hash, drop_lf) else 4  # what was signed, the events, is still there
    assert run(bundle.write(path), *kept)[0] == expected
    assert run(path, *key(ANA), *kept)[0] == expected


@pytest.mark.parametrize("forge", [edit, insert, delete, reorder, repeat, swap_line, cut_batch])
def test_a_forger_who_computes_the_chain_anew_is_found_by_a_checkpoint(
    forge: Callable[[Lines, Lines], Lines], bundle: Bundle, tmp_path: Path, keep: Keep
) -> None:
    lines = bundle.logs["s"]
    note = ANA.sign(lines, "s")
    forged = forge(lines, bundle.logs["t"])
    for number, line in enumerate(forged):
        record = json.loads(line)
        forged[number] = line.replace(b'"seq":%d' % record["seq"], b'"seq":%d' % (number + 1))
    bundle.logs["s"] = rechain(forged, "s")
    path = tmp_path / "b.zip"
    kept = keep(note)
    assert run(bundle.write(path), *kept)[0] == 4
    bundle.notes["s"] = [note]
    assert run(bundle.write(path))[0] == 4
    assert run(bundle.write(path), *key(ANA))[0] == 4
    bundle.notes["s"] = [EVE.sign(bundle.logs["s"], "s")]
    status, text = run(bundle.write(path), *key(ANA))
    assert status in (3, 4) if forge in (cut_batch, reorder) else status in (4, 5), text
    assert "not signed by your keys" in text


def test_an_edit_with_the_chain_recomputed_is_found_by_nothing_but_a_checkpoint(bundle: Bundle, tmp_path: Path) -> None:
    bundle.logs["s"] = rechain(edit(bundle.logs["s"], []), "s")
    assert run(bundle.write(tmp_path / "b.zip"))[0] == 0


@pytest.mark.parametrize(
    ("number", "old", "new"),
    [
        (3, b'"seq":3', b'"seq":4'),
        (3, b'"seq":3', b'"seq":3,"seq":3'),
        (3, b'"role"', b'"at":"2026-01-01T00:00:00.000000Z","role"'),
        (3, b'"role"', b'"ty\\u0070e":"x","role"'),
        (3, b'"role"', b'"hash":"","role"'),
        (3, b'{"type"', b'{ "type"'),
        (3, b'"content":"', b'"content":"\xff'),
        (3, b'"content":"', b'"x":NaN,"content":"'),
        (3, b'"content":"', b'"x":' + b"[" * 100_000 + b',"content":"'),
        (3, b'"at":"2', b'"at":"1'),
        (8, b',"batch":[2,3]', b',"batch":[1,3]'),
        (8, b',"batch":[2,3]', b""),
        (3, b',"role"', b',"batch":[0,2],"role"'),
        (3, b',"role"', b',"batch":[0,1],"role"'),
        (3, b',"role"', b',"batch":[true,2],"role"'),
        (3, b',"role"', b',"batch":7,"role"'),
        (3, b',"role"', b',"batch":[1,2],"role"'),
    ],
)
def test_what_fits_the_chain_and_breaks_the_format_was_meant(
    number: int, old: bytes, new: bytes, bundle: Bundle, tmp_path: Path
) -> None:
    lines = bundle.logs["s"]
    digest, made = sha(b"eventstore/1\ns"), []
    for at, line in enumerate(lines, 1):
        changed = line.replace(old, new, 1) if at == number else line
        assert (changed != line) == (at == number)
        body = changed.rpartition(b',"hash":"')[0]
        digest = sha(b"\1" + digest + sha(b"\0" + body))
        made.append(body + b',"hash":"' + digest.hex().encode() + b'"}\n')
    bundle.logs["s"] = made
    status, text = run(bundle.write(tmp_path / "b.zip"))
    assert status == 4, text
    found_at = 4 if b"[0,2]" in new else number  # such a batch is missed in the line behind it
    assert f"tampered: line {found_at}, byte" in text


# --- forgeries of the whole


def test_a_log_set_back_or_gone_is_found_by_what_was_kept_outside(bundle: Bundle, tmp_path: Path, keep: Keep) -> None:
    kept = keep(ANA.sign(bundle.logs["s"], "s"))
    bundle.logs["s"] = bundle.logs["s"][:5]
    bundle.notes["s"] = [ANA.sign(bundle.logs["s"], "s")]
    path = bundle.write(tmp_path / "b.zip")
    status, text = run(path, *key(ANA), *kept)
    assert status == 4
    assert "is of 8 events, and the log has 5: it was truncated or set back" in text
    del bundle.logs["s"]
    status, text = run(bundle.write(path), *key(ANA), *kept)
    assert (status, "1 kept checkpoints are of sessions that this bundle does not claim to contain" in text) == (
        5,
        True,
    )
    manifest = bundle.manifest() | {"scope": "all"}
    for done in (
        run(bundle.write(path), *key(ANA), *kept, "--all"),
        run(bundle.write(path, manifest), *key(ANA), *kept),
    ):
        status, text = done
        assert status == 4
    assert "session s is not in the bundle, and a checkpoint of it was kept outside" in text


def test_notes_that_are_forged_or_of_others_are_found(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    note = ANA.sign(bundle.logs["s"], "s")
    other, renamed = ANA.sign(bundle.logs["t"], "t"), ANA.sign(bundle.logs["s"], "t")
    head, _, tail = note.rpartition(b" ")
    raw = bytearray(base64.b64decode(tail))
    raw[20] ^= 1
    broken = head + b" " + base64.b64encode(raw) + b"\n"
    eve = EVE.sign(bundle.logs["s"], "s")
    raw = bytearray(base64.b64decode(eve.rpartition(b" ")[2]))
    raw[:4] = ANA.key_id
    claimed = eve.rpartition(b" ")[0] + b" " + base64.b64encode(raw) + b"\n"
    size_changed = note.replace(b"\n8\n", b"\n7\n")
    wrong_chain = ANA.sign_text(note.decode().partition("\n\n")[0].rpartition(" ")[0] + " " + "0" * 64 + "\n")
    tampered = (other, renamed, broken, claimed, size_changed, wrong_chain)
    for bad, expected in [(note, 5), (eve, 5), *((bad, 4) for bad in tampered)]:
        bundle.notes["s"] = [bad]
        status, text = run(bundle.write(path), *key(ANA))
        assert status == expected, text
    bundle.notes["s"] = [b"not a note"]
    assert run(bundle.write(path))[0] == 3


def test_a_manifest_that_tells_of_another_log_is_found(bundle: Bundle, tmp_path: Path) -> None:
    for change in ("events", "head_hash", "root"):
        manifest = bundle.manifest()
        manifest["sessions"][0][change] = {"events": 9, "head_hash": "0" * 64, "root": "t"}[change]
        assert run(bundle.write(tmp_path / "b.zip", manifest))[0] == (3 if change == "root" else 4)


def test_files_that_are_missing_changed_or_not_listed_are_found(bundle: Bundle, tmp_path: Path) -> None:
    bundle.more["report.html"] = b"<p>nothing to see</p>"
    path, manifest = tmp_path / "b.zip", bundle.manifest()
    assert run(bundle.write(path, manifest))[0] == 0
    bundle.more["report.html"] += b"!"
    assert run(bundle.write(path, manifest))[0] == 3
    del bundle.more["report.html"]
    status, text = run(bundle.write(path, manifest))
    assert (status, "'report.html' is missing" in text) == (3, True)
    bundle.more["report.html"] = b"<p>nothing to see</p>"
    bundle.more["other.txt"] = b"x"
    status, text = run(bundle.write(path, manifest))
    assert (status, "'other.txt' is not in the manifest" in text) == (4, True)
    del bundle.more["other.txt"]
    lines = bundle.logs.pop("s")
    assert run(bundle.write(path, manifest))[0] == 3
    bundle.logs["s"] = lines
    manifest = bundle.manifest()
    del manifest["sessions"][0]
    status, text = run(bundle.write(path, manifest))
    assert (status, "but of no session in the manifest" in text) == (4, True)


def test_files_that_nothing_makes_from_the_logs_leave_a_proof_incomplete(
    bundle: Bundle, tmp_path: Path, keep: Keep
) -> None:
    del bundle.logs["t"]
    pinned = [*key(ANA), *keep(ANA.sign(bundle.logs["s"], "s"))]
    path = tmp_path / "b.zip"
    assert run(bundle.write(path), *pinned)[0] == 0
    for name in ("report.html", "calls.csv", "notes/other.txt", "verify.py", "sessions/s/session.json"):
        bundle.more = {name: b"made up"}
        status, text = run(bundle.write(path), *pinned)
        assert (status, "not proven, because these rules do not make them" in text, name in text) == (5, True, True)
    bundle.more = {"verify.py": PROGRAM.read_bytes()}
    assert run(bundle.write(path), *pinned)[0] == 0


def test_no_events_are_never_whole(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    bundle.logs["s"] = []
    assert run(bundle.write(path))[0] == 3
    bundle.logs = {}
    assert run(bundle.write(path))[0] == 6


def test_a_session_that_is_not_the_one_that_was_created_is_found_by_the_store_s_log(tmp_path: Path) -> None:
    manager, other = make_store(), make_store()
    bundle = Bundle()
    for name in ("s", "t", "_store"):
        bundle.add(manager, name)
    path = bundle.write(tmp_path / "b.zip")
    assert run(path)[0] == 0
    bundle.add(other, "s")
    status, text = run(bundle.write(path))
    assert (status, "its first event is not the one that" in text) == (4, True)
    manager.trash.put("t")
    manager.delete_session("s")
    bundle.add(manager, "_store")
    status, text = run(bundle.write(path))
    assert (status, text.count("the store's own log does not record it")) == (0, 2)
    manager.trash.restore("t")
    bundle.add(manager, "_store")
    status, text = run(bundle.write(path))
    assert (status, text.count("the store's own log does not record it")) == (0, 1)
    bundle.add(other, "t")
    assert run(bundle.write(path))[0] == 4


def test_what_the_store_s_log_tells_of_signed_roots_and_lives_must_fit(tmp_path: Path) -> None:
    manager, key_ = make_store(), SigningKey.generate("eva")
    manager.proofs.sign_checkpoint("s", key_)
    manager.proofs.sign_checkpoint("t", key_)
    bundle = Bundle()
    for name in ("_store", "s", "t"):
        bundle.add(manager, name)
    path = bundle.write(tmp_path / "b.zip")
    assert run(path)[0] == 0
    whole = bundle.logs["s"]
    bundle.logs["s"] = rechain([line.replace(b"secret 1", b"secret X") for line in whole[:-1]], "s")
    status, text = run(bundle.write(path))
    assert (status, text.count("tampered: does not fit the checkpoint of 8 events that the store's own log")) == (4, 1)
    bundle.logs["s"] = whole[:5]
    status, text = run(bundle.write(path))
    assert (status, text.count("has 5 events, and the store's own log records a checkpoint of 8")) == (4, 1)
    manager.delete_session("s")
    manager.create_session("s")
    bundle.add(manager, "s")
    bundle.add(manager, "_store")
    assert run(bundle.write(path))[0] == 0
    manager.trash.put("t")
    manager.trash.restore("t")
    bundle.logs["t"] = bundle.logs["t"][:5]
    bundle.add(manager, "_store")
    assert run(bundle.write(path))[0] == 4
    bundle.add(manager, "t")
    assert run(bundle.write(path))[0] == 0
    manager.storage.registry.note(e.StoreSessionCreated(session_id="s", first_hash="0" * 64))
    bundle.add(manager, "_store")
    status, text = run(bundle.write(path))
    assert (status, "session 's' was created again, and no event records" in text) == (4, True)


def test_keys_and_notes_are_given_as_files_and_folders_too_and_what_is_wrong_is_named(
    bundle: Bundle, tmp_path: Path
) -> None:
    path, kept = bundle.write(tmp_path / "b.zip"), tmp_path / "kept"
    kept.mkdir()
    status, text = run(path, "--checkpoint", str(kept))
    assert (status, "a folder without *.note files" in text) == (2, True)
    for name in ("s", "t"):
        (kept / f"{name}.note").write_bytes(ANA.sign(bundle.logs[name], name))
    (kept / "README").write_text("not a note")
    (tmp_path / "ana.vkey").write_text(ANA.vkey + "\n")
    assert run(path, "--key", str(tmp_path / "ana.vkey"), "--checkpoint", str(kept))[0] == 0
    (kept / "u.note").write_text("not a note")
    status, text = run(path, "--checkpoint", str(kept))
    assert (status, "u.note" in text) == (2, True)
    (tmp_path / "bad").write_text("nonsense")
    for bad in (str(tmp_path / "bad"), str(tmp_path / "missing"), "ana+00"):
        status, text = run(path, "--key", bad)
        shown = " ".join(text.split())
        assert (status, bad in text, "give the verifier key" in shown) == (2, True, True)
    secret = SigningKey.generate("eva").to_text()
    (tmp_path / "eva.key").write_text(secret)
    for bad in (secret, str(tmp_path / "eva.key")):
        status, text = run(path, "--key", bad)
        assert (status, "holds a secret key" in text, secret[-20:] in text) == (2, True, False)


# --- hostile bundles


def hostile(path: Path, bundle: Bundle, change: Callable[[zipfile.ZipFile], None]) -> Path:
    bundle.write(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        change(archive)
    return path


def entry(name: str, mode: int = 0, data: bytes = b"x") -> Callable[[zipfile.ZipFile], None]:
    def change(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        info.external_attr = mode << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, data)

    return change


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "change",
    [
        entry("manifest.json"),
        entry("/etc/passwd"),
        entry("../up"),
        entry("a/../../up"),
        entry("a//b"),
        entry("C:/x"),
        entry("a\\b"),
        entry("a\0b"),
        entry("a\x1b[31m"),
        entry("link", stat.S_IFLNK | 0o777),
        entry("pipe", stat.S_IFIFO | 0o600),
        entry("bomb", data=bytes(100 * 1024 * 1024)),
    ],
)
def test_hostile_zips_are_refused_unread(
    change: Callable[[zipfile.ZipFile], None], bundle: Bundle, tmp_path: Path
) -> None:
    status, text = run(hostile(tmp_path / "b.zip", bundle, change))
    assert status == 6, text
    assert "nothing was verified" in text


def test_other_shapes_of_bundles_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.write(tmp_path / "b.zip")
    data = path.read_bytes()
    for bad in (b"", b"no zip", b"#!/bin/sh\n" + data, data[: len(data) // 2]):
        path.write_bytes(bad)
        assert run(path)[0] == 6
    assert run(tmp_path / "nothing.zip")[0] == 6
    assert run(bundle.write(path), "--max-bytes", "100")[0] == 6
    assert run(bundle.write(path, {"format": "other/1"}))[0] == 6
    folder = bundle.write_folder(tmp_path / "folder")
    (folder / "link").symlink_to("manifest.json")
    assert run(folder)[0] == 6
    (folder / "link").unlink()
    os.mkfifo(folder / "pipe")
    assert run(folder)[0] == 6


def test_a_zip_with_a_flipped_bit_is_never_whole(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.write(tmp_path / "b.zip")
    data = path.read_bytes()
    draw = random.Random(1)
    for _ in range(300):
        place = draw.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :])
        report = verifier.verify(path, [], [], 2**30)
        if report.status == 0:  # bits that say nothing of what is in it: times, versions, modes
            with zipfile.ZipFile(path) as archive:
                assert all(archive.read(name) == found for name, found in bundle.files().items())


def test_folders_in_a_zip_are_no_files(bundle: Bundle, tmp_path: Path) -> None:
    def change(archive: zipfile.ZipFile) -> None:
        archive.mkdir("sessions")

    assert run(hostile(tmp_path / "b.zip", bundle, change))[0] == 0


# --- properties


@given(history=HISTORIES)
def test_whatever_happens_to_a_session_its_bundle_is_whole(
    history: list[e.Event], tmp_path_factory: pytest.TempPathFactory
) -> None:
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s")
    for event in history:
        manager.storage.append("s", [replace(event, id=None)])
    manager.storage.append("s", [replace(event, id=None) for event in history] or [e.SessionReopened()])
    bundle = Bundle()
    bundle.add(manager, "s")
    bundle.add(manager, "_store")
    path = bundle.write(tmp_path_factory.getbasetemp() / "history.zip")
    checkpoints = [("kept", verifier.read_checkpoint(ANA.sign(bundle.logs[name], name))) for name in bundle.logs]
    report = verifier.verify(path, [verifier.read_key(ANA.vkey)], checkpoints, 2**30)
    assert report.status == 0, list(report.lines())


@given(data=st.data())
def test_one_changed_byte_of_a_log_is_never_whole_under_an_anchor(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines, note = signed_log()
    whole = b"".join(lines)
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    bundle = Bundle()
    bundle.logs["s"], bundle.roots["s"] = [changed], "s"
    manifest = bundle.manifest()
    manifest["sessions"][0].update(events=len(lines), head_hash=last_hash(lines))
    path = bundle.write(tmp_path_factory.getbasetemp() / "property.zip", manifest)
    checkpoint = verifier.read_checkpoint(note)
    for keys in ([], [verifier.read_key(ANA.vkey)]):
        assert verifier.verify(path, keys, [("kept", checkpoint)], 2**30).status in (3, 4)


@given(leaves=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70))
def test_the_tree_is_that_of_the_rfc(leaves: Lines) -> None:
    tree = verifier.Tree()
    for number, one in enumerate(leaves, 1):
        tree.append(one)
        assert tree.root() == merkle(leaves[:number])


# --- signatures and keys


RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("public", "message", "signature"), RFC_8032)
def test_the_signatures_of_rfc_8032_are_good(public: str, message: str, signature: str) -> None:
    key, text, good = bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature)
    assert verifier.is_signed(key, text, good)
    assert not verifier.is_signed(key, text + b"x", good)
    s = int.from_bytes(good[32:], "little") + verifier.ORDER
    assert not verifier.is_signed(key, text, good[:32] + s.to_bytes(32, "little")), "s is not the smallest one"
    assert not verifier.is_signed(key, text, good[:-1])
    assert verifier.unpack_point((verifier.P + 1).to_bytes(32, "little")) is None, "not a canonical point"


@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(), place=st.integers(0, 511))
def test_signatures_are_judged_as_another_library_does(seed: bytes, message: bytes, place: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = private.public_key().public_bytes_raw(), private.sign(message)
    assert verifier.is_signed(public, message, signature)
    changed = bytearray(signature)
    changed[place // 8] ^= 1 << place % 8
    assert not verifier.is_signed(public, message, bytes(changed))


def test_a_signature_is_judged_in_few_steps() -> None:
    """Counted by calls and not by the clock: about as many as multiplying two points of the curve by two numbers takes."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    signature = ANA.private.sign(b"message")
    sys.setprofile(count)
    try:
        assert verifier.is_signed(ANA.data[1:], b"message", signature)
    finally:
        sys.setprofile(None)
    assert 0 < calls < 1000, calls


def test_keys_and_checkpoints_that_cannot_be_read_stop_everything(bundle: Bundle, tmp_path: Path, keep: Keep) -> None:
    path = bundle.write(tmp_path / "b.zip")
    low = b"\1" + (1).to_bytes(32, "little")  # of small order: it would sign anything
    weak = f"w+{sha(b'w' + chr(10).encode() + low)[:4].hex()}+{base64.b64encode(low).decode()}"
    for vkey in ("", "ana", ANA.vkey[:-1], ANA.vkey.replace("ana", "eve"), weak):
        assert run(path, "--key", vkey)[0] == 2
    note = ANA.sign(bundle.logs["s"], "s")
    for bad in (
        b"",
        note[:-1],
        note.replace(b"eventstore/", b"other/"),
        note.replace(b"\nchain ", b"\nlink "),
        b"\xff",
    ):
        assert run(path, *keep(bad))[0] == 2
    assert run(path, "--checkpoint", str(tmp_path / "missing"))[0] == 2


def test_a_checkpoint_kept_outside_that_no_key_signed_proves_nothing(
    bundle: Bundle, tmp_path: Path, keep: Keep
) -> None:
    status, text = run(bundle.write(tmp_path / "b.zip"), *key(ANA), *keep(EVE.sign(bundle.logs["s"], "s")))
    assert status == 5
    assert "s: whole to event 8, not signed by your keys, not anchored outside; events 1-8 are unproven" in text


def test_it_imports_nothing_but_the_standard_library() -> None:
    text = PROGRAM.read_text("utf-8")
    names = {line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert names <= set(sys.stdlib_module_names)


def test_the_changelog_publishes_the_hash_of_the_verifier() -> None:
    changelog = (Path(__file__).parents[2] / "CHANGELOG.md").read_text("utf-8")
    assert hashlib.sha256(Path(verifier.__file__).read_bytes()).hexdigest() in changelog
