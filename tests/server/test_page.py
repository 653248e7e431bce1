"""The page in a real browser: what people see, do with the keyboard, and what the browser is forbidden."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Route, WebSocketRoute, expect
from server.serving import Client, fill, serving

from eventstore import MemorySessionStorage, SessionManager

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script><base href='https://evil.test/'>",
    "[click](javascript:alert(1)) ![pic](https://evil.test/x.png) <https://evil.test/a>",
    "<svg onload=alert(1)><style>*{display:none}</style>",
    "\u202etxt.exe \u200b\u2066 \x1b[2J {{constructor.constructor('alert(1)')()}}",
    "a" * 100_000,
    "[" * 10_000,
]
SHOWN = {
    "/": ".item",
    "/analytics": "svg, table",
    "/trash": "main .empty, main table",
    "/compare?a=long&b=branch": "main .line, main table",
    "/s/long": ".talk article",
    "/s/long?view=timeline": ".vrow .line:not(.loading)",
    "/s/long?view=proof": ".proof .row",
}
"""The views, and what is there once a view is complete."""


class Watched:
    """A page, and what must not happen on it."""

    def __init__(self, context: BrowserContext, client: Client) -> None:
        self.client, self.page = client, context.new_page()
        self.problems: list[str] = []
        self.outside: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda one: self.problems.append(str(one)))
        self.page.on("dialog", self._refuse)
        own = f"//127.0.0.1:{client.port}/"
        self.page.on("request", lambda one: None if own in one.url else self.outside.append(one.url))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(f"{message.text} {message.location['url']}")

    def _refuse(self, dialog: Dialog) -> None:
        self.problems.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def open(self, path: str = "") -> Page:
        self.page.goto(f"{self.client.started.url}{path}")
        return self.page

    def sign_in(self) -> Page:
        self.page.goto(self.client.started.page)
        expect(self.page.locator("h1")).to_contain_text("Sessions")
        return self.page

    def is_clean(self) -> None:
        assert self.problems == []
        assert [one for one in self.outside if not one.startswith(("data:", "blob:"))] == []


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[SessionManager, Client]]:
    with SessionManager(MemorySessionStorage()) as manager:
        fill(manager, "long", 60)
        fill(manager, "short", 2)
        manager.fork_session("long", 50, "branch", purpose="another way")
        manager.add_conversation_message("branch", "user", "what else?")
        with serving(manager, write=True) as client:
            yield manager, client


@pytest.fixture
def watched(browser: Browser, store: tuple[SessionManager, Client]) -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    found = Watched(context, store[1])
    client = store[1]
    found.page.goto(client.started.url + "/static/icon.svg")
    found.page.evaluate("token => localStorage.setItem('eventstore.token', token)", client.started.token)
    yield found
    context.close()


def test_the_printed_address_opens_the_page_once(browser: Browser) -> None:
    with SessionManager(MemorySessionStorage()) as manager:
        fill(manager, "s", 1)
        with serving(manager) as client:
            first, second = browser.new_context(), browser.new_context()
            one = Watched(first, client)
            page = one.sign_in()
            assert "code" not in page.url
            page.reload()
            expect(page.locator(".item")).to_have_count(1)
            again = Watched(first, client)
            again.open("/s/s")
            expect(again.page.locator("h1")).to_have_text("purpose of s")
            other = Watched(second, client)
            other.page.goto(client.started.page)
            expect(other.page.locator(".empty")).to_contain_text("no access")
            one.is_clean()
            again.is_clean()
            first.close()
            second.close()


def test_everything_is_as_of_the_scrubbed_moment(watched: Watched, store: tuple[SessionManager, Client]) -> None:
    manager, _ = store
    for at in (2, 50, 123, 302):
        page = watched.open(f"/s/long?at={at}")
        figures = manager.get_session_statistics("long", at)
        assert figures is not None
        side = page.locator(".side")
        expect(side).to_contain_text(f"As of event {at}")
        expect(side.locator(".figure").filter(has_text="Messages")).to_contain_text(str(figures["message_count"]))
        expect(side.locator(".figure").filter(has_text="Calls")).to_contain_text(str(figures["total_invocations"]))
        last = page.locator(".bubble").last
        session = manager.get_session("long", at)
        assert session is not None
        if session.conversation[-1].role == "user":
            expect(last).to_contain_text(session.conversation[-1].content)
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuenow", "1")
    page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuenow", "2")
    page.keyboard.press("Shift+ArrowRight")
    expect(slider).to_have_attribute("aria-valuenow", "5")
    page.keyboard.press("End")
    expect(page.locator(".live.on")).to_be_visible()
    watched.is_clean()


def test_the_whole_tour_is_possible_by_keyboard(watched: Watched) -> None:
    page = watched.open("/")
    expect(page.locator(".item")).to_have_count(3)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("next session")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("/")
    page.keyboard.type("purpose of long")
    expect(page.locator(".item")).to_have_count(1)
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("purpose of long")
    page.keyboard.press("Home")
    page.keyboard.press("p")
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuenow", "2")
    page.keyboard.press("p")
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuenow", "7")
    page.keyboard.press("P")
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuenow", "2")
    page.keyboard.press("e")
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuenow", "34")
    page.keyboard.press("2")
    expect(page.get_by_role("tab", selected=True)).to_contain_text("timeline")
    expect(page.locator(".vrow.selected")).to_contain_text("34")
    page.keyboard.press("j")
    expect(page.locator(".vrow.selected")).to_contain_text("35")
    page.wait_for_url("**at=35**")
    page.keyboard.press("f")
    page.keyboard.type("needle")
    expect(page.locator(".find")).to_contain_text("60 hits")
    page.keyboard.press("Enter")
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuenow", "5")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("a")
    expect(page.locator("h1")).to_have_text("Analytics")
    expect(page.locator(".chart canvas")).to_have_count(4)
    watched.is_clean()


def test_keys_right_behind_the_shortcut_of_the_find_box_are_typed_into_it(watched: Watched) -> None:
    """On a busy machine no frame is drawn between two keys: the box has the focus when the next key comes."""
    page = watched.open("/s/long")
    expect(page.get_by_role("tablist")).to_be_visible()
    focused = page.evaluate(
        """async () => {
            const places = [];
            for (let times = 0; times < 2; times++) {
                document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "f", bubbles: true, cancelable: true }));
                for (let turn = 0; turn < 20; turn++) await null;  // microtasks only: no frame, no timer, no other event
                places.push(document.activeElement.getAttribute("aria-label"));
                document.activeElement.blur();
            }
            return places;
        }"""
    )
    assert focused == ["Find in this session"] * 2
    watched.is_clean()


def test_filters_calls_forks_compare_changes_and_proof(watched: Watched) -> None:
    page = watched.open("/s/long?view=timeline")
    page.locator("summary", has_text="Kind").click()
    page.get_by_role("checkbox", name="error").check()
    expect(page.locator(".timeline > .note")).to_contain_text("8 of 302 events match")
    expect(page.locator(".vrow")).to_have_count(8)
    page.get_by_role("tab", name="calls").click()
    expect(page.locator("tr.failed")).to_have_count(8)
    page.get_by_role("tab", name="data").click()
    expect(page.locator(".pair")).to_contain_text("good")
    page.get_by_role("tab", name="changes").click()
    expect(page.locator(".diff tbody tr").first).to_be_visible()
    page.get_by_role("tab", name="proof").click()
    page.get_by_role("button", name="Verify every byte").click()
    expect(page.locator(".verdict")).to_contain_text("Intact to event 302")
    page.get_by_role("tab", name="forks").click()
    expect(page.get_by_role("treeitem")).to_have_count(2)
    page.get_by_role("radio").check()
    page.get_by_role("button", name="Compare side by side").click()
    expect(page.locator(".sub")).to_contain_text("First divergence at event 51")
    watched.is_clean()


def test_new_events_appear_and_redacted_text_goes(watched: Watched, store: tuple[SessionManager, Client]) -> None:
    manager, _ = store
    fill(manager, "live", 1)
    page = watched.open("/s/live")
    expect(page.locator(".link-state")).to_have_text("live")
    manager.add_conversation_message("live", "user", "the secret is 12345")
    expect(page.locator(".bubble").last).to_contain_text("the secret is 12345")
    expect(page.locator(".where")).to_contain_text("of 8")
    manager.redactions.redact("live", [8], "it was a secret")
    expect(page.get_by_text("the secret is 12345")).to_have_count(0)
    page.get_by_role("tab", name="timeline").click()
    expect(page.locator(".vrow").nth(7)).to_contain_text("redacted")
    manager.delete_session("live")
    expect(page.locator(".banner.bad").first).to_be_visible()
    watched.is_clean()


def test_what_is_appended_before_the_page_is_subscribed_is_shown(
    watched: Watched, store: tuple[SessionManager, Client]
) -> None:
    manager, _ = store
    fill(manager, "late", 1)
    page, held, servers = watched.page, list[str](), list[WebSocketRoute]()

    def hold(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        servers.append(server)
        socket.on_message(lambda text: held.append(str(text)) if "subscribe" in str(text) else server.send(text))

    page.route_web_socket(re.compile("/api/v1/live$"), hold)
    watched.open("/s/late")
    expect(page.locator(".bubble").last).to_contain_text("found the needle")
    manager.add_conversation_message("late", "user", "between two requests")
    while not held:
        page.wait_for_timeout(10)
    for text in held:
        servers[0].send(text)
    expect(page.locator(".bubble").last).to_contain_text("between two requests")
    watched.is_clean()


def test_a_session_of_a_framework_has_the_name_it_has_there(
    watched: Watched, store: tuple[SessionManager, Client]
) -> None:
    store[0].create_session("key-0", external_key="langgraph/thread-7")
    with store[0].invocation("key-0", "grep") as call:
        call.result = "found"
    page = watched.sign_in()
    page.get_by_text("langgraph/thread-7").click()
    expect(page.locator("h1")).to_have_text("langgraph/thread-7")
    expect(page.locator(".empty")).to_contain_text("The timeline shows what else happened")
    store[0].delete_session("key-0")
    watched.is_clean()


def test_an_address_of_no_session_says_so_and_leads_back(
    watched: Watched, store: tuple[SessionManager, Client]
) -> None:
    store[0].create_session("single", "a single call")
    store[0].link_invocation("single", "c", "grep", None, 5.0)
    page = watched.open("/s/nobody")
    expect(page.locator("main")).to_contain_text("There is no such session")
    page.get_by_role("link", name="All sessions").click()
    expect(page.locator(".item", has_text="a single call")).to_contain_text("1 call")
    expect(page.locator(".item", has_text="a single call")).not_to_contain_text("1 calls")
    store[0].delete_session("single")


def test_a_redaction_shows_its_plan_and_wants_a_reason(watched: Watched, store: tuple[SessionManager, Client]) -> None:
    manager, _ = store
    fill(manager, "plan", 1)
    page = watched.open("/s/plan?at=2")
    page.get_by_role("button", name="Redact…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("event 2")
    expect(dialog.get_by_role("button", name="Remove")).to_be_disabled()
    dialog.get_by_label("Reason").fill("private")
    dialog.get_by_role("button", name="Remove").click()
    expect(page.locator(".detail .banner")).to_contain_text("removed")
    watched.is_clean()


def test_hostile_content_is_text(watched: Watched, store: tuple[SessionManager, Client]) -> None:
    """Nothing in a session runs, loads, or breaks the layout: no dialog, no report of the policy, no request outside."""
    manager, _ = store
    manager.create_session("hostile", HOSTILE[0], HOSTILE[1], HOSTILE[2:5])
    for text in HOSTILE:
        manager.add_conversation_message("hostile", "user", text)
        manager.add_conversation_message("hostile", "assistant", text, tool_name=text[:50], invocation_id=text[:50])
        manager.add_conversation_message("hostile", "tool", text, tool_name=text[:50], invocation_id=text[:50])
        manager.link_invocation("hostile", text[:50], text[:50], None, 1.0, success=False, error=text[:200])
        manager.set_data("hostile", text[:100], {text[:30]: text})
    for view in ("conversation", "timeline", "calls", "data", "changes", "forks", "proof"):
        page = watched.open(f"/s/hostile?view={view}")
        expect(page.locator("h1")).to_have_text(HOSTILE[0])
        expect(page.get_by_role("tab", selected=True)).to_contain_text(view)
        assert page.locator("main img:not([src='/static/icon.svg'])").count() == 0
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    page = watched.open("/?q=hostile")
    expect(page.locator("h1")).to_contain_text("Sessions")
    watched.is_clean()


def test_a_slow_first_answer_makes_no_wrong_request(watched: Watched) -> None:
    """Nothing is asked about event 0 while the page does not know yet how many events there are."""
    page, held, asked = watched.page, list[Route](), list[str]()
    page.clock.install()
    page.route(re.compile(r"/api/v1/sessions/long(\?.*)?$"), lambda route: held.append(route))
    page.on("request", lambda request: asked.append(request.url))
    watched.open("/s/long")
    page.clock.run_for(1_000)
    page.wait_for_function("() => document.querySelector('.bones')")
    while not held:
        page.wait_for_event("request")
    page.clock.run_for(1_000)
    for route in held:
        route.continue_()
    page.unroute_all()
    page.clock.resume()
    expect(page.locator("h1")).to_have_text("purpose of long")
    expect(page.locator(".detail")).to_contain_text("Event")
    assert not [one for one in asked if "/events/0" in one or "at=0" in one]
    watched.is_clean()


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_view_is_wider_than_the_window(browser: Browser, store: tuple[SessionManager, Client], width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    found = Watched(context, store[1])
    found.page.goto(store[1].started.url + "/static/icon.svg")
    found.page.evaluate("token => localStorage.setItem('eventstore.token', token)", store[1].started.token)
    for path in SHOWN:
        page = found.open(path)
        expect(page.locator("h1").first).to_be_visible()
        wide = page.evaluate("() => [document.documentElement.scrollWidth, document.querySelector('main').scrollWidth]")
        assert max(wide) <= width, (path, wide)
    found.is_clean()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(watched: Watched, scheme: Literal["light", "dark"]) -> None:
    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
    watched.page.emulate_media(color_scheme=scheme)
    for path in SHOWN:
        page = watched.open(path)
        expect(page.locator("h1").first).to_be_visible()
        expect(page.locator(SHOWN[path]).first).to_be_visible()
        page.evaluate(axe)
        found: dict[str, Any] = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        serious = [
            (
                path,
                one["id"],
                [node["html"][:120] for node in one["nodes"][:3]],
                [node["failureSummary"] for node in one["nodes"][:1]],
            )
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == []


def test_names_and_roles_are_there_for_screen_readers(watched: Watched) -> None:
    """Every control has a name, every list its size, and the colours of text have enough contrast in both schemes."""
    for path in ("/", "/s/long?view=timeline", "/s/long", "/analytics"):
        for scheme in ("light", "dark"):
            watched.page.emulate_media(color_scheme=scheme)
            page = watched.open(path)
            expect(page.locator("h1").first).to_be_visible()
            unnamed: list[str] = page.evaluate(
                """() => [...document.querySelectorAll('button, a[href], input, select, [role=slider], [role=listbox]')]
                .filter(one => one.offsetParent)
                .filter(one => !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length))
                .map(one => one.outerHTML.slice(0, 100))"""
            )
            assert unnamed == [], path
    rows: dict[str, Any] = {}
    page = watched.open("/s/long?view=timeline&at=100")
    row = page.locator(".vrow.selected")
    rows = {name: row.get_attribute(name) for name in ("aria-setsize", "aria-posinset", "role")}
    assert rows == {"aria-setsize": "302", "aria-posinset": "100", "role": "option"}


def test_other_origins_on_this_machine_can_do_nothing(browser: Browser, store: tuple[SessionManager, Client]) -> None:
    """A page of another local server, and a name that is bent to 127.0.0.1, get no answer they can use."""
    _, client = store
    with SessionManager(MemorySessionStorage()) as other, serving(other) as there:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://localhost:{there.port}/static/icon.svg")
        target = f"http://127.0.0.1:{client.port}"
        found = page.evaluate(
            """async target => {
                const tried = {};
                for (const [name, init] of [['read', {}], ['no-cors', {mode: 'no-cors'}], ['post', {method: 'POST', body: '{}'}]])
                    tried[name] = await fetch(target + '/api/v1/health', init).then(a => a.type + a.status, () => 'refused');
                tried.socket = await new Promise(done => {
                    const one = new WebSocket(target.replace('http', 'ws') + '/api/v1/live');
                    one.onopen = () => done('open'); one.onerror = () => done('refused');
                });
                return tried;
            }""",
            target,
        )
        assert set(found.values()) == {"refused"}, json.dumps(found)
        context.close()
