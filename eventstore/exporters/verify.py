r"""Verify an audit bundle of eventstore.

    python verify.py export.zip [--key VKEY_OR_FILE]... [--checkpoint NOTE_FILE_OR_FOLDER]... [--json]

This is one file. It needs only the standard library of Python 3.8 or later, and shares no code with eventstore. Every
bundle has a copy of it, but an attacker who forges a bundle can change that copy too: use your own, and compare its SHA-256
with the published one. Nothing of the bundle is executed or unpacked, and nothing that was recorded is printed. The bundle
may be a folder.

THE FORMAT
  manifest.json       {"format": "eventstore-audit/1", "sessions": [{"session_id", "root", "log", "events", "head_hash",
                      "checkpoints": [path...]}...], "files": {path: {"sha256", "size_bytes"}}}; all files but itself.
                      "scope" is "all" (sessions, templates, the store's own log) or "selected"; "derived" is 1 where the
                      tables, report.html, report.md and each session.json were made from the logs by the rules below.
  events.jsonl        one event a line: {"type":...,"seq":...,"at":...,<more>,"hash":"<64 hex>"} and LF; seq is 1, 2, 3...
                      body = the bytes before `,"hash":"`                leaf(n) = SHA-256(0x00 || body)
                      hash(n) = SHA-256(0x01 || hash(n-1) || leaf(n))    hash(0) = SHA-256("eventstore/1\n" || root)
                      root is the session itself or, for a fork, the first session of its line of forks. Where a fork
                      begins, a `session.created` records it: "forked_from": {"session_id", "seq", "hash" (of that
                      event), "root", "into" (the id of the fork)}.
  a large value       an input or result of a tool call, or the value of a record, over 256 KiB is not in its line: the line
                      has "input_bytes" and "input_sha256" (or "result_...", "value_..."), and the JSON text, or the bytes,
                      are the file `sessions/ID/values/SHA256`.
  a batch             events written together have "batch": [i, n], i from 0: all n of them are in the log, in a row.
  a redacted line     {"type":...,"seq":...,"at":...,"redacted":"<leaf, base64url>"<spaces>,"hash":"..."}: its leaf is the
                      one in "redacted". A later `event.redacted` of the same log names it: "target" (seq), "leaf" (hex),
                      "target_type" and "target_at", which the line must still have. An event without these fields
                      confirms nothing: under a checkpoint such a line is tampered with.
  a checkpoint        a C2SP tlog-checkpoint in a C2SP signed note, Ed25519: `eventstore/<session id>`, size, base64 of the
                      Merkle root (RFC 6962) over the first `size` leaves, then lines `at <time>`, `chain <hash(size)>`.
                      They are in `checkpoints/*.note`, in `checkpoint.signed` events, and in files of your own.
  the store's log     `sessions/_store/events.jsonl`: which sessions were created and which ended. Its
                      `store.checkpoint_signed` events have the "size" and "root" of each checkpoint of a "session_id":
                      that session must fit all of them.
  a key               <name>+<8 hex>+<base64(0x01 || public key)>. Never read from the bundle: you name the keys you trust.

WHAT IS PROVEN
  * Without keys and checkpoints: that the bundle is intact and agrees with itself. Whoever can write the bundle can recompute
    all of it, so nothing shows that the events are those that were recorded.
  * With --key: that the owner of the key signed the events up to the last checkpoint in the bundle that fits ("signed to").
    Not proven: that there were no later events. A return to an older, signed state is not detected.
  * With --checkpoint, a note that you kept elsewhere since it was signed: that the log still begins with exactly those events
    ("anchored outside to"), and that this session was not removed, truncated or set back to a state before it. Where keys
    are given too, such a note counts only if one of them signed it.
  * Events after the last of these are unproven. A trailing `checkpoint.signed` that only records a proven checkpoint is accepted.
  * Tables, reports and session.json are rebuilt from the logs and compared: they are as proven as the logs are. Other
    files, and those of bundles made by other rules, are not proven: they are listed, and no proof is complete with them.
  * That no session is missing is proven only where the bundle claims to contain all ("scope"), or with --all.
  * Never proven: that what was recorded is true, that all that happened was recorded, the clock behind "at", the content
    of redacted lines. The type and time of a redacted line are as proven as the event that records its redaction.

EXIT STATUS, the first of these that applies
  4  tampered, or inconsistent with a checkpoint: no accident explains it
  3  damaged: bytes have changed; without a checkpoint, an edit looks the same
  6  unreadable: no bundle, or one that is refused before it is read (links, odd or repeated names, compression bombs, ...)
  7  altered: a table or report is not what the logs give
  5  incomplete: intact, but events at its end, or files, are unproven (only where keys or checkpoints were given), or a
     session is missing that the bundle's copy of the store's own log records
  0  whole; where checkpoints (else keys) were given: proven to the last event. A bundle without events never has it.
  1 and 2 are other errors and wrong usage: nothing was verified.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import csv
import hashlib
import json
import os
import re
import stat
import struct
import sys
import zipfile
import zlib
from functools import lru_cache
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Tuple

WHOLE, ERROR, USAGE, DAMAGED, TAMPERED, INCOMPLETE, UNREADABLE, ALTERED = 0, 1, 2, 3, 4, 5, 6, 7
WORST_FIRST = (TAMPERED, DAMAGED, UNREADABLE, ALTERED, INCOMPLETE, WHOLE)
WORDS = {0: "whole", 3: "damaged", 4: "tampered", 5: "incomplete", 6: "unreadable", 7: "altered"}

CHUNK = 1024 * 1024
MAX_LINE_BYTES = 64 * 1024 * 1024
MAX_MANIFEST_BYTES = 64 * 1024 * 1024
MAX_NOTE_BYTES = 64 * 1024
MAX_BUNDLE_BYTES = 64 * 1024**3
MAX_RATIO, RATIO_FROM_BYTES = 200, 64 * 1024 * 1024
"""A file over RATIO_FROM_BYTES bytes may not be more than MAX_RATIO times its compressed size."""
MAX_FINDINGS = 50
"""How many findings of one kind are listed; the rest is only counted."""

SESSION_ID = re.compile(r"_store|(_template\.)?[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
STORE_LOG = "sessions/_store/events.jsonl"
HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
START = re.compile(rb'\{"type":"([^"\\]+)","seq":([1-9][0-9]{0,17}),"at":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)"')
END = re.compile(rb',"hash":"([0-9a-f]{64})"\}')
END_BYTES = 75
STUB = re.compile(rb',"redacted":"([A-Za-z0-9_-]{43})" *')
RECORD_ONLY = {"type", "seq", "at", "size", "root", "note", "salt", "hash"}
"""What a `checkpoint.signed` may hold to be a mere record of its checkpoint."""


class Refused(Exception):
    """Reading of the bundle was stopped: it is not safe, or no bundle."""


class Broken(Exception):
    """A file of the bundle cannot be read to its end."""


class Finding(NamedTuple):
    """One thing that is wrong: its outcome, and its place (line from 1, byte from 0)."""

    status: int
    text: str
    line: int = 0
    byte: int = 0

    def __str__(self) -> str:
        where = f"line {self.line}, byte {self.byte}: " if self.line else ""
        return f"{WORDS[self.status]}: {where}{self.text}"


def worst(statuses: Iterable[int]) -> int:
    """Return the worst of some statuses."""
    found = set(statuses)
    return next((status for status in WORST_FIRST if status in found), WHOLE)


def shown(text: str, limit: int = 200) -> str:
    """Quote a text of the bundle so that it cannot control a terminal."""
    return ascii(text if len(text) <= limit else text[:limit] + "...")


def sha256(data: bytes) -> bytes:
    """Hash bytes to 32 bytes."""
    return hashlib.sha256(data).digest()


def unbase64(text: str, length: int = 0) -> bytes:
    """Decode canonical base64. Raises ValueError."""
    data = base64.b64decode(text.encode("ascii"), validate=True)
    if base64.b64encode(data).decode("ascii") != text or (length and len(data) != length):
        raise ValueError("not base64 of the right length")
    return data


# --- JSON, read strictly


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _small_int(text: str) -> int | None:
    return int(text) if len(text) <= 20 else None  # longer ones cost time, and nothing here needs them


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_int=_small_int, parse_constant=_no_constant)


def read_object(data: bytes) -> dict[str, Any]:
    """Read UTF-8 bytes that are one JSON object without repeated keys. Raises ValueError."""
    try:
        text = data.decode("utf-8")
        found, end = _DECODER.raw_decode(text)
    except RecursionError:
        raise ValueError("nests too deep") from None
    if not isinstance(found, dict) or text[end:].strip(" \t\r\n"):
        raise ValueError("not one object")
    return found


def is_count(value: object) -> bool:
    """Check whether a JSON value is an integer of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_hex(value: object) -> bool:
    """Check whether a JSON value is 64 hex digits."""
    return isinstance(value, str) and HEX.fullmatch(value) is not None


# --- the bundle: a zip or a folder; nothing of it is unpacked


def check_name(name: str) -> None:
    """Refuse a name that could lead out of the bundle, or that different tools read differently."""
    parts = name.split("/")
    if not name.isprintable() or "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts):
        raise Refused(
            f"the name {shown(name)} is absolute, has '..', or has characters that no name in a bundle may have"
        )
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise Refused(f"the name {shown(name)} is not UTF-8") from None


class Archive:
    """A bundle in a zip file."""

    ERRORS = (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        OSError,
        ValueError,
        OverflowError,
    )

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except self.ERRORS as error:
            raise Refused(f"it cannot be opened as a zip ({type(error).__name__})") from None
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for entry in self._zip.infolist():
            self._add(entry)
        self._check_shape()

    def _add(self, entry: zipfile.ZipInfo) -> None:
        name = entry.orig_filename
        is_folder = name.endswith("/") and not entry.file_size
        check_name(name[:-1] if is_folder else name)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if entry.filename != name or (kind and not (stat.S_ISDIR(kind) if is_folder else stat.S_ISREG(kind))):
            raise Refused(f"{shown(name)} is a link, no plain file, or has two names")
        if is_folder:
            return
        if name in self._entries:
            raise Refused(f"the name {shown(name)} is there twice")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refused(f"{shown(name)} is encrypted, or compressed in an unusual way")
        if entry.file_size > max(RATIO_FROM_BYTES, MAX_RATIO * entry.compress_size):
            raise Refused(f"{shown(name)} would grow more than {MAX_RATIO} times when it is unpacked")
        self._entries[name] = entry

    def _check_shape(self) -> None:
        entries = self._zip.infolist()
        starts = {entry.header_offset for entry in entries}
        if self._zip.comment or len(starts) != len(entries) or (starts and min(starts) != 0):
            raise Refused("the zip has parts that overlap, or something in front of it or behind it")

    def sizes(self) -> dict[str, int]:
        """Return the size of every file, by name."""
        return {name: entry.file_size for name, entry in self._entries.items()}

    def chunks(self, name: str) -> Iterator[bytes]:
        """Stream a file. Raises Broken if it cannot be read to its end."""
        entry, total = self._entries[name], 0
        try:
            with self._zip.open(entry) as file:
                for chunk in iter(lambda: file.read(CHUNK), b""):
                    total += len(chunk)
                    if total > entry.file_size or total > max(RATIO_FROM_BYTES, MAX_RATIO * entry.compress_size):
                        raise Refused(f"{shown(name)} is larger than its entry says")
                    yield chunk
        except self.ERRORS as error:
            raise Broken(f"cannot be read to its end ({type(error).__name__})") from None
        if total != entry.file_size:
            raise Broken("is shorter than its entry says")


