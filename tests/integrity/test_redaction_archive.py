"""Redactions that come with an archive: all logs here that have the events are redacted, and the registry records it first."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore import events as e
from eventstore.errors import ImportRefused
from eventstore.exporters.archive import export_archive
from eventstore.importers.archive import ImportedArchive, import_archive
from eventstore.integrity import verify_all
from eventstore.log.engine import EventLog
from eventstore.secret_patterns import Patterns
from eventstore.store.known_redactions import known_redactions

SECRET = "hunter2-the-secret"


class Pair:
    """Two stores: `here` has what `there` exported before its redaction."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self.folder = folder
        self.here, self.there = (opened.enter_context(self.opened(name)) for name in ("here", "there"))

    def opened(self, name: str) -> SessionManager:
        root = self.folder / name
        return SessionManager(FileSystemSessionStorage(root / ".sessions", root / ".history", fsync="no"))

    def send(self, *, dry_run: bool = False) -> ImportedArchive:
        """Export all sessions of `there`, and import them here."""
        self.there.flush()
        path = self.folder / "all.zip"
        path.unlink(missing_ok=True)
        export_archive(self.there, path)
        return import_archive(self.here, path, dry_run=dry_run)

    def holding(self) -> list[str]:
        """List the files here that have the secret."""
        self.here.flush()
        root = self.folder / "here"
        files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
        return [str(path.relative_to(root)) for path in files if SECRET.encode() in path.read_bytes()]

    def assert_clean(self) -> None:
        assert [(one.session_id, one.findings) for one in verify_all(self.here.storage) if not one.is_whole] == []
        assert self.holding() == []


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as opened:
        made = Pair(tmp_path, opened)
        made.there.create_session("s", "p")
        made.there.add_conversation_message("s", "user", SECRET)
        yield made


def redacted(manager: SessionManager, session_id: str) -> list[int]:
    return [one.seq for one in manager.events(session_id) if isinstance(one, e.RedactedEvent)]


def recorded(manager: SessionManager) -> list[tuple[str, tuple[int, ...]]]:
    log = manager.storage.log
    return [(one.session_id, one.targets) for one in log.read("_store") if isinstance(one, e.StoreEventsRedacted)]


def recorded_targets(manager: SessionManager, session_id: str) -> list[int]:
    return [one.target for one in manager.events(session_id) if isinstance(one, e.EventRedacted)]


def lines(manager: SessionManager, session_id: str) -> bytes:
    return b"".join(manager.storage.log.chunks(session_id))


def test_a_newer_archive_redacts_the_session_here(pair: Pair) -> None:
    pair.send()
    pair.there.redactions.redact("s", 2, "a password", by={"actor": "ana"})
    assert pair.send(dry_run=True).redacted == 1
    assert pair.holding() != []
    done = pair.send()
    assert (done.sessions, done.redacted, done.left) == (("s",), 1, ())
    pair.assert_clean()
    assert recorded(pair.here) == [("s", (2,))]
    assert lines(pair.here, "s") == lines(pair.there, "s")
    done = pair.send()
    assert (done.skipped, done.redacted) == (("s",), 0)
    assert recorded(pair.here) == [("s", (2,))]


def test_streams_of_forks_keep_nothing_of_what_several_redactions_remove(pair: Pair) -> None:
    """One redaction of an archive must not keep, in a fork here, what the next one of the same archive removes."""
    there = pair.there
    there.append("s", [e.RecordPut(stream="q", value=value) for value in ("stays", SECRET, "popped")])
    there.append("s", [e.RecordRemoved(stream="q", last=True)])
    pair.send()
    pair.here.fork_session("s", new_id="fork")
    for seq, reason in ((5, "b"), (4, "a"), (2, "a")):
        there.redactions.redact("s", [seq], reason)
    pair.send()
    pair.assert_clean()
    for session_id in ("s", "fork"):
        assert [item.value for item in pair.here.records.list(session_id, "q")] == ["stays"]


