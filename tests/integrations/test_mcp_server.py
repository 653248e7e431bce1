"""The MCP server over a store, driven by the official client on standard input and output and over HTTP."""

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError, StdioServerParameters

from eventstore import FileSystemSessionStorage, MemorySessionStorage, SessionManager
from eventstore.derived.search_query import count_tokens
from eventstore.integrations.mcp_server import serve

SECRET = "ghp_" + "a" * 36
READING = {"list_sessions", "search", "read_timeline", "show_moment", "compare", "diff", "cite", "statistics"}
WRITING = {"create_session", "add_message", "set_data"}


def run(work: Any) -> None:
    async def limited() -> None:
        with anyio.fail_after(120):
            await work()

    anyio.run(limited)


async def ask(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert isinstance(result.structured_content, dict)
    return result.structured_content


async def error_of(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return str(result.content[0].text)  # type: ignore[union-attr]


def fill(manager: SessionManager) -> None:
    manager.create_session("login", "Why do logins fail", "ana", ["bug"])
    manager.add_conversation_message("login", "user", "What changed in the login form?")
    with manager.invocation("login", "grep", {"pattern": "login"}) as call:
        call.result = ["auth.py"]
    manager.add_conversation_message("login", "assistant", f"The token {SECRET} is in auth.py")
    manager.set_data("login", "found", True)
    manager.record_usage("login", {"input": 3}, 0.5)
    manager.fork_session("login", 4, "other")
    manager.add_conversation_message("other", "assistant", "x" * 50_000)


def test_an_agent_asks_its_past(manager: SessionManager) -> None:
    fill(manager)

    async def work() -> None:
        async with Client(serve(manager)) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == READING
            listed = await ask(client, "list_sessions", tags=["bug"])
            assert {one["session_id"] for one in listed["sessions"]} == {"login", "other"}
            hits = (await ask(client, "search", text="login form"))["hits"]
            assert hits[0]["cite"] == "login:2"
            rows = (await ask(client, "read_timeline", session_id="login", limit=3))["events"]
            assert [row["seq"] for row in rows] == [1, 2, 3]
            page = await ask(client, "read_timeline", session_id="login", after=3)
            assert page["events"][0]["seq"] == 4
            assert "next_after" not in page
            cited = (await ask(client, "cite", session_id="login", seq=2, context=1))["events"]
            assert [one["cite"] for one in cited] == ["login:1", "login:2", "login:3"]
            assert cited[1]["text"] == "What changed in the login form?"
            assert cited[1]["hash"] == list(manager.events("login"))[1].hash
            then = await ask(client, "show_moment", session_id="login", at=2)
            assert ([one["text"] for one in then["messages"]], then["version"]) == (
                ["What changed in the login form?"],
                2,
            )
            assert await ask(client, "show_moment", session_id="login", at="2") == then
            now = await ask(client, "show_moment", session_id="login")
            assert now["data"] == {"found": True}
            changes = (await ask(client, "diff", session_id="login", a=2))["changes"]
            assert changes
            assert (await ask(client, "diff", session_id="login", a="2"))["changes"] == changes
            compared = await ask(client, "compare", a="login", b="other")
            assert compared["common"]["version"] == 4
            assert (await ask(client, "statistics", session_id="login"))["message_count"] == 2

    run(work)


def test_a_wrong_argument_is_named_in_plain_words(manager: SessionManager) -> None:
    fill(manager)
    asked: list[tuple[str, dict[str, Any], str]] = [
        ("list_sessions", {"limit": -4}, "limit is -4: give a number from 1 to 200"),
        ("search", {"text": "x", "limit": 0}, "limit is 0"),
        ("read_timeline", {"session_id": "login", "after": -1}, "after is -1: give a number from 0"),
        ("cite", {"session_id": "login", "seq": 2, "context": -1}, "context is -1"),
        ("search", {"text": "x", "budget_tokens": -1}, "budget_tokens is -1"),
        ("list_sessions", {"limit": "many"}, "list_sessions was not carried out: limit: it is not a whole number"),
        ("list_sessions", {"cursor": "x"}, "nothing was listed: begin without a cursor"),
        ("cite", {"session_id": "login"}, "cite was not carried out: seq: it is required"),
        ("search", {}, "search was not carried out: text: it is required"),
        ("list_sessions", {"tags": 5, "user": 3}, "user: it is not text; tags: it is not a list"),
        (
            "list_sessions",
            {"tag": "bug"},
            "list_sessions was not carried out: tag: no such argument, of user, status, tags,",
        ),
        ("list_sessions", {"status": "bogus"}, "status 'bogus' is not one of active"),
        ("list_sessions", {"status": "x" * 100_000}, "is not one of active"),
        ("list_sessions", {"since": "foo"}, "since 'foo' is not a time"),
    ]

    async def work() -> None:
        async with Client(serve(manager)) as client:
            for tool, arguments, text in asked:
                error = await error_of(client, tool, **arguments)
                assert text in error
                assert len(error) < 1_200
                assert "pydantic" not in error
                assert "validation error" not in error

    run(work)


def test_secrets_are_replaced_in_every_answer(manager: SessionManager) -> None:
    fill(manager)

    async def work() -> None:
        async with Client(serve(manager)) as client:
            answers = [
                await ask(client, "read_timeline", session_id="login"),
                await ask(client, "show_moment", session_id="login"),
                await ask(client, "cite", session_id="login", seq=5),
                await ask(client, "search", text="token"),
                await ask(client, "diff", session_id="login", a=1),
                await ask(client, "compare", a="login", b="other"),
            ]
            resource = await client.read_resource("eventstore://sessions/login")
            text = f"{answers} {resource}"
            assert SECRET not in text
            assert "[redacted:github-token]" in text

    run(work)


KEY = "\n".join(f"{number:04}" + "Qz" * 30 for number in range(20))


@pytest.mark.parametrize("before", [0, 100, 160, 200, 400])
@pytest.mark.parametrize(
    "secret", [f"-----BEGIN RSA PRIVATE KEY-----\n{KEY}\n-----END RSA PRIVATE KEY-----", "ghp_" + "Qz" * 18]
)
def test_no_part_of_a_secret_is_in_the_text_around_a_match(secret: str, before: int) -> None:
    """Also where the text is cut inside the secret, or the match is."""
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s", "word " * (before // 5) + secret)
    manager.add_conversation_message("s", "user", "word " * (before // 5) + secret + " needle" + " word" * 100)
    with manager.invocation("s", "tool", {"pattern": "needle " + "word " * (before // 5) + secret}) as call:
        call.result = secret

    async def work() -> None:
        async with Client(serve(manager)) as client:
            for text in ("needle", "word", "needle word", "000*", "0009*", "QzQz", "RSA", "*zQz*"):
                found = await ask(client, "search", text=text, budget_tokens=20_000)
                assert "QzQz" not in str(found)
            assert (await ask(client, "search", text="needle"))["hits"]

    run(work)


def test_answers_fit_into_their_budget_and_say_how_to_go_on(manager: SessionManager) -> None:
    manager.create_session("s")
    for number in range(60):
        manager.add_conversation_message("s", "user", f"{number} " + "word " * 100)
    manager.add_conversation_message("s", "user", "x" * 100_000)

    async def work() -> None:
        async with Client(serve(manager)) as client:
            seen, after = list[int](), 0
            for _ in range(100):
                page = await ask(client, "read_timeline", session_id="s", after=after, budget_tokens=1000)
                assert count_tokens(str(page)) < 1500
                seen += [row["seq"] for row in page["events"]]
                if "next_after" not in page:
                    break
                after = page["next_after"]
            assert seen == list(range(1, 63))
            moment = await ask(client, "show_moment", session_id="s", budget_tokens=500)
            assert "more characters" in moment["messages"][-1]["text"]
            assert moment["left_out"] == 60

    run(work)


def test_what_is_large_besides_events_is_cut_too(manager: SessionManager) -> None:
    manager.create_session("s", "p" * 50_000)
    manager.update_session_metadata("s", custom_metadata={"k": "v" * 50_000})
    manager.set_data("s", "k", "v" * 50_000)

    async def work() -> None:
        async with Client(serve(manager)) as client:
            for tool, arguments in (
                ("list_sessions", {}),
                ("show_moment", {"session_id": "s"}),
                ("statistics", {"session_id": "s"}),
            ):
                answer = await ask(client, tool, **arguments)
                assert count_tokens(str(answer)) < 12_000
                assert "more characters" in str(answer) or tool == "statistics"

    run(work)


def test_wrong_questions_get_a_sentence(manager: SessionManager) -> None:
    fill(manager)

    async def work() -> None:
        async with Client(serve(manager)) as client:
            assert "nothing" in await error_of(client, "read_timeline", session_id="nothing")
            assert "nothing" in await error_of(client, "show_moment", session_id="nothing")
            assert "no event 99" in await error_of(client, "cite", session_id="login", seq=99)
            assert "../x" in await error_of(client, "statistics", session_id="../x")
            assert "99" in await error_of(client, "diff", session_id="login", a=1, b=99)
            with pytest.raises(MCPError):
                await client.read_resource("eventstore://sessions/nothing")

    run(work)


def test_the_read_only_server_refuses_every_write(manager: SessionManager) -> None:
    fill(manager)
    before = {one: manager.head(one) for one in ("login", "other")}

    async def work() -> None:
        async with Client(serve(manager)) as client:
            for tool in WRITING:
                assert tool in await error_of(
                    client, tool, session_id="login", role="user", content="x", key="k", value=1
                )
        async with Client(serve(manager, write=True)) as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == READING | WRITING
            made = (await ask(client, "create_session", purpose="p"))["session_id"]
            cited = await ask(client, "add_message", session_id=made, role="user", content="hi")
            assert cited == {"cite": f"{made}:2"}
            await ask(client, "set_data", session_id=made, key="k", value=[1])
            assert manager.data(made) == {"k": [1]}
            assert [event.by for event in manager.events(made)] == [{"actor": "mcp"}] * 3

    run(work)
    assert {one: manager.head(one) for one in ("login", "other")} == before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history")) as manager:
        fill(manager)
    return tmp_path


def test_the_command_serves_on_standard_input_and_output(folder: Path) -> None:
    arguments = ["-m", "eventstore", "--store", str(folder), "mcp"]

    async def work() -> None:
        async with Client(StdioServerParameters(command=sys.executable, args=arguments)) as client:
            assert (await ask(client, "statistics", session_id="login"))["message_count"] == 2
            assert "create_session" in await error_of(client, "create_session")

    run(work)


@pytest.mark.parametrize("more", [[], ["--verbose"]])
def test_the_command_serves_over_http_and_logs_nothing_unless_asked(folder: Path, more: list[str]) -> None:
    words = ["mcp", "--write", "--http", "127.0.0.1:0", *more]
    command = [sys.executable, "-m", "eventstore", "--store", str(folder), *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        url = next(found[0] for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))

        async def work() -> None:
            async with Client(f"{url}/mcp") as one, Client(f"{url}/mcp") as other:
                await ask(one, "create_session", session_id="new")
                await ask(other, "add_message", session_id="new", role="user", content="hi")
                assert (await ask(one, "statistics", session_id="new"))["message_count"] == 1

        run(work)
    finally:
        process.terminate()
        logged = process.communicate()[1]
    assert ("INFO" in logged) == bool(more), logged


def test_the_command_says_that_a_port_is_in_use(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ["mcp", "--http", f"127.0.0.1:{taken.getsockname()[1]}"]
        command = [sys.executable, "-m", "eventstore", "--store", str(folder), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "nothing is served at 127.0.0.1:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("address", ["0.0.0.0:80", "example.org:80", "127.0.0.1", "127.0.0.1:99999"])
def test_the_command_listens_on_this_machine_only(folder: Path, address: str) -> None:
    command = [sys.executable, "-m", "eventstore", "--store", str(folder), "mcp", "--http", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--http" in done.stderr
