"""Measure the page on a large session, in a real browser: first rows, jumps, scrubbing, memory.

    python tools/page_speed.py --events 1000000 --store /tmp/large

The store is made where it is not there yet. Prints milliseconds, from the action to the painted result.
"""

import argparse
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore import events as e
from eventstore.server import Server, Started

SESSION = "large"


def make(manager: SessionManager, events: int) -> None:
    """Append a session of prompts, calls, results and usage, 2,500 events a batch."""
    rng, number = random.Random(1), 0
    manager.create_session(SESSION, "a long run", "ana", ["large"])
    for _ in range(events // 2500):
        batch: list[e.Event] = []
        for _ in range(500):
            number += 1
            tool, call = rng.choice(["grep", "read", "edit", "bash"]), f"call-{number:08d}"
            text = f"step {number} " + "words of a message " * rng.randint(1, 20)
            batch += [
                e.MessageAdded(role="user" if number % 12 == 1 else "assistant", content=text),
                e.MessageAdded(role="assistant", content='{"q": 1}', tool_name=tool, invocation_id=call),
                e.InvocationLinked(
                    invocation_id=call,
                    tool_name=tool,
                    duration_ms=float(rng.randint(1, 900)),
                    success=rng.random() > 0.03,
                ),
                e.MessageAdded(role="tool", content="result " * rng.randint(1, 60), tool_name=tool, invocation_id=call),
                e.UsageRecorded(
                    tokens={"input": rng.randint(1, 9000), "output": rng.randint(1, 900)}, cost=0.01, key=f"k{number}"
                ),
            ]
        manager.storage.append(SESSION, batch)


def timed(name: str, times: int, work: Callable[[int], None]) -> None:
    """Print the median, the 95th percentile and the greatest of some measurements."""
    found = []
    for number in range(times):
        began = time.perf_counter()
        work(number)
        found.append(1000 * (time.perf_counter() - began))
    found.sort()
    print(f"{name:34} p50 {found[times // 2]:7.0f}  p95 {found[int(times * 0.95)]:7.0f}  max {found[-1]:7.0f} ms")


def measure(page: Page, url: str, head: int) -> None:
    """Measure one page."""
    rng = random.Random(2)
    rows = page.locator(".vrow .line:not(.loading)")

    def open_cold(number: int) -> None:
        page.goto(f"{url}/s/{SESSION}?view=timeline")
        expect(rows.first).to_be_visible(timeout=120_000)

    timed("first rows, cold", 1, open_cold)
    timed("first rows, warm", 5, open_cold)
    place = page.get_by_label("Go to event")

    def jump(number: int) -> None:
        at = rng.randint(1, head)
        place.fill(str(at))
        place.press("Enter")
        expect(page.locator(".vrow.selected .line:not(.loading)")).to_contain_text(f"{at:,}", timeout=20_000)

    timed("jump to rows", 100, jump)

    def scrub(number: int) -> None:
        at = rng.randint(1, head)
        place.fill(str(at))
        place.press("Enter")
        expect(page.locator(".side h2").first).to_have_text(f"As of event {at:,}", timeout=20_000)

    timed("scrub to figures", 100, scrub)
    page.get_by_role("slider").focus()
    page.keyboard.press("End")
    expect(page.locator(".vrow.selected")).to_contain_text(f"{head:,}")
    cdp = page.context.new_cdp_session(page)
    for _ in range(300):
        place.fill(str(rng.randint(1, head)))
        place.press("Enter")
    cdp.send("HeapProfiler.collectGarbage")
    used: Any = cdp.send("Runtime.getHeapUsage")
    print(f"heap after 500 jumps {used['usedSize'] / 1e6:.0f} MB, rows in the document {page.locator('.vrow').count()}")


def main() -> None:
    """Make the store, serve it, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    given = parser.parse_args()
    storage = FileSystemSessionStorage(given.store / ".sessions", given.store / ".history", fsync="no")
    with SessionManager(storage) as manager:
        if not manager.storage.session_exists(SESSION):
            make(manager, given.events)
        head = manager.head(SESSION).version
        started: list[Started] = []
        ready = threading.Event()
        server = Server(manager, port=0, ready=lambda one: (started.append(one), ready.set())[0])  # type: ignore[func-returns-value]
        thread = threading.Thread(target=server.run)
        thread.start()
        ready.wait(60)
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1280, "height": 860})
                page.goto(started[0].page)
                expect(page.locator("h1")).to_contain_text("Sessions", timeout=60_000)
                measure(page, started[0].url, head)
                browser.close()
        finally:
            server.stop()
            thread.join()


if __name__ == "__main__":
    main()
