"""A session exported as one file, in a real browser: the same view, at any moment, without a server and without a request."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from server.serving import fill

from eventstore import MemorySessionStorage, SessionManager
from eventstore.server.one_file import export_page

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)> <!-- [x](javascript:alert(1))"


@pytest.fixture(scope="module")
def manager() -> Iterator[SessionManager]:
    with SessionManager(MemorySessionStorage()) as manager:
        fill(manager, "s", 30)
        manager.set_data("s", "answer", {"is": 42})
        manager.clear_conversation("s")
        manager.add_conversation_message("s", "user", HOSTILE)
        manager.set_data("s", "answer", 43)
        manager.fork_session("s", 40, "branch", purpose="another way")
        yield manager


def opened(browser: Browser, manager: SessionManager, session_id: str, place: Path) -> tuple[Page, list[str]]:
    """Write a session to a file and open it; problems and requests for anything else are collected."""
    file = place / "one.html"
    file.write_bytes(b"".join(export_page(manager, session_id)))
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    problems: list[str] = []
    page.on("console", lambda one: problems.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda one: problems.append(str(one)))
    page.on("dialog", lambda one: problems.append(one.message))
    page.on("request", lambda one: None if one.url.startswith((file.as_uri(), "data:")) else problems.append(one.url))
    page.goto(file.as_uri())
    expect(page.locator("h1")).to_be_visible()
    return page, problems


def test_every_moment_is_what_the_manager_answers(browser: Browser, manager: SessionManager, tmp_path: Path) -> None:
    page, problems = opened(browser, manager, "s", tmp_path)
    head = manager.head("s").version
    for at in (1, 7, 60, head - 3, head - 2, head - 1, head):
        page.get_by_label("Go to event").fill(str(at))
        page.get_by_label("Go to event").press("Enter")
        expect(page.locator(".side h2").first).to_have_text(f"As of event {at:,}")
        figures = manager.moments.figures("s", at)
        shown = dict(
            zip(page.locator(".figure dt").all_inner_texts(), page.locator(".figure dd").all_inner_texts(), strict=True)
        )
        assert (shown["Messages"], shown["Calls"]) == (
            f"{figures['message_count']:,}",
            f"{figures['total_invocations']:,}",
        )
        window = manager.moments.messages("s", at, limit=40)
        expect(page.locator(".talk article")).to_have_count(len(window.messages))
        assert [
            int(one or 0)
            for one in page.locator(".talk article").evaluate_all("all => all.map(one => one.dataset.seq)")
        ] == [one.seq for one in window.messages]
        page.get_by_role("tab", name="calls").click()
        calls = manager.moments.calls("s", at, limit=100)
        expect(page.locator(".body tbody tr")).to_have_count(len(calls))
        page.get_by_role("tab", name="data").click()
        values = page.locator(".pair").filter(has=page.locator("h3", has_text="answer"))
        expect(values).to_have_count(len([key for key in manager.moments.data("s", at) if key == "answer"]))
        page.get_by_role("tab", name="conversation").click()
    assert problems == []
    page.close()


def test_changes_between_two_moments_are_those_of_the_manager(
    browser: Browser, manager: SessionManager, tmp_path: Path
) -> None:
    page, problems = opened(browser, manager, "s", tmp_path)
    page.get_by_role("tab", name="changes").click()
    head = manager.head("s").version
    for before, after in ((0, 5), (3, 60), (60, head), (head - 4, head), (head, head)):
        page.get_by_label("Go to event").fill(str(after))
        page.get_by_label("Go to event").press("Enter")
        page.get_by_label("From event").fill(str(before))
        page.get_by_label("From event").press("Enter")
        wanted = manager.diff("s", before, after)
        expect(page.locator(".note", has_text="changes")).to_have_text(f"{len(wanted)} changes")
        expect(page.locator("table.diff tbody tr")).to_have_count(min(len(wanted), 200))
        rows = page.locator("table.diff tbody tr").evaluate_all(
            "all => all.map(row => [...row.cells].map(one => one.textContent))"
        )
        shown = [(f"{one.kind.replace('_', ' ')} {one.key}", one.before is None, one.after is None) for one in wanted]
        assert sorted((what, not was, not now) for what, was, now in rows) == sorted(shown[:200])
    assert problems == []
    page.close()


def test_the_timeline_is_filtered_found_in_and_jumped_in(
    browser: Browser, manager: SessionManager, tmp_path: Path
) -> None:
    page, problems = opened(browser, manager, "s", tmp_path)
    page.get_by_role("tab", name="timeline").click()
    expect(page.locator(".vrow.selected .line:not(.loading)")).to_contain_text(f"{manager.head('s').version:,}")
    page.keyboard.press("Home")
    page.keyboard.press("p")
    first = manager.moments.seek("s", 1, ["prompt"])
    expect(page.locator(".side h2").first).to_have_text(f"As of event {first}")
    page.keyboard.press("f")
    page.get_by_label("Find in this session").fill("onerror")
    expect(page.get_by_role("search").get_by_role("status")).to_have_text("1 hits")
    page.get_by_label("Find in this session").press("Enter")
    expect(page.get_by_role("search").get_by_role("status")).to_have_text("1 of 1 hits")
    page.reload()
    expect(page.get_by_label("Find in this session")).to_have_value("onerror")
    assert problems == []
    page.close()


def test_a_fork_and_hostile_texts_are_texts(browser: Browser, manager: SessionManager, tmp_path: Path) -> None:
    page, problems = opened(browser, manager, "branch", tmp_path)
    page.get_by_role("tab", name="forks").click()
    expect(page.locator(".tree .here")).to_contain_text("another way")
    page.get_by_role("tab", name="proof").click()
    expect(page.locator(".proof")).to_contain_text("eventstore verify")
    page.close()
    page, more = opened(browser, manager, "s", tmp_path)
    expect(page.locator(".talk article").last).to_contain_text("onerror=alert(1)")
    assert problems == more == []
    page.close()
