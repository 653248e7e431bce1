"""Naming a session by a beginning of its id, `latest`, `-` or `ID:SEQ`, and what is said where there is none."""

from pathlib import Path

import pytest
from commands import Shell, in_terminal, objects
from hypothesis import given
from hypothesis import strategies as st

from eventstore import FileSystemEventLog, FileSystemSessionStorage, SessionManager
from eventstore.cli.naming import ShortIds, aliases, split
from eventstore.events import MessageAdded, SessionCreated
from eventstore.ids import new_session_id, session_id_for

IDS = ("1af7fc5e-0000-4000-8000-000000000001", "1af9fc5e-0000-4000-8000-000000000002", "full-session")
AGENT = f"{IDS[0]}.agent-f4ab2bf6"


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A store with four sessions of two projects; the last one updated is full-session."""
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        for number, name in enumerate((AGENT, *IDS)):
            when = f"2026-03-0{number + 1}T12:00:00Z"
            manager.create_session(name, f"purpose {number}", occurred_at=when)
            where = {"cwd": f"/home/ana/{'shop' if number < 3 else 'blog'}"}
            manager.update_session_metadata(name, custom_metadata=where, occurred_at=when)
            manager.add_conversation_message(name, "user", "hello", occurred_at=when)
    return Shell(tmp_path, monkeypatch, capsys)


def shown(shell: Shell, *words: str) -> str:
    return str(objects(shell("show", *words, "--json")[0])[0]["metadata"]["session_id"])


def test_a_unique_beginning_names_a_session(shell: Shell) -> None:
    assert shown(shell, "1af9") == IDS[1]
    assert shown(shell, "full") == IDS[2]


def test_a_beginning_of_a_session_and_its_sub_agents_names_the_session(shell: Shell) -> None:
    assert shown(shell, "1af7") == IDS[0]
    assert shown(shell, "f4ab") == shown(shell, "agent-f4") == AGENT


def test_a_generated_id_is_named_by_its_random_part(shell: Shell) -> None:
    made = shell("create")[0].strip()
    assert shown(shell, made.rpartition("_")[2][:8]) == made


def test_an_external_key_names_a_session_of_another_program(shell: Shell, tmp_path: Path) -> None:
    keys = ("langgraph/thread 1", "adk/app/user:ana/s", "my session")
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        for key in keys:
            manager.append(
                session_id_for(key), [MessageAdded(role="user", content=key)], create=SessionCreated(external_key=key)
            )
        manager.create_session("other", external_key="acme/other")
    assert [shown(shell, key) for key in keys] == [session_id_for(key) for key in keys]
    assert objects(shell("show", f"{keys[0]}:1", "--json")[0])[0]["type"] == "session.created"
    assert shown(shell, "acme/other") == "other"
    assert shown(shell, session_id_for(keys[0])[4:12]) == session_id_for(keys[0])
    assert aliases(f"mcp_{'a' * 32}")[-1] == "a" * 32
    assert f"known as    {keys[0]}" in shell("show", keys[0])[0]
    assert keys[1] in in_terminal(["list"], tmp_path)
    missing = shell("show", "langgraph/none", check=1)[1]
    assert missing.endswith("/.sessions has the external key 'langgraph/none'; nothing was done\n")


def test_a_whole_id_wins_over_longer_ones(shell: Shell) -> None:
    shell("create", "full")
    assert shown(shell, "full") == "full"


def test_the_complete_id_of_a_session_that_is_gone_names_no_longer_one(shell: Shell) -> None:
    """A command that is run again does not go on with the session whose id begins with the one that is gone."""
    for name in ("run-1", "run-10"):
        shell("create", name)
    shell("trash", "run-1")
    for words in (["trash", "run-1"], ["delete", "run-1", "--yes"], ["show", "run-1"], ["fork", "run-1"]):
        assert "session 'run-1' is in the trash; nothing was done" in shell(*words, check=1)[1]
    shell("restore", "run-1")
    shell("delete", "run-1", "--yes")
    for words in (["delete", "run-1", "--yes"], ["redact", "run-1", "--event", "1", "--reason", "r", "--yes"]):
        assert shell(*words, check=1)[1] == (
            "eventstore: session 'run-1' is no longer in the store; nothing was done: "
            "to name 'run-10', give more of its id\n"
        )
    assert shown(shell, "run-1") == "run-10"
    shell("delete", "run-", "--yes")


def test_a_word_is_no_id_of_a_new_session_but_opens_one_of_an_earlier_release(shell: Shell, tmp_path: Path) -> None:
    for name in ("latest", "-", "latest:shop"):
        assert f"invalid session id {name!r}" in shell("create", "--", name, check=1)[1]
    assert "it is the word for the session updated last" in shell("fork", "full", "latest", check=1)[1]
    assert shown(shell, "latest") == IDS[2]
    with FileSystemEventLog(next(tmp_path.rglob(".sessions"))) as log:
        log.append("latest", [SessionCreated()], expected_version=0)
    shell("create", "newer")
    assert shown(shell, "latest") == "latest"


def test_latest_is_the_session_updated_last_of_all_or_of_a_project(shell: Shell) -> None:
    assert shown(shell, "latest") == IDS[2]
    assert shown(shell, "latest:shop") == IDS[1]
    assert "is of project 'none'" in shell("show", "latest:none", check=1)[1]


def test_a_sub_agent_is_not_the_latest_session(shell: Shell, tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        manager.create_session("helper", tags=["sub-agent"])
        manager.update_session_metadata("helper", custom_metadata={"cwd": "/home/ana/blog", "parent_session": IDS[2]})
    assert shown(shell, "latest") == shown(shell, "latest:blog") == IDS[2]


def test_a_dash_is_the_session_named_last(shell: Shell) -> None:
    assert "none was named yet" in shell("show", "-", check=1)[1]
    shell("stats", "1af9")
    assert shown(shell, "-") == IDS[1]
    assert shell("create", "made")[0] == "made\n"
    assert shown(shell, "-") == "made"
    shell("trash", "-")
    assert "is session 'made', which is not in" in shell("show", "-", check=1)[1]


def test_an_id_with_a_number_is_that_moment(shell: Shell) -> None:
    (then,) = objects(shell("stats", "full:2", "--json")[0])
    assert then["message_count"] == 0
    assert shell("fork", "full:2", "forked")[0] == "forked\n"
    assert "names a moment" in shell("stats", "full:2", "--at", "1", check=2)[1]


def test_several_that_fit_are_named(shell: Shell) -> None:
    error = shell("show", "1af", check=1)[1]
    assert "is the beginning of 3 sessions; nothing was done" in error
    assert IDS[0] in error
    assert IDS[1] in error


def test_a_miss_says_where_it_looked_and_what_was_meant(shell: Shell, tmp_path: Path) -> None:
    error = shell("show", "full-sesion", check=1)[1]
    assert f"not found in {tmp_path / '.sessions'}, which has 4 sessions: did you mean 'full-session'?" in error
    error = shell("replay", "nope", "--store", "elsewhere", check=1)[1]
    assert "elsewhere/.sessions (not created yet) has no sessions" in error
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "words", [["show"], ["trash"], ["audit", "report"], ["verify"], ["export", "events"], ["delete"]]
)
def test_no_command_advises_to_create_what_it_only_reads(shell: Shell, words: list[str]) -> None:
    error = shell(*words, "nope", check=1)[1]
    assert error.startswith("eventstore: session 'nope' not found in ")
    assert "create" not in error


def test_a_word_of_a_purpose_finds_the_session_that_was_meant(shell: Shell) -> None:
    shell("create", "x1", "--purpose", "Why do logins fail?")
    assert "did you mean 'x1', Why do logins fail?" in shell("show", "logins", check=1)[1]


@pytest.mark.parametrize("command", ["show", "stats", "replay", "tree", "fork", "template save opening"])
def test_a_moment_before_the_first_event_is_one_error_everywhere(shell: Shell, command: str) -> None:
    for at in ("2020-01-01", "0"):
        error = shell(*command.split(), "full", "--at", at, check=1)[1]
        assert "'full-session' had no event yet; its first one is of 2026-03-04" in error
        assert "give a version or a time that the session has reached" in error


def test_what_cannot_be_undone_wants_an_id(shell: Shell) -> None:
    for name in ("latest", "-", "latest:shop"):
        assert "can mean another session later" in shell("delete", name, "--yes", check=2)[1]
    assert f"{IDS[1]} is deleted" in shell("delete", "1af9", "--yes")[0]


def test_restore_says_what_is_true(shell: Shell) -> None:
    assert "not found in the trash, which is empty" in shell("restore", "nosuch", check=1)[1]
    assert "is not in the trash but in the store" in shell("restore", "full-session", check=1)[1]
    shell("trash", "full")
    assert "'full-session' is in the trash; nothing was done" in shell("show", "full-session", check=1)[1]
    assert "`eventstore trash` lists the 1 session in it" in shell("restore", "nosuch", check=1)[1]
    assert shell("restore", "full")[0] == "full-session is restored\n"
    shell("trash", "full")
    shell("create", "full-session")
    assert "is in the store already, and a log cannot change its id" in shell("restore", "full", check=1)[1]
    shell("fork", "full-session", "present")
    shell("delete", "full-session", "--yes")
    shell("restore", "full-session")


@given(st.sets(st.uuids().map(str) | st.builds(new_session_id), min_size=1, max_size=40))
def test_every_short_id_is_a_beginning_of_one_id_only(ids: set[str]) -> None:
    short = ShortIds(ids)
    for one in ids:
        assert [other for other in ids if any(alias.startswith(short(one)) for alias in aliases(other))] == [one]


def test_only_a_terminal_reads_the_names_of_all_sessions(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """They shorten the ids that it shows; a list for a pipe took 0.2 s for 100,000 of them."""
    monkeypatch.setattr("eventstore.cli.naming.ids_in", lambda folder: pytest.fail("the folder was read"))
    assert IDS[0] in shell("list")[0]
    assert IDS[0] in shell("verify", "--all")[0]


def test_a_name_that_a_person_gave_is_not_cut() -> None:
    assert ShortIds(["login-investigation-of-march"])("login-investigation-of-march") == "login-investigation-of-march"


def test_only_digits_behind_a_colon_are_an_event() -> None:
    assert split("a:12") == ("a", 12)
    assert split("latest:shop:3") == ("latest:shop", 3)
    assert split("latest:shop") == ("latest:shop", None)
    assert split("a:²") == ("a:²", None)


def test_the_store_is_that_of_the_folder_or_one_above_else_the_users_own(shell: Shell, tmp_path: Path) -> None:
    shell.unset("SESSION_STORAGE_PATH")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    shell.go("deep/er")
    (found,) = objects(shell("where", "--json")[0])
    assert (found["sessions_path"], found["sessions"]) == (str(tmp_path / ".sessions"), 4)
    assert "a folder above" in found["why"]
    shell("--store", ".", "create", "near")
    assert "near\t" in shell("list")[0]
    assert ".sessions in this folder" in shell("where")[0]


def test_without_any_store_the_users_own_is_used(shell: Shell, tmp_path: Path) -> None:
    shell.unset("SESSION_STORAGE_PATH")
    (tmp_path / ".sessions").rename(tmp_path / "moved")
    (found,) = objects(shell("where", "--json")[0])
    assert found["sessions"] is None
    assert found["why"].startswith("the default")
    assert "eventstore where" in shell("list")[1]
    shell("create", "mine")
    assert Path(found["sessions_path"], "mine").is_dir()
    assert (Path(found["sessions_path"]).stat().st_mode & 0o777) == 0o700
    assert "mine\t" in shell("list")[0]
