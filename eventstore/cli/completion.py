"""Completions for a place of the command line. It answers a key press, so it loads as little as possible: no click, no store.

Options and their values are in `options.json`, which tools/command_table.py writes from the code.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from eventstore.escape import clean

_MOST = 200  # sessions shown
_TABLE = Path(__file__).with_name("options.json")
_FILE = "file"
"""An answer that means file names, which the shell completes itself."""


def complete(words: Sequence[str], store: str | None, commands: Mapping[str, tuple[str, str]]) -> int:
    """Print the completions of the last word, one on each line, with a tab and the meaning after it."""
    *before, part = words or [""]
    for value, meaning in _answers(before, part, store, commands):
        if value == _FILE or value.startswith(part):
            meaning = clean(" ".join(meaning.split()))
            sys.stdout.write((f"{value}\t{meaning}" if meaning else value) + "\n")
    return 0


def _answers(
    before: Sequence[str], part: str, store: str | None, commands: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[str, str]]:
    left = list(before)
    while left and left[0].startswith("-"):
        if left.pop(0) == "--store":
            if not left:
                yield _FILE, ""
                return
            store = left.pop(0)
    if left[:1] == ["help"]:
        left = left[1:] if len(left) > 1 else []
        part = part.lstrip("-")
    if not left:
        names = ("--store", "--version", "--help") if part.startswith("-") else ("help",)
        yield from ((name, "") for name in names)
        if not part.startswith("-"):
            yield from ((name, text) for name, (_, text) in commands.items())
        return
    name, *rest = left
    command = json.loads(_TABLE.read_text("utf-8")).get(name)
    if command is None:
        return
    if "commands" in command:
        inner = command["commands"]
        if not rest:
            yield from ((one, inner[one]["text"]) for one in inner)
            return
        command, rest = inner.get(rest[0]), rest[1:]
        if command is None:
            return
    yield from _of_command(command, rest, part, store)


def _of_command(
    command: Mapping[str, Any], words: Sequence[str], part: str, store: str | None
) -> Iterator[tuple[str, str]]:
    options, positional, asked = command["options"], 0, ""
    for word in words:
        if asked:
            store = word if asked == "--store" else store
            asked = ""
        elif word in options:
            asked = word if options[word]["value"] else ""
        elif not word.startswith("-") or word == "-":
            positional += 1
    if asked:
        yield from _values(asked, options[asked]["value"], part, store)
    elif part.startswith("-") and part != "-":
        used = set(words)
        yield from ((name, one["text"]) for name, one in options.items() if name not in used or one["many"])
    else:
        kinds = command["arguments"]
        if kinds:
            yield from _values(
                "", kinds[min(positional, len(kinds) - 1)] if positional < len(kinds) else kinds[-1], part, store
            )


def _values(option: str, kind: Any, part: str, store: str | None) -> Iterator[tuple[str, str]]:
    """Return the values of an option or an argument. `kind` is a list of choices, or a word."""
    if isinstance(kind, list):
        yield from ((one, "") for one in kind)
    elif kind == _FILE:
        yield _FILE, ""
    elif kind == "session":
        yield from _sessions(part, store)
    elif option in ("--since", "--until", "--at"):
        yield from ((one, "") for one in ("today", "yesterday", "monday", "1h", "7d", "30d"))
    elif option in _OF_CATALOGUE:
        yield from ((value, "") for (value,) in _ask(store, _OF_CATALOGUE[option]) if value)


_OF_CATALOGUE = {
    "--tag": "SELECT DISTINCT tag FROM tags ORDER BY tag",
    "--user": "SELECT DISTINCT user FROM sessions ORDER BY user",
    "--project": "SELECT DISTINCT replace(p, rtrim(p, replace(p, '/', '')), '') FROM "
    "(SELECT json_extract(shown, '$.custom_metadata.cwd') AS p FROM sessions) WHERE p IS NOT NULL",
}


def _sessions(part: str, store: str | None) -> Iterator[tuple[str, str]]:
    """Return names of sessions: those in the catalogue first, the latest first, with their titles; then others in the folder."""
    from eventstore.cli.place import ids_in, locate

    yield "latest", "the session updated last"
    query = (
        "SELECT session_id, json_extract(shown, '$.purpose') FROM sessions WHERE session_id >= ? AND session_id < ? "
        "ORDER BY updated DESC LIMIT 200"
    )
    known = dict(_ask(store, query, (part, part + "\U0010ffff")))
    for session_id, title in known.items():
        yield session_id, (title or "")[:60]
    if part.startswith("latest:"):
        yield from ((f"latest:{name}", "") for (name,) in _ask(store, _OF_CATALOGUE["--project"]) if name)
    folder = locate(store).sessions
    if folder is not None and len(known) < _MOST:
        others = [one for one in ids_in(folder) if one.startswith(part) and one not in known]
        yield from ((one, "") for one in sorted(others)[: _MOST - len(known)])


def _ask(store: str | None, query: str, values: Iterable[str] = ()) -> list[tuple[Any, ...]]:
    """Ask the catalogue as it is, which may be old or missing: then there is no answer."""
    from eventstore.cli.place import CATALOGUE, locate

    folder = locate(store).sessions
    if folder is None or not (folder / CATALOGUE).is_file():
        return []
    import sqlite3

    with suppress(sqlite3.Error):
        base = sqlite3.connect(f"{(folder / CATALOGUE).absolute().as_uri()}?mode=ro", uri=True, timeout=0.05)
        try:
            return base.execute(query, tuple(values)).fetchall()
        finally:
            base.close()
    return []
