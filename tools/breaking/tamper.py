"""Tampering: every kind of attack on a signed store, and on an audit bundle of it with its manifest made to fit."""

import base64
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from breaking.case import Counts, folder
from eventstore import FileSystemSessionStorage, SessionManager
from eventstore import events as e
from eventstore.exporters import verify as verifier
from eventstore.integrity import Checkpoint, SigningKey, merkle, sign, verify_all
from eventstore.record import clock, hash_chain, tombstone
from eventstore.record.fork_point import read_fork_point

NAME = "example.com/audit"
SESSIONS = ("s", "t", "f", "g", "_store")
Rng = random.Random


@dataclass
class Copy:
    """The stored logs of a store (for a fork only its own lines) or of a bundle (all lines), and their notes."""

    lines: dict[str, list[bytes]]
    notes: dict[str, dict[str, bytes]]
    first: dict[str, int] = field(default_factory=dict)
    digest: dict[str, bytes] = field(default_factory=dict)
    size: dict[str, int] = field(default_factory=dict)
    root: dict[str, str] = field(default_factory=dict)
    old: "Copy | None" = None

    def sealed(self, session_id: str) -> int:
        """Return how many of the lines the last checkpoint covers."""
        return self.size[session_id] - self.first[session_id]

    def pick(self, rng: Rng, session_id: str, *, stubs: bool = True) -> int:
        """Draw a covered line; the first line of a fork may be drawn too."""
        places = range(self.sealed(session_id))
        fit = [one for one in places if stubs or tombstone.read_tombstone(self.lines[session_id][one]) is None]
        return rng.choice(fit)


# --- the store


def live(manager: SessionManager, key: SigningKey) -> None:
    """Make a store with batches and forks, and sign it."""
    for name in ("s", "t"):
        manager.create_session(name, f"purpose of {name}", "ana")
        for n in range(8):
            manager.add_conversation_message(name, "user", f"message {n} of {name}")
        manager.storage.append(name, [e.MessageAdded(role="assistant", content=f"batch {n}") for n in range(3)])
    manager.fork_session("s", 6, "f")
    for n in range(5):
        manager.add_conversation_message("f", "user", f"on {n}")
    manager.fork_session("f", 9, "g")
    for n in range(5):
        manager.add_conversation_message("g", "user", f"further {n}")
    sign_all(manager, key)


def live_on(manager: SessionManager) -> None:
    """Go on, with redactions of what was signed."""
    manager.redactions.redact("s", [3], "asked for", by={"actor": "ana"})
    manager.redactions.redact("t", [4, 11], "asked for", by={"actor": "ana"})
    manager.redactions.redact("f", [8], "asked for", by={"actor": "ana"})
    for name in ("s", "t", "f", "g"):
        manager.set_data(name, "k", name)
    manager.create_session("late")
    manager.delete_session("late")


def sign_all(manager: SessionManager, key: SigningKey) -> dict[str, str]:
    """Sign every log, the store's own last."""
    return {name: manager.proofs.sign_checkpoint(name, key) for name in SESSIONS}


def read(sessions: Path) -> Copy:
    """Read the logs of a store as they lie there."""
    lines, notes = {}, {}
    for name in SESSIONS:
        lines[name] = (sessions / name / "events.jsonl").read_bytes().split(b"\n")[:-1]
        notes[name] = {one.name: one.read_bytes() for one in (sessions / name / "checkpoints").glob("*.note")}
    copy = Copy(lines, notes)
    for name in SESSIONS:
        point = read_fork_point(lines[name][0])
        copy.first[name] = point.seq if point else 0
        copy.digest[name] = point.digest if point else hash_chain.first_hash(name)
        copy.root[name] = point.root if point else name
        copy.size[name] = max(int(one.partition("-")[0]) for one in notes[name])
    return copy


def stitched(manager: SessionManager, own: Copy) -> Copy:
    """Make of the logs of a store those that lie in a bundle."""
    lines = {name: list(manager.storage.log.lines(name)) for name in SESSIONS}
    roots = own.root
    digests = {name: hash_chain.first_hash(roots[name]) for name in SESSIONS}
    return Copy(lines, deepcopy(own.notes), dict.fromkeys(SESSIONS, 0), digests, dict(own.size), dict(roots), own.old)


# --- what an attacker does


def rechain(
    copy: Copy, session_id: str, start: int = 0, forge: Callable[[bytes, int, bytes], bytes] | None = None
) -> None:
    """Compute the hashes of lines again, as anyone who knows the format can."""
    lines = copy.lines[session_id]
    parts = hash_chain.split(lines[start - 1]) if start else None
    digest = parts[1] if parts else copy.digest[session_id]
    for place in range(start, len(lines)):
        line = lines[place]
        if forge is not None and line.startswith(b'{"type":"checkpoint.signed"'):
            line = forge(line, place, digest)
        leaf = tombstone.leaf_of(line)
        assert leaf is not None
        digest = hash_chain.next_hash(digest, leaf)
        lines[place] = line[: -hash_chain.HASH_AT] + b',"hash":"' + digest.hex().encode() + b'"}'


