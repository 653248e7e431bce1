"""The full screen: sessions, the timeline of one, any moment of it, search, following."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from commands import HOSTILE, run
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.cli.screens import Browser, Help


@pytest.fixture
def manager(tmp_path: Path) -> SessionManager:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        manager = SessionManager(storage)
        for name, purpose in (("one", "Why do logins fail?"), ("two", f"日本語 👩‍👩‍👧 {HOSTILE}")):
            manager.create_session(name, purpose)
            for n in range(5):
                manager.add_conversation_message(name, "user", f"[b]text[/b] {n} {HOSTILE}")
        manager.add_conversation_message("one", "assistant", "the needle")
    return SessionManager(storage)


def play(
    manager: SessionManager,
    steps: Callable[[Browser, Pilot[None]], Awaitable[None]],
    first: str | None = None,
    size: tuple[int, int] = (100, 30),
) -> None:
    """Run the screen without a terminal, and steps of a person in it."""

    async def work() -> None:
        app = Browser(manager, first)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await steps(app, pilot)

    asyncio.run(work())


def rows(app: Browser, name: str = "rows") -> int:
    return app.query_one(f"#{name}", DataTable).row_count


def text(app: Browser, name: str) -> str:
    return str(app.query_one(f"#{name}", Static).content)


def test_a_session_is_opened_and_any_moment_of_it_is_shown(manager: SessionManager) -> None:
    async def steps(app: Browser, pilot: Pilot[None]) -> None:
        assert rows(app, "sessions") == 2
        await pilot.press("j", "enter")
        assert app.sub_title == "two"
        assert rows(app) == 6
        assert "event 6 of 6" in text(app, "scrubber")
        await pilot.press("left_square_bracket", "left_square_bracket")
        assert rows(app) == 4
        assert "3 messages" in text(app, "scrubber")
        await pilot.press("0")
        assert rows(app) == 1
        await pilot.press("dollar_sign")
        assert rows(app) == 6
        assert not set(text(app, "whole")) & set("\x1b\x07\u202e\x9b\r\x00")

    play(manager, steps)


def test_sessions_are_filtered_as_one_types(manager: SessionManager) -> None:
    async def steps(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"logins")
        assert rows(app, "sessions") == 1
        await pilot.press("enter", "enter")
        assert app.sub_title == "one"

    play(manager, steps)


def test_a_hit_of_a_search_opens_its_place(manager: SessionManager) -> None:
    async def steps(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("s", *"needle", "enter")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert rows(app, "sessions") == 1
        await pilot.press("enter")
        assert app.sub_title == "one"
        assert "the needle" in text(app, "whole")
        await pilot.press("escape", "escape")
        assert rows(app, "sessions") == 2

    play(manager, steps)


def test_following_shows_what_comes(manager: SessionManager) -> None:
    async def steps(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("f")
        manager.add_conversation_message("one", "user", "new")
        app._look()
        await pilot.pause()
        assert rows(app) == 8
        assert "following" in text(app, "scrubber")

    play(manager, steps, "one")


def shown(app: Browser) -> list[str]:
    return [name for name in ("left", "right") if app.query_one(f"#{name}").size.width]


@pytest.mark.parametrize("columns", [60, 80])
def test_a_narrow_terminal_shows_the_sessions_or_one_of_them(manager: SessionManager, columns: int) -> None:
    async def steps(app: Browser, pilot: Pilot[None]) -> None:
        assert shown(app) == ["left"]
        await pilot.press("j", "enter")
        await pilot.pause()
        assert shown(app) == ["right"]
        assert max(map(len, text(app, "scrubber").splitlines())) < columns
        await pilot.press("slash")
        await pilot.pause()
        assert shown(app) == ["left"]
        await pilot.press("escape")
        await pilot.resize_terminal(140, 30)
        await pilot.pause()
        assert shown(app) == ["left", "right"]

    play(manager, steps, size=(columns, 20))


def test_the_keys_are_shown_and_the_help_is_left(manager: SessionManager) -> None:
    async def steps(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        await pilot.press("escape")
        assert not any(isinstance(one, Help) for one in app.screen_stack)
        await pilot.press("t", "q")

    play(manager, steps)


def test_without_a_terminal_it_says_what_to_use(tmp_path: Path) -> None:
    run("create", "s", cwd=tmp_path)
    assert "browse needs a terminal" in run("browse", cwd=tmp_path, check=1).stderr
