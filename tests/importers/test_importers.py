"""Foreign transcripts: read rightly, kept to the byte, added to when they grow."""

import json
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from os_calls import WRITE, OsCall, recorded
from other_transcripts import SESSIONS, opencode_lines
from transcripts import answer, call, claude, claude_session, codex, codex_session, lines, usage

from eventstore import FileSystemSessionStorage, MemorySessionStorage, SessionManager, SessionNotFound, SessionStorage
from eventstore import events as e
from eventstore.errors import ExportRefused, ImportRefused
from eventstore.exporters.transcript import export_transcript
from eventstore.importers import Imported
from eventstore.importers.formats import FORMATS
from eventstore.importers.transcript import PIECE_BYTES, import_transcript

REAL = next(
    (one for up in (3, 4) if (one := Path(__file__).parents[up] / "shared" / "data" / "transcripts").is_dir()), Path()
)
TOTALS = {
    "claude_code/1af7fc5e": (29, 12, 12, 93, 953, 103219, 12698),
    "claude_code/5c0375b4": (53, 21, 21, 129, 3629, 324259, 47747),
    "claude_code/fe5e1c67": (438, 167, 167, 818, 51933, 3647854, 137976),
    "claude_code/full-session.": (49, 23, 20, 1223, 833, 185540, 21565),
    "claude_code/full-session-two": (41, 10, 10, 45, 107, 307871, 63095),
    "claude_code/short": (15, 2, 2, 3, 13, 11515, 13835),
    "claude_code/tool_heavy": (39, 6, 6, 54, 212, 88231, 17696),
    "codex/rollout-2025-09-24T20-12-23": (112, 16, 16, 149449 - 120192, 4808, 120192, 0),
    "codex/rollout-2025-09-25T15-12-14": (209, 34, 34, 536834 - 472320, 6654, 472320, 0),
}


def take_in(storage: SessionStorage, path: Path, data: bytes | None = None, form: str = "claude-code") -> Imported:
    if data is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return import_transcript(storage, FORMATS[form], path, records=True)


def given_back(storage: SessionStorage, session_id: str, form: str = "claude-code") -> bytes:
    return b"".join(export_transcript(storage, session_id, form))


@pytest.mark.parametrize("start", TOTALS)
def test_real_transcripts_give_the_right_totals_and_come_back_to_the_byte(files: SessionStorage, start: str) -> None:
    found = sorted(REAL.glob(f"{start}*"))
    if not found:
        pytest.skip("the real transcripts are not beside this checkout")
    path, form = found[0], "codex" if start.startswith("codex") else "claude-code"
    result = take_in(files, path, form=form)
    state = files.fold(result.session_id)
    tokens = state.metadata.token_usage or {}
    answered = sum(call.success is not None or call.duration_ms is not None for call in state.invocations.values())
    tokens = {**tokens, "output": tokens["output"] + tokens.get("reasoning", 0)}
    kinds = (tokens.get(kind, 0) for kind in ("input", "output", "cache_read", "cache_write"))
    assert (result.lines, len(state.invocations), answered, *kinds) == TOTALS[start]
    assert given_back(files, result.session_id, form) == path.read_bytes()
    assert files.history is not None
    assert len(list(files.history.records())) == len(state.invocations)
    again = take_in(files, path, form=form)
    assert (again.events, again.lines) == (0, result.lines)


