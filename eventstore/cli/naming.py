"""Names of sessions as people write them. Every command that takes a session asks here which one is meant.

ID           the complete id
BEGINNING    a unique beginning of an id that is no complete id of a session in the trash, or for what cannot be undone of
             one that is gone; of a generated id also of its random part, of a sub-agent's id of its last part
latest       the session updated last, without sub-agents: the first one of `eventstore list`
latest:NAME  the one of the project NAME updated last
-            the one that a command named last
KEY          the external key of a session: the name that an agent framework or another program has for it
NAME:SEQ     event SEQ of any of these, where a command takes a moment or an event
"""

import os
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from eventstore.cli import when
from eventstore.cli.place import ids_in, locate
from eventstore.cli.terminal import clean, is_terminal, one_line
from eventstore.errors import InvalidSessionId, LogDamaged, NoSuchMoment, SessionNotFound
from eventstore.ids import LATEST, STORE_ID, TEMPLATE, check_session_id, session_id_for
from eventstore.record import clock
from projections.project import is_in_project
from projections.project import project_of as folder_of

if TYPE_CHECKING:
    from eventstore import SessionManager
    from eventstore.store import Trashed

LAST = "-"
_GENERATED = re.compile(r"session_\d{8}_\d{6}_(?=[0-9a-f]{32})|key-(?=[0-9a-f]{40}$)|mcp_(?=[0-9a-f]{32}$)", re.ASCII)
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_RANDOM = re.compile(rf"{_UUID}|[0-9a-f]{{8,}}", re.ASCII)
_ROLLOUT = re.compile(rf"rollout-.*-({_UUID})", re.ASCII)
_SHORTEST = 8
_MOST_SHOWN = 4
_MOST_COMPARED = 2_000  # ids: comparing more for a suggestion takes longer than a person waits
_PAGE = 1_000
_MOST_DIGITS = 18


class NoSuchName(click.ClickException):
    """No session, or more than one, has this name. The text has what was found, where it was searched, and what to do."""


def session(manager: "SessionManager", text: str, *, fixed: bool = False, logs: bool = False) -> str:
    """Return the id of the session that a text names. Raises NoSuchName, InvalidSessionId.

    `fixed` refuses names that mean another session later: for what cannot be undone. `logs` takes the registry and templates.
    """
    if logs and (text == STORE_ID or text.startswith(TEMPLATE)):
        return text
    found = _named(manager, text, fixed=fixed)
    if found is None:
        found = _by_beginning(manager, text, fixed=fixed)
    remember(manager, found)
    return found


def sessions(manager: "SessionManager", texts: Iterable[str], *, fixed: bool = False, logs: bool = False) -> list[str]:
    """Return the ids of the sessions that texts name, in their order. Raises as `session` does."""
    return [session(manager, text, fixed=fixed, logs=logs) for text in texts]


def at_moment(manager: "SessionManager", text: str, at: str | int | None) -> tuple[str, str | int | None]:
    """Return the session and the moment of NAME or NAME:SEQ.

    Raises as `session` does, UsageError for two moments, and NoSuchMoment for one before the first event.
    """
    name, seq = split(text)
    if seq is not None and at is not None:
        raise click.UsageError(f"{clean(text)} names a moment, and --at another: use one of them")
    session_id, moment = session(manager, name), at if seq is None else seq
    if moment is not None:
        _check_begun(manager, session_id, moment)
    return session_id, moment


def _check_begun(manager: "SessionManager", session_id: str, at: str | int) -> None:
    from eventstore.events import RedactedEvent  # imported here: a list needs none

    first = next(manager.events(session_id), None)
    if first is None or isinstance(first, RedactedEvent):
        return  # when a redacted event happened is not always known: the command finds out
    began = clock.to_datetime(first.time)
    if at == 0 or (isinstance(at, str) and clock.to_datetime(at) < began):
        reason = f"session {session_id!r} had no event yet; its first one is of {when.moment(began)}"
        raise NoSuchMoment(at, reason)