def changed(rng: Rng, line: bytes) -> bytes:
    """Change the content of an event, so that it is still a valid event."""
    found = re.search(rb'"(?:salt|content|purpose)":"', line)
    assert found is not None, line
    return line[: found.end()] + rng.choice(b"abcXYZ").to_bytes(1, "big") + line[found.end() :]


def edit(rng: Rng, copy: Copy, name: str, key: SigningKey) -> None:
    """A byte is another."""
    lines = copy.lines[name]
    place = copy.pick(rng, name)
    line = bytearray(lines[place])
    where = rng.randrange(len(line))
    line[where] = rng.choice([one for one in range(256) if one not in (line[where], 10)])
    lines[place] = bytes(line)


def insertion(rng: Rng, copy: Copy, name: str, key: SigningKey) -> None:
    """A line that never was is put in."""
    lines = copy.lines[name]
    lines.insert(copy.pick(rng, name), changed(rng, lines[copy.pick(rng, name, stubs=False)]))


def deletion(rng: Rng, copy: Copy, name: str, key: SigningKey) -> None:
    """A line is taken out."""
    del copy.lines[name][copy.pick(rng, name)]


def reordering(rng: Rng, copy: Copy, name: str, key: SigningKey) -> None:
    """Two lines change places."""
    lines = copy.lines[name]
    one = copy.pick(rng, name)
    other = rng.choice([place for place in range(len(lines)) if place != one])
    lines[one], lines[other] = lines[other], lines[one]


def repetition(rng: Rng, copy: Copy, name: str, key: SigningKey) -> None:
    """A line is there twice."""
    lines = copy.lines[name]
    one = copy.pick(rng, name)
    lines.insert(rng.choice([one, rng.randrange(copy.sealed(name))]), lines[one])


def truncation(rng: Rng, copy: Copy, name: str, key: SigningKey) -> None:
    """The end is cut off, at a line or inside one, with the notes that covered it."""
    kept = copy.pick(rng, name)
    last = copy.lines[name][kept]
    del copy.lines[name][kept:]
    copy.notes[name] = {one: note for one, note in copy.notes[name].items() if int(one[:12]) <= kept}
    if rng.random() < 0.3:
        copy.lines[name].append(last[: rng.randrange(1, len(last))])


def swapped_lines(rng: Rng, copy: Copy, name: str, key: SigningKey) -> None:
    """Lines of two sessions change places."""
    other = rng.choice([one for one in SESSIONS if one != name])
    place, there = copy.pick(rng, name), copy.pick(rng, other)
    mine, theirs = copy.lines[name][place], copy.lines[other][there]
    if mine == theirs:  # a fork and its parent have lines in common
        theirs = copy.lines[other][-1]
    copy.lines[name][place], copy.lines[other][there] = theirs, mine


def swapped_files(rng: Rng, copy: Copy, name: str, key: SigningKey) -> None:
    """Logs of two sessions change places."""
    other = rng.choice([one for one in SESSIONS if one != name])
    copy.lines[name], copy.lines[other] = copy.lines[other], copy.lines[name]
    if rng.random() < 0.5:
        copy.notes[name], copy.notes[other] = copy.notes[other], copy.notes[name]


def rollback(rng: Rng, copy: Copy, name: str, key: SigningKey) -> None:
    """An older, signed state is put back, with its notes."""
    assert copy.old is not None
    old = copy.old.lines[name]
    inherited = copy.old.first[name] - copy.first[name]
    copy.lines[name] = [*copy.lines[name][:inherited], *old] if inherited else list(old)
    copy.notes[name] = dict(copy.old.notes[name])


def recomputed(rng: Rng, copy: Copy, name: str, key: SigningKey) -> None:
    """A line is changed, inserted or removed, and the chain is computed again."""
    lines, place = copy.lines[name], copy.pick(rng, name, stubs=False)
    lines[place] = changed(rng, lines[place])
    rechain(copy, name, place)
    if rng.random() < 0.5:
        copy.notes[name] = {}