def test_forks_templates_and_the_trash_are_redacted_with_it(pair: Pair) -> None:
    pair.send()
    here = pair.here
    here.fork_session("s", new_id="fork")
    here.fork_session("fork", new_id="fork-of-fork")
    here.templates.save("t", "s")
    here.create_session("of-template", template="t")
    for name in ("whole", "trashed", "both"):
        here.fork_session("s", new_id=name)
    here.storage.log.make_whole("whole")
    here.trash.put("trashed")
    here.trash.put("both")
    here.fork_session("s", new_id="both")
    list(here.search("hunter2"))
    pair.there.redactions.redact("s", 2, "a password", by={"actor": "ana"})
    assert pair.send().redacted == 1
    pair.assert_clean()
    for name in ("s", "fork", "fork-of-fork", "of-template", "whole", "both"):
        assert redacted(here, name) == [2]
        event = next(one for one in here.events(name) if isinstance(one, e.EventRedacted) and one.target == 2)
        assert event.reason == "a password"
    here.trash.restore("trashed")
    pair.assert_clean()
    for name in ("s", "fork", "fork-of-fork"):
        here.delete_session(name)
    pair.assert_clean()


def test_a_fork_whose_parent_only_the_archive_redacts_is_not_tampered_with(pair: Pair) -> None:
    there = pair.there
    there.templates.save("t", "s")
    there.create_session("of-template", template="t")
    pair.send()
    there.trash.put("s")
    there.trash.put("of-template")
    there.redactions.carry_out(there.redactions.plan(Patterns({"password": SECRET})), "why")
    assert pair.send().sessions == ("_template.t",)
    pair.assert_clean()
    assert [redacted(pair.here, one) for one in ("s", "of-template")] == [[2], [2]]


def test_a_session_that_only_the_archive_has_redacts_its_parent_here(pair: Pair) -> None:
    pair.send()
    pair.there.fork_session("s", new_id="f")
    pair.there.delete_session("s")
    pair.there.redactions.redact("f", 2, "why")
    assert pair.send().sessions == ("f",)
    pair.assert_clean()
    assert redacted(pair.here, "s") == redacted(pair.here, "f") == [2]


def test_what_only_the_archive_had_is_recorded_too(pair: Pair) -> None:
    pair.there.create_session("u", "p")
    pair.send()
    pair.there.add_conversation_message("u", "user", "new " + SECRET)
    pair.there.redactions.redact("u", 2, "why")
    pair.there.redactions.redact("s", 2, "why")
    pair.send()
    pair.assert_clean()
    assert sorted(recorded(pair.here)) == [("s", (2,)), ("u", (2,))]


def test_calls_lose_their_records_and_values(pair: Pair) -> None:
    there = pair.there
    with there.invocation("s", "login", {"password": SECRET}) as call:
        call.result = SECRET + "x" * 300_000
    there.flush()
    pair.send()
    assert len(pair.holding()) > 3
    calls = [one.seq for one in there.events("s") if isinstance(one, e.InvocationEvent)]
    there.redactions.redact("s", [2, *calls], "why")
    pair.send()
    pair.assert_clean()
    assert pair.here.storage.log.values("s") == []
    assert "login" in str(pair.here.get_session_statistics("s"))


def test_an_older_archive_does_not_bring_it_back(pair: Pair) -> None:
    pair.send()
    shutil.copy(pair.folder / "all.zip", pair.folder / "old.zip")
    pair.here.fork_session("s", new_id="f")
    pair.there.redactions.redact("s", 2, "why")
    pair.send()
    for name in ("f", "s"):
        pair.here.delete_session(name)
    import_archive(pair.here, pair.folder / "old.zip")
    pair.assert_clean()
    assert redacted(pair.here, "s") == [2]