def test_a_claude_code_session_is_read_rightly(storage: SessionStorage, tmp_path: Path) -> None:
    result = take_in(storage, tmp_path / "one.jsonl", lines(*claude_session()))
    assert (result.session_id, result.lines, result.odd) == ("one", 9, ())
    session = storage.load_session("one")
    assert session is not None
    known = session.metadata
    assert known.purpose == "Why do logins fail?"
    assert known.custom_metadata == {
        "source": "claude-code", "cwd": "/made/up", "git_branch": "main", "version": "9.9.9", "model": "made-up-1",
    }  # fmt: skip
    assert known.token_usage == {"input": 18, "output": 90, "cache_read": 300, "cache_write": 30}
    assert [(one.role, one.content) for one in session.conversation] == [
        ("user", "Why do logins fail?"),
        ("assistant", '{"command":"git log"}'),
        ("tool", "3 commits"),
        ("assistant", '{"file":"x"}'),
        ("tool", "no such file"),
        ("assistant", "It was e41c9d2."),
    ]
    assert known.created_at.isoformat() == "2026-03-02T09:30:01+00:00"
    assert (known.updated_at - known.created_at).total_seconds() == 8
    first, second = storage.fold("one").invocations.values()
    assert (first.tool_name, first.duration_ms, first.success) == ("Bash", 2500.0, True)
    assert (second.tool_name, second.duration_ms, second.success, second.error) == (
        "Read",
        250.0,
        False,
        "no such file",
    )
    assert [event.type for event in storage.log.read("one")].count("reasoning.recorded") == 1


def test_each_call_has_its_folder_and_record(storage: SessionStorage, tmp_path: Path) -> None:
    take_in(storage, tmp_path / "one.jsonl", lines(*claude_session()))
    assert storage.history is not None
    (_, bash), (folder, read) = storage.history.records()
    assert (bash.tool, bash.arguments, bash.result, bash.success) == ("Bash", {"command": "git log"}, "3 commits", True)
    assert (read.session_id, read.invocation_id, read.error, read.duration_ms) == ("one", "t2", "no such file", 250.0)
    assert folder.name == "2026-03-02_09-30-07_000000_Read"


def test_a_codex_rollout_is_read_rightly(storage: SessionStorage, tmp_path: Path) -> None:
    result = take_in(storage, tmp_path / "rollout-x.jsonl", lines(*codex_session()), "codex")
    assert (result.session_id, result.odd) == ("0199aaaa-0000-7000-8000-00000000c0de", ())
    session = storage.load_session(result.session_id)
    assert session is not None
    assert session.metadata.purpose == "Why do logins fail?"
    assert session.metadata.custom_metadata["model"] == "made-up-2"
    assert session.metadata.token_usage == {"input": 400, "cache_read": 600, "output": 64, "reasoning": 16}
    assert [(one.role, one.tool_name) for one in session.conversation] == [
        ("system", None),
        ("user", None),
        ("assistant", "shell"),
        ("tool", "shell"),
        ("assistant", "shell"),
        ("tool", "shell"),
        ("assistant", None),
    ]
    good, bad = storage.fold(result.session_id).invocations.values()
    assert (good.duration_ms, good.success, bad.success, bad.error) == (250.0, True, False, "no such file")


def odd_lines() -> bytes:
    return (
        b"\n  \n\xff\xfe not text\nnot json\n[1]\n{}\n"
        b'{"type":"later-invented","x":1}\n{"type":"user","message":3}\n{"type":"user"}\r\n'
        b'{"type":"assistant","message":{"content":[{"type":"tool_use"}]}}\n'
        b'{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"gone","content":null}]}}\n'
        b"\0\0\0\n" + b"[" * 100_000 + b"\n"
        b'{"type":"user","uuid":"s","message":{"content":"half \\ud83d of a pair"}}\n'
        b'{"type":"user","uuid":"n","message":{"content":"big","x":123456789012345678901234567890}}\n'
        b'{"type":"user","timestamp":"never","message":{"content":"no last newline"}}'
    )


@pytest.mark.parametrize("form", FORMATS)
def test_odd_lines_are_kept_to_the_byte_and_told(storage: SessionStorage, tmp_path: Path, form: str) -> None:
    good = lines(*(claude_session() if form == "claude-code" else codex_session()))
    for name, data in (
        ("alone", odd_lines()),
        ("behind", good + odd_lines()),
        ("in-front", odd_lines() + b"\n" + good),
    ):
        data = data.replace(b"00000000c0de", name.encode().rjust(12, b"0")[:12])
        result = take_in(storage, tmp_path / form / f"{name}.jsonl", data, form)
        assert given_back(storage, result.session_id, form) == data
        assert any("not a JSON object" in text for text in result.odd)
        assert any("NUL" in text for text in result.odd)
        assert result.lines == data.count(b"\n") + (not data.endswith(b"\n"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"\n", b"{}\n", b'{"type":"user"}\n', b"\r\n", b"\0"])))
