"""Transcripts from where they lie, and what becomes of those that were deleted, moved or rewritten."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from time import time_ns

import pytest
from transcripts import claude, claude_session, codex_session, lines

from eventstore import FileSystemSessionStorage, MemorySessionStorage, SessionStorage
from eventstore.errors import ImportRefused
from eventstore.importers import Imported
from eventstore.importers.files import import_file
from eventstore.importers.formats import FORMATS
from eventstore.importers.many import Options, import_all, watch_homes
from eventstore.importers.sources import find_sources
from eventstore.importers.transcript import import_transcript


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home folder of a user of both agents."""
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / ".claude/projects/-made-up/one.jsonl", lines(*claude_session()))
    write(
        tmp_path / ".config/claude/projects/-made-up/two.jsonl",
        lines(claude("user", "z", None, 1, "hello", sessionId="two")),
    )
    write(tmp_path / ".codex/sessions/2026/03/02/rollout-2026-03-02-x.jsonl", lines(*codex_session()))
    write(tmp_path / ".codex/archived_sessions/rollout-y.jsonl", lines(*codex_session()).replace(b"c0de", b"beef"))
    return tmp_path


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def run(storage: SessionStorage, options: Options | None = None) -> list[str]:
    found = list(import_all(storage, find_sources().files, options))
    assert all(isinstance(one, Imported) for one in found), found
    return [one.session_id for one in found if isinstance(one, Imported) and one.events]


def test_every_home_of_the_known_agents_is_found(
    storage: SessionStorage, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = {"one", "two", "0199aaaa-0000-7000-8000-00000000c0de", "0199aaaa-0000-7000-8000-00000000beef"}
    assert set(run(storage)) == ids
    assert run(storage) == []
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(home / "elsewhere"))
    monkeypatch.setenv("CODEX_HOME", str(home / ".codex"))
    write(home / "elsewhere/projects/p/three.jsonl", lines(claude("user", "q", None, 1, "hi", sessionId="three")))
    assert sorted(path.name for _, path in find_sources().files) == [
        "rollout-2026-03-02-x.jsonl",
        "rollout-y.jsonl",
        "three.jsonl",
    ]


def test_a_journal_is_no_session_in_a_folder(home: Path) -> None:
    folder = home / ".claude/projects/-made-up"
    write(folder / "one/subagents/workflows/journal.jsonl", b'{"type":"started","key":"v2:1","agentId":"a"}\n')
    assert [path.name for _, path in find_sources(None, [folder]).files] == ["one.jsonl"]


def test_formats_are_known_by_content(home: Path) -> None:
    for data, form in ((lines(*claude_session()[1:]), "claude-code"), (lines(*codex_session()), "codex")):
        path = write(home / "odd.name", data)
        assert [one.name for one, _ in find_sources(None, [path]).files] == [form]
    with pytest.raises(ImportRefused, match="no format that is known"):
        find_sources(None, [write(home / "x.jsonl", b'{"role":"user","content":"hi"}\n')])
    with pytest.raises(ImportRefused, match="no such file"):
        find_sources(None, [home / "missing"])


@pytest.mark.parametrize(
    ("line", "agent"),
    [
        (b'{"type":"session.start","data":{"sessionId":"s"},"id":"1"}\n', "Copilot CLI"),
        (b'{"type":"started","key":"v2:1","agentId":"a"}\n', "journal"),
    ],
)
def test_a_file_of_another_agent_is_named_and_refused(
    storage: SessionStorage, home: Path, line: bytes, agent: str
) -> None:
    path = write(home / "rollout-other.jsonl", line)
    for form in FORMATS.values():
        if form.name in ("claude-code", "codex"):
            with pytest.raises(ImportRefused, match=f"looks like .*{agent}"):
                import_file(storage, form, path)
    with pytest.raises(ImportRefused, match="looks like Claude Code"):
        import_file(storage, FORMATS["codex"], home / ".claude/projects/-made-up/one.jsonl")


def test_what_was_deleted_or_trashed_stays_so_until_a_person_says_otherwise(storage: SessionStorage) -> None:
    run(storage)
    storage.delete_session("one")
    storage.trash_session("two")
    assert run(storage) == []
    assert {"one", "two"} == set(run(storage, Options(again=True)))