@pytest.mark.parametrize("kill_at", range(1, 13))
def test_after_a_kill_the_same_import_completes_it(pair: Pair, monkeypatch: pytest.MonkeyPatch, kill_at: int) -> None:
    """Forks record the redaction before the session loses its text: nothing in between is called tampered."""
    pair.there.fork_session("s", new_id="k")
    pair.there.fork_session("s", new_id="o")
    pair.send()
    pair.here.fork_session("s", new_id="f")
    for name in ("w", "t"):
        pair.here.fork_session("s", new_id=name)
        pair.here.storage.log.make_whole(name)
    pair.here.trash.put("t")
    pair.here.storage.log.make_whole("o")
    pair.there.redactions.redact("s", 2, "why")
    calls = 0

    def killing(real: Callable[..., object]) -> Callable[..., object]:
        def killed(*arguments: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls == kill_at:
                raise KeyboardInterrupt
            result = real(*arguments, **named)
            calls += 1
            if calls == kill_at:
                raise KeyboardInterrupt
            return result

        return killed

    for name in ("fast_forward", "redact"):
        monkeypatch.setattr(EventLog, name, killing(getattr(EventLog, name)))
    with pytest.raises(KeyboardInterrupt):
        pair.send()
    monkeypatch.undo()
    for name in ("s", "k"):
        if recorded_targets(pair.here, name) and redacted(pair.here, name):
            assert [path for path in pair.holding() if path.startswith(f".sessions/{name}/")] == []
    assert [(one.session_id, one.findings) for one in verify_all(pair.here.storage) if not one.is_whole] == []
    pair.send()
    for name in ("s", "f", "w", "k", "o"):
        assert redacted(pair.here, name) == [2]
    assert [one.outcome for one in verify_all(pair.here.storage)] == ["whole"] * 6
    kept = b"".join(
        line for name in pair.here.storage.log.trashed() for line in pair.here.storage.log.trashed_lines(name)
    )
    assert SECRET.encode() not in kept


def test_what_a_person_brought_back_stays_when_the_same_archive_is_imported_again(pair: Pair) -> None:
    pair.send()
    shutil.copy(pair.folder / "all.zip", pair.folder / "old.zip")
    pair.there.fork_session("s", new_id="f")
    pair.there.storage.log.make_whole("f")
    pair.there.redactions.redact("s", 2, "why")
    pair.send()
    pair.here.delete_session("s")
    import_archive(pair.here, pair.folder / "old.zip", again=True)
    pair.there.delete_session("s")
    assert pair.send().redacted == 0
    assert redacted(pair.here, "s") == []


def test_a_record_without_a_leaf_hash_does_not_stop_the_store(pair: Pair) -> None:
    for leaf in ("no", "a " * 32, ""):
        pair.there.storage.log.append("s", [e.EventRedacted(target=2, leaf=leaf, reason="r")])
    pair.send()
    assert known_redactions(pair.here.storage.log) == {}
    pair.there.storage.log.append("s", [e.EventRedacted(target=2, leaf="no", reason="r")])
    pair.send()
    assert redacted(pair.here, "s") == []


def test_a_writer_in_between_stops_the_import_and_nothing_is_called_tampered(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.send()
    pair.here.fork_session("s", new_id="f")
    pair.there.redactions.redact("s", 2, "why")
    real = EventLog.fast_forward

    def late(log: EventLog, *arguments: object, **named: object) -> object:
        log.append("s", [e.MessageAdded(role="user", content="its own")])
        return real(log, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(EventLog, "fast_forward", late)
    with pytest.raises(ImportRefused, match="written by another program"):
        pair.send()
    assert [(one.session_id, one.findings) for one in verify_all(pair.here.storage) if not one.is_whole] == []
    pair.here.redactions.redact("s", 2, "why")
    pair.assert_clean()


def test_a_value_that_a_fork_here_has_once_more_is_redacted_with_it(pair: Pair) -> None:
    """A redaction here had appended it to the fork again, so that it keeps its place. The archive has only the parent."""
    pair.here.create_session("k")
    puts = [
        e.RecordPut(stream="q", key=key, value=value) for key, value in (("b", "1"), ("c", "2"), ("b", "private words"))
    ]
    pair.here.append("k", puts)
    pair.here.fork_session("k", new_id="f")
    pair.here.redactions.redact("k", 2, "moves the value")
    export_archive(pair.here, pair.folder / "k.zip", ["k"])
    import_archive(pair.there, pair.folder / "k.zip")
    pair.there.redactions.redact("k", 4, "a secret")
    pair.send()
    for session_id in ("k", "f"):
        assert [(one.key, one.value) for one in pair.here.records.list(session_id, "q")] == [("c", "2")]
        assert b"private words" not in lines(pair.here, session_id)
    assert all(one.is_whole for one in verify_all(pair.here.storage))
