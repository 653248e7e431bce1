"""Hostile input: ids and links, malformed lines and transcripts, code points that control a terminal."""

import json
import random
import shutil
import sys
import threading
import time
import unicodedata
from contextlib import suppress
from itertools import count
from pathlib import Path

from breaking.case import Counts, folder, opened, said, sample
from eventstore import EventStoreError, InvalidSessionId, MemorySessionStorage, Record, ToolHistory
from eventstore import events as e
from eventstore.cli.terminal import clean
from eventstore.errors import NotARegularFile
from eventstore.exporters.transcript import export_transcript
from eventstore.ids import check_session_id, file_name
from eventstore.importers.formats import FORMATS
from eventstore.importers.transcript import import_transcript
from eventstore.record import codec, hash_chain
from eventstore.record.scan import Scan, Tip

_PARTS = [
    "..",
    "/",
    "\\",
    "\0",
    "a",
    "A",
    ".",
    "-",
    "_",
    "nul",
    "CON",
    "com1",
    " ",
    "\n",
    "\u202e",
    "é",
    "~",
    "%2e",
    "C:",
    "x" * 300,
]


def ids(full: bool) -> Counts:
    """Draw random session ids: each is refused with our error, or names one safe folder below the root."""
    counts = {"ids": 0, "allowed": 0, "refused": 0, "through_store": 0}
    rng = random.Random(23)
    with folder() as root, opened(root / "logs") as log:
        for n in range(1_000_000 if full else 30_000):
            name = "".join(
                rng.choice(_PARTS) if rng.random() < 0.7 else chr(rng.randrange(1, 0x250))
                for _ in range(rng.randrange(6))
            )
            counts["ids"] += 1
            safe = file_name(name)
            assert "/" not in safe
            assert safe not in (".", "..", "")
            try:
                check_session_id(name)
            except InvalidSessionId:
                counts["refused"] += 1
                continue
            counts["allowed"] += 1
            assert Path(name).name == name
            if n % 500 == 0 and not log.exists(name):
                log.append(name, [e.SessionCreated()], expected_version=0)
                counts["through_store"] += 1
        assert {path.name for path in root.iterdir()} <= {"logs"}
    return counts


