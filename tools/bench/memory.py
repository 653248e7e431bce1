"""How much memory it takes: with logs and transcripts far larger than what a process may hold."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from bench.adapters import TEXT, Maker
from bench.measure import Row
from bench.workloads import long_session, scratch
from eventstore import FileSystemEventLog
from eventstore import events as e

GIGABYTES = 2.0
"""How large the log and the transcript are, where nothing else is asked for."""

_MOST_MB = 150
_TURN_EVENTS = 15
_TURN_BYTES = 21_000
_RESULT_CHARACTERS = 24_000
_BATCH = 200
_BEGAN = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)

_PREAMBLE = """
import filecmp, os, re, sys
from pathlib import Path
import eventstore
from eventstore.integrity import verify_session
from eventstore import FileSystemSessionStorage, SessionManager
folder, log, transcript, out = map(Path, sys.argv[1:])
def manager():
    return SessionManager(FileSystemSessionStorage(folder / ".sessions", folder / ".history", fsync="no"))
def drain(stream):
    for _ in stream:
        pass
def command(*words):
    from eventstore.cli import main
    sys.argv = ["eventstore", "--store", str(folder), *map(str, words)]
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
def peak():
    return int(re.search(r"VmHWM:\\s*([0-9]+)", Path("/proc/self/status").read_text())[1])
base = peak()
"""
_PEAK = "\nprint(base, peak(), file=sys.stderr)\n"

_LOG_STEPS = {
    "stream it (log.read)": "drain(manager().storage.log.read('s'))",
    "follow it to its end": "drain(manager().follow('s', live=False))",
    "statistics": "assert manager().get_session_statistics('s')['message_count']",
    "catch the search index up": "assert manager().search('deploy', wait_s=None)",
    "search a beginning that every message has": "assert manager().search('deploy*')",
    "make every view anew": "manager().storage.rebuild_session('s')",
    "verify_session, views too": "assert verify_session(manager().storage, 's').is_whole",
    "export events": "command('export', 'events', 's', '-o', out); assert filecmp.cmp(out, log, shallow=False)",
    "export otlp": "command('export', 'otlp', 's', '-o', out)",
    "export csv": "command('export', 'csv', 's', '-o', out)",
    "audit bundle": "command('audit', 'export', 's', '-o', out)",
}
_TRANSCRIPT_STEPS = {
    "import the transcript": "command('import', 'claude-code', transcript)",
    "import it again: nothing new": "command('import', 'claude-code', transcript)",
    "give the transcript back": "command('export', 'claude-code', transcript.stem, '-o', out)\n"
    "assert filecmp.cmp(out, transcript, shallow=False)",
}


def memory(makers: Sequence[Maker], *, gigabytes: float = GIGABYTES) -> list[Row]:
    """How much memory a process holds at most (VmHWM), each step in a process of its own.

    1,000,000 messages are appended, folded and loaded whole; a log of so many gigabytes and a transcript as large are streamed,
    followed, summed up, searched, verified, exported and imported, none of which may take memory by their size.
    """
    return [*_of_a_million(), *_of_large_files(gigabytes)]


def _of_a_million() -> list[Row]:
    rows = []
    with long_session(1_000_000) as folder:
        for what, code, target in (
            ("append 1,000,000 messages", _APPENDING, "60 MB"),
            ("fold 1,000,000 to statistics", "manager().get_session_statistics('s')", "60 MB"),
            (
                "a full Session of 1,000,000",
                "kept = manager().get_session('s')",
                "400 bytes a message beyond its text",
            ),
        ):
            base, peak, _ = _measure(code, folder)
            note = f"{(peak - base) / 1024:.0f} MB above the start"
            if "full" in what:
                note += f", {(peak - base) * 1024 / 1_000_000 - len(TEXT):.0f} bytes a message beyond its text"
            rows.append(Row("memory", what, "", 0.0, target=target, note=note))
    return rows


_APPENDING = f"""
folder = folder / "new"
with manager() as one:
    one.create_session("s")
    for _ in range(1_000_000):
        one.add_conversation_message("s", "user", {TEXT!r})
