"""A conversation for people: nothing in it is markup, and a copy to share has no secrets."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
import secret_corpus
from click.testing import CliRunner

from eventstore import FileSystemSessionStorage, SessionManager, SessionNotFound
from eventstore.cli.transcript import export_command as main
from eventstore.events import InvocationLinked
from eventstore.exporters import Sharing, export_conversation, plan_sharing
from eventstore.secret_patterns import SECRETS, SHARED, Patterns

TOKEN = "ghp_" + "a1B2" * 9
NASTY = "<script>alert(1)</script> <img src=x onerror=alert(1)> ]]> &amp; \x07"


@pytest.fixture
def talked(manager: SessionManager) -> SessionManager:
    manager.create_session("s", f"Deploy with {TOKEN}")
    manager.add_conversation_message("s", "user", f"{NASTY}\nDB_PASSWORD=hunter2 please\n```sh\necho <b>\n```\nbye")
    manager.add_conversation_message("s", "assistant", "on it: `<i>` and <u>")
    with manager.invocation(
        "s", "Bash", {"command": f"curl -H 'Authorization: Bearer {TOKEN}'", "password": "opensesame"}
    ) as call:
        call.result = f"ok for ana@company.test ``` in /home/anasilva/x {NASTY}"
    manager.add_conversation_message("s", "assistant", '{"q": 1}', "Read", "i9")
    manager.add_conversation_message("s", "tool", "the file", "Read", "i9")
    return manager


def exported(manager: SessionManager, form: str, sharing: Sharing | None = None) -> str:
    return b"".join(export_conversation(manager, "s", form, sharing)).decode()  # type: ignore[arg-type]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found, self.attributes, self.text = set[str](), set[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_a_session_without_a_purpose_has_its_external_key_as_title(manager: SessionManager) -> None:
    manager.create_session("s", external_key=f"langgraph/{TOKEN}")
    assert exported(manager, "markdown").startswith(f"# langgraph/{TOKEN}\n")
    assert TOKEN not in exported(manager, "html", Sharing())


def test_nothing_of_the_content_is_markup(talked: SessionManager) -> None:
    page = exported(talked, "html")
    tags = Tags()
    tags.feed(page)
    assert tags.found <= {
        "html", "head", "meta", "title", "style", "body", "h1", "dl", "dt", "dd", "section", "h2", "a", "p", "pre", "details",
        "summary", "span",
    }  # fmt: skip
    assert tags.attributes <= {"lang", "charset", "http-equiv", "content", "name", "id", "class", "href"}
    assert "alert(1)</script>" in "".join(tags.text)
    assert "\x07" not in page
    policy = re.search(r'Security-Policy" content="([^"]*)"', page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert policy is not None
    assert style is not None
    assert f"'sha256-{b64encode(sha256(style[1].encode()).digest()).decode()}'" in policy[1]
    assert policy[1].startswith("default-src 'none'")
    assert "http" not in re.sub(r"http-equiv", "", page.replace(style[0], ""))


@pytest.mark.parametrize(("form", "line"), [("markdown", "- times: `UTC`"), ("html", "<dt>times</dt><dd>UTC</dd>")])
def test_the_zone_of_all_times_is_named_at_the_top(talked: SessionManager, form: str, line: str) -> None:
    assert line in exported(talked, form).partition("on it")[0]


@pytest.mark.parametrize(("took", "shown"), [(182.4, "182 ms"), (125_000.0, "2 min 05 s")])
def test_how_long_a_call_took_is_shown_as_in_reports(manager: SessionManager, took: float, shown: str) -> None:
    manager.create_session("s")
    manager.append("s", [InvocationLinked(invocation_id="i", tool_name="Bash", duration_ms=took, success=True)])
    assert f"**Bash** · {shown}\n" in exported(manager, "markdown")


def test_markdown_has_the_conversation_in_order_and_no_markup_outside_of_code(talked: SessionManager) -> None:
    page = exported(talked, "markdown")
    places = [
        page.index(text) for text in ("DB_PASSWORD=hunter2", "on it", "**Bash**", "ok for ana", "**Read**", "the file")
    ]
    assert places == sorted(places)
    outside = re.sub(r"(?ms)^(`{3,})[^\n]*\n.*?^\1$|`[^`]*`", "", page)
    assert "<" not in outside
    assert "echo <b>" in page
    assert "`<i>` and &lt;u>" in page
    assert "\n````\nok for" in page  # a fence longer than those inside


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_a_copy_to_share_has_no_secrets_and_keeps_the_rest(talked: SessionManager, form: str) -> None:
    page = exported(talked, form, Sharing())
    for secret in (TOKEN, "hunter2", "opensesame", "ana@company.test", "anasilva"):
        assert secret not in page
    assert "DB_PASSWORD=[redacted:assigned-secret] please" in page
    assert "Deploy with [redacted:github-token]" in page
    assert "ok for [redacted:e-mail]" in page
    assert "anasilva" in exported(talked, form, Sharing(keep=frozenset(["user-folder"])))


def test_the_plan_names_each_replacement(talked: SessionManager) -> None:
    sharing = Sharing()
    plan = plan_sharing(talked, "s", sharing)
    exported(talked, "html", sharing)
    assert sharing.found == plan
    assert [(one.seq, one.label) for one in plan] == [
        (0, "github-token"), (2, "assigned-secret"), (4, "authorization"), (4, "assigned-secret"), (4, "e-mail"),
        (4, "user-folder"),
    ]  # fmt: skip
    assert plan[1].around.endswith("DB_PASSWORD=[assigned-secret]")
    assert all(len(one.begins) <= 6 and one.begins != TOKEN for one in plan)
    assert plan[0].length == len(TOKEN)


def test_a_session_that_is_not_there_is_named(manager: SessionManager) -> None:
    with pytest.raises(SessionNotFound):
        exported(manager, "html")


@pytest.mark.parametrize(
    ("what", "text", "secret"), secret_corpus.SECRETS, ids=[one[0] for one in secret_corpus.SECRETS]
)
def test_every_kind_of_secret_is_found_and_nothing_of_it_stays(what: str, text: str, secret: str) -> None:
    for context in ("{}", "before\n{}\nafter", "see: {}"):
        masked = Patterns(SECRETS).replace(context.format(text.format(secret)))
        assert "[redacted:" in masked
        assert secret not in masked
        assert not any(
            piece in masked for piece in (secret[:8], secret[-8:]) if len(secret) > 20 and "KEY" not in piece
        )


@pytest.mark.parametrize(("what", "text", "secret"), secret_corpus.PERSONAL)
def test_a_copy_to_share_names_nobody(what: str, text: str, secret: str) -> None:
    assert secret not in Patterns(SHARED).replace(text.format(secret))


@pytest.mark.parametrize("text", secret_corpus.HARMLESS)
def test_code_placeholders_and_identifiers_are_no_secrets(text: str) -> None:
    assert Patterns(SHARED).replace(text) == text


def test_a_text_under_the_name_of_a_secret_is_one(manager: SessionManager) -> None:
    patterns = Patterns(SECRETS)
    given = {
        "user": "ana",
        "dbPassword": "opensesame",
        "deep": [{"api_key": "abc-def"}],
        "max_tokens": "4096",
        "token": None,
    }
    assert patterns.replace_in(given) == {
        "user": "ana", "dbPassword": "[redacted:assigned-secret]", "deep": [{"api_key": "[redacted:assigned-secret]"}],
        "max_tokens": "4096", "token": None,
    }  # fmt: skip
    assert list(patterns.labels(given)) == ["assigned-secret"] * 2
    same = {"a": ["b", {"c": "d"}]}
    assert patterns.replace_in(same) is same


def test_the_command_shows_the_plan_and_writes_the_copy(tmp_path: Path) -> None:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history") as storage:
        manager = SessionManager(storage)
        manager.create_session("s", "Work")
        manager.add_conversation_message("s", "user", f"use {TOKEN} and project Falcon")
    store = ["--store", str(tmp_path)]
    run = CliRunner().invoke
    plan = run(main, ["markdown", "s", "--share", "--plan", "--mask", "Falcon", "--json", *store])
    assert [json.loads(line)["label"] for line in plan.stdout.splitlines()] == ["github-token", "mask-1"]
    out = tmp_path / "copy.html"
    done = run(main, ["html", "s", "--share", "--mask", "Falcon", "-o", str(out), *store])
    assert done.exit_code == 0, done.output
    page = out.read_text("utf-8")
    assert TOKEN not in page
    assert "project [redacted:mask-1]" in page
    assert TOKEN in run(main, ["markdown", "s", *store]).stdout
    assert run(main, ["events", "s", "--share", *store]).exit_code == 2
    assert run(main, ["html", "s", "--plan", *store]).exit_code == 2
    plain = run(main, ["html", "s", "--plain", *store]).stdout
    assert "<script" not in plain
    assert TOKEN in plain
    assert 'id="recorded"' in run(main, ["html", "s", *store]).stdout
    assert run(main, ["markdown", "s", "--plain", *store]).exit_code == 2
    assert run(main, ["html", "s", "--share", "--keep", "nothing", *store]).exit_code == 2