def links(full: bool) -> Counts:
    """Replace a session's folder by a link to elsewhere, again and again, during writes: nothing outside is touched."""
    races = 30_000 if full else 1500
    counts = {"races": 0, "accepted": 0, "refused": 0, "links_seen": 0}
    with folder() as root:
        outside = root / "outside"
        outside.mkdir()
        (outside / "events.jsonl").write_bytes(b"mine\n")
        real, place = root / "real", root / "logs" / "s"
        with opened(root / "logs") as log:
            log.append("s", [e.SessionCreated()], expected_version=0)
        done = threading.Event()
        sys.setswitchinterval(0.0002)  # else each call of either side waits for the other
        swapper = threading.Thread(target=_swap_for_ever, args=(place, real, outside, done))
        swapper.start()
        until = time.monotonic() + (120 if full else 20)
        try:
            while counts["races"] < races and time.monotonic() < until:
                counts["races"] += 1
                log = opened(root / "logs")
                try:
                    log.append("s", [said("x")], expected_version=None if counts["races"] % 2 else 0)
                    counts["accepted"] += 1
                except NotARegularFile:
                    counts["links_seen"] += 1
                except EventStoreError:
                    counts["refused"] += 1
                finally:
                    log.close()
        finally:
            done.set()
            swapper.join()
        assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"events.jsonl": b"mine\n"}
    counts["history_races"], counts["records"] = _history_links(races // 2)
    assert counts["accepted"] > 0
    assert counts["links_seen"] > 0
    return counts


def _history_links(races: int) -> tuple[int, int]:
    """Do the same to the folder of a tool call; return how many races there were, and how many records were written."""
    tried = written = 0
    until = time.monotonic() + 30
    with folder() as root:
        outside = root / "outside"
        outside.mkdir()
        history = ToolHistory(root / "history")
        place = history.create("tool")
        done = threading.Event()
        swapper = threading.Thread(target=_swap_for_ever, args=(place, root / "real", outside, done))
        swapper.start()
        try:
            while (tried < races or not written) and time.monotonic() < until:
                tried += 1
                with suppress(OSError, ValueError):
                    history.write(place, Record("tool", {}))
                    written += 1
        finally:
            done.set()
            swapper.join()
        assert list(outside.iterdir()) == []
    return tried, written


def _swap_for_ever(place: Path, real: Path, outside: Path, done: threading.Event) -> None:
    turns = count()
    while not done.is_set():
        with suppress(OSError):
            place.rename(real)
            place.symlink_to(outside)
            if next(turns) % 4 == 0:
                done.wait(0.0002)
            place.unlink()
            real.rename(place)
        done.wait(0.0002)  # a writer that meets no link gets through
        if place.is_dir() and not place.is_symlink() and not real.is_dir():
            continue
        if place.is_symlink():
            place.unlink()
        elif place.is_dir() and real.is_dir():
            shutil.rmtree(place, ignore_errors=True)  # a writer made it anew while it was away
        with suppress(OSError):
            real.rename(place)


def _mutated(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(6)
        if kind == 0 and out:
            out[at % len(out)] = rng.randrange(256)
        elif kind == 1:
            del out[at : at + rng.randrange(1, 40)]
        elif kind == 2:
            out[at:at] = rng.choice(
                [b"\0", b"\n", b"\xff", b'"', b"{", b"[" * 2000, b"1e999", b"NaN", b"\\ud800", b"null", b"9" * 400]
            )
        elif kind == 3:
            out[at:at] = out[at : at + rng.randrange(1, 80)]
        elif kind == 4:
            out[at:at] = b'"type":%s,' % rng.choice(
                [b"1", b"null", b'"user"', b'"message.added"', b'"x"', b"[]", b"{}"]
            )
        else:
            out[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(out)


def malformed(full: bool) -> Counts:
    """Mutate lines and transcripts: each gives a clear error or the right answer, never another exception."""
    counts = {"lines": 0, "transcripts": 0, "decoded": 0, "came_back": 0}
    rng = random.Random(29)
    with folder() as root:
        lines = sample(root, 12, size=20).read_bytes().splitlines(keepends=True)
        for _ in range(5_000_000 if full else 20_000):
            line = _mutated(rng, rng.choice(lines))
            counts["lines"] += 1
            scan = Scan(Tip(hash_chain.first_hash("s")))
            scan.feed([line])
            if hash_chain.split(line) is not None and codec.head(line) is not None and b"\n" not in line[:-1]:
                codec.decode(line)
                counts["decoded"] += 1
        _mutate_transcripts(root, rng, 10_000 if full else 250, counts)
    return counts


def _mutate_transcripts(root: Path, rng: random.Random, rounds: int, counts: Counts) -> None:
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
    from transcripts import claude_session, codex_session

    made = {"claude-code": claude_session(), "codex": codex_session()}
    texts = {form: [json.dumps(line).encode() + b"\n" for line in session] for form, session in made.items()}
    for n in range(rounds):
        form = rng.choice(list(texts))
        data = b"".join(_mutated(rng, line) if rng.random() < 0.4 else line for line in texts[form])
        path = root / f"t{n}.jsonl"
        path.write_bytes(data)
        storage = MemorySessionStorage(root / "history" if n % 10 == 0 else None)
        try:
            result = import_transcript(storage, FORMATS[form], path)
        except EventStoreError:
            continue
        finally:
            path.unlink()
            counts["transcripts"] += 1
        assert b"".join(export_transcript(storage, result.session_id, form)) == data
        counts["came_back"] += 1


def terminal(_: bool) -> Counts:
    """Show every code point: none that controls a terminal passes."""
    counts = {"code_points": 0, "shown_raw": 0, "escaped": 0}
    for number in range(0x110000):
        one = chr(number)
        shown = clean(one, keep_lf=True)
        counts["code_points"] += 1
        for part in shown:
            harmful = unicodedata.category(part) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
            assert part == "\n" or not harmful, f"U+{number:04X}"
        counts["shown_raw" if shown == one else "escaped"] += 1
    return counts