def forged_key(rng: Rng, copy: Copy, name: str, key: SigningKey) -> None:
    """As above, and checkpoints are made again, signed with a key that has the name of the right one, and perhaps its hash."""
    forger = SigningKey.generate(NAME)
    mask = rng.random() < 0.5
    made: dict[str, bytes] = {}

    def note_of(size: int) -> str:
        known = copy.lines[name][: size - copy.first[name]]
        leaves = [tombstone.leaf_of(line) or b"" for line in known]
        parts = hash_chain.split(known[-1])
        assert parts is not None
        text = (f"at {clock.now()}", f"chain {parts[1].hex()}")
        note = sign(Checkpoint(f"eventstore/{name}", size, merkle.root(leaves), text), forger)
        if mask:
            body, _, signature = note.rstrip("\n").rpartition(" ")
            raw = key.verifier_key.hash + base64.b64decode(signature)[4:]
            note = f"{body} {base64.b64encode(raw).decode()}\n"
        made[f"{size:012d}-{(key if mask else forger).verifier_key.hash.hex()}.note"] = note.encode()
        return note

    def forge(line: bytes, place: int, digest: bytes) -> bytes:
        record = json.loads(line)
        if f"eventstore/{name}\n" not in record["note"]:
            return line
        record["note"] = note_of(record["size"])
        record["root"] = record["note"].split("\n")[2]
        return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()

    place = copy.pick(rng, name, stubs=False)
    copy.lines[name][place] = changed(rng, copy.lines[name][place])
    rechain(copy, name, place, None if copy.first[name] else forge)
    copy.notes[name] = made


def foreign_checkpoint(rng: Rng, copy: Copy, name: str, key: SigningKey) -> None:
    """A good checkpoint of another session is attached to the log, or put in it."""
    other = rng.choice([one for one in SESSIONS if one != name])
    note_name, note = rng.choice(sorted(copy.notes[other].items()))
    if rng.random() < 0.5:
        size = min(int(note_name[:12]), copy.size[name])
        copy.notes[name][f"{size:012d}{note_name[12:]}"] = note
        return
    last = json.loads(copy.lines[name][-1])
    parts = note.decode().split("\n")
    record = {"type": "checkpoint.signed", "seq": last["seq"] + 1, "at": last["at"], "size": int(parts[1])}
    record |= {"root": parts[2], "note": note.decode(), "hash": "0" * 64}
    copy.lines[name].append(json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode())
    rechain(copy, name, len(copy.lines[name]) - 1)


def blanked(rng: Rng, copy: Copy, name: str, key: SigningKey) -> None:
    """A line is blanked as a redaction does it: the chain and the Merkle root still fit."""
    fit = [
        (place, stub)
        for place, line in enumerate(copy.lines[name][: copy.sealed(name)])
        if tombstone.read_tombstone(line) is None
        and read_fork_point(line) is None
        and (stub := tombstone.make_tombstone(line))
    ]
    place, stub = rng.choice(fit)
    copy.lines[name][place] = stub


def vanished(rng: Rng, copy: Copy, name: str, key: SigningKey) -> None:
    """A session is removed, and perhaps the store's own log is changed to record its deletion."""
    del copy.lines[name], copy.notes[name]
    if name != "_store" and rng.random() < 0.5:
        last = json.loads(copy.lines["_store"][-1])
        record = {"type": "store.session_deleted", "seq": last["seq"] + 1, "at": last["at"], "session_id": name}
        record |= {"events": 1, "size_bytes": 1, "head_hash": "0" * 64, "hash": "0" * 64}
        copy.lines["_store"].append(json.dumps(record, separators=(",", ":")).encode())
        rechain(copy, "_store", len(copy.lines["_store"]) - 1)


Attack = Callable[[Rng, Copy, str, SigningKey], None]
ATTACKS: tuple[Attack, ...] = (
    edit,
    insertion,
    deletion,
    reordering,
    repetition,
    truncation,
    swapped_lines,
    swapped_files,
    rollback,
    recomputed,
    forged_key,
    foreign_checkpoint,
    blanked,
    vanished,
)


# --- carrying it out, and asking both verifiers


def write_store(copy: Copy, sessions: Path, before: Copy) -> None:
    """Write what differs from what is there."""
    for name in SESSIONS:
        if name not in copy.lines:
            shutil.rmtree(sessions / name, ignore_errors=True)
            continue
        same = (
            name in before.lines and before.lines[name] == copy.lines[name] and before.notes[name] == copy.notes[name]
        )
        if not same:
            shutil.rmtree(sessions / name, ignore_errors=True)
            (sessions / name / "checkpoints").mkdir(parents=True)
            (sessions / name / "events.jsonl").write_bytes(b"".join(line + b"\n" for line in copy.lines[name]))
            for one, note in copy.notes[name].items():
                (sessions / name / "checkpoints" / one).write_bytes(note)


