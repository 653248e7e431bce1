"""Take pictures of every command in a terminal of several widths, dark and light, to look at.

    python tools/terminal_pictures.py /tmp/pictures --width 60 --width 120

Each command runs in a terminal of its own, on a store with Chinese, Arabic and emoji texts. Makes a PNG for five commands and
prints the lines that are wider than the terminal. Exits with 1 where there are any, or where a command fails.
"""

import argparse
import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path

from example_store import fill
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, MONOKAI
from rich.text import Text
from wcwidth import wcswidth

from eventstore import FileSystemSessionStorage, SessionManager
from eventstore.cli.examples import EXAMPLES

ROOT = Path(__file__).parents[1]
THEMES = {"dark": MONOKAI, "light": DEFAULT_TERMINAL_THEME}
LEFT_OUT = ("browse", "mcp", "serve")
"""They are full screens, or run until they are stopped."""
ALSO = (
    "list",
    "list --sub-agents",
    "search 登录",
    "show nihongo",
    "replay nihongo --quiet",
    "stats nihongo",
    "help",
    "import --help",
)
NO_END = ("eventstore follow --all",)
A_PICTURE = 5
LONG_WORD = 30
"""An id, a hash or a key: what people copy, and programs read, is not cut. Neither is an error, which is one line."""
CONTROLS = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-ln-z]|\][^\x07]*\x07|[=>78])")
"""Escape sequences but for those of colour."""


def make(folder: Path) -> None:
    """Make a store in a folder: what the examples of the help name, and a session in other scripts."""
    with FileSystemSessionStorage(folder / ".sessions", folder / ".history") as storage:
        manager = SessionManager(storage)
        fill(manager)
        long = "为什么登录失败 🔐 なぜログインに失敗するのか、長い題名は切られる لماذا يفشل تسجيل الدخول " * 2
        manager.create_session("nihongo", purpose=long, user_id="张伟", tags=["登录", "bug🐞"])
        manager.add_conversation_message("nihongo", "user", "请查一下 `登录` 失败的原因 👩‍💻\n\n- 第一\n- 第二")
        tool = "検索ツール_with_a_very_long_name_that_does_not_fit"
        with manager.invocation("nihongo", tool, {"パス": "/srv/登录.log", "limit": 20}) as call:
            call.result = {"行": ["エラー 401 🚫"] * 30}
        manager.add_conversation_message(
            "nihongo", "assistant", "令牌过期了。\n\n```python\nprint('✓ 好')\n```\n" + "很长的一行" * 60
        )
        manager.record_usage("nihongo", {"input": 123_456_789, "output": 9_876}, 12.3456)
        manager.fork_session("nihongo", 3, "branch-of-nihongo", purpose="another way 🌿")


def _run(words: list[str], folder: Path, width: int) -> tuple[int, str]:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "LANG": "C.UTF-8",
        "PAGER": "cat",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "eventstore", *words]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=follower, stderr=follower
    ) as child:
        os.close(follower)
        shown = b"".join(iter(lambda: _block(leader), b""))
        status = child.wait()
    os.close(leader)
    return status, shown.decode("utf-8", "replace").replace("\r\n", "\n")


def _block(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:  # the terminal is gone with its last program
        return b""


def commands() -> Iterator[str]:
    """Name the commands to run, without `eventstore`."""
    yield from ALSO
    for name, examples in EXAMPLES.items():
        if name not in LEFT_OUT:
            yield from (
                one.removeprefix("eventstore ") for one in examples[:1] if one not in NO_END and "<(" not in one
            )


def wide(text: str, width: int) -> list[str]:
    """Find the lines that are wider than the terminal."""
    lines = Text.from_ansi(text).plain.split("\n")
    too_wide = [one for one in lines if wcswidth(one) > width and not one.startswith("eventstore: ")]
    return [one for one in too_wide if max(map(len, one.split())) < LONG_WORD]


def take(browser: Browser, shown: list[tuple[str, str]], width: int, theme: str, file: Path) -> None:
    """Make a picture of what some commands showed."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(
            record=True, width=width, file=nowhere, force_terminal=True, color_system="truecolor", legacy_windows=False
        )
        for name, text in shown:
            console.print(Text(f"$ eventstore {name}", style="bold reverse"))
            console.print(Text.from_ansi(text), soft_wrap=False, overflow="fold")
    page = browser.new_page(viewport={"width": width * 9 + 40, "height": 600})
    page.set_content(console.export_html(theme=THEMES[theme], inline_styles=True))
    page.screenshot(path=file, full_page=True)
    page.close()


def main() -> int:
    """Run every command at every width; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--width", type=int, action="append")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    bad = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        for width in given.width or (60, 80, 120, 200):
            shown = []
            with tempfile.TemporaryDirectory() as place:
                make(Path(place))
                for one in commands():
                    status, text = _run(shlex.split(one), Path(place), width)
                    text = CONTROLS.sub("", text)
                    shown.append((one, text))
                    for line in wide(text, width):
                        bad += 1
                        print(f"{width} columns, {one}: {line}")
                    if "Traceback" in text:
                        bad += 1
                        print(f"{width} columns, {one}: exit status {status}\n{text}")
            for number in range(0, len(shown), A_PICTURE):
                for theme in THEMES:
                    file = given.folder / f"{width}-{theme}-{number // A_PICTURE + 1}.png"
                    take(browser, shown[number : number + A_PICTURE], width, theme, file)
        browser.close()
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