def split(text: str) -> tuple[str, int | None]:
    """Split NAME:SEQ; SEQ is None if there is none. No id contains a colon."""
    name, _, tail = text.rpartition(":")
    if name and tail.isdecimal() and tail.isascii() and len(tail) < _MOST_DIGITS:
        return name, int(tail)
    return text, None


def trashed(manager: "SessionManager", text: str) -> "Trashed":
    """Return the session in the trash that a text names: the one trashed last, if several have its id. Raises NoSuchName."""
    there = manager.trash.list()
    names = sorted({one.session_id for one in there} | {one.name for one in there})
    fitting = [text] if text in names else _fitting(text, names)
    if len({one.partition("~")[0] for one in fitting}) == 1:
        return next(one for one in there if fitting[0] in (one.name, one.session_id))
    if fitting:
        _refuse_several(text, fitting)
    if exists(manager, text):
        raise NoSuchName(f"session {_quoted(text)} is not in the trash but in the store; nothing was done")
    hint = f": `eventstore trash` lists the {_count(len(names))} in it" if names else ", which is empty"
    raise NoSuchName(f"session {_quoted(text)} not found in the trash{hint}; nothing was done")


# --- which session is meant


def _named(manager: "SessionManager", text: str, *, fixed: bool) -> str | None:
    """Return the session with exactly this id, or the session that a word means; None if the text may be a beginning."""
    if text == LAST:
        _need_fixed(text, fixed=fixed)
        return _last(manager)
    if text == LATEST or text.startswith(f"{LATEST}:"):
        if text == LATEST and exists(manager, text):
            return text
        _need_fixed(text, fixed=fixed)
        return _latest(manager, text.partition(":")[2])
    if keyed := _keyed(manager, text):
        return keyed
    if ":" in text:
        name = text.partition(":")[0]
        raise click.UsageError(
            f"{_quoted(text)} is no session: behind the colon stands the number of one event, as in {clean(name) or 'latest'}:3"
        )
    if "/" in text:
        found = [one.session_id for one in manager.page_sessions(external_key=text, limit=2).sessions]
        if len(found) == 1:
            return found[0]
        if found:
            raise NoSuchName(
                f"{_quoted(text)} is the external key of several sessions; nothing was done: {', '.join(found)}"
            )
        raise NoSuchName(f"no session in {_store(manager)} has the external key {_quoted(text)}; nothing was done")
    check_session_id(text.rstrip(".") or text)
    return text if exists(manager, text) else None


def _keyed(manager: "SessionManager", text: str) -> str | None:
    """Return the session that another program knows by this text, if no session can have it as its id; None if there is none."""
    try:
        check_session_id(text)
    except InvalidSessionId:
        found = session_id_for(text)
        return found if exists(manager, found) else None
    return None


def _need_fixed(text: str, *, fixed: bool) -> None:
    if fixed:
        raise click.UsageError(f"{text} can mean another session later: give the id, for this cannot be undone")


def exists(manager: "SessionManager", text: str) -> bool:
    """Return True if a session has exactly this id; one whose log is damaged too."""
    try:
        manager.storage.log.tail_position(check_session_id(text))
    except LogDamaged:
        return True
    except (SessionNotFound, ValueError):
        return False
    return True


def _latest(manager: "SessionManager", project: str) -> str:
    """Return the session that `list` shows first: no sub-agent of one that is there too."""
    from eventstore.derived.listing import Filter
    from eventstore.store.pages import warn_damaged

    wanted = Filter(limit=_PAGE if project else 1, sub_agents=False)
    page = manager.storage.page(wanted, warn_damaged)
    while True:
        for one in page.sessions:
            if not project or is_of(one.custom_metadata, as_project(project)):
                return one.session_id
        if page.cursor is None:
            break
        page = manager.storage.page(wanted._replace(cursor=page.cursor), warn_damaged)
    if not project:
        raise NoSuchName(f"there is no latest session: {_store(manager)} has none; nothing was done")
    raise NoSuchName(f"no session in {_store(manager)} is of project {_quoted(project)}; nothing was done")


