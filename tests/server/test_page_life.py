"""A page that stays open: asleep, without a network, in many tabs, and while the log under it is redacted, moved or replaced."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from server.serving import Client, fill, serving

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.events import MessageAdded, SessionCreated

pytestmark = pytest.mark.long


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[SessionManager, Client]]:
    """A server on files with one session, `s`."""
    with SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no")) as manager:
        fill(manager, "s", 5)
        with serving(manager) as client:
            yield manager, client


@pytest.fixture
def tabs(browser: Browser, store: tuple[SessionManager, Client]) -> Iterator[BrowserContext]:
    """A browser that is signed in."""
    client, context = store[1], browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.goto(client.started.url + "/static/icon.svg")
    page.evaluate("token => localStorage.setItem('eventstore.token', token)", client.started.token)
    page.close()
    yield context
    context.close()


def opened(tabs: BrowserContext, client: Client, path: str = "/s/s") -> Page:
    page = tabs.new_page()
    page.goto(client.started.url + path)
    expect(page.locator(".link-state")).to_have_text("live")
    expect(page.locator("h1")).to_be_visible()
    if "view=" not in path:
        expect(page.locator(".talk article").last).to_be_visible()
    return page


def numbers(page: Page) -> list[int]:
    """Read the numbers of the messages that are shown."""
    return page.locator(".talk article").evaluate_all("all => all.map(one => Number(one.dataset.seq))")  # type: ignore[no-any-return]


@pytest.mark.parametrize(("label", "view"), [("Go to event", "timeline"), ("From event", "changes")])
def test_a_number_that_is_being_typed_stays_while_new_events_come(
    store: tuple[SessionManager, Client], tabs: BrowserContext, label: str, view: str
) -> None:
    manager, client = store
    page = opened(tabs, client, f"/s/s?view={view}")
    field = page.get_by_label(label)
    field.fill("7")
    for _ in range(3):
        manager.add_conversation_message("s", "user", "more")
        expect(page.locator(".where")).to_contain_text(f"of {manager.head('s').version}")
    expect(field).to_have_value("7")
    field.press("Enter")
    if label == "Go to event":
        expect(page.locator(".side h2").first).to_have_text("As of event 7")
    else:
        wanted = len(manager.diff("s", 7, manager.head("s").version))
        expect(page.locator(".note", has_text="changes")).to_have_text(f"{wanted} changes")


def test_a_tab_that_slept_and_lost_its_network_has_each_event_once(
    store: tuple[SessionManager, Client], tabs: BrowserContext
) -> None:
    manager, client = store
    page = opened(tabs, client)
    cdp = tabs.new_cdp_session(page)
    for number in range(3):
        cdp.send("Page.setWebLifecycleState", {"state": "frozen"})
        tabs.set_offline(number % 2 == 0)
        for place in range(5):
            manager.add_conversation_message("s", "user", f"asleep {number} {place}")
        tabs.set_offline(False)
        cdp.send("Page.setWebLifecycleState", {"state": "active"})
        expect(page.locator(".bubble").last).to_contain_text(f"asleep {number} 4")
        found = numbers(page)
        assert found == sorted(set(found))
        texts = page.locator(".bubble").all_inner_texts()
        assert [sum(f"asleep {number} {place}" in text for text in texts) for place in range(5)] == [1] * 5


def test_twenty_tabs_are_all_alive(store: tuple[SessionManager, Client], tabs: BrowserContext) -> None:
    manager, client = store
    pages = [opened(tabs, client) for _ in range(20)]
    manager.add_conversation_message("s", "user", "to all of them")
    for page in pages:
        expect(page.locator(".bubble").last).to_contain_text("to all of them")
    assert client.get("/sessions/s")["head"] == manager.head("s").version
    page = pages[0]
    assert (
        page.evaluate(
            "async token => (await fetch('/api/v1/sessions', {headers: {Authorization: `Bearer ${token}`}})).status",
            client.started.token,
        )
        == 200
    )  # a browser has six connections to a host: no tab holds one


def test_a_redacted_text_goes_from_every_tab_and_does_not_come_back(
    store: tuple[SessionManager, Client], tabs: BrowserContext
) -> None:
    manager, client = store
    manager.add_conversation_message("s", "user", "the number is 4711")
    head = manager.head("s").version
    pages = [opened(tabs, client), opened(tabs, client, "/s/s?view=timeline"), opened(tabs, client)]
    pages[2].goto(client.started.url + "/")  # back and forward keep the view of the session
    expect(pages[2].locator(".item")).to_have_count(1)
    for page in pages[:2]:
        expect(page.get_by_text("the number is 4711").first).to_be_visible()
    manager.redactions.redact("s", [head], "a secret")
    for page in pages[:2]:
        expect(page.get_by_text("4711")).to_have_count(0)
        assert "4711" not in page.content()
    pages[2].go_back()
    expect(pages[2].locator(".bubble").first).to_be_visible()
    expect(pages[2].get_by_text("4711")).to_have_count(0)
    status, headers, body = client.send("GET", f"/api/v1/sessions/s/events/{head}", headers={"If-None-Match": "*"})
    assert (status, headers["cache-control"]) == (200, "no-store")
    assert b"4711" not in body


def ways(manager: SessionManager, folder: Path, way: str) -> None:
    """Do something to the log of `s`, as another program does."""
    log = folder / ".sessions" / "s" / "events.jsonl"
    if way == "deleted":
        manager.delete_session("s")
    elif way == "in the trash":
        manager.trash.put("s")
    elif way == "rolled back":
        log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:8]))
    else:
        lines = log.read_bytes().splitlines(keepends=True)
        lines[10] = lines[10].replace(b'"', b"'", 4)
        log.write_bytes(b"".join(lines))


@pytest.mark.parametrize("way", ["deleted", "in the trash", "rolled back", "damaged"])
def test_a_page_says_what_became_of_its_log_and_keeps_what_it_shows(
    store: tuple[SessionManager, Client], tabs: BrowserContext, tmp_path: Path, way: str
) -> None:
    manager, client = store
    page = opened(tabs, client)
    before = numbers(page)
    ways(manager, tmp_path, way)
    if way == "damaged":  # nothing is read again by itself
        page.get_by_role("tab", name="proof").click()
        expect(page.get_by_text("damaged").first).to_be_visible()
        return
    expect(page.locator(".banner.bad").first).to_be_visible()
    assert numbers(page) == before


def test_a_torn_tail_is_no_event_and_no_damage(
    store: tuple[SessionManager, Client], tabs: BrowserContext, tmp_path: Path
) -> None:
    manager, client = store
    page = opened(tabs, client)
    before = numbers(page)
    with (tmp_path / ".sessions" / "s" / "events.jsonl").open("ab") as log:
        log.write(b'{"type":"message.added","seq":')
        log.flush()
        os.fsync(log.fileno())
    page.reload()
    expect(page.locator(".talk article")).to_have_count(len(before))
    expect(page.locator(".banner.bad")).to_have_count(0)
    manager.add_conversation_message("s", "user", "behind it")
    expect(page.locator(".bubble").last).to_contain_text("behind it")


def test_rows_of_a_log_made_anew_under_the_id_are_never_mixed_with_the_old_ones(
    store: tuple[SessionManager, Client], tabs: BrowserContext
) -> None:
    manager, client = store
    for number in range(600):
        manager.add_conversation_message("s", "user", f"old {number}")
    page = opened(tabs, client, "/s/s?view=timeline")
    expect(page.locator(".vrow.selected .line:not(.loading)")).to_contain_text("old 599")
    manager.delete_session("s")
    manager.create_session("s", "another one")
    for number in range(900):
        manager.add_conversation_message("s", "user", f"new {number}")
    page.get_by_label("Go to event").fill("20")  # rows that were not loaded yet
    page.get_by_label("Go to event").press("Enter")
    expect(page.locator(".banner.bad").first).to_be_visible()
    assert page.get_by_text("new ").count() == 0
    page.get_by_role("button", name="Load it as it is now").click()
    expect(page.locator("h1")).to_have_text("another one")
    expect(page.get_by_text("new ").first).to_be_visible()
    assert page.get_by_text("old ").count() == 0
    status, _, body = client.send("GET", "/api/v1/sessions/s/timeline", headers={"Eventstore-Seen": f"5:{'0' * 64}"})
    assert (status, b"load it again" in body) == (410, True)
    assert client.send("GET", "/api/v1/sessions/s", headers={"Eventstore-Seen": "nonsense"})[0] == 422


def test_a_name_that_leads_to_this_machine_is_not_let_in(
    browser: Browser, store: tuple[SessionManager, Client]
) -> None:
    client = store[1]
    rebound = browser.browser_type.launch(
        executable_path="/usr/bin/chromium",
        args=["--no-sandbox", "--host-resolver-rules=MAP evil.test 127.0.0.1"],
    )
    try:
        page = rebound.new_page()
        answer = page.goto(f"http://evil.test:{client.port}/")
        assert answer is not None
        assert answer.status == 421
        status = page.evaluate(
            "async token => (await fetch('/api/v1/sessions', {headers: {Authorization: `Bearer ${token}`}})).status",
            client.started.token,
        )
        assert status == 421  # even with the token
    finally:
        rebound.close()


def test_a_search_that_is_typed_while_texts_are_indexed_says_so_and_is_completed(
    store: tuple[SessionManager, Client], tabs: BrowserContext
) -> None:
    manager, client = store
    filler = " ".join(f"word{number}" for number in range(400))
    for number in range(100):
        texts = [*(f"{turn} {filler}" for turn in range(50)), "the last needle"]
        purpose = "a needle of many" if number % 40 == 0 else "other"
        manager.append(
            f"t{number:02}",
            [MessageAdded(role="user", content=text) for text in texts],
            SessionCreated(purpose=purpose),
        )
    page = opened(tabs, client, "/?view=")
    page.get_by_label("Search").press_sequentially("needle", delay=20)
    hits = page.get_by_role("region", name="In texts")
    expect(hits).to_contain_text("still indexing")
    expect(page.locator("[data-row]")).to_have_count(3)
    expect(hits).not_to_contain_text("still indexing")
    shown = hits.locator("li a").evaluate_all("all => all.map(one => one.getAttribute('href').split('?')[0])")
    found = [hit.session_id for hit in manager.search("needle", limit=20)]
    assert shown == [f"/s/{one}" for one in found[: len(shown)]]
    assert len(shown) == 8