"""


def _of_large_files(gigabytes: float) -> list[Row]:
    rows = []
    with scratch() as folder:
        log = _make_log(folder / ".sessions", int(gigabytes * 1e9))
        told = f"memory, a log of {log.stat().st_size / 1e9:.2f} GB"
        rows += [_row(told, what, code, folder) for what, code in _LOG_STEPS.items()]
    with scratch() as folder:
        transcript = _make_transcript(folder / "large.jsonl", int(gigabytes * 1e9))
        told = f"memory, a transcript of {transcript.stat().st_size / 1e9:.2f} GB"
        rows += [_row(told, what, code, folder) for what, code in _TRANSCRIPT_STEPS.items()]
    return rows


def _row(workload: str, what: str, code: str, folder: Path) -> Row:
    base, peak, seconds = _measure(code, folder)
    told = f"{peak / 1024:.0f} MB, {(peak - base) / 1024:.0f} above the start"
    if peak > _MOST_MB * 1024:
        told += ": TOO MUCH"
    row = Row(workload, what, "", seconds * 1e6, target=f"{_MOST_MB} MB", note=told)
    print(f"{what:32} {seconds:8.1f} s  {told}", file=sys.stderr)
    return row


def _measure(code: str, folder: Path) -> tuple[int, int, float]:
    """Run a step in a process of its own; return the most memory before it and at its end, in KiB, and its seconds.

    VmHWM begins anew with a program; ru_maxrss may begin with that of the process that started it.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    out = folder / "out.zip"
    places = [folder, folder / ".sessions" / "s" / "events.jsonl", folder / "large.jsonl", out]
    began = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", _PREAMBLE + code + _PEAK, *map(str, places)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    seconds = time.perf_counter() - began
    out.unlink(missing_ok=True)
    if result.returncode:
        raise RuntimeError(result.stderr)
    base, peak = (int(word) for word in result.stderr.split()[-2:])
    return base, peak, seconds


# --- made-up content


@cache
def _words() -> str:
    """A megabyte of made-up prose to cut texts from, the same each time."""
    draw = random.Random(7)
    stems = ["deploy", "login", "token", "retry", "index", "cache", "query", "schema", "socket", "thread", "branch"]
    some = [draw.choice(stems) + str(draw.randrange(1000)) for _ in range(2000)]
    return " ".join(draw.choice(some) for _ in range(130_000))


def _prose(draw: random.Random, length: int) -> str:
    start = draw.randrange(len(_words()) - length)
    return _words()[start : start + length]


def _make_log(root: Path, size_bytes: int) -> Path:
    """Write a log of that size: turns of twelve messages, one tool call and one use of tokens, about 1.4 kB an event."""
    draw = random.Random(1)
    path = root / "s" / "events.jsonl"
    with FileSystemEventLog(root, fsync="no") as log:
        version = log.append("s", [e.SessionCreated(purpose="a long one", user_id="ana")], expected_version=0).last
        turn = 0
        while version < 2 or path.stat().st_size < size_bytes:
            batches = [_turn(draw, turn + more) for more in range(_BATCH)]
            turn += _BATCH
            version = log.extend("s", batches, expected_version=version).last
    return path


def _turn(draw: random.Random, turn: int) -> list[e.Event]:
    call, text = f"toolu_{turn:020d}", (_TURN_BYTES - _TURN_EVENTS * 250) // 12
    said: list[e.Event] = [
        e.MessageAdded(role="assistant" if place % 2 else "user", content=_prose(draw, text)) for place in range(12)
    ]
    return [
        *said,
        e.InvocationLinked(invocation_id=call, tool_name="grep", invocation_dir=f"2026/{turn:08d}_grep"),
        e.InvocationLinked(invocation_id=call, duration_ms=float(turn % 900), success=True),
        e.UsageRecorded(tokens={"input": 900 + turn % 100, "output": 80}, cost=0.01, model="made-up-1", key=f"m{turn}"),
    ]


def _make_transcript(path: Path, size_bytes: int) -> Path:
    """Write a transcript of Claude Code of that size: a prompt, a call, its long answer, a text, again and again."""
    draw = random.Random(2)
    written, parent = 0, None
    with path.open("wb") as stream:
        for turn in range(10**9):
            for line in _transcript_turn(draw, turn, parent):
                parent = line["uuid"]
                data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
                written += stream.write(data)
            if written >= size_bytes:
                break
    return path


def _transcript_turn(draw: random.Random, turn: int, parent: str | None) -> Iterator[dict[str, Any]]:
    call = f"toolu_{turn:020d}"
    usage = {"input_tokens": 5, "output_tokens": 70, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 10}
    contents: tuple[tuple[str, Any], ...] = (
        ("user", _prose(draw, 500)),
        ("assistant", [{"type": "tool_use", "id": call, "name": "Read", "input": {"path": _prose(draw, 300)}}]),
        ("user", [{"type": "tool_result", "tool_use_id": call, "content": _prose(draw, _RESULT_CHARACTERS)}]),
        ("assistant", [{"type": "text", "text": _prose(draw, 2000)}]),
    )
    for place, (kind, content) in enumerate(contents):
        uuid, when = f"{turn:028d}-{place}", _BEGAN + timedelta(seconds=4 * turn + place)
        message: dict[str, Any] = {"role": kind, "content": content}
        if kind == "assistant":
            message |= {"id": f"msg_{turn}_{place}", "model": "made-up-1", "usage": usage}
        yield {
            "parentUuid": parent, "isSidechain": False, "cwd": "/made/up", "sessionId": "large", "version": "9.9.9",
            "gitBranch": "main", "type": kind, "message": message, "uuid": uuid, "requestId": f"req_{turn}_{place}",
            "timestamp": f"{when:%Y-%m-%dT%H:%M:%S}.000Z",
        }  # fmt: skip
        parent = uuid