class Folder:
    """A bundle in a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sizes: dict[str, int] = {}
        try:
            self._walk(path, "")
        except OSError as error:
            raise Refused(f"its folder cannot be read ({type(error).__name__})") from None

    def _walk(self, folder: Path, prefix: str) -> None:
        for path in sorted(folder.iterdir()):
            name = prefix + path.name
            check_name(name)
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode):
                self._walk(path, name + "/")
            elif stat.S_ISREG(found.st_mode):
                self._sizes[name] = found.st_size
            else:
                raise Refused(f"{shown(name)} is a link or no plain file")

    def sizes(self) -> dict[str, int]:
        """Return the size of every file, by name."""
        return dict(self._sizes)

    def chunks(self, name: str) -> Iterator[bytes]:
        """Stream a file. Raises Broken if it cannot be read to its end."""
        left = self._sizes[name]
        try:
            flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            with os.fdopen(os.open(str(self._path / name), flags), "rb") as file:
                while left:
                    chunk = file.read(min(CHUNK, left))
                    if not chunk:
                        break
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise Broken(f"cannot be read to its end ({type(error).__name__})") from None
        if left:
            raise Broken("is shorter than it was")


def open_bundle(path: Path, max_bytes: int) -> Archive | Folder:
    """Open a bundle; read only its names and sizes. Raises Refused."""
    if not path.exists():
        raise Refused("there is no such file or folder")
    bundle = Folder(path) if path.is_dir() else Archive(path)
    if sum(bundle.sizes().values()) > max_bytes:
        raise Refused(f"it holds more than {max_bytes} bytes: raise --max-bytes if that is right")
    return bundle


def read_small(bundle: Archive | Folder, name: str, limit: int) -> bytes:
    """Read a small file completely. Raises Refused, Broken."""
    if bundle.sizes().get(name, 0) > limit:
        raise Refused(f"{shown(name)} is larger than {limit} bytes")
    return b"".join(bundle.chunks(name))


def split_lines(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Split at LF only; return each line without its LF, and whether it had one. Stop after a line over the limit."""
    rest = b""
    for chunk in chunks:
        parts = (rest + chunk).split(b"\n")
        rest = parts.pop()
        for part in parts:
            yield part, True
        if len(rest) > MAX_LINE_BYTES:
            break
    if rest:
        yield rest, False


# --- the manifest


class Listed(NamedTuple):
    """One session as the manifest lists it."""

    session_id: str
    root: str
    log: str
    events: int
    head_hash: str
    checkpoints: tuple[str, ...]


class Manifest(NamedTuple):
    """The sessions and the files that belong to a bundle.

    `is_all`: the bundle claims to contain all sessions. `derived`: the number of the rules that made its tables and reports.
    """

    sessions: tuple[Listed, ...]
    files: dict[str, tuple[str, int]]
    is_all: bool = False
    made_at: str = ""
    derived: int = 0


def read_manifest(bundle: Archive | Folder) -> Manifest:
    """Read the manifest: what the bundle should contain. Raises Refused."""
    if "manifest.json" not in bundle.sizes():
        raise Refused("it has no manifest.json: it is not an audit bundle")
    try:
        found = read_object(read_small(bundle, "manifest.json", MAX_MANIFEST_BYTES))
    except (ValueError, Broken):
        raise Refused("its manifest.json is not one JSON object") from None
    if found.get("format") != "eventstore-audit/1":
        raise Refused("its format is not eventstore-audit/1: a newer verify.py may know it")
    files, sessions = found.get("files"), found.get("sessions")
    if not isinstance(files, dict) or not isinstance(sessions, list):
        raise Refused("its manifest.json lists no files or no sessions")
    if found.get("scope") not in (None, "all", "selected"):
        raise Refused("its manifest.json has a scope that is neither all nor selected")
    names = {name: _listed_file(name, value) for name, value in files.items()}
    made_at = found.get("made_at") if isinstance(found.get("made_at"), str) else ""
    manifest = Manifest(tuple(map(_listed, sessions)), names, found.get("scope") == "all", str(made_at))
    manifest = manifest._replace(derived=1 if found.get("derived") == DERIVED else 0)
    if len({one.session_id for one in manifest.sessions}) != len(manifest.sessions):
        raise Refused("its manifest.json has a session twice")
    return manifest


def _listed_file(name: str, value: object) -> tuple[str, int]:
    check_name(name)
    if not isinstance(value, dict) or not is_hex(value.get("sha256")) or not is_count(value.get("size_bytes")):
        raise Refused(f"its manifest.json has no SHA-256 or no size for {shown(name)}")
    return value["sha256"], value["size_bytes"]


def _listed(value: object) -> Listed:
    if not isinstance(value, dict):
        raise Refused("its manifest.json lists an entry that is not a session")
    for key in ("session_id", "root"):
        if not isinstance(value.get(key), str) or not SESSION_ID.fullmatch(value[key]):
            raise Refused(f"its manifest.json has a session with an impossible {key}")
    session_id, notes = value["session_id"], value.get("checkpoints")
    folder = f"sessions/{session_id}/"
    if value.get("log") != folder + "events.jsonl" or not isinstance(notes, list):
        raise Refused(f"its manifest.json has wrong paths for the files of session {session_id}")
    if not all(isinstance(note, str) and note.startswith(folder + "checkpoints/") for note in notes):
        raise Refused(f"its manifest.json has wrong paths for the checkpoints of session {session_id}")
    if not is_count(value.get("events")) or not is_hex(value.get("head_hash")):
        raise Refused(f"its manifest.json has no events or no head_hash for session {session_id}")
    return Listed(session_id, value["root"], value["log"], value["events"], value["head_hash"], tuple(notes))


def check_files(
    bundle: Archive | Folder, manifest: Manifest, signed: dict[str, set[int]]
) -> tuple[list[Finding], set[str]]:
    """Compare every file with the manifest; return the findings, and the names of files that differ from it.

    In the same pass, collect into `signed` the sizes of the checkpoints that each log, or the store's own log, records.
    """
    there, listed = bundle.sizes(), {path for one in manifest.sessions for path in (one.log, *one.checkpoints)}
    findings = [Finding(TAMPERED, f"{shown(name)} {why}") for name, why in sorted(_odd_files(there, listed, manifest))]
    broken = (listed | manifest.files.keys()) - there.keys()
    findings += [Finding(DAMAGED, f"{shown(name)} is missing") for name in sorted(broken)]
    for name in sorted(manifest.files.keys() & there.keys()):
        try:
            digest, size = _read_through(bundle.chunks(name), name, signed)
            why = "is not the file that the manifest lists (size or SHA-256)"
        except Broken as error:
            digest, size, why = "", 0, str(error)
        if (digest, size) != manifest.files[name]:
            broken.add(name)
            findings.append(Finding(DAMAGED, f"{shown(name)} {why}"))
    return findings, broken


def _odd_files(there: dict[str, int], listed: set[str], manifest: Manifest) -> Iterator[tuple[str, str]]:
    for name in there.keys() - manifest.files.keys() - {"manifest.json"}:
        yield name, "is not in the manifest"
    for name in listed - manifest.files.keys():
        yield name, "belongs to a session but is not among the files of the manifest"
    for name in manifest.files.keys() - listed:
        if name.endswith((".note", "/events.jsonl")) and name.startswith("sessions/"):
            yield name, "is a log or checkpoint, but of no session in the manifest"


def _read_through(chunks: Iterator[bytes], name: str, signed: dict[str, set[int]]) -> tuple[str, int]:
    """Hash a file to its end. If it is a log, also collect the sizes in its `checkpoint.signed` events."""
    hasher, size = hashlib.sha256(), 0

    def hashed() -> Iterator[bytes]:
        nonlocal size
        for chunk in chunks:
            hasher.update(chunk)
            size += len(chunk)
            yield chunk

    data = hashed()
    if name in signed:
        for line, _ in split_lines(data):
            if line.startswith((b'{"type":"checkpoint.signed"', b'{"type":"store.checkpoint_signed"')):
                _note_size(line, name, signed)
    for _chunk in data:
        pass
    return hasher.hexdigest(), size


def _note_size(line: bytes, name: str, signed: dict[str, set[int]]) -> None:
    try:
        record = read_object(line)
    except ValueError:
        return
    size, whose = record.get("size"), record.get("session_id")
    if record.get("type") == "store.checkpoint_signed" and name == STORE_LOG:
        name = f"sessions/{whose}/events.jsonl"
    if isinstance(size, int) and name in signed:
        signed[name].add(size)


# --- Ed25519 (RFC 8032), verification only: points are X:Y:Z:T with x = X/Z, y = Y/Z, xy = T/Z

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
Point = Tuple[int, int, int, int]
ZERO: Point = (0, 1, 1, 0)


def add(a: Point, b: Point) -> Point:
    """Add two points of the curve."""
    e, f = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    g, h = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    i, j, k, m = f - e, h - g, h + g, f + e
    return i * j % P, k * m % P, j * k % P, i * m % P


def double(a: Point) -> Point:
    """Add a point to itself."""
    e, f, g = a[0] * a[0] % P, a[1] * a[1] % P, 2 * a[2] * a[2] % P
    h, i = e + f, e - f
    j, k = h - (a[0] + a[1]) ** 2, g + i
    return j * k % P, i * h % P, k * i % P, j * h % P


def unpack_point(data: bytes) -> Point | None:
    """Read a canonically encoded point; None if it is not one."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def pack_point(a: Point) -> bytes:
    """Write a point as 32 bytes."""
    inverse = pow(a[2], P - 2, P)
    x, y = a[0] * inverse % P, a[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def multiply(n: int, a: Point, m: int, b: Point) -> Point:
    """Compute n times a plus m times b."""
    both, total = add(a, b), ZERO
    for bit in range(max(n.bit_length(), m.bit_length()) - 1, -1, -1):
        total = double(total)
        first, second = n >> bit & 1, m >> bit & 1
        if first or second:
            total = add(total, both if first and second else a if first else b)
    return total


BASE = unpack_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little")) or ZERO


@lru_cache(maxsize=4096)
def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Verify an Ed25519 signature: canonical encodings only, without cofactor."""
    point, s = unpack_point(public), int.from_bytes(signature[32:], "little")
    if point is None or len(signature) != 64 or s >= ORDER:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    minus = (P - point[0], point[1], point[2], P - point[3])
    return pack_point(multiply(s, BASE, k, minus)) == signature[:32]


