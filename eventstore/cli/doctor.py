"""Doctor: look at the store and the installation, and say what to do."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import click

from eventstore.cli.place import CATALOGUE, Place, count_sessions, locate
from eventstore.cli.store import open_manager, store_option
from eventstore.cli.table import wrap
from eventstore.cli.terminal import cells, clean, is_terminal, pad, print_json, some, width
from eventstore.errors import EventStoreError, LogDamaged
from eventstore.release import DISTRIBUTION, install_hint, version

_LEAST_FREE_BYTES = 1_000_000_000
_SILENT = timedelta(days=1)
_PAGE = 1_000
_MOST_NAMED = 5
_SIGNS = {"good": ("✓", "green"), "note": ("·", "cyan"), "bad": ("✗", "red")}


class Finding(NamedTuple):
    """What was found: `good`, a `note` or `bad`, about what, and what to do."""

    sign: str
    about: str
    text: str
    advice: str = ""


@click.command("doctor", short_help="Look at the store and the installation, and say what to do.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one finding per line.")
@store_option
def doctor_command(store: str | None, as_json: bool) -> None:
    """Check the installation, the store, its permissions and space, its derived files and unfinished work. Changes nothing.

    Every problem has a line with what to do. The exit status is 1 if there is one. Logs are not verified byte for byte:
    `eventstore verify --all` does that.
    """
    found = list(look(store))
    for one in found:
        if as_json:
            print_json(one._asdict())
        else:
            _print(one, max(cells(each.about) for each in found))
    sys.exit(1 if any(one.sign == "bad" for one in found) else 0)


def _print(one: Finding, most: int) -> None:
    sign, colour = _SIGNS[one.sign]
    front = f"{sign} {pad(one.about, most)}  "
    text = f"{one.text}: {one.advice}" if one.advice else one.text
    room = max(width() - cells(front), 20)
    for number, line in enumerate(wrap(text, room) if is_terminal() else [text]):
        click.echo((click.style(front, fg=colour) if not number else " " * cells(front)) + line)


def look(store: str | None) -> Iterator[Finding]:
    """Stream the findings, the installation first."""
    yield from _installation()
    try:
        place = locate(store)
    except EventStoreError as error:
        yield Finding("bad", "settings", clean(str(error)), "set another value, or none")
        return
    yield from _place(place)
    if place.sessions is not None and count_sessions(place.sessions) is not None:
        yield from _permissions(place.sessions)
        yield from _space(place.sessions)
        yield from _derived(place.sessions)
        yield from _sessions(store, place.sessions)
    elif place.sessions is None and place.settings.url is not None:
        yield from _server(store, place)


def _server(store: str | None, place: Place) -> Iterator[Finding]:
    try:
        found = list(_sessions(store, None))
    except EventStoreError as error:  # it names the address, and says what to do
        yield Finding("bad", "store", clean(str(error)))
        return
    yield Finding("good", "store", f"{place.name} answers ({place.why})")
    yield from found


def _installation() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("good", "version", f"eventstore {version()}, Python {python}, {clean(sys.prefix)}")
    for extra, missing in sorted(_extras().items()):
        if extra in ("test", "dev"):
            continue
        if missing:
            yield Finding(
                "note", f"extra {extra}", f"not installed ({', '.join(missing)})", f"to add it, {install_hint(extra)}"
            )
        else:
            yield Finding("good", f"extra {extra}", "installed")
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    if encoding != "utf8":
        yield Finding(
            "bad", "terminal", f"its encoding is {encoding or 'not known'}", "set LANG to one of UTF-8, or PYTHONUTF8=1"
        )


def _extras() -> dict[str, list[str]]:
    """Return what is missing for each extra."""
    from re import match

    found: dict[str, list[str]] = {}
    with suppress(metadata.PackageNotFoundError):
        for text in metadata.requires(DISTRIBUTION) or []:
            requirement, _, condition = text.partition(";")
            named = match(r".*extra == ['\"]([a-z0-9_-]+)['\"]", condition)
            name = match(r"[A-Za-z0-9._-]+", requirement)
            if named is None or name is None:
                continue
            missing = found.setdefault(named[1], [])
            try:
                metadata.version(name[0])
            except metadata.PackageNotFoundError:
                missing.append(name[0])
    return found


def _place(place: Place) -> Iterator[Finding]:
    if place.sessions is None:
        if place.settings.url is None:
            yield Finding("note", "store", place.why)
        return
    where = clean(str(place.sessions.absolute()))
    count = count_sessions(place.sessions)
    if count is None and place.sessions.is_dir():
        owner = place.sessions.stat().st_uid
        yield Finding(
            "bad", "store", f"you may not read {where} ({place.why})", f"ask user {owner}, whose folder it is"
        )
    elif count is None:
        yield Finding("note", "store", f"{where} is not there yet ({place.why})", "`eventstore import` creates it")
    else:
        yield Finding("good", "store", f"{where} has {some(count, 'session')} ({place.why})")


def _permissions(folder: Path) -> Iterator[Finding]:
    mode, owner = folder.stat().st_mode & 0o777, folder.stat().st_uid
    where = clean(str(folder.absolute()))
    if owner != os.getuid():
        yield Finding("note", "owner", f"{where} belongs to user {owner}, not to you")
    if mode & 0o077:
        yield Finding("bad", "permissions", f"others may enter {where} (mode {mode:04o})", f"chmod 700 '{where}'")
    elif not os.access(folder, os.W_OK):
        yield Finding(
            "note", "permissions", "the store is read-only for you: lists and searches work, nothing can be added"
        )
    else:
        yield Finding("good", "permissions", "only you can read the store")


def _space(folder: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:,.1f} GB free"
    if free < _LEAST_FREE_BYTES:
        yield Finding("bad", "space", text, "make room: an append that finds no space is refused")
    else:
        yield Finding("good", "space", text)


def _derived(folder: Path) -> Iterator[Finding]:
    import sqlite3

    files = sorted((folder / CATALOGUE).parent.glob("*.db"))
    if not files:
        yield Finding("note", "derived files", "there is no catalogue yet", "the next list makes it")
        return
    # SQLite wants to write a file beside one in WAL mode, also to read it: on a medium that is read-only it must be told.
    how = "mode=ro" if os.access(files[0].parent, os.W_OK) else "mode=ro&immutable=1"
    looked_at, size = 0, 0
    for file in files:
        try:
            size += file.stat().st_size
            base = sqlite3.connect(f"{file.absolute().as_uri()}?{how}", uri=True, timeout=0.5)
            try:
                (answer,) = base.execute("PRAGMA quick_check(1)").fetchone()
            finally:
                base.close()
        except FileNotFoundError:  # a redaction removes it in this moment
            continue
        except sqlite3.Error as error:
            answer = str(error)
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                yield Finding("note", "derived files", f"{file.name} is being written, and was not looked at")
                continue
        looked_at += 1
        if answer != "ok":
            yield Finding(
                "bad", "derived files", f"{file.name}: {clean(str(answer))}", "`eventstore rebuild` makes it again"
            )
    yield Finding(
        "good",
        "derived files",
        f"{some(looked_at, 'cache')} looked at, {size / 1e6:,.1f} MB",
    )


def _sessions(store: str | None, folder: Path | None) -> Iterator[Finding]:
    damaged: list[LogDamaged] = []
    with open_manager(store) as manager:
        from eventstore.derived.listing import Filter
        from eventstore.integrity.known_sessions import lost_ids

        silent, limit = 0, (datetime.now(UTC) - _SILENT).isoformat()
        page = manager.storage.page(Filter(status="active", limit=None), damaged.append)
        silent = sum(
            1 for one in page.sessions if one.updated_at.isoformat() < limit and not _imported(one.custom_metadata)
        )
        trash = manager.trash.list()
        lost = lost_ids(manager.storage)
    if lost:
        names = ", ".join(map(clean, lost[:_MOST_NAMED])) + (", …" if len(lost) > _MOST_NAMED else "")
        yield Finding(
            "bad", "missing", f"the log of {some(len(lost), 'session')} is gone or empty: {names}", "restore a backup"
        )
    for damage in damaged:
        yield Finding(
            "bad",
            "damaged",
            clean(damage.session_id),
            f"`eventstore repair {damage.session_id}` shows what can be done",
        )
    if not damaged:
        yield Finding("good", "logs", "all can be read; `eventstore verify --all` checks every byte")
    if silent:
        yield Finding(
            "note",
            "unfinished",
            f"{some(silent, 'session')} active without an event for a day",
            "`eventstore recover` marks them" if folder else "complete those whose programs you know to be gone",
        )
    if trash:
        size = sum(one.size_bytes for one in trash) / 1e6
        yield Finding(
            "note",
            "trash",
            f"{some(len(trash), 'session')}, {size:,.1f} MB",
            "`eventstore cleanup --yes` empties it in time",
        )
    aside = sum(1 for one in folder.glob("*/quarantine/*")) if folder else 0
    if aside:
        yield Finding(
            "note",
            "quarantine",
            f"{some(aside, 'piece')} of torn or damaged logs kept",
            "look at them, then delete them",
        )


def _imported(custom: dict[str, Any]) -> bool:
    """Return True for a transcript of another tool: no program of ours has it open."""
    return "source" in custom