def test_any_bytes_come_back(tmp_path: Path, parts: list[bytes]) -> None:
    storage = MemorySessionStorage()
    data = b'{"type":"user"}\n' + b"".join(parts)
    take_in(storage, tmp_path / "any.jsonl", data)
    assert given_back(storage, "any") == data


@pytest.mark.parametrize(
    "data", [b"root:x:0:0:root:/root:/bin/sh\n" * 30, bytes(range(256)) * 9, b'{"a":1}\n[]\n', b"\n"]
)
@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_is_no_transcript_is_refused_and_nothing_is_made_of_it(
    storage: SessionStorage, tmp_path: Path, form: str, data: bytes
) -> None:
    with pytest.raises(ImportRefused, match="it is not a transcript"):
        take_in(storage, tmp_path / "passwd", data, form)
    assert list(storage.log.ids()) == []


def test_a_transcript_may_begin_with_what_is_odd(storage: SessionStorage, tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="first 100 lines"):
        take_in(storage, tmp_path / "late.jsonl", b"odd\n" * 100 + b'{"type":"user"}\n')
    data = b"odd\n" * 99 + b'{"type":"user"}'
    assert take_in(storage, tmp_path / "late.jsonl", data).lines == 100
    assert given_back(storage, "late") == data
    assert take_in(storage, tmp_path / "late.jsonl", data + b"\nodd\n").events == 2


@pytest.mark.parametrize("form", FORMATS)
def test_a_transcript_that_grows_by_any_bytes_ends_as_one_read_at_once(tmp_path: Path, form: str) -> None:
    sessions = {"claude-code": claude_session, "codex": codex_session, **SESSIONS}
    data = lines(*sessions[form]()) if form in sessions else b"".join(opencode_lines(tmp_path / "opencode.db"))
    whole = SessionManager(MemorySessionStorage(tmp_path / "h"))
    name = take_in(whole.storage, tmp_path / "g.jsonl", data, form).session_id
    wanted = [meaning(event) for event in whole.events(name) if event.type not in UNTOLD]
    rng = random.Random(1)
    meta = data.index(b"\n", data.index(b"\n") + 1) + 1
    for turn in range(12):
        grown = SessionManager(MemorySessionStorage(tmp_path / f"h{turn}"))
        cuts = sorted(rng.sample(range(meta, len(data)), 4))
        for cut in [*cuts, len(data)]:
            take_in(grown.storage, tmp_path / "g.jsonl", data[:cut], form)
            assert given_back(grown.storage, name, form) == data[:cut]
        assert [meaning(event) for event in grown.events(name) if event.type not in UNTOLD] == wanted
        assert grown.get_session_statistics(name) == whole.get_session_statistics(name)
        assert len(list((tmp_path / f"h{turn}").iterdir())) == len(list((tmp_path / "h").iterdir())) > 0


UNTOLD = ("foreign.recorded", "session.completed", "session.reopened")  # the last two depend on where an import ended


def meaning(event: e.Event) -> tuple[Any, ...]:
    names = ("role", "content", "tokens", "invocation_id", "duration_ms", "success", "purpose")
    return (event.type, event.occurred_at, *(getattr(event, name, None) for name in names))