# --- keys, notes and checkpoints


class Key(NamedTuple):
    """A key that the caller trusts."""

    name: str
    key_id: bytes
    public: bytes


def read_key(text: str) -> Key:
    """Read `<name>+<8 hex>+<base64>`. Raises ValueError."""
    name, _, rest = text.strip().partition("+")
    number, _, data = rest.partition("+")
    public = unbase64(data, 33)
    key_id = sha256(name.encode("utf-8") + b"\n" + public)[:4]
    if not name or not name.isprintable() or " " in name or public[0] != 1 or number != key_id.hex():
        raise ValueError("not an Ed25519 verifier key, or one digit of it is wrong")
    point = unpack_point(public[1:])
    if point is None or pack_point(double(double(double(point)))) == pack_point(ZERO):
        raise ValueError("not a public key of Ed25519")
    return Key(name, key_id, public[1:])


class Checkpoint(NamedTuple):
    """A signed statement: the first `size` events of a log have this Merkle root, and the chain has this hash there."""

    origin: str
    size: int
    root: bytes
    chain: str
    text: bytes
    signatures: tuple[tuple[str, bytes, bytes], ...]

    @property
    def session_id(self) -> str:
        """The id of the session that it names."""
        return self.origin[len("eventstore/") :] if self.origin.startswith("eventstore/") else ""


def read_checkpoint(data: bytes) -> Checkpoint:
    """Read a signed note that holds a checkpoint. Raises ValueError."""
    note = data.decode("utf-8")
    text, blank, signatures = note.rpartition("\n\n")
    lines = text.split("\n")
    chains = [line[6:] for line in lines[3:] if line.startswith("chain ")]
    if len(data) > MAX_NOTE_BYTES or not blank or not signatures.endswith("\n") or len(lines) < 4:
        raise ValueError("not a signed note")
    if not all(line and line.isprintable() for line in lines) or len(chains) != 1 or not is_hex(chains[0]):
        raise ValueError("not a checkpoint of eventstore")
    if not re.fullmatch("[1-9][0-9]{0,17}", lines[1], re.ASCII):
        raise ValueError("not the size of a log")
    found = tuple(map(_signature, signatures[:-1].split("\n")))
    return Checkpoint(lines[0], int(lines[1]), unbase64(lines[2], 32), chains[0], (text + "\n").encode(), found)


def _signature(line: str) -> tuple[str, bytes, bytes]:
    dash, name, data = line.split(" ")
    raw = unbase64(data)
    if dash != "\u2014" or not name or not name.isprintable() or len(raw) < 5:
        raise ValueError("not a signature of a note")
    return name, raw[:4], raw[4:]


def count_signatures(checkpoint: Checkpoint, keys: list[Key]) -> tuple[int, int]:
    """Count the signatures of trusted keys on a checkpoint: the good ones and the bad ones."""
    good = bad = 0
    for name, key_id, signature in checkpoint.signatures:
        for key in keys:
            if (key.name, key.key_id) == (name, key_id):
                fits = is_signed(key.public, checkpoint.text, signature)
                good, bad = good + fits, bad + (not fits)
    return good, bad


class Tree:
    """A Merkle tree (RFC 6962) that grows by leaves and keeps only its perfect subtrees."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """Add the next leaf hash."""
        rest = self.size
        self.size += 1
        while rest & 1:
            leaf = sha256(b"\x01" + self._peaks.pop() + leaf)
            rest >>= 1
        self._peaks.append(leaf)

    def root(self) -> bytes:
        """Compute the root over all leaves so far."""
        root = self._peaks[-1] if self._peaks else sha256(b"")
        for peak in reversed(self._peaks[:-1]):
            root = sha256(b"\x01" + peak + root)
        return root


# --- one log, line by line


class Log:
    """A log as far as it is read: the first `events` are intact and fit. After a `fault`, lines are only leaves of the tree."""

    def __init__(
        self, listed: Listed, roots: set[str], sizes: set[int], checkpoints: Checkpoints, store: Store
    ) -> None:
        self.listed, self.roots, self.sizes = listed, roots, sizes
        self.checkpoints, self.store = checkpoints, store
        self.digest = self.before = first_hash(listed.root)
        self.head, self.events, self.line, self.byte, self.at = "", 0, 0, 0, ""
        self.owner, self.first_own, self.first_own_type = listed.root, "", ""
        self.batch: tuple[int, int] | None = None
        self.loose_stubs = 0
        self.stubs: dict[int, tuple[str, str, str, int]] = {}
        self.redacted: dict[int, tuple[int, str]] = {}
        self.vague: dict[int, tuple[int, str]] = {}
        self.denied: set[int] = set()
        self.unfinished: set[int] = set()
        self.tree = Tree()
        self.points: dict[int, tuple[bytes, str]] = {}
        self.fault: Finding | None = None
        self.values: dict[str, tuple[int, str, object]] = {}
        self.facts = Facts(listed.session_id, listed.root)

    def read(self, chunks: Iterable[bytes]) -> None:
        """Read all lines."""
        try:
            for line, has_end in split_lines(chunks):
                self.line += 1
                if self.fault is None:
                    self._take(line, has_end)
                else:
                    self._count(line)
                self.byte += len(line) + has_end
        except Broken as error:
            self.line += 1
            self._fail(DAMAGED, str(error))
        if self.fault is None and self.batch is not None:
            self.line += 1
            self._fail(DAMAGED, f"is missing: the last batch has {self.batch[0]} of its {self.batch[1]} events")

    def _fail(self, status: int, text: str) -> None:
        if self.fault is None:
            self.fault = Finding(status, text, self.line, self.byte)

    def _take(self, line: bytes, has_end: bool) -> None:
        start, end = START.match(line), END.fullmatch(line, max(len(line) - END_BYTES, 0))
        leaf, is_stub = leaf_of(line)
        digest = sha256(b"\x01" + self.digest + leaf)
        if not has_end or end is None or end[1] != binascii.hexlify(digest):
            self._fail(*self._why_not(has_end, end is not None, leaf, line))
            self._count(line)
            return
        self.before, self.digest = self.digest, digest
        try:
            record = read_object(line)
            if start is None or list(record)[-1] != "hash":
                raise ValueError("not a record")
            self._judge(record, start[3].decode("ascii"), leaf, is_stub)
        except ValueError:
            self._fail(
                TAMPERED, "fits the chain but is not an event: not one JSON object in UTF-8 with the required keys"
            )
        self._grow(leaf)

    def _why_not(self, has_end: bool, has_hash: bool, leaf: bytes, line: bytes) -> tuple[int, str]:
        if not has_end:
            return DAMAGED, "is truncated or too long: it has no LF"
        if not has_hash:
            return DAMAGED, "does not end like an event"
        if self.line == 1:
            for other in sorted(self.roots - {self.listed.root}):
                if line[-66:-2] == binascii.hexlify(sha256(b"\x01" + first_hash(other) + leaf)):
                    return TAMPERED, f"begins the chain of session {other}, not of {self.listed.root}"
        return DAMAGED, "has a hash that does not fit: this line, or the line before it, is not what was written"

    def _count(self, line: bytes) -> None:
        self._grow(leaf_of(line)[0])

    def _grow(self, leaf: bytes) -> None:
        self.tree.append(leaf)
        if self.tree.size in self.sizes:
            self.points[self.tree.size] = self.tree.root(), "" if self.fault else self.digest.hex()

    def _judge(self, record: dict[str, Any], at: str, leaf: bytes, is_stub: bool) -> None:
        """Judge an event whose hash fits. A fault found here was made on purpose."""
        if record["seq"] != self.line:
            self._fail(TAMPERED, f"fits the chain but does not have seq {self.line}")
        elif at < self.at:
            self._fail(TAMPERED, "fits the chain but its time is before that of the previous line")
        elif not (self._place_stub() if is_stub else self._place(record.get("batch"))):
            self._fail(TAMPERED, "fits the chain but does not continue its batch")
        else:
            self.at = at
            if self.batch is None:
                self.events, self.head = self.line, record["hash"]
            if self.line == 1:
                self.first_own, self.first_own_type = record["hash"], record["type"]
            if is_stub:
                self.stubs[self.line] = leaf.hex(), record["type"], at, self.byte
            self.facts.take(record, is_stub=is_stub)
            self._understand({"type": "", "seq": self.line, "at": at} if is_stub else record)

    def _place(self, batch: object) -> bool:
        """Check and record the place in a batch that an event claims; return False if it cannot have that place."""
        loose, self.loose_stubs = self.loose_stubs, 0
        if batch is None:
            return self.batch is None
        if not isinstance(batch, list) or len(batch) != 2 or not all(map(is_count, batch)) or batch[0] >= batch[1]:
            return False
        index, count = batch
        if count < 2 or (self.batch != (index, count) if self.batch else index > loose):
            return False
        self.batch = (index + 1, count) if index + 1 < count else None
        return True

    def _place_stub(self) -> bool:
        """Give a redacted line the place that its neighbours leave free: its batch is not known."""
        if self.batch is None:
            self.loose_stubs += 1
        else:
            index, count = self.batch
            self.batch = (index + 1, count) if index + 1 < count else None
        return True

    def _understand(self, record: dict[str, Any]) -> None:
        kind = record["type"]
        if kind.startswith("invocation.") or kind == "record.put":
            for name in ("input", "result", "value"):
                if is_hex(record.get(f"{name}_sha256")):
                    self.values[record[f"{name}_sha256"]] = record["seq"], name, record.get(f"{name}_bytes")
        elif kind == "message.added" and isinstance(record.get("blobs"), list):
            for one in record["blobs"]:
                if isinstance(one, dict) and is_hex(one.get("value_sha256")):
                    self.values[one["value_sha256"]] = record["seq"], "file", one.get("value_bytes")
        elif kind == "message.added" and isinstance(record.get("blobs"), list):
            for blob in record["blobs"]:
                if isinstance(blob, dict) and is_hex(blob.get("value_sha256")):
                    self.values[blob["value_sha256"]] = record["seq"], "file", blob.get("value_bytes")
        elif kind == "event.redacted":
            self._redact(record)
        elif kind == "session.created" and isinstance(record.get("forked_from"), dict):
            self._fork(record, record["forked_from"])
        elif self.listed.session_id == "_store":
            self.store.take(record)
        self.checkpoints.take_event(self, record)

    def _redact(self, record: dict[str, Any]) -> None:
        target = record.get("target")
        if not isinstance(target, int) or not 0 < target < self.line:
            return  # it makes no redacted line legitimate
        if target not in self.stubs:
            self.unfinished.add(target)
            return
        leaf, kind, at, _ = self.stubs[target]
        if record.get("leaf") != leaf:
            return
        named = record.get("target_type"), record.get("target_at")
        if named == (kind, at):
            self.redacted.setdefault(target, (self.line, self.at))
        elif named[0] in (None, kind) and named[1] in (None, at):
            self.vague.setdefault(target, (self.line, self.at))
        else:
            self.denied.add(target)

    def _fork(self, record: dict[str, Any], origin: dict[str, Any]) -> None:
        """Follow a fork: from a session to the fork that continues it."""
        place, into = (origin.get("seq"), origin.get("hash"), origin.get("root")), origin.get("into")
        if place == (self.line - 1, self.before.hex(), self.listed.root) and isinstance(into, str):
            self.owner, self.first_own, self.first_own_type = into, record["hash"], record["type"]

    def findings(self, *, is_file_intact: bool) -> Iterator[Finding]:
        """Return what is wrong with the complete log. Call after reading. After a fault nothing more is known."""
        if self.fault is not None:
            yield self.fault
            return
        if not self.events:
            yield Finding(DAMAGED, "has no event")
            return
        if (self.events, self.head) != (self.listed.events, self.listed.head_hash):
            text = f"has {self.events} events, and the manifest lists {self.listed.events}, or another last hash"
            yield Finding(TAMPERED if is_file_intact else DAMAGED, text)
        if self.owner != self.listed.session_id:
            yield Finding(
                TAMPERED, f"no session.created at the right place leads from {self.listed.root} to this session"
            )
        covered = max((self.checkpoints.covered, *self.store.sizes(self.listed.session_id), 0))
        for line in sorted(self.stubs.keys() - (self.redacted.keys() - self.denied))[:MAX_FINDINGS]:
            if line in self.denied:
                text = "the event that records its redaction names another type or time"
            elif line not in self.vague:
                text = "no later event records its redaction"
            elif line <= covered:
                text = "a checkpoint covers it, and no later event confirms its type and time"
            else:
                continue
            yield Finding(TAMPERED, f"is redacted, and {text}", line, self.stubs[line][3])

    def notes(self, proven: int) -> Iterator[str]:
        """Return what is worth knowing but not wrong."""
        redacted = (self.redacted.keys() | self.vague.keys()) - self.denied
        if redacted:
            yield f"{len(redacted)} redacted"
        vague = self.vague.keys() - self.redacted.keys()
        if vague:
            yield f"no event confirms type and time of redacted {events_named(vague)}"
        late = {seq for seq, (by, _) in self.redacted.items() if seq <= proven < by}
        if late:
            yield f"type and time of redacted {events_named(late)} are confirmed by an unproven event only"
        if self.unfinished and self.fault is None:
            yield f"redaction recorded but not finished: {events_named(self.unfinished)}; the next append finishes it"


def events_named(seqs: Iterable[int]) -> str:
    """Name events by their numbers."""
    found = sorted(seqs)
    return f"event{'s' if len(found) > 1 else ''} {', '.join(map(str, found[:MAX_FINDINGS]))}"


def first_hash(root: str) -> bytes:
    """Compute the chain's hash before the first event."""
    return sha256(b"eventstore/1\n" + root.encode("ascii"))