def write_bundle(copy: Copy, path: Path) -> None:
    """Write a bundle whose manifest fits what is in it."""
    shutil.rmtree(path, ignore_errors=True)
    files: dict[str, bytes] = {}
    told: list[dict[str, Any]] = []
    for name, lines in copy.lines.items():
        log = f"sessions/{name}/events.jsonl"
        files[log] = b"".join(line + b"\n" for line in lines)
        notes = {f"sessions/{name}/checkpoints/{one}": note for one, note in copy.notes[name].items()}
        files |= notes
        parts = hash_chain.split(lines[-1]) if lines else None
        head = parts[1].hex() if parts else "0" * 64
        told.append({"session_id": name, "root": copy.root[name], "log": log, "events": len(lines), "head_hash": head})
        told[-1]["checkpoints"] = sorted(notes)
    hashes = {one: {"sha256": sha256(data).hexdigest(), "size_bytes": len(data)} for one, data in files.items()}
    manifest = {"format": "eventstore-audit/1", "scope": "all", "sessions": told, "files": hashes}
    for one, data in {**files, "manifest.json": json.dumps(manifest).encode()}.items():
        (path / one).parent.mkdir(parents=True, exist_ok=True)
        (path / one).write_bytes(data)


def asked(sessions: Path, key: SigningKey, anchors: dict[str, str]) -> str:
    """Ask the store: the outcome of the worst."""
    with FileSystemSessionStorage(sessions, sessions.parent / ".history", fsync="no") as storage:
        verdicts = verify_all(storage, [key.verifier_key], list(anchors.values()))
    outcomes = [verdict.outcome for verdict in verdicts]
    return next((one for one in ("tampered", "damaged", "unreadable", "incomplete") if one in outcomes), "whole")


def asked_stranger(bundle: Path, key: SigningKey, kept: list[Path], *, apart: bool) -> int:
    """Ask the auditor's verifier: its exit status."""
    vkey = key.verifier_key.to_text()
    if not apart:
        notes = [(one.name, verifier.read_checkpoint(one.read_bytes())) for one in kept]
        return verifier.verify(bundle, [verifier.read_key(vkey)], notes, 1 << 30).status
    command = [sys.executable, "-I", "-S", verifier.__file__, str(bundle), "--key", vkey]
    for one in kept:
        command += ["--checkpoint", str(one)]
    return subprocess.run(command, capture_output=True, check=False, timeout=120).returncode


def is_longer(forged: Copy, copy: Copy) -> bool:
    """Return whether the store's own log got a record of a deletion, which no checkpoint proves.

    An honest deletion after the last checkpoint looks the same, so that is incomplete, and never whole.
    """
    return len(forged.lines.get("_store", ())) > len(copy.lines["_store"])


def tamper(full: bool) -> Counts:
    """Attack a signed store and its bundle in every way; with the key and the last checkpoints kept outside, all is found."""
    times = 500 if full else 5
    counts: Counts = {"whole": 0, **{attack.__name__: 0 for attack in ATTACKS}, "apart": 0}
    rng, key = Rng(41), SigningKey.generate(NAME)
    with folder() as root:
        sessions, bundle = root / ".sessions", root / "bundle"
        with FileSystemSessionStorage(sessions, root / ".history", fsync="no") as storage:
            manager = SessionManager(storage)
            live(manager, key)
            storage.flush()
            old = read(sessions)
            live_on(manager)
            anchors = sign_all(manager, key)
            storage.flush()
            own = read(sessions)
            own.old = old
            whole = stitched(manager, own)
        kept = [root / f"{name}.kept" for name in SESSIONS]
        for path, note in zip(kept, anchors.values(), strict=True):
            path.write_bytes(note.encode())
        write_store(own, sessions, Copy({}, {}))  # without views: they would give most attacks away
        write_bundle(whole, bundle)
        assert asked(sessions, key, anchors) == "whole"
        for apart in (False, True):
            assert asked_stranger(bundle, key, kept, apart=apart) == 0
        counts["whole"] = 2
        for attack in ATTACKS:
            for turn in range(times):
                name = rng.choice(SESSIONS)
                forged = deepcopy(own)
                attack(rng, forged, name, key)
                write_store(forged, sessions, own)
                found = asked(sessions, key, anchors)
                unproven = attack is vanished and is_longer(forged, own)
                allowed = ("tampered", "damaged", *(["incomplete"] if unproven else []))
                assert found in allowed, f"{attack.__name__} of {name} in the store: {found}"
                write_store(own, sessions, forged)
                forged = deepcopy(whole)
                attack(rng, forged, name, key)
                write_bundle(forged, bundle)
                apart = turn < (5 if full else 1)
                status = asked_stranger(bundle, key, kept, apart=apart)
                unproven = attack is vanished and is_longer(forged, whole)
                assert status in (3, 4) or (unproven and status == 5), (
                    f"{attack.__name__} of {name} in the bundle: {status}"
                )
                counts[attack.__name__] += 1
                counts["apart"] += apart
        assert asked(sessions, key, anchors) == "whole"
    return counts