def project_of(custom_metadata: Mapping[str, Any]) -> str:
    """Return the name of a session's project, which is that of its folder; an empty text where it is not known."""
    return (folder_of(custom_metadata) or "").replace("\\", "/").rstrip("/").rpartition("/")[2]


def as_project(project: str) -> str:
    """Return the path of a folder that is given relative to this one; a name as it is."""
    return str(Path(project).expanduser().resolve()) if project.startswith((".", "~")) else project


def is_of(custom_metadata: Mapping[str, Any], project: str) -> bool:
    """Return True if a session is of a project: in a folder of that name, or below that path."""
    return is_in_project(folder_of(custom_metadata), project)


def _by_beginning(manager: "SessionManager", text: str, *, fixed: bool) -> str:
    ids = list(manager.storage.log.ids())
    fitting = _fitting(text, ids)
    if len(fitting) > 1:
        _refuse_several(text, fitting)
    # Whose complete id the text was: `delete run-1` again must not delete run-10, whose id begins with it.
    if _is_in_trash(manager, text):
        raise NoSuchName(
            f"session {_quoted(text)} is in the trash; nothing was done: `eventstore restore {text}` brings it back"
        )
    if fitting and fixed and manager.storage.registry.look(lambda state: text in state.used or text in state.there):
        raise NoSuchName(
            f"session {_quoted(text)} is no longer in the store; nothing was done: "
            f"to name {_quoted(fitting[0])}, give more of its id"
        )
    if fitting:
        return fitting[0]
    from eventstore.integrity.known_sessions import lost_ids

    if text in lost_ids(manager.storage):
        raise NoSuchName(f"session {_quoted(text)} has no log any more, and was not deleted: restore a backup of it")
    raise NoSuchName(f"session {_quoted(text)} not found{_where(manager, text, ids)}")


def _is_in_trash(manager: "SessionManager", session_id: str) -> bool:
    with suppress(FileNotFoundError):  # a store without a trash
        return any(name.partition("~")[0] == session_id for name in manager.storage.log.trashed())
    return False


def _fitting(text: str, ids: Iterable[str]) -> list[str]:
    """Return the ids that a beginning fits; of a session and its sub-agents only the session."""
    found = sorted({one for one in ids if any(alias.startswith(text) for alias in aliases(one))})
    if len(found) > 1 and all(one.startswith(f"{found[0]}.") for one in found[1:]):
        return found[:1]
    return found


def aliases(session_id: str) -> Sequence[str]:
    """Return the texts that a name may be a beginning of: the id, and its last part if the part before it is not specific."""
    if found := _GENERATED.match(session_id):
        return session_id, session_id[found.end() :]
    if found := _ROLLOUT.fullmatch(session_id):
        return session_id, found[1]
    _, agent, rest = session_id.rpartition(".agent-")
    return (session_id, f"agent-{rest}", rest) if agent and rest else (session_id,)


def _refuse_several(text: str, fitting: Sequence[str]) -> NoReturn:
    shown = ", ".join(fitting[:_MOST_SHOWN])
    more = f" and {len(fitting) - _MOST_SHOWN:,} more" if len(fitting) > _MOST_SHOWN else ""
    raise NoSuchName(f"{_quoted(text)} is the beginning of {len(fitting):,} sessions; nothing was done: {shown}{more}")


# --- texts about a name that was not found


def _where(manager: "SessionManager", text: str, ids: Sequence[str]) -> str:
    if not ids:
        return f": {_store(manager)} has no sessions; `eventstore where` shows where others are looked for"
    meant = _similar(text, ids) or _by_purpose(manager, text)
    hint = f"did you mean {meant}?" if meant else "`eventstore list` shows them all"
    return f" in {_store(manager)}, which has {_count(len(ids))}: {hint}"