def test_each_line_is_a_batch_of_its_own(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    """What is torn off the end of an imported log takes no more with it than the lines it was in."""
    take_in(files, tmp_path / "one.jsonl", lines(*claude_session()))
    batches = [event.batch for event in files.log.read("one")]
    assert max(batch[1] for batch in batches if batch) <= 4
    path = tmp_path / ".sessions" / "one" / "events.jsonl"
    kept = path.read_bytes().splitlines(keepends=True)[:-1]  # without the event that says how the session ended
    path.write_bytes(b"".join(kept)[:-10])
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as fresh:
        found = fresh.load_session("one")
    assert found is not None
    assert found.conversation[-1].content == "no such file"


def test_a_short_transcript_is_written_at_once_with_how_it_ended(
    files: FileSystemSessionStorage, tmp_path: Path
) -> None:
    """One write to its log, and with `always` one flush of it: not one more for the end of the session."""
    with recorded(tmp_path / ".sessions") as calls:
        take_in(files, tmp_path / "one.jsonl", lines(*claude_session()))
    assert calls.made.count(OsCall(WRITE, "one/events.jsonl")) == 1
    assert files.metadata("one").status.value == "completed"


def test_a_transcript_that_grew_gets_its_new_lines_and_nothing_else_changes(tmp_path: Path) -> None:
    storage = MemorySessionStorage(tmp_path / ".history")
    session = claude_session()
    take_in(storage, tmp_path / "one.jsonl", lines(*session[:5]))
    SessionManager(storage).update_session_metadata("one", tags=["mine"])
    before = list(storage.log.lines("one"))
    result = take_in(storage, tmp_path / "one.jsonl", lines(*session))
    after = list(storage.log.lines("one"))
    assert after[: len(before)] == before
    assert result.events == len(after) - len(before) > 0
    assert [one.success for one in storage.fold("one").invocations.values()] == [True, False]
    assert storage.history is not None
    assert [record.result for _, record in storage.history.records()] == ["3 commits", "no such file"]
    assert storage.metadata("one").tags == ["mine"]


def test_another_file_of_the_same_name_is_refused(storage: SessionStorage, tmp_path: Path) -> None:
    take_in(storage, tmp_path / "one.jsonl", lines(*claude_session()))
    head = storage.log.head("one")
    other = lines(*claude_session()).replace(b"logins", b"logouts")
    with pytest.raises(ImportRefused, match=r"line 2: differs .* nothing was imported"):
        take_in(storage, tmp_path / "one.jsonl", other)
    shorter = take_in(storage, tmp_path / "one.jsonl", lines(*claude_session()[:3]))
    assert (shorter.events, "shorter" in shorter.odd[0]) == (0, True)
    assert storage.log.head("one") == head


def test_a_session_that_was_not_imported_is_never_added_to(storage: SessionStorage, tmp_path: Path) -> None:
    SessionManager(storage).create_session("one")
    with pytest.raises(ImportRefused, match="was not imported from such a file"):
        take_in(storage, tmp_path / "one.jsonl", lines(*claude_session()))
    with pytest.raises(ExportRefused, match="not imported from claude-code"):
        given_back(storage, "one")
    with pytest.raises(SessionNotFound):
        given_back(storage, "nope")


def test_a_file_that_cannot_be_read_is_refused(storage: SessionStorage, tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="No such file"):
        take_in(storage, tmp_path / "gone.jsonl")
    with pytest.raises(ImportRefused, match="not a regular file"):
        take_in(storage, tmp_path)
    with pytest.raises(ImportRefused, match="rename the file"):
        take_in(storage, tmp_path / "a b.jsonl", b"{}\n")
    empty = take_in(storage, tmp_path / "empty.jsonl", b"")
    assert (empty.events, empty.odd) == (0, ("is empty: nothing to import",))


TITLES: list[tuple[list[dict[str, Any]], str]] = [
    ([{"type": "summary", "summary": "A summary"}], "A summary"),
    ([{"type": "summary", "summary": "One"}, {"type": "summary", "summary": "Two"}], "Two"),
    ([{"type": "custom-title", "customTitle": "Mine"}, {"type": "summary", "summary": "A summary"}], "Mine"),
    ([], "Why do logins fail?"),
]


@pytest.mark.parametrize(("more", "purpose"), TITLES)
def test_the_best_title_is_the_purpose(tmp_path: Path, more: list[dict[str, Any]], purpose: str) -> None:
    storage = MemorySessionStorage()
    take_in(storage, tmp_path / "one.jsonl", lines(*claude_session(), *more))
    assert storage.metadata("one").purpose == purpose


def test_what_the_program_says_in_the_user_s_name_is_no_title(tmp_path: Path) -> None:
    storage = MemorySessionStorage()
    command = "<command-name>/init</command-name>\n<command-args>fast</command-args>"
    early = [
        claude("user", "m", None, 0, "Caveat: made by a program", isMeta=True),
        claude("user", "c", "m", 0, command),
    ]
    take_in(storage, tmp_path / "one.jsonl", lines(*early))
    assert storage.metadata("one").purpose == "/init fast"
    take_in(storage, tmp_path / "one.jsonl", lines(*early, *claude_session()))
    assert storage.metadata("one").purpose == "Why do logins fail?"
    session = storage.load_session("one")
    assert session is not None
    assert session.conversation[0].role == "system"


def test_an_edited_prompt_takes_the_conversation_back(tmp_path: Path) -> None:
    storage = MemorySessionStorage()
    session = [
        *claude_session(),
        claude("user", "u4", "a4", 20, "Then fix it badly"),
        claude("assistant", "a5", "u4", 21, [{"type": "text", "text": "Done badly"}]),
        claude("user", "u5", "a4", 30, "Then fix it well"),
    ]
    take_in(storage, tmp_path / "one.jsonl", lines(*session))
    found = storage.load_session("one")
    assert found is not None
    assert [one.content for one in found.conversation[-2:]] == ["It was e41c9d2.", "Then fix it well"]


def sidechain() -> list[dict[str, Any]]:
    side: dict[str, Any] = {"isSidechain": True}
    return [
        claude("user", "5ide0001-x", None, 10, "Look at the tokens", **side),
        claude(
            "assistant", "5ide0002-x", "5ide0001-x", 11, [call("t9", {})], m_usage=usage(1, 2), m_id="msg_s", **side
        ),
        claude("user", "5ide0003-x", "5ide0002-x", 12, [answer("t9", "seen")], **side),
    ]


def test_a_sub_agent_inside_the_file_is_a_session_of_its_own(storage: SessionStorage, tmp_path: Path) -> None:
    data = lines(*claude_session(), *sidechain())
    take_in(storage, tmp_path / "one.jsonl", data)
    child = storage.load_session("one.agent-5ide0001")
    assert child is not None
    assert child.metadata.custom_metadata["parent_session"] == "one"
    assert [one.content for one in child.conversation] == ["Look at the tokens", "{}", "seen"]
    assert child.metadata.created_at.isoformat() == "2026-03-02T09:30:10+00:00"
    assert child.metadata.updated_at.isoformat() == "2026-03-02T09:30:12+00:00"
    parent = storage.load_session("one")
    assert parent is not None
    assert parent.conversation[-1].content == "It was e41c9d2."
    assert (parent.metadata.total_invocations, (parent.metadata.token_usage or {})["input"]) == (3, 19)
    assert given_back(storage, "one") == data
    with pytest.raises(ExportRefused, match="export that one"):
        given_back(storage, "one.agent-5ide0001")
    head = storage.log.head("one.agent-5ide0001")
    take_in(storage, tmp_path / "one.jsonl")
    assert storage.log.head("one.agent-5ide0001") == head


def test_a_sub_agent_in_a_file_of_its_own_is_named_after_its_parent(storage: SessionStorage, tmp_path: Path) -> None:
    side = [dict(line, agentId="ab12") for line in sidechain()]
    new = take_in(storage, tmp_path / "one" / "subagents" / "agent-ab12.jsonl", lines(*side))
    old = take_in(storage, tmp_path / "agent-cd34.jsonl", lines(*side))
    assert (new.session_id, old.session_id) == ("one.agent-ab12", "one.agent-cd34")
    known = storage.metadata("one.agent-ab12")
    assert (known.custom_metadata["parent_session"], known.total_invocations) == ("one", 1)
    assert known.purpose == "Look at the tokens"
    assert given_back(storage, "one.agent-ab12") == lines(*side)


@pytest.mark.parametrize("stop", range(1, 5))
def test_an_import_cut_short_anywhere_goes_on_where_it_was(tmp_path: Path, stop: int) -> None:
    """Kill an import at its n-th append: the next one adds what is missing, once."""
    data = lines(*claude_session(), *sidechain())
    whole = MemorySessionStorage(tmp_path / "whole")
    take_in(whole, tmp_path / "one.jsonl", data)

    class Killed(BaseException):
        pass

    storage = MemorySessionStorage(tmp_path / ".history")
    count = 0

    def killing(call: Callable[..., Any]) -> Callable[..., Any]:
        def kill(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == stop:
                raise Killed
            return call(*arguments, **options)

        return kill

    with pytest.MonkeyPatch.context() as patch:
        for name in ("append", "append_many", "extend"):
            patch.setattr(storage.log, name, killing(getattr(storage.log, name)))
        with pytest.raises(Killed):
            take_in(storage, tmp_path / "one.jsonl")
    take_in(storage, tmp_path / "one.jsonl")
    for name in ("one", "one.agent-5ide0001"):
        assert [meaning(event) for event in storage.log.read(name)] == [
            meaning(event) for event in whole.log.read(name)
        ]
    assert len(list((tmp_path / ".history").iterdir())) == 3
    assert given_back(storage, "one") == data


def test_an_import_killed_before_its_views_were_written_writes_them_when_it_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_bytes(lines(*claude_session(), *sidechain()))
    program = """
import os
from pathlib import Path
from eventstore import FileSystemSessionStorage
from eventstore.importers.formats import FORMATS
from eventstore.importers.transcript import import_transcript
from eventstore.store import local_storage
local_storage._VIEW_DELAY_SECONDS = 99
import_transcript(FileSystemSessionStorage("s", "h"), FORMATS["claude-code"], Path("one.jsonl"))
os._exit(9)
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False)
    assert killed.returncode == 9
    views = [tmp_path / "s" / name / "metadata.json" for name in ("one", "one.agent-5ide0001")]
    assert [one.exists() for one in views] == [False, False]
    with FileSystemSessionStorage(tmp_path / "s", tmp_path / "h") as storage:
        take_in(storage, tmp_path / "one.jsonl")
    assert [one.exists() for one in views] == [True, True]
    with FileSystemSessionStorage(tmp_path / "s", tmp_path / "h") as storage:
        assert storage.redo_views() == 0


def test_a_very_long_line_is_kept_in_pieces_and_understood(tmp_path: Path) -> None:
    storage = MemorySessionStorage()
    text = "\0x" * (PIECE_BYTES // 2)
    data = lines(*claude_session(), claude("user", "long", "a4", 30, text), claude("user", "u9", "long", 31, "after"))
    result = take_in(storage, tmp_path / "one.jsonl", data)
    assert (result.lines, result.odd) == (11, ())
    assert given_back(storage, "one") == data
    found = storage.load_session("one")
    assert found is not None
    assert [len(one.content) for one in found.conversation[-2:]] == [len(text), 5]
    assert take_in(storage, tmp_path / "one.jsonl").events == 0


def test_a_line_too_long_to_be_an_event_is_kept(tmp_path: Path) -> None:
    storage = MemorySessionStorage()
    data = lines(claude("user", "long", None, 1, "x" * 20_000_000), claude("user", "u9", "long", 2, "after"))
    result = take_in(storage, tmp_path / "one.jsonl", data)
    assert given_back(storage, "one") == data
    assert (result.lines, "without its meaning" in result.odd[0]) == (2, True)


@pytest.mark.long
def test_memory_does_not_grow_with_the_file(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    def grow(name: str, times: int) -> int:
        with (tmp_path / name).open("wb") as stream:
            for n in range(times):
                stream.write(lines(claude("user", f"u{n}", None, n % 60, "x" * 2000)))
        tracemalloc.start()
        try:
            take_in(files, tmp_path / name)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    grow("warm.jsonl", 10)
    small, large = grow("small.jsonl", 2000), grow("large.jsonl", 8000)
    assert large < small + 8_000_000


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.update(message={"content": [3]}),
        lambda line: line.update(message={"content": {"type": "text"}}),
        lambda line: line["message"].update(usage={"input_tokens": "many", "output_tokens": -1}),
        lambda line: line["message"].update(usage=[1]),
        lambda line: line["message"].update(id=7, model=None),
        lambda line: line.update(uuid=7, parentUuid=[1], timestamp=None, cwd=3, gitBranch={}),
        lambda line: line.update(timestamp="9999-12-31T23:59:59.999Z"),
        lambda line: line.update(timestamp="0001-01-01T00:00:00+23:59"),
    ],
)
def test_a_line_that_is_not_as_it_should_be_is_no_crash(tmp_path: Path, change: Callable[[Any], None]) -> None:
    storage = MemorySessionStorage(tmp_path / ".history")
    session = claude_session()
    for line in session[1:]:
        if line["type"] != "progress":
            change(line)
    take_in(storage, tmp_path / "one.jsonl", lines(*session))
    assert given_back(storage, "one") == lines(*session)


def test_every_prefix_of_a_codex_call_is_no_crash(tmp_path: Path) -> None:
    storage = MemorySessionStorage(tmp_path / ".history")
    shapes: list[dict[str, Any]] = [
        {},
        {"call_id": 3},
        {"role": "robot", "content": 3},
        {"summary": 3, "output": [1], "call_id": "c"},
    ]
    items = ("message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "web_search_call")
    odd = [codex("response_item", 1, type=item, **shape) for item in items for shape in shapes]
    odd += [codex("event_msg", 1, type="token_count", info={"last_token_usage": 3}), codex("turn_context", 1, model=3)]
    data = lines(*odd, *(json.loads(line) for line in lines(*codex_session()).splitlines()))
    result = take_in(storage, tmp_path / "r.jsonl", data, "codex")
    assert given_back(storage, result.session_id, "codex") == data


# --- how much room an import takes


def _words(size: int, seed: int) -> str:
    random_words = random.Random(seed)
    return " ".join("".join(random_words.choices("abcdefghijklmnop", k=6)) for _ in range(size // 7))


def test_a_store_takes_at_most_1_6_times_the_room_of_what_it_imported(tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    for n in range(0, 300, 3):
        response = {"m_id": f"msg_{n}", "m_model": "made-up-1", "requestId": f"req_{n}", "m_usage": usage(n, n)}
        before = f"u{n - 1}" if n else None
        said += [
            claude("user", f"u{n}", before, n, _words(400, n)),
            claude("assistant", f"u{n + 1}", f"u{n}", n + 1, [call(f"c{n}", {"file": _words(300, n)})], **response),
            claude("user", f"u{n + 2}", f"u{n + 1}", n + 2, [answer(f"c{n}", _words(2000, -n))]),
        ]
    data = lines(*said)
    storage = FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no")
    with storage:
        take_in(storage, tmp_path / "one.jsonl", data)
        storage.flush()
        folder = tmp_path / ".sessions" / "one"
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1.6 * len(data)
        assert given_back(storage, "one") == data


def test_the_conversation_is_written_for_people_once_a_program_appends_or_rebuild_is_asked(
    files: FileSystemSessionStorage, tmp_path: Path
) -> None:
    take_in(files, tmp_path / "one.jsonl", lines(*claude_session()))
    files.flush()
    path = files.sessions_dir / "one" / "conversation.jsonl"
    assert not path.exists()
    assert not list(files.check_views("one"))
    files.append("one", [e.MessageAdded(role="user", content="go on")])
    files.flush()
    session = files.load_session("one")
    assert session is not None
    said = [json.loads(line)["content"] for line in path.read_text("utf-8").splitlines()]
    assert said == [message.content for message in session.conversation]
    take_in(files, tmp_path / "two.jsonl", lines(*claude_session()))
    list(files.rebuild())
    assert (files.sessions_dir / "two" / "conversation.jsonl").exists()
