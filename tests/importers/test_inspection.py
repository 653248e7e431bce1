"""Foreign transcripts looked at and mended where they are."""

from pathlib import Path

import pytest
from transcripts import answer, claude, claude_session, codex, codex_session, lines

from eventstore.errors import ImportRefused
from eventstore.importers.detect import detect
from eventstore.importers.inspection import inspect, mend


def kinds(path: Path) -> list[tuple[int, str]]:
    return [(flaw.line, flaw.kind) for flaw in inspect(path, detect(path.read_bytes()) or "claude-code")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.jsonl"


@pytest.mark.parametrize("session", [claude_session, codex_session])
def test_nothing_is_wrong_with_a_good_transcript(path: Path, session: object) -> None:
    path.write_bytes(lines(*(claude_session() if session is claude_session else codex_session())) + b"\n")
    assert kinds(path) == []


def test_each_flaw_is_named_by_line_and_byte(path: Path) -> None:
    good = lines(*claude_session())
    first, second, third, *rest = good.splitlines(keepends=True)
    path.write_bytes(
        first[:-1] + second + third[:50] + b"\n" + b"\0" * 9 + b"\n" + b"".join(rest) + rest[0]
        + lines(claude("user", "u9", "nowhere", 9, [answer("t99", "x")]), claude("user", "u9", "a4", 9, "y"))
        + b'{"type":"user"}'
    )  # fmt: skip
    count = len(rest) + 3
    found = list(inspect(path, "claude-code"))
    assert [(flaw.line, flaw.kind) for flaw in found] == [
        (1, "glued lines"),
        (2, "half line"),
        (3, "NUL bytes"),
        (4, "dangling parent"),
        (count + 1, "duplicate"),
        (count + 1, "dangling parent"),
        (count + 2, "dangling parent"),
        (count + 2, "orphan result"),
        (count + 3, "duplicate id"),
        (count + 4, "half line"),
    ]
    assert found[1].offset_bytes == len(first) - 1 + len(second)


def test_codex_answers_to_nothing_are_found(path: Path) -> None:
    path.write_bytes(lines(codex("response_item", 1, type="function_call_output", call_id="c", output="x")))
    assert kinds(path) == [(1, "orphan result")]


def test_mending_keeps_the_file_as_it_was_and_every_whole_line(path: Path) -> None:
    good = lines(*claude_session())
    first, second, third, *rest = good.splitlines(keepends=True)
    broken = first[:-1] + second + third + third[:50] + b"\n" + b"\0\0" + b"".join(rest) + b"".join(rest)[:-1]
    path.write_bytes(broken)
    kept = mend(path, "claude-code")
    assert kept.read_bytes() == broken
    assert path.read_bytes() == good
    assert not [flaw for flaw in inspect(path, "claude-code") if flaw.mendable]
    assert mend(path, "claude-code").name == "t.jsonl.damaged-2"


def test_a_file_that_is_not_there_is_an_error(path: Path) -> None:
    with pytest.raises(ImportRefused, match="No such file"):
        list(inspect(path, "claude-code"))
    with pytest.raises(ImportRefused):
        mend(path, "claude-code")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"# a README\nwith text\n", "no line of it is of Claude Code"),
        (b'{"version": 1}\n', "no line of it is of Claude Code"),
        (lines(*codex_session()), "but of Codex: use --format codex"),
    ],
    ids=["empty", "text", "json", "codex"],
)
def test_a_file_of_another_format_is_refused_and_never_repaired(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    for ask in (inspect, mend):
        with pytest.raises(ImportRefused, match=f"cannot inspect .*{reason}"):
            ask(path, "claude-code")
    assert (path.read_bytes(), len(list(path.parent.iterdir()))) == (content, 1)


def test_a_transcript_whose_beginning_is_damaged_is_one_of_its_format(path: Path) -> None:
    path.write_bytes(b"\0\n" * 100 + lines(*claude_session()))
    assert kinds(path) == [(number, "NUL bytes") for number in range(1, 101)]