def _similar(text: str, ids: Sequence[str]) -> str:
    from difflib import get_close_matches

    if len(ids) > _MOST_COMPARED:
        ids = [one for one in ids if one[:2] == text[:2]][:_MOST_COMPARED]
    known = {alias[: max(len(text), _SHORTEST)]: one for one in ids for alias in aliases(one)}
    found = dict.fromkeys(known[close] for close in get_close_matches(text, known, 2, 0.7))
    return " or ".join(map(repr, found))


def _by_purpose(manager: "SessionManager", text: str) -> str:
    found = manager.page_sessions(purpose=text, limit=1).sessions
    return f"{found[0].session_id!r}, {one_line(found[0].purpose or '', 40)}" if found else ""


def _count(number: int) -> str:
    return f"{number:,} session{'' if number == 1 else 's'}"


def _store(manager: "SessionManager") -> str:
    """Name the place of a store for an error."""
    folder = getattr(manager.storage, "sessions_dir", None)
    if folder is None:
        return "the store"
    return clean(str(folder.absolute())) + ("" if folder.is_dir() else " (not created yet)")


def _quoted(text: str) -> str:
    return f"'{one_line(text, 80)}'"


# --- the session that was named last


def remember(manager: "SessionManager", session_id: str) -> None:
    """Record the session that a command named, for `-`. Does nothing if that is refused: it is a convenience."""
    path = _memory(manager)
    if path is None:
        return
    with suppress(OSError):
        if not path.exists() or path.read_text("utf-8", "replace") != session_id:
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
            new = path.with_name(f".{path.name}.{os.getpid()}")
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
                stream.write(session_id)
            new.replace(path)


def _last(manager: "SessionManager") -> str:
    path, found = _memory(manager), ""
    if path is not None:
        with suppress(OSError):
            found = path.read_text("utf-8", "replace")
    if not found:
        raise NoSuchName("'-' is the session that a command named last, and none was named yet; nothing was done")
    if not exists(manager, found):
        raise NoSuchName(
            f"'-' is session {_quoted(found)}, which is not in {_store(manager)} any more; nothing was done"
        )
    return found


def _memory(manager: "SessionManager") -> Path | None:
    """Return the file that remembers the last session of a store. It is the user's, not the store's, which may be read-only."""
    folder = getattr(manager.storage, "sessions_dir", None)
    if folder is None:
        return None
    from hashlib import sha256

    try:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(base, "eventstore", f"last-{sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}")
    except (OSError, RuntimeError):
        return None


# --- short ids


class ShortIds:
    """Shortens ids so that each stays a unique name among all of a store."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._known = sorted(alias for one in ids for alias in aliases(one))

    def __call__(self, session_id: str) -> str:
        """Return a short name of an id: eight characters of what is random, more where they are not unique."""
        alias = aliases(session_id)[-1]
        if not _RANDOM.fullmatch(alias):
            return session_id
        place = bisect_left(self._known, alias)
        while place < len(self._known) and (
            self._known[place] == alias or self._known[place].startswith(f"{session_id}.")
        ):
            place += 1  # itself, and its sub-agents: a beginning of both is the session
        before = bisect_left(self._known, alias) - 1
        near = [self._known[one] for one in (before, place) if 0 <= one < len(self._known)]
        common = max((_common(alias, other) for other in near), default=0)
        return alias[: max(_SHORTEST, common + 1)].rstrip("-._")


def short_ids(store: str | None, shown: Sequence[str]) -> ShortIds:
    """Return a function that shortens the shown ids, unique in the store if its folder lists them.

    Only a terminal shows short ids, so only then the folder is read: 0.2 s for 100,000 sessions.
    """
    folder = locate(store).sessions if is_terminal() else None
    return ShortIds({*shown, *(ids_in(folder) if folder else ())})


def _common(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