def leaf_of(line: bytes) -> tuple[bytes, bool]:
    """Compute the leaf of a line. A redacted line states its leaf: return that one, and True."""
    body = line[:-END_BYTES]
    start = START.match(body)
    stub = STUB.fullmatch(body, start.end()) if start else None
    if stub:
        leaf = base64.urlsafe_b64decode(stub[1] + b"=")
        if base64.urlsafe_b64encode(leaf)[:-1] == stub[1]:
            return leaf, True
    return sha256(b"\x00" + body), False


class Checkpoints:
    """What checkpoints prove of one log. `signed` and `anchored` are numbers of events from the first."""

    def __init__(self, keys: list[Key], anchors: list[tuple[str, Checkpoint]]) -> None:
        self.keys, self.anchors = keys, anchors
        self.signed = self.anchored = self.unsigned = self.covered = 0
        self.findings: list[Finding] = []
        self.trailing: list[tuple[int, Checkpoint]] = []

    def take_event(self, log: Log, record: dict[str, Any]) -> None:
        """Process an event of the log: a checkpoint that it records, or any other event."""
        checkpoint = self._recorded(log, record) if record["type"] == "checkpoint.signed" else None
        if checkpoint is None or not RECORD_ONLY.issuperset(record):
            self.trailing.clear()
        else:
            self.trailing.append((log.line, checkpoint))

    def _recorded(self, log: Log, record: dict[str, Any]) -> Checkpoint | None:
        try:
            checkpoint = read_checkpoint(str(record.get("note")).encode("utf-8"))
        except ValueError:
            self.unsigned += 1
            return None
        recorded = record.get("size"), record.get("root")
        if recorded != (checkpoint.size, base64.b64encode(checkpoint.root).decode("ascii")):
            self._find(
                Finding(TAMPERED, "records a checkpoint with another size or root than its note", log.line, log.byte)
            )
            return None
        where = Finding(TAMPERED, "records a checkpoint that", log.line, log.byte)
        return checkpoint if self.judge(log, checkpoint, where, log.owner) else None

    def take_anchors(self, log: Log) -> None:
        """Compare the log with the checkpoints that were kept outside. Call after reading the log."""
        for name, checkpoint in self.anchors:
            where = Finding(TAMPERED, f"the checkpoint kept outside in {shown(name)}")
            if self.judge(log, checkpoint, where, log.listed.session_id):
                self.anchored = max(self.anchored, checkpoint.size)

    def judge(self, log: Log, checkpoint: Checkpoint, where: Finding, owner: str) -> bool:
        """Check whether a checkpoint fits the log and is signed by a trusted key, if there are trusted keys."""
        good, bad = count_signatures(checkpoint, self.keys)
        why = "has a forged or broken signature of a key that you trust" if bad else _why_no_fit(log, checkpoint, owner)
        if why:
            self._find(where._replace(text=f"{where.text} {why}"))
            return False
        self.covered = max(self.covered, checkpoint.size)
        if good:
            self.signed = max(self.signed, checkpoint.size)
        else:
            self.unsigned += 1
        return good > 0 or not self.keys

    def _find(self, finding: Finding) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)

    def recorded(self, proven: int) -> int:
        """Return the last event up to which only records of proven checkpoints follow the proven events."""
        known = {checkpoint.text for _, checkpoint in self.anchors}
        last = proven
        for line, checkpoint in self.trailing:
            if line == last + 1 and 0 < checkpoint.size <= proven and (self.keys or checkpoint.text in known):
                last = line
        return last

    def notes(self) -> Iterator[str]:
        """Return what is worth knowing but not wrong."""
        if self.keys and self.unsigned:
            yield f"{self.unsigned} checkpoints are unproven: no key of yours signed them"


def _why_no_fit(log: Log, checkpoint: Checkpoint, owner: str) -> str:
    if checkpoint.origin != f"eventstore/{owner}":
        return f"is of another session: {shown(checkpoint.origin)}"
    if checkpoint.size not in log.points:
        return f"is of {checkpoint.size} events, and the log has {log.tree.size}: it was truncated or set back"
    root, chain = log.points[checkpoint.size]
    if root != checkpoint.root:
        return f"does not fit: the first {checkpoint.size} events are not those that were signed"
    if chain and chain != checkpoint.chain:
        return f"does not fit: its chain line is not the hash of event {checkpoint.size}"
    return ""


