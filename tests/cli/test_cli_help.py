"""Help: in groups, with examples that work; words that people try; one prefix for all errors."""

import shlex
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from command_table import rows_of
from commands import Shell, clean_environment, in_terminal
from example_store import fill
from transcripts import claude_session, codex_session, lines

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.cli import _COMMANDS, _GROUPS
from eventstore.cli.examples import EXAMPLES
from eventstore.integrity import SigningKey

_NO_SERVER = "eventstore mirror postgresql://db.example.com/agents mirrored"
_SERVING = ("mcp", "serve")  # they run until they are interrupted; their own tests run them
NAMES = sorted(
    " ".join(word for word in row.split("`")[1].split()[1:] if word.isalpha() and word.islower())
    for name, (module, _) in _COMMANDS.items()
    for row in rows_of(name, module)
)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A store in which every example has something to work on."""
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        fill(SessionManager(storage), ("demo", "gone", "last"))
    SigningKey.generate("audit").save(tmp_path / "audit.key")
    projects = tmp_path / ".claude" / "projects" / "-made-up"
    projects.mkdir(parents=True)
    (projects / "one.jsonl").write_bytes(lines(*claude_session()))
    rollout = tmp_path / "old" / "sessions"
    rollout.mkdir(parents=True)
    (rollout / "rollout-1.jsonl").write_bytes(lines(*codex_session()))
    return Shell(tmp_path, monkeypatch, capsys)


def test_every_command_has_two_examples() -> None:
    assert sorted(EXAMPLES) == NAMES
    assert all(len(found) == 2 for found in EXAMPLES.values())


@pytest.mark.parametrize(
    ("name", "example"),
    [
        (name, one)
        for name, found in EXAMPLES.items()
        for one in found
        if name not in ("browse", "completion", *_SERVING)
        and one != _NO_SERVER
        and one != "eventstore follow --all"
        and "|" not in one
    ],
)
def test_the_examples_work(shell: Shell, name: str, example: str) -> None:
    for one in example.split(" && "):
        words = [word.replace("~", str(Path.home())) for word in shlex.split(one.removeprefix("eventstore "))]
        shell(*words, check=1 if name == "delete" and "--yes" not in words else 0)


def test_help_shows_them(shell: Shell) -> None:
    for words in (["replay", "--help"], ["help", "replay"]):
        shown = shell(*words)[0]
        assert "Examples:\n    eventstore replay latest --quiet\n" in shown
    assert "eventstore audit export latest -o bundle.zip" in shell("help", "audit", "export")[0]


def test_commands_are_in_groups_and_each_in_one(shell: Shell) -> None:
    grouped = [name for names in _GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(set(grouped))
    assert set(grouped) <= set(_COMMANDS)
    shown = shell("help")[0]
    assert shown == shell("--help")[0] == shell()[0]
    for title in _GROUPS:
        assert f"\n{title}:\n" in shown
    for name, (_, text) in _COMMANDS.items():
        assert f"  {name} " in shown
        assert text in shown
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize("width", [60, 80, 200])
def test_help_fits_the_terminal(tmp_path: Path, width: int) -> None:
    lines = in_terminal(["help"], tmp_path, width).replace("\r", "").splitlines()
    assert max(map(len, lines)) <= width
    words = in_terminal(["help"], tmp_path, 200).split()
    assert " ".join(lines).split() == words


def test_the_help_of_each_command_fits_80_columns(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long = [line for name in _COMMANDS for line in shell(*name.split(), "--help")[0].splitlines() if len(line) > 80]
    assert long == []


def test_words_that_people_try_are_understood(shell: Shell) -> None:
    assert shell("-V") == shell("--version")
    assert "Did you mean 'list'?" in shell("lst", check=2)[1]
    assert "Did you mean 'list'?" in shell("help", "lst", check=2)[1]


def test_errors_have_one_prefix_and_say_how_it_is_used(shell: Shell) -> None:
    for words in (
        ["list", "--bogus"],
        ["show"],
        ["nonsense"],
        ["--bogus"],
        ["list", "--status", "odd"],
        ["import", "word"],
    ):
        error = shell(*words, check=2)[1]
        assert error.startswith("eventstore: "), words
        assert "--help' for help" in error
        assert "Error" not in error


def test_the_module_of_the_command_line_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "eventstore.cli", "-V"]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environment(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout[:11]) == (0, "eventstore ")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["search", "x", "--role", "usr"], "'usr' is not one of"),
        (["follow", "--all", "--lines", "3"], "--lines needs a SESSION"),
        (["list", "--since", "soon"], "'soon' is not a time: write yesterday"),
    ],
)
def test_filters_that_can_match_nothing_are_refused(shell: Shell, words: list[str], text: str) -> None:
    assert text in shell(*words, check=None)[1]


def test_a_type_that_is_nearly_one_is_pointed_out(shell: Shell) -> None:
    error = shell("follow", "demo", "--type", "message.addd", "--no-wait")[1]
    assert "did you mean 'message.added'?" in error


def test_a_search_without_a_hit_says_so_and_where_there_is_nothing_to_search(shell: Shell) -> None:
    assert "nothing found for 'nosuchword'" in shell("search", "nosuchword", check=1)[1]
    assert shell("search", "nosuchword", "--limit", "0", check=1)[1] == "eventstore: --limit is 0: no hit is shown\n"
    assert "no sessions in" in shell("search", "x", "--store", "elsewhere", check=1)[1]


def test_a_plan_for_an_event_that_does_not_exist_advises_nothing(shell: Shell) -> None:
    shown, error = shell("redact", "demo", "--event", "999", check=1)
    assert "there is no such event" in shown
    assert "--yes" not in error


def test_one_of_a_thing_is_one(shell: Shell) -> None:
    assert "1 event," in shell("delete", shell("create")[0].strip(), check=1)[0]


def test_doctor_names_what_is_wrong_and_what_to_do(shell: Shell, tmp_path: Path) -> None:
    assert "only you can read the store" in shell("doctor")[0]
    (tmp_path / ".sessions").chmod(0o755)
    log = tmp_path / ".sessions" / "demo" / "events.jsonl"
    log.write_bytes(log.read_bytes().replace(b"session.created", b"session.creatad") + b"\n")
    shown, _ = shell("doctor", check=1)
    assert "chmod 700" in shown
    assert "eventstore repair demo" in shown
    assert "1 session" in shown  # in the trash


def test_doctor_looks_at_a_store_with_a_url_too(shell: Shell) -> None:
    """It said nothing of a server that cannot be reached, with exit status 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # nobody listens: a connection is refused
        url = f"postgresql://127.0.0.1:{free.getsockname()[1]}/base"
        refused, _ = shell("doctor", "--store", url, check=1)
    answered, _ = shell("doctor", "--store", "memory:")
    # how far the columns stand apart depends on what is installed
    assert f"✗ store the store could not be read: Connection refused ({url}?" in " ".join(refused.split())
    assert "✓ store memory:// answers (--store)" in " ".join(answered.split())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "received invalid response to SSL negotiation: H"),
        (b"", "server closed the connection unexpectedly"),
    ],
)
def test_what_is_no_postgresql_is_not_called_a_refused_connection(shell: Shell, answer: bytes, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answering() -> None:
            with suppress(OSError):  # the end of the test closes the server
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(answer)

        threading.Thread(target=answering, daemon=True).start()
        _, error = shell("list", "--store", f"postgresql://127.0.0.1:{server.getsockname()[1]}/base", check=1)
    assert "endpoint is not connected (postgresql://127.0.0.1:" in error
    assert reason in error


def test_an_odd_part_of_a_postgresql_url_is_not_called_a_missing_connection(shell: Shell) -> None:
    _, error = shell("list", "--store", "postgresql://127.0.0.1:1/base?odd=1", check=1)
    assert "Invalid argument (postgresql://127.0.0.1:1/base" in error
    assert "the URL has a part that PostgreSQL does not know" in error