def test_a_rewritten_transcript_goes_on_as_a_session_of_its_own(storage: SessionStorage, home: Path) -> None:
    old = home / ".claude/projects/-made-up/one.jsonl"
    import_transcript(storage, FORMATS["claude-code"], old)
    more = claude("user", "u9", "a4", 20, "after the move")
    moved = write(
        home / ".claude/projects/-moved/one.jsonl", lines(*claude_session(), more).replace(b"/made/up", b"/moved")
    )
    result = import_transcript(storage, FORMATS["claude-code"], moved)
    assert result.session_id.startswith("one.moved-")
    texts = [one.content for one in storage.fold(result.session_id).conversation.messages]
    assert texts == [*(one.content for one in storage.fold("one").conversation.messages), "after the move"]
    assert import_transcript(storage, FORMATS["claude-code"], moved).events == 0
    other = write(home / "p/one.jsonl", lines(claude("user", "other", None, 1, "another conversation")))
    with pytest.raises(ImportRefused, match=r"--as, or .*--replace"):
        import_transcript(storage, FORMATS["claude-code"], other)
    assert import_transcript(storage, FORMATS["claude-code"], other, session_id="mine").session_id == "mine"
    (done,) = import_all(storage, [(FORMATS["claude-code"], other)], Options(replace=True))
    assert isinstance(done, Imported)
    assert [one.content for one in storage.fold("one").conversation.messages] == ["another conversation"]
    assert [one.session_id for one in storage.list_trash()] == ["one"]


def test_what_was_imported_lately_is_not_cleaned_up(files: FileSystemSessionStorage) -> None:
    from datetime import UTC, datetime, timedelta

    run(files)
    now = datetime.now(UTC)
    assert files.plan_cleanup(now - timedelta(days=1), now - timedelta(days=30)) == []
    assert len(files.plan_cleanup(now + timedelta(days=1), now - timedelta(days=30))) == 4


def test_watching_imports_what_is_written(home: Path) -> None:
    stop = Event()
    with MemorySessionStorage() as storage:
        run(storage)
        path = home / ".claude/projects/-made-up/one.jsonl"
        results = watch_homes(storage, stop=stop)
        import threading

        grown = lines(*claude_session(), claude("user", "u9", "a4", 20, "more"))
        timer = threading.Timer(0.5, lambda: path.write_bytes(grown))
        timer.start()
        again = threading.Timer(3, lambda: write(path.with_name("late.jsonl"), grown))
        again.start()
        first = next(results)
        stop.set()
        timer.join()
        again.join()
        assert isinstance(first, Imported)
        assert first.session_id in ("one", "late")
        list(results)


def test_a_file_of_which_only_its_new_folder_is_told_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written in a folder before that is watched is not told: the folder itself is."""
    folder, stop = tmp_path / "projects" / "-p", Event()
    folder.parent.mkdir()

    def watch(*folders: Path, **options: object) -> Iterator[set[tuple[int, str]]]:
        yield set()
        write(folder / "new.jsonl", lines(*claude_session()))
        yield {(1, str(folder))}
        stop.set()

    monkeypatch.setattr("watchfiles.watch", watch)
    with MemorySessionStorage() as storage:
        (found,) = watch_homes(storage, None, [folder.parent], stop=stop, since_ns=time_ns() + 10**12)
    assert isinstance(found, Imported)
    assert found.session_id == "new"


@pytest.mark.parametrize("how", ["home", "folder", "file"])
def test_watching_waits_for_what_is_not_there_yet(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends neither where no folder is there, nor at a file that has no line yet."""
    import threading

    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".claude/projects/-p/new.jsonl"
    named = {"home": [], "folder": [path.parent], "file": [path]}[how]
    stop = Event()
    if how == "file":
        write(path, b"")

    def appear() -> None:
        write(path, lines(*claude_session()))

    timer = threading.Timer(0.5, appear)
    with MemorySessionStorage() as storage:
        results = watch_homes(storage, None, named, stop=stop, since_ns=time_ns())
        timer.start()
        first = next(results)
        stop.set()
        timer.join()
        list(results)
    assert isinstance(first, Imported)
    assert first.session_id == "new"