class Store:
    """What the store's own log records about sessions: which ones were created and are not deleted or in the trash."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}
        self.again: set[str] = set()
        self.signed: dict[str, dict[int, set[str]]] = {}
        self.is_there = False
        self.proven = 0
        self._seq = 0
        self._created_at: dict[str, str] = {}
        self._aside: dict[str, str] = {}
        self._signed_aside: dict[str, dict[int, set[str]]] = {}
        self._past: dict[str, list[tuple[int, dict[int, set[str]]]]] = {}
        self._asked: dict[str, set[int]] = {}
        self._redacted: dict[str, set[int]] = {}
        self._family: dict[str, str] = {}

    def take(self, record: dict[str, Any]) -> None:
        """Apply an event of the store's own log."""
        self.is_there = True
        self._seq = record["seq"]
        session_id, name, kind = str(record.get("session_id")), str(record.get("name")), record["type"]
        if kind == "store.session_created":
            self._begin(session_id, str(record.get("first_hash")), record["at"])
        elif kind == "store.session_forked":
            self._family[self._root_of(session_id)] = self._root_of(str(record.get("parent")))
        elif kind == "store.session_trashed":
            self._aside[name] = self.made.pop(session_id, "")
            self._signed_aside[name] = self.signed.pop(session_id, {})
        elif kind == "store.session_restored":
            self._bring_back(session_id, name)
        elif kind == "store.trash_purged":
            self._aside.pop(name, None)
            self._end(session_id, self._signed_aside.pop(name, {}))
        elif kind == "store.session_deleted":
            self.made.pop(session_id, None)
            self._end(session_id, self.signed.pop(session_id, {}))
        elif kind == "store.checkpoint_signed" and is_count(record.get("size")):
            self.signed.setdefault(session_id, {}).setdefault(record["size"], set()).add(str(record.get("root")))
        elif kind == "store.events_redacted" and isinstance(record.get("targets"), list):
            targets = {one for one in record["targets"] if is_count(one)}
            self._asked.setdefault(session_id, set()).update(targets)
            self._redacted.setdefault(session_id, set()).update(targets)

    def _begin(self, session_id: str, first_hash: str, at: str) -> None:
        if self.made.get(session_id, first_hash) != first_hash:
            self.again.add(session_id)  # not the same one, that was lost and brought back from a backup
        if self.made.get(session_id) != first_hash:
            self._asked.pop(session_id, None)
        self.made[session_id], self._created_at[session_id] = first_hash, at

    def _bring_back(self, session_id: str, name: str) -> None:
        if session_id in self.made and name in self._aside:
            self.again.add(session_id)
        if name in self._aside or session_id not in self.made:
            self.made[session_id] = self._aside.pop(name, "")
            self.signed[session_id] = self._signed_aside.pop(name, {})

    def _end(self, session_id: str, signed: dict[int, set[str]]) -> None:
        self._past.setdefault(session_id, []).append((self._seq, signed))

    def _root_of(self, session_id: str) -> str:
        """Return the first session of a line of forks. It represents all of them, deleted ones too."""
        found = session_id
        while self._family.get(found, found) != found:
            found = self._family[found]
        return found

    def ended_at(self, checkpoint: Checkpoint) -> int:
        """Return the seq of the event that records the end of the session of a checkpoint; 0 if there is none."""
        root = base64.b64encode(checkpoint.root).decode("ascii")
        past = self._past.get(checkpoint.session_id, [])
        return next((seq for seq, signed in past if root in signed.get(checkpoint.size, ())), 0)

    def is_past(self, checkpoint: Checkpoint) -> bool:
        """Check whether a proven event records the end of the session of a checkpoint."""
        return 0 < self.ended_at(checkpoint) <= self.proven

    def sizes(self, session_id: str) -> list[int]:
        """List the sizes of the checkpoints that are recorded for a session."""
        return list(self.signed.get(session_id, ()))

    def findings(self, log: Log) -> Iterator[Finding]:
        """Compare a session's first event, checkpoints and redactions with what the store's own log records."""
        session_id = log.listed.session_id
        if session_id == "_store":
            for one in sorted(self.again)[:MAX_FINDINGS]:
                text = "was created again, and no event records the end of the earlier one"
                yield Finding(TAMPERED, f"session {shown(one)} {text}")
            return
        made = self.made.get(session_id, "")
        if made and log.events and made != log.first_own and log.first_own_type != "log.repaired":
            yield Finding(TAMPERED, "its first event is not the one that the store's own log records")
        yield from self._against_signed(log)
        if session_id in self.made and log.fault is None:
            for seq in self._unknown(log)[:MAX_FINDINGS]:
                text = f"event {seq} is redacted, and the store's own log does not record that redaction"
                yield Finding(DAMAGED, f"{text}: compare it with a backup")

    def _against_signed(self, log: Log) -> Iterator[Finding]:
        signed = self.signed.get(log.listed.session_id, {})
        size = max(signed, default=0)
        if log.tree.size < size:
            text = f"has {log.tree.size} events, and the store's own log records a checkpoint of {size}"
            yield Finding(TAMPERED, f"{text}: it was truncated or set back")
            return
        for size in sorted(signed):
            if signed[size] != {base64.b64encode(log.points[size][0]).decode("ascii") if size in log.points else ""}:
                text = f"does not fit the checkpoint of {size} events that the store's own log records"
                yield Finding(TAMPERED, f"{text}: its first {size} events are not those that were signed")
                return

    def _unknown(self, log: Log) -> list[int]:
        """List redacted events that no `store.events_redacted` names. Skip those that came with an archive: they are older."""
        session_id = log.listed.session_id
        created, family = self._created_at.get(session_id, ""), self._root_of(session_id)
        known = {seq for one, seqs in self._redacted.items() if self._root_of(one) == family for seq in seqs}
        found = {**log.vague, **log.redacted}
        return sorted(seq for seq, (_, at) in found.items() if created and at > created and seq not in known)

    def notes(self, log: Log) -> Iterator[str]:
        """Return what is worth knowing but not wrong."""
        session_id = log.listed.session_id
        undone = {seq for seq in self._asked.get(session_id, set()) - log.stubs.keys() if seq <= log.events}
        if undone and session_id in self.made:
            some = ", ".join(map(str, sorted(undone)[:MAX_FINDINGS]))
            yield f"a redaction was recorded but not finished: event {some} is still there; redact it again"
        if self.is_there and session_id != "_store" and session_id not in self.made:
            yield "the store's own log does not record it"


# --- what a bundle has besides the logs: tables, reports and figures, all made from the logs by these rules

