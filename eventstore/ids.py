"""Names of sessions and of files: which are allowed, how new ones are made, how odd ones become safe file names."""

import os
import re
from collections.abc import Container
from datetime import UTC, datetime
from itertools import chain, count
from typing import Literal, TypeAlias

from eventstore.errors import InvalidSessionId

Fsync: TypeAlias = Literal["always", "everysec", "no"]
"""Levels of durability: when an append is on stable storage."""
STORE_ID = "_store"
"""The id of the store's own log. No session can have it: session ids begin with a letter or a digit."""

TEMPLATE = "_template."
"""What the ids of templates begin with, behind which is their name. No session can have such an id, so none is listed."""

TRASH = "_trash/"
"""What the names of logs in the trash begin with, behind which is the name they have there."""

_SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_DEVICES = frozenset(["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))])
_BESIDE = re.compile(r"checkpoints/[0-9]{12}-[0-9a-f]{8}\.note|quarantine/[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)
_UNSAFE = re.compile(rb"[^A-Za-z0-9._-]")


def check_session_id(session_id: str) -> str:
    """Return the id if a session may have it.

    Allowed are 1-128 of `A-Z a-z 0-9 . _ -`, a letter or digit first, no dot last, and no device name of Windows
    (`con`, `nul.txt`, ...), so that the id is a safe folder name everywhere. Raises InvalidSessionId.
    """
    if not isinstance(session_id, str):
        raise InvalidSessionId(repr(session_id), "it is not text")
    if not _SESSION_ID.fullmatch(session_id):
        raise InvalidSessionId(session_id, _why_not(session_id))
    if session_id.endswith("."):
        raise InvalidSessionId(session_id, "it ends in a dot")
    if session_id.partition(".")[0].lower() in _DEVICES:
        raise InvalidSessionId(session_id, "it is a device name on Windows")
    return session_id


def check_log_id(log_id: str) -> str:
    """Return the id if a log may have it: a session's, a template's, or the store's own. Raises InvalidSessionId."""
    if log_id == STORE_ID:
        return log_id
    check_session_id(log_id.removeprefix(TEMPLATE) if isinstance(log_id, str) else log_id)
    return log_id


def check_log_name(name: str) -> str:
    """Return the name if a log may have it: an id of a log, or the name of one in the trash. Raises InvalidSessionId."""
    if isinstance(name, str) and name.startswith(TRASH):
        id_of(name.removeprefix(TRASH))
        return name
    return check_log_id(name)


def owner_of(name: str) -> str:
    """Return the id that a log's chain begins with: that of the session it was before it was put in the trash."""
    return id_of(name.removeprefix(TRASH)) if name.startswith(TRASH) else name


def is_beside(name: str) -> bool:
    """Tell whether a file may have that name beside a log: `checkpoints/<size>-<key>.note` or `quarantine/<name>`."""
    return _BESIDE.fullmatch(name) is not None


def free_name(session_id: str, taken: Container[str]) -> str:
    """Make a name for the trash that is not taken: the id, or the id, `~` and a number."""
    check_session_id(session_id)
    names = chain([session_id], (f"{session_id}~{number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def id_of(name: str) -> str:
    """Tell the id of a session by its name in the trash. Raises InvalidSessionId for what is no such name."""
    session_id, tilde, number = name.partition("~")
    if tilde and not (number.isascii() and number.isdecimal()):
        raise InvalidSessionId(name, "it is no name of the trash")
    return check_session_id(session_id)


def _why_not(session_id: str) -> str:
    if not session_id:
        return "it is empty"
    if len(session_id) > 128:
        return f"it has {len(session_id)} characters, more than 128"
    if _SESSION_ID.fullmatch("x" + session_id[1:]):
        return "it does not begin with a letter or digit"
    return "it holds a character that is not allowed"


def new_session_id(now: datetime | None = None) -> str:
    """Make up an id such as `session_20261123_051701_<32 hex digits>`: UTC seconds, then 128 random bits."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"session_{moment:%Y%m%d_%H%M%S}_{os.urandom(16).hex()}"


def file_name(text: str, limit: int = 200) -> str:
    """Turn any text into one safe file name by percent-encoding what is odd.

    Letters, digits, `.`, `_` and `-` stay; every other byte of the UTF-8 becomes `%XX`, a leading dot too, so that no name
    is hidden, `.` or `..`. Names over `limit` characters are cut and end in 32 hex digits of their SHA-256.
    """
    if not text:
        return "%"
    raw = text.encode("utf-8", "surrogatepass")
    safe = _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], raw).decode("ascii")
    if safe.startswith("."):
        safe = "%2E" + safe[1:]
    if len(safe) <= limit:
        return safe
    from hashlib import sha256

    return f"{safe[: limit - 33]}~{sha256(raw).hexdigest()[:32]}"