DERIVED = 1
"""The number of these rules. A bundle made by other rules has another number: its tables and reports cannot be compared."""
KINDS = ("input", "output", "cache_read", "cache_write", "reasoning")
TOKENS = tuple(f"{kind}_tokens" for kind in KINDS)
CODEX_COUNTS = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens")
COLUMNS = {
    "events": (
        *("session_id", "seq", "time", "recorded_at", "type", "actor", "role", "tool", "invocation_id", "text"),
        *("duration_ms", "success", "error", "model", *TOKENS, "cost", "hash", "redacted", "inherited"),
    ),
    "calls": (
        *("session_id", "invocation_id", "tool", "time", "duration_ms", "success", "error", "input", "result"),
        *("seq", "inherited"),
    ),
    "usage": (
        *("session_id", "seq", "time", "model", "key", *TOKENS, "other_tokens", "cost"),
        *(*(f"counted_{name}" for name in TOKENS), "counted_other_tokens", "counted_cost", "inherited"),
    ),
}
REPORTS = ("report.html", "report.md")
ENVELOPE = {"type", "seq", "at", "occurred_at", "v", "id", "batch", "by", "origin", "salt", "hash"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", re.ASCII)
MOST_NAMES, MOST_REMOVALS, INLINE, CUT = 12, 50, 160, 20_000
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"}
PICTURES[0x7F] = 0x2421
MARKDOWN = {ord(one): f"&#{ord(one)};" for one in "&<>|\\`@*_[]~$#!{}"}
MARKDOWN[10] = " \u21b5 "
HIDING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


def text_or_none(value: object) -> str | None:
    """Return a JSON value if it is text, else None."""
    return value if isinstance(value, str) else None


def number_or_none(value: object) -> float | None:
    """Return a JSON value as a float if it is a number, else None."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def to_json(value: object) -> str:
    """Write JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def counts_of(value: object) -> dict[str, int]:
    """Return the integers of an object."""
    return {key: one for key, one in value.items() if is_count(one)} if isinstance(value, dict) else {}


def time_of(record: dict[str, Any]) -> str:
    """Return the time when an event happened, if it has one, else the time when it was recorded."""
    time = record.get("occurred_at")
    return time if isinstance(time, str) and TIME.fullmatch(time) else str(record["at"])


def actor_of(record: dict[str, Any]) -> str | None:
    """Return the actor of an event, if one is recorded."""
    by = record.get("by")
    return text_or_none(by.get("actor")) if isinstance(by, dict) else None


def call_of(record: dict[str, Any]) -> str | None:
    """Return the id of the tool call that an event is about."""
    kind = record["type"]
    if kind.startswith("invocation.") or (kind == "message.added" and record.get("role") in ("assistant", "tool")):
        return text_or_none(record.get("invocation_id"))
    return None


def value_file(session_id: str, digest: str) -> str:
    """Return the file name of an input or result that is too large for a line."""
    return f"sessions/{session_id}/values/{digest}"


def text_of_event(record: dict[str, Any]) -> str:
    """Return the text of an event: that of a message, else its own fields as JSON."""
    own = {"message.added": "content", "reasoning.recorded": "content", "event.redacted": "reason"}.get(record["type"])
    if own is not None:
        return str(record.get(own))
    fields = {key: value for key, value in record.items() if key not in ENVELOPE}
    return to_json(fields) if fields else ""


class Facts:
    """What only a complete log shows: its figures, the last event of each call, and why events were redacted."""

    def __init__(self, session_id: str, root: str) -> None:
        self.session_id, self.root = session_id, root
        self.events, self.own, self.first_at, self.last_at, self.hash = 0, 1, "", "", ""
        self.known: dict[str, Any] = {"purpose": None, "user_id": None, "tags": [], "status": ""}
        self.forks: list[str] = []
        self.kinds: dict[str, int] = {}
        self.names: dict[str, dict[str, int]] = {"actors": {}, "models": {}, "tools": {}}
        self.last_about: dict[str, int] = {}
        self.last_use: dict[str, int] = {}
        self.outcomes: dict[str, bool] = {}
        self.uses = Uses()
        self.tokens: dict[str, int] = {}
        self.cost = 0.0
        self.stubs: dict[int, tuple[str, str]] = {}
        self.removals: dict[int, dict[str, Any]] = {}
        self.checkpoint: dict[str, Any] | None = None

    def take(self, record: dict[str, Any], *, is_stub: bool) -> None:
        """Count one event."""
        self.events, self.last_at, self.hash = record["seq"], record["at"], record["hash"]
        self.first_at = self.first_at or self.last_at
        record = read_use(record)
        kind = record["type"]
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if is_stub:
            self.stubs[self.events] = kind, self.last_at
            return
        self._count("actors", actor_of(record))
        call = call_of(record)
        if call is not None:
            self.last_about[call] = self.events
            self._count("tools", text_or_none(record.get("tool_name")) if kind == "invocation.linked" else None)
            if isinstance(record.get("success"), bool):
                self.outcomes[call] = record["success"]
        elif kind == "usage.recorded":
            self._use(record)
        elif kind == "event.redacted" and is_count(record.get("target")) and record["target"] < self.events:
            self.removals[record["target"]] = record
        elif kind == "checkpoint.signed":
            self.checkpoint = record
        elif kind.startswith("session."):
            self._know(kind, record)

    def _count(self, what: str, name: str | None) -> None:
        names = self.names[what]
        if name and (name in names or len(names) < 1000):
            names[name] = names.get(name, 0) + 1

    def _use(self, record: dict[str, Any]) -> None:
        self._count("models", text_or_none(record.get("model")))
        key = text_or_none(record.get("key"))
        if key is not None:
            self.last_use[key] = self.events
        more, cost = self.uses.more(record)
        for kind, count in more.items():
            self.tokens[kind] = self.tokens.get(kind, 0) + count
        self.cost += cost

    def _know(self, kind: str, record: dict[str, Any]) -> None:
        if kind == "session.created":
            self.known["status"] = "active"
            point = record.get("forked_from")
            if isinstance(point, dict):
                self.own = self.events
                self.forks.append(f"{point.get('session_id')} up to event {point.get('seq')}")
        for name in ("purpose", "user_id", "tags"):
            if name in record:
                self.known[name] = record[name]
        if kind == "session.completed":
            self.known["status"] = text_or_none(record.get("status")) or "completed"
        elif kind == "session.reopened":
            self.known["status"] = "active"

    def redactions(self) -> Iterator[dict[str, Any]]:
        """List each redacted event: its type, and which event records its redaction, by whom and why."""
        for target in sorted(self.stubs):
            kind, at = self.stubs[target]
            record = self.removals.get(target, {})
            yield {
                "target": target,
                "type": kind,
                "at": at,
                "recorded_in": record.get("seq"),
                "recorded_at": record.get("at"),
                "by": actor_of(record),
                "reason": text_or_none(record.get("reason")),
            }

    def to_file(self) -> bytes:
        """Write session.json: the figures of the session, without its content."""
        checkpoint = self.checkpoint or {}
        known = {
            "session_id": self.session_id,
            **self.known,
            "events": self.events,
            "first_at": self.first_at,
            "last_at": self.last_at,
            "forked_from": self.forks,
            "events_by_type": dict(sorted(self.kinds.items())),
            "tokens": dict(sorted(self.tokens.items())),
            "cost": self.cost,
            "last_checkpoint": {"size": checkpoint.get("size"), "root": checkpoint.get("root")} if checkpoint else None,
            "redactions": list(self.redactions()),
        }
        return as_bytes(json.dumps(known, ensure_ascii=False, indent=2) + "\n")


def as_bytes(text: str) -> bytes:
    """Encode a text as UTF-8; show characters that have no encoding as escapes."""
    return text.encode("utf-8", "backslashreplace")


def read_use(record: dict[str, Any]) -> dict[str, Any]:
    """Convert token usage that version 0.1.0 imported from Codex to the later form: no token in two kinds, with a key."""
    origin = record.get("origin")
    if record["type"] != "usage.recorded" or "key" in record or not isinstance(origin, dict):
        return record
    if origin.get("format") != "codex":
        return record
    tokens = counts_of(record.get("tokens"))
    for name, part in (("input", "cache_read"), ("output", "reasoning")):
        if name in tokens:
            tokens[name] = max(tokens[name] - tokens.get(part, 0), 0)
    try:
        total = json.loads(origin["line"])["payload"]["info"]["total_token_usage"]
        key = ":".join(["total", *(str(total.get(name)) for name in CODEX_COUNTS)]) if total else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        key = None
    return {**record, "tokens": tokens, "key": key}


class Uses:
    """Token usage as recorded. Reports with the same key are about one use: the largest reported number counts."""

    def __init__(self) -> None:
        self._most: dict[str, tuple[dict[str, int], float]] = {}

    def more(self, record: dict[str, Any]) -> tuple[dict[str, int], float]:
        """Return the tokens and cost that an event adds to what was recorded before."""
        tokens, cost = counts_of(record.get("tokens")), number_or_none(record.get("cost")) or 0.0
        key = text_or_none(record.get("key"))
        known, paid = self._most.get(key, ({}, 0.0)) if key is not None else ({}, 0.0)
        more = {kind: max(count - known.get(kind, 0), 0) for kind, count in tokens.items()}
        if key is not None:
            most = dict(known)
            for kind, count in more.items():
                most[kind] = most.get(kind, 0) + count
            self._most[key] = most, max(cost, paid)
        return more, max(cost - paid, 0.0)


class Rows:
    """The rows of the three tables for one session, event by event."""

    def __init__(self, facts: Facts) -> None:
        self._facts, self._uses = facts, Uses()
        self._calls: dict[str, dict[str, Any]] = {}
        self._tools: dict[str, str] = {}

    def of(self, record: dict[str, Any], *, is_stub: bool) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the rows that an event adds, with the names of their tables."""
        record = read_use(record)
        base = {"session_id": self._facts.session_id, "seq": record["seq"], "time": time_of(record)}
        base["inherited"] = record["seq"] < self._facts.own
        yield "events", self._event(record, base, is_stub=is_stub)
        if is_stub:
            return
        if record["type"] == "usage.recorded":
            yield "usage", self._use(record, base)
        call = call_of(record)
        if call is not None:
            done = self._call(call, record, base)
            if done is not None:
                yield "calls", done

    def _event(self, record: dict[str, Any], base: dict[str, Any], *, is_stub: bool) -> dict[str, Any]:
        row = {**base, "recorded_at": record["at"], "type": record["type"], "hash": record["hash"]}
        if is_stub:
            removal = self._facts.removals.get(record["seq"])
            row["redacted"] = str(removal.get("reason")) if removal else "no event records why"
            return row
        call = call_of(record)
        tool = text_or_none(record.get("tool_name"))
        if call is not None and tool is not None:
            self._tools[call] = tool
        row["tool"] = tool or self._tools.get(call or "")
        row["actor"], row["invocation_id"] = actor_of(record), text_or_none(record.get("invocation_id"))
        row["text"] = text_of_event(record)
        for name in ("role", "error", "model"):
            row[name] = text_or_none(record.get(name))
        for name in ("duration_ms", "cost"):
            row[name] = number_or_none(record.get(name))
        row["success"] = record["success"] if isinstance(record.get("success"), bool) else None
        tokens = counts_of(record.get("tokens"))
        row.update({f"{kind}_tokens": tokens.get(kind) for kind in KINDS})
        return row

    def _use(self, record: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
        tokens, (more, cost) = counts_of(record.get("tokens")), self._uses.more(record)
        row = {**base, "model": text_or_none(record.get("model")), "key": text_or_none(record.get("key"))}
        row["cost"], row["counted_cost"] = number_or_none(record.get("cost")), cost
        for prefix, found in (("", tokens), ("counted_", more)):
            row.update({f"{prefix}{kind}_tokens": found.get(kind, 0 if prefix else None) for kind in KINDS})
            row[f"{prefix}other_tokens"] = sum(count for kind, count in found.items() if kind not in KINDS)
        return row

    def _call(self, call: str, record: dict[str, Any], base: dict[str, Any]) -> dict[str, Any] | None:
        """Add a part of a call; return the call at its last part. A call that was removed from its session gives None."""
        if record["type"] == "invocation.unlinked":
            self._calls.pop(call, None)
            return None
        row = self._calls.setdefault(call, {**base, "invocation_id": call})
        parts = {
            "tool": text_or_none(record.get("tool_name")),
            "duration_ms": number_or_none(record.get("duration_ms")),
            "success": record["success"] if isinstance(record.get("success"), bool) else None,
            "error": text_or_none(record.get("error")),
        }
        for name in ("input", "result"):
            value = record.get(name)
            if value is None and is_hex(record.get(f"{name}_sha256")):
                value = f"[{record.get(f'{name}_bytes')} bytes: {value_file(self._facts.session_id, record[f'{name}_sha256'])}]"
            parts[name] = value if value is None or isinstance(value, str) else to_json(value)
        if record["type"] == "message.added":
            parts["input" if record.get("role") == "assistant" else "result"] = text_or_none(record.get("content"))
        row.update({name: value for name, value in parts.items() if value is not None})
        return self._calls.pop(call) if self._facts.last_about[call] == record["seq"] else None


class Derivation:
    """Makes tables and reports from logs; `write` receives a file name and the next bytes of that file."""

    def __init__(self, sessions: list[Facts], made_at: str, write: Callable[[str, bytes], None]) -> None:
        self._sessions, self._made_at, self._write = sessions, made_at, write
        self._rows = dict.fromkeys(COLUMNS, 0)

    def begin(self) -> None:
        """Write the part before the first session, and the files of figures."""
        for facts in self._sessions:
            self._write(f"sessions/{facts.session_id}/session.json", facts.to_file())
        for name, columns in COLUMNS.items():
            self._write(f"{name}.csv", b"\xef\xbb\xbf" + csv_row(columns))
        title = f"Audit of session {self._sessions[0].session_id}"
        title = title if len(self._sessions) == 1 else f"Audit of {len(self._sessions)} sessions"
        made = f"Made {self._made_at} from the logs in this bundle, by the rules in verify.py, which compares it with them."
        self._write("report.html", as_bytes(HTML.format(title=safe(title), made=safe(made))))
        self._write("report.md", as_bytes(f"# {plain(title)}\n\n{plain(made)}\n"))

    def session(self, facts: Facts, lines: Iterable[bytes]) -> None:
        """Write everything about one session; `lines` are the lines of its log."""
        self._head(facts)
        rows = Rows(facts)
        for line in lines:
            record = read_object(line)
            for table, row in rows.of(record, is_stub=leaf_of(line)[1]):
                self._row(table, row)
                if table == "events":
                    self._write("report.html", as_bytes(html_row(row)))
                    self._write("report.md", as_bytes(markdown_row(row)))
        self._write("report.html", b"</tbody></table></div>\n")

    def _head(self, facts: Facts) -> None:
        html = [f'<h2>Session {safe(facts.session_id)}</h2>\n<table class="ask"><tbody>\n']
        text = [f"\n## Session {plain(facts.session_id)}\n\n| Question | Answer |\n| --- | --- |\n"]
        for question, answers in questions_of(facts):
            html.append(f"<tr><th>{safe(question)}<td>{'<br>'.join(map(safe, answers))}</tr>\n")
            text.append(f"| **{question}** | {'<br>'.join(map(plain, answers))} |\n")
        heads = ("Event", "Time", "Who", "What", "Tool", "Text", "Outcome", "Tokens")
        html.append('</tbody></table>\n<div class="list"><table><thead><tr>')
        html.append("".join(f"<th>{name}" for name in heads) + "</tr></thead><tbody>\n")
        text.append(f"\n| {' | '.join(heads)} |\n|{' --- |' * len(heads)}\n")
        self._write("report.html", as_bytes("".join(html)))
        self._write("report.md", as_bytes("".join(text)))

    def _row(self, table: str, row: dict[str, Any]) -> None:
        cells = {name: row.get(name) for name in COLUMNS[table]}
        self._write(f"{table}.csv", csv_row(cells.values()))
        self._write(f"{table}.json", as_bytes((",\n" if self._rows[table] else "[\n") + to_json(cells)))
        self._rows[table] += 1

    def end(self) -> None:
        """Write the part after the last session."""
        for table, count in self._rows.items():
            self._write(f"{table}.json", b"\n]\n" if count else b"[]\n")
        self._write("report.html", b"</main></body></html>\n")


def csv_row(cells: Iterable[Any]) -> bytes:
    """Write a row of CSV (RFC 4180). No spreadsheet reads a cell as a formula."""
    found: list[str] = []
    csv.writer(_Lines(found)).writerow([_cell(one) for one in cells])
    return as_bytes(found[0])


class _Lines:
    """Collects what a csv writer writes."""

    def __init__(self, lines: list[str]) -> None:
        self.write = lines.append


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return value
    shown = value if value.isprintable() else value.translate(PICTURES)
    return f"'{shown}" if shown.startswith(FORMULA) or shown.lstrip().startswith(FORMULA) else shown


def questions_of(facts: Facts) -> Iterator[tuple[str, list[str]]]:
    """Answer an auditor's questions about a session."""
    known = [f"Events 1 to {facts.events}, none missing; recorded {facts.first_at} to {facts.last_at}"]
    known += [f"Hash of the last: {facts.hash}", *(f"Began as a fork of {fork}" for fork in facts.forks)]
    if facts.known["status"]:
        known.append(f"Status: {facts.known['status']}")
    yield "Is it complete, and to which event?", known
    signed = facts.checkpoint
    since = "No checkpoint is recorded in this log"
    if signed is not None:
        since = f"Event {signed['seq']} records a checkpoint of the first {signed.get('size')} events, root {signed.get('root')}"
    yield "Unchanged since when?", [since, "Whether a signature is good, only verify.py with a key of yours can say"]
    who = [f"{name}: {_named(found)}" for name, found in sorted(facts.names.items()) if found]
    if facts.known["purpose"]:
        who.append(f"Purpose: {facts.known['purpose']}")
    yield "Who did it, and with which model?", who or ["No actor and no model is recorded"]
    removed = []
    for one in islice(facts.redactions(), MOST_REMOVALS):
        why = "no event records it"
        if one["recorded_in"]:
            why = f"recorded in event {one['recorded_in']} by {one['by'] or 'no named actor'}: {one['reason']}"
        removed.append(f"Event {one['target']} ({one['type']}, {one['at']}): {why}")
    if len(facts.stubs) > MOST_REMOVALS:
        removed.append(f"and {len(facts.stubs) - MOST_REMOVALS} more")
    yield "What was removed, by whom, and why?", removed or ["Nothing: no event was redacted"]
    failed = sum(not outcome for outcome in facts.outcomes.values())
    tokens = ", ".join(f"{kind} {count}" for kind, count in sorted(facts.tokens.items())) or "none recorded"
    yield (
        "How much?",
        [f"Tool calls: {len(facts.last_about)}, failed: {failed}", f"Tokens: {tokens}", f"Cost: {facts.cost}"],
    )


def _named(found: dict[str, int]) -> str:
    ordered = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    more = f" and {len(ordered) - MOST_NAMES} more" if len(ordered) > MOST_NAMES else ""
    return ", ".join(f"{name} ({count})" for name, count in ordered[:MOST_NAMES]) + more


HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>
:root{{color-scheme:light dark}}
body{{margin:24px auto;max-width:1500px;padding:0 16px;font:15px/1.5 system-ui,sans-serif}}
table{{border-collapse:collapse;width:100%;margin:12px 0}}
th,td{{text-align:start;vertical-align:top;padding:6px 10px;border-bottom:1px solid #8886;overflow-wrap:anywhere}}
.ask th{{width:17em}}.list{{overflow-x:auto;font-size:13.5px}}
pre{{white-space:pre-wrap;margin:4px 0;unicode-bidi:plaintext}}td{{unicode-bidi:isolate}}
.x{{color:#c33;border-bottom:1px dotted}}.bad{{color:#c33;font-weight:600}}.redacted td{{background:#fc35}}
</style></head><body><main>
<h1>{title}</h1><p>{made}</p>
"""


def safe(value: object) -> str:
    """Escape for HTML; show and mark control and invisible characters."""
    return HIDING.sub(lambda one: f"<span class=x>\\u{ord(one[0]):04x}</span>", escape(str(value)))


def plain(value: object) -> str:
    """Escape for Markdown, on one line."""
    shown = HIDING.sub(lambda one: f"\\u{ord(one[0]):04x}", str(value).strip()).translate(MARKDOWN)
    return shown.replace("://", "&#58;//").replace("www.", "www&#46;")


def _short(row: dict[str, Any]) -> tuple[str, str, str]:
    """Return who did it, how it ended and what it used, from a row of the events table."""
    noun = row["type"].partition(".")[0]
    who = " ".join(filter(None, (row.get("actor"), row.get("role")))) or noun
    ended = {True: "succeeded", False: "failed", None: ""}[row.get("success")]
    took = "" if row.get("duration_ms") is None else f"{row['duration_ms']} ms"
    used = [f"{kind} {row[f'{kind}_tokens']}" for kind in KINDS if row.get(f"{kind}_tokens")]
    used += [f"cost {row['cost']}"] if row.get("cost") else []
    return who, " ".join(filter(None, (ended, took))), ", ".join(used)


def html_row(row: dict[str, Any]) -> str:
    """Write an event as a row of the report; long texts are folded, very long ones cut."""
    who, ended, used = _short(row)
    text = f"redacted: {row['redacted']}" if row.get("redacted") else row.get("text") or ""
    shown = safe(text)
    if len(text) > INLINE or "\n" in text:
        more = f"\n({len(text) - CUT} more characters are in the log)" if len(text) > CUT else ""
        lead = " ".join(text[:INLINE].split())
        shown = f"<details><summary>{safe(lead)}</summary><pre>{safe(text[:CUT] + more)}</pre></details>"
    mark = " class=bad" if row.get("success") is False else ""
    return (
        f"<tr{' class=redacted' if row.get('redacted') else ''}><td>{row['seq']}<td>{safe(row['time'])}<td>{safe(who)}"
        f"<td>{safe(row['type'])}<td>{safe(row.get('tool') or '')}<td>{shown}<td{mark}>{safe(ended)}<td>{safe(used)}</tr>\n"
    )


def markdown_row(row: dict[str, Any]) -> str:
    """Write an event as a row of a table of Markdown; a long text is cut."""
    who, ended, used = _short(row)
    text = f"redacted: {row['redacted']}" if row.get("redacted") else row.get("text") or ""
    text = text if len(text) <= 400 else f"{text[:400]}... ({len(text)} characters)"
    cells = (row["seq"], row["time"], who, row["type"], row.get("tool") or "", text, ended, used)
    return f"| {' | '.join(map(plain, cells))} |\n"


def derived_names(manifest: Manifest) -> set[str]:
    """Return the names of the files that are made from the logs."""
    names = {f"{table}.{form}" for table in COLUMNS for form in ("csv", "json")} | set(REPORTS)
    return names | {f"sessions/{listed.session_id}/session.json" for listed in manifest.sessions}


def check_derived(bundle: Archive | Folder, manifest: Manifest, logs: list[Log]) -> Iterator[Finding]:
    """Rebuild tables and reports from the logs, and compare their hashes with those in the manifest."""
    names = derived_names(manifest) & manifest.files.keys()
    hashes = {name: hashlib.sha256() for name in names}

    def write(name: str, data: bytes) -> None:
        if name in hashes:
            hashes[name].update(data)

    made = Derivation([log.facts for log in logs], manifest.made_at, write)
    made.begin()
    for log in logs:
        made.session(log.facts, (line for line, _ in split_lines(bundle.chunks(log.listed.log))))
    made.end()
    for name in sorted(names):
        if hashes[name].hexdigest() != manifest.files[name][0]:
            yield Finding(ALTERED, f"{shown(name)} is not what the logs give")


def check_values(manifest: Manifest, log: Log) -> Iterator[Finding]:
    """Compare the manifest's entries for large values with the size and SHA-256 in the events."""
    for digest, (seq, what, size) in sorted(log.values.items(), key=lambda one: one[1][0]):
        name = value_file(log.listed.session_id, digest)
        if name not in manifest.files:
            yield Finding(DAMAGED, f"the {what} of event {seq} is not in the bundle: {name}")
        elif manifest.files[name] != (digest, size):
            yield Finding(TAMPERED, f"the {what} of event {seq} is not what was recorded: {name}")


def others_in(manifest: Manifest, values: set[str]) -> Iterator[str]:
    """List the unknown files: not logs, not checkpoints, not made from the logs, not this program.

    `values` are the files that events name by their SHA-256.
    """
    known = {path for one in manifest.sessions for path in (one.log, *one.checkpoints)} | values
    if manifest.derived == DERIVED:
        known |= derived_names(manifest)
    own = sha256(Path(__file__).read_bytes()).hex()
    for name in sorted(manifest.files.keys() - known):
        if name != "verify.py" or manifest.files[name][0] != own:
            yield name


# --- all of the bundle


class Verdict(NamedTuple):
    """The result for one session. `signed` and `anchored` are 0 for not at all; `proven` includes trailing records."""

    session_id: str
    events: int
    signed: int
    anchored: int
    proven: int
    recorded: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    proof_asked: bool = False

    def status(self, *, is_proof_wanted: bool) -> int:
        """Return the exit status of this session."""
        if self.findings:
            return worst(one.status for one in self.findings)
        return INCOMPLETE if is_proof_wanted and self.recorded < self.events else WHOLE

    def describe(self, *, with_keys: bool) -> str:
        """Describe it in one line."""
        signed = f"signed to {self.signed}" if self.signed else "not signed by your keys"
        text = [f"{self.session_id}: whole to event {self.events}", signed if with_keys else "signatures not checked"]
        text.append(f"anchored outside to {self.anchored}" if self.anchored else "not anchored outside")
        more = [str(one) for one in self.findings]
        if self.proof_asked and self.recorded < self.events:
            more.insert(0, f"{_range(self.recorded + 1, self.events)} unproven")
        if self.recorded > self.proven:
            only = "only records a checkpoint" if self.recorded == self.proven + 1 else "only record checkpoints"
            more.append(f"{_range(self.proven + 1, self.recorded).rpartition(' ')[0]} {only}")
        notes = f" ({'; '.join(self.notes)})" if self.notes else ""
        return "; ".join([", ".join(text), *more]) + notes

    def to_dict(self, *, is_proof_wanted: bool) -> dict[str, Any]:
        """Return the fields as JSON values."""
        status = self.status(is_proof_wanted=is_proof_wanted)
        return {
            "session_id": self.session_id,
            "status": status,
            "outcome": WORDS[status],
            "events": self.events,
            "signed_to": self.signed,
            "anchored_to": self.anchored,
            "unproven": [self.recorded + 1, self.events] if self.recorded < self.events else None,
            "findings": [_finding_dict(one) for one in self.findings],
            "notes": list(self.notes),
        }


def _range(first: int, last: int) -> str:
    return f"event {last} is" if first == last else f"events {first}-{last} are"


def _finding_dict(one: Finding) -> dict[str, Any]:
    place = {"line": one.line, "byte": one.byte} if one.line else {}
    return {"status": one.status, "outcome": WORDS[one.status], "text": one.text, **place}


class Report(NamedTuple):
    """The result for a bundle."""

    keys: int
    anchors: int
    findings: tuple[Finding, ...]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """Return the exit status."""
        wanted = self.keys + self.anchors > 0
        statuses = [
            *([INCOMPLETE] if wanted and self.others else []),
            *(one.status for one in self.findings),
            *(one.status(is_proof_wanted=wanted) for one in self.verdicts),
        ]
        return worst(statuses)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "format": "eventstore-verification/1",
            "status": self.status,
            "outcome": WORDS[self.status],
            "keys": self.keys,
            "checkpoints_outside": self.anchors,
            "findings": [_finding_dict(one) for one in self.findings],
            "sessions": [one.to_dict(is_proof_wanted=self.keys + self.anchors > 0) for one in self.verdicts],
            "unproven_files": list(self.others),
            "limits": self.limits(),
        }

    def limits(self) -> list[str]:
        """List what this verification could not prove."""
        unproven = []
        if not self.keys and not self.anchors:
            unproven.append(
                "nothing was proven: anyone who can write the bundle can recompute all of it; "
                "give --key and a --checkpoint kept outside"
            )
        elif not self.keys:
            unproven.append(
                "no signature was checked: no --key was given, and the checkpoints kept outside were trusted"
            )
        elif not self.anchors:
            unproven.append(
                "no --checkpoint kept outside was given: a return to an older, signed state would not be detected"
            )
        if self.keys + self.anchors and any(one.recorded < one.events for one in self.verdicts):
            unproven.append("unproven events are those after the last checkpoint: ask for a new checkpoint")
        if self.others:
            names = ", ".join(map(shown, self.others[:MAX_FINDINGS]))
            unproven.append(f"not proven, because these rules do not make them from the logs: {names}")
        return [*unproven, *self.notes]

    def lines(self) -> Iterator[str]:
        """Describe it in lines of text."""
        for finding in self.findings:
            yield f"bundle: {finding}"
        for verdict in self.verdicts:
            yield verdict.describe(with_keys=self.keys > 0)
        for text in self.limits():
            yield f"note: {text}"
        yield f"{WORDS[self.status]} (exit status {self.status})"


def verify(
    path: Path, keys: list[Key], anchors: list[tuple[str, Checkpoint]], max_bytes: int, *, need_all: bool = False
) -> Report:
    """Verify a bundle. With `need_all` it must contain all sessions, even if its manifest does not claim that."""
    notes: list[str] = []
    others: tuple[str, ...] = ()
    try:
        bundle = open_bundle(path, max_bytes)
        manifest = read_manifest(bundle)
        findings, verdicts, values = _verify_all(bundle, manifest, keys, anchors, notes, need_all)
        others = tuple(others_in(manifest, values))
    except Refused as error:
        findings, verdicts = [Finding(UNREADABLE, f"nothing was verified: {error}")], []
    return Report(len(keys), len(anchors), tuple(findings), tuple(verdicts), tuple(notes), others)


def _verify_all(
    bundle: Archive | Folder,
    manifest: Manifest,
    keys: list[Key],
    anchors: list[tuple[str, Checkpoint]],
    notes: list[str],
    need_all: bool,
) -> tuple[list[Finding], list[Verdict], set[str]]:
    sizes: dict[str, set[int]] = {listed.log: set() for listed in manifest.sessions}
    findings, broken = check_files(bundle, manifest, sizes)
    if not manifest.sessions:
        findings.append(Finding(UNREADABLE, "nothing was verified: it has no sessions"))
    kept: dict[str, list[tuple[str, Checkpoint]]] = {}
    for name, one in anchors:
        kept.setdefault(one.session_id, []).append((name, one))
    store, roots, done = Store(), {listed.root for listed in manifest.sessions}, {}
    for listed in sorted(manifest.sessions, key=lambda one: one.session_id != "_store"):
        mine = [one for one in kept.get(listed.session_id, []) if not store.ended_at(one[1])]
        log = Log(listed, roots, sizes[listed.log], Checkpoints(keys, mine), store)
        done[listed.session_id] = log, _read_log(bundle, manifest, log), listed.log not in broken
        if listed.session_id == "_store":
            store.proven = _proven(log, has_anchors=bool(anchors))
    findings += _against_scope(manifest, kept, store, notes, need_all)
    values = {value_file(one, digest) for one, (log, *_) in done.items() for digest in log.values}
    verdicts = [_conclude(*done[listed.session_id], has_anchors=bool(anchors)) for listed in manifest.sessions]
    is_readable = not broken and all(log.fault is None and log.events for log, *_ in done.values())
    if manifest.derived == DERIVED and is_readable and done:
        altered = list(check_derived(bundle, manifest, [done[listed.session_id][0] for listed in manifest.sessions]))
        findings += altered
        if not altered:
            notes.append("tables and reports are what the logs give")
    elif manifest.derived == DERIVED:
        notes.append(
            "tables and reports were not compared with the logs, because a file is missing, changed, or cannot be read to its end"
        )
    return findings, verdicts, values


def _against_scope(
    manifest: Manifest,
    kept: dict[str, list[tuple[str, Checkpoint]]],
    store: Store,
    notes: list[str],
    need_all: bool,
) -> Iterator[Finding]:
    """Find what the bundle should contain but does not. A bundle that claims only some sessions may lack others."""
    ids, others = {listed.session_id for listed in manifest.sessions}, 0
    for session_id in sorted(kept):
        ends = {seq for _, one in kept[session_id] if (seq := store.ended_at(one)) > store.proven}
        for seq in sorted(ends):
            text = f"event {seq} of the store's own log records the end of session {session_id}, and no checkpoint proves it"
            yield Finding(INCOMPLETE, text)
    for session_id in sorted(kept.keys() - ids):
        left = [one for _, one in kept[session_id] if not store.ended_at(one)]
        if left and (manifest.is_all or need_all):
            text = f"session {session_id} is not in the bundle, and a checkpoint of it was kept outside"
            yield Finding(TAMPERED, text)
        others += len(left)
    past = sum(store.is_past(one) for claims in kept.values() for _, one in claims)
    if past:
        notes.append(
            f"{past} kept checkpoints are of sessions that ended, as a proven event of the store's own log records"
        )
    if manifest.is_all or need_all:
        for session_id in sorted(store.made.keys() - ids):
            yield Finding(
                INCOMPLETE, f"session {shown(session_id)} is recorded in the store's own log, and not in the bundle"
            )
        if not manifest.is_all:
            yield Finding(INCOMPLETE, "it does not claim to contain all sessions, and --all asked for that")
        return
    if others:
        notes.append(f"{others} kept checkpoints are of sessions that this bundle does not claim to contain")
    notes.append("the bundle claims to contain only these sessions: a missing one would not be detected; see --all")


def _read_log(bundle: Archive | Folder, manifest: Manifest, log: Log) -> list[Finding]:
    """Read a log and compare it with its checkpoints; return what is wrong with the notes."""
    notes, findings = _read_notes(bundle, manifest, log.listed)
    log.sizes.update(one.size for _, one in (*notes, *log.checkpoints.anchors))
    if log.listed.log in bundle.sizes():
        log.read(bundle.chunks(log.listed.log))
    for name, checkpoint in notes:
        log.checkpoints.judge(log, checkpoint, Finding(TAMPERED, shown(name)), log.listed.session_id)
    log.checkpoints.take_anchors(log)
    return [*findings, *check_values(manifest, log)]


def _read_notes(
    bundle: Archive | Folder, manifest: Manifest, listed: Listed
) -> tuple[list[tuple[str, Checkpoint]], list[Finding]]:
    notes, findings = [], []
    for name in listed.checkpoints:
        try:
            if name in bundle.sizes():
                notes.append((name, read_checkpoint(read_small(bundle, name, MAX_NOTE_BYTES))))
        except (ValueError, Broken):
            findings.append(Finding(DAMAGED, f"{shown(name)} is not a checkpoint"))
    return notes, findings


def _proven(log: Log, *, has_anchors: bool) -> int:
    return min(log.checkpoints.anchored if has_anchors else log.checkpoints.signed, log.events)


def _conclude(log: Log, findings: list[Finding], is_file_intact: bool, *, has_anchors: bool) -> Verdict:
    checkpoints, proven = log.checkpoints, _proven(log, has_anchors=has_anchors)
    found = [*log.findings(is_file_intact=is_file_intact), *findings, *checkpoints.findings, *log.store.findings(log)]
    return Verdict(
        log.listed.session_id,
        log.events,
        min(checkpoints.signed, log.events),
        min(checkpoints.anchored, log.events),
        proven,
        min(checkpoints.recorded(proven), log.events),
        tuple(found),
        (*log.notes(proven), *checkpoints.notes(), *log.store.notes(log)),
        bool(has_anchors or checkpoints.keys),
    )


class Misgiven(Exception):
    """An argument on the command line cannot be used."""


def _given_key(given: str) -> Key:
    """Read a key, or the file that holds one. Raises Misgiven."""
    text = given
    try:
        if "+" not in given or (len(given) < 250 and Path(given).is_file()):
            with Path(given).open("rb") as file:
                text = file.read(MAX_NOTE_BYTES).decode("utf-8")
        if not text.strip().startswith("PRIVATE+KEY+"):
            return read_key(text)
    except (OSError, ValueError, RecursionError):
        what = "is neither a verifier key nor a file that holds one"
    else:
        what = "holds a secret key, which only its owner should have"
    name = shown(given) if "PRIVATE+KEY+" not in given else "what was given"
    raise Misgiven(f"--key {name} {what}: give the verifier key, <name>+<8 hex>+<base64>, or a file that holds it")


def _notes_in(given: str) -> list[str]:
    """Return the name of a note, or the names of the notes in a folder. Raises Misgiven."""
    path = Path(given)
    if not path.is_dir():
        return [given]
    try:
        found = sorted(str(one) for one in path.iterdir() if one.name.endswith(".note") and one.name[0] != ".")
    except OSError as error:
        raise Misgiven(f"--checkpoint {shown(given)} cannot be read ({type(error).__name__})") from None
    if not found:
        raise Misgiven(
            f"--checkpoint {shown(given)} is a folder without *.note files: give notes that you kept elsewhere"
        )
    return found


def _read_anchor(name: str) -> tuple[str, Checkpoint]:
    try:
        with Path(name).open("rb") as file:
            checkpoint = read_checkpoint(file.read(MAX_NOTE_BYTES + 1))
        if not SESSION_ID.fullmatch(checkpoint.session_id):
            raise ValueError("not of a session")
    except (OSError, ValueError, RecursionError) as error:
        why = f"is not a readable checkpoint of a session ({type(error).__name__})"
        raise Misgiven(f"--checkpoint {shown(name)} {why}: give an unchanged note, or a folder of *.note") from None
    return name, checkpoint


def main(arguments: list[str] | None = None) -> int:
    """Verify the bundle named on the command line, print the result, and return the exit status."""
    parser = argparse.ArgumentParser(
        "verify.py",
        description=(__doc__ or "").partition("\n")[0],
        epilog="The text at the top of this file explains the rest.",
    )
    parser.add_argument("bundle", help="an audit bundle: a .zip, or a folder")
    parser.add_argument(
        "--key", action="append", default=[], metavar="VKEY", help="a public key that you trust, or its file"
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="NOTES",
        help="a checkpoint that you kept elsewhere, or a folder of *.note files",
    )
    parser.add_argument("--all", action="store_true", help="the bundle must contain all sessions: report a missing one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--max-bytes", type=int, default=MAX_BUNDLE_BYTES, help="refuse larger bundles (unpacked)")
    asked = parser.parse_args(arguments)
    try:
        keys = [_given_key(given) for given in asked.key]
        anchors = [_read_anchor(name) for given in asked.checkpoint for name in _notes_in(given)]
    except Misgiven as error:
        parser.error(f"nothing was verified: {error}")
    try:
        report = verify(Path(asked.bundle), keys, anchors, asked.max_bytes, need_all=asked.all)
    except Exception as error:  # an error that a forged bundle causes must not look like a verification
        print(f"error: nothing was verified: {type(error).__name__}", file=sys.stderr)
        return ERROR
    print(json.dumps(report.to_dict(), indent=2) if asked.json else "\n".join(report.lines()))
    return report.status


if __name__ == "__main__":
    sys.exit(main())
