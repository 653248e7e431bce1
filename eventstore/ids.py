"""Ids of sessions and logs, names in the trash, safe file names: validation and creation."""

import os
import re
from collections.abc import Container
from datetime import UTC, datetime
from itertools import chain, count
from typing import Literal, TypeAlias

from eventstore.errors import InvalidSessionId

Fsync: TypeAlias = Literal["always", "everysec", "no"]
"""Levels of durability: when an append is flushed to stable storage."""
STORE_ID = "_store"
"""The id of the registry's log. No session can have it: session ids begin with a letter or a digit."""

TEMPLATE = "_template."
"""The prefix of template ids; the name of the template follows. No session id can begin like this, so none is listed."""

TRASH = "_trash/"
"""The prefix of the names of logs in the trash; the name in the trash follows."""

LATEST = "latest"
"""What commands read as the session updated last. No new session may have this id; one of an earlier release opens as before."""

_CHARACTERS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# Windows opens a device instead of a file with such a name, whatever the extension.
_DEVICE = r"(?i:con|prn|aux|nul|com[1-9]|lpt[1-9])(?:\.|\Z)"
_SESSION_ID = re.compile(rf"(?!{_DEVICE}){_CHARACTERS.pattern}(?<!\.)")
_BESIDE = re.compile(
    r"checkpoints/[0-9]{12}-[0-9a-f]{8}\.note|quarantine/[A-Za-z0-9][A-Za-z0-9._-]{0,199}|values/[0-9a-f]{64}", re.ASCII
)
_UNSAFE = re.compile(rb"[^A-Za-z0-9._-]")


def check_session_id(session_id: str, kind: str = "session id") -> str:
    """Validate a session id and return it; `kind` is how errors call a name that follows the same rules.

    Allowed are 1-128 of `A-Z a-z 0-9 . _ -`, a letter or digit first, no dot last, and no Windows device name
    (`con`, `nul.txt`, ...), so that the id is a safe folder name on every system. Raises InvalidSessionId.
    """
    if not isinstance(session_id, str):
        raise InvalidSessionId(repr(session_id), "it is not text", kind)
    if not _SESSION_ID.fullmatch(session_id):
        raise InvalidSessionId(session_id, _why_not(session_id), kind)
    return session_id


def check_new_session_id(session_id: str) -> str:
    """Validate the id of a session that is to be created and return it. Raises InvalidSessionId."""
    if check_session_id(session_id) == LATEST:
        raise InvalidSessionId(session_id, "it is the word for the session updated last")
    return session_id


def check_log_id(log_id: str) -> str:
    """Validate the id of a log and return it: a session's, a template's or the registry's. Raises InvalidSessionId."""
    if log_id == STORE_ID:
        return log_id
    check_session_id(log_id.removeprefix(TEMPLATE) if isinstance(log_id, str) else log_id)
    return log_id


def check_log_name(name: str) -> str:
    """Validate the name of a log and return it: a log id, or `_trash/` and a name in the trash. Raises InvalidSessionId."""
    if isinstance(name, str) and name.startswith(TRASH):
        id_of(name.removeprefix(TRASH))
        return name
    return check_log_id(name)


def owner_of(name: str) -> str:
    """Return the id of the log as it was before it was moved to the trash. The hash chain begins with this id."""
    return id_of(name.removeprefix(TRASH)) if name.startswith(TRASH) else name


def is_attachment(name: str) -> bool:
    """Return True for a valid attachment name: `checkpoints/<size>-<key>.note`, `quarantine/<name>` or `values/<sha256>`."""
    return _BESIDE.fullmatch(name) is not None


def free_name(session_id: str, taken: Container[str]) -> str:
    """Return a name for the trash that is not in `taken`: the id, or the id, `~` and a number."""
    check_session_id(session_id)
    names = chain([session_id], (f"{session_id}~{number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def id_of(name: str) -> str:
    """Return the session id of a name in the trash. Raises InvalidSessionId if it is not a valid name."""
    session_id, tilde, number = name.partition("~")
    if tilde and not (number.isascii() and number.isdecimal()):
        raise InvalidSessionId(name, "its number behind ~ is none", "name in the trash")
    return check_session_id(session_id)


def _why_not(session_id: str) -> str:
    if not session_id:
        return "it is empty"
    if len(session_id) > 128:
        return f"it has {len(session_id)} characters, more than 128"
    if not _CHARACTERS.fullmatch("x" + session_id[1:]):
        return "it contains a character that is not allowed"
    if not _CHARACTERS.fullmatch(session_id):
        return "it does not begin with a letter or digit"
    if session_id.endswith("."):
        return "it ends in a dot"
    return "it is a device name on Windows"


def new_session_id(now: datetime | None = None) -> str:
    """Create an id such as `session_20261123_051701_<32 hex digits>`: the time in UTC, then 128 random bits."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"session_{moment:%Y%m%d_%H%M%S}_{os.urandom(16).hex()}"


_HASHED = "key-"


def session_id_for(external_key: str) -> str:
    """Return the session id for the name, any text, that another program has for a session: always the same one.

    A name that a session may have stays as it is, unless it begins with `key-` or has capital letters, which some file
    systems do not distinguish from small ones. Any other name gives `key-` and 40 hex digits of its SHA-256. Two
    programs that create the session of one name therefore meet at one session.
    """
    from hashlib import sha256

    if not isinstance(external_key, str):
        raise ValueError(f"external_key is a {type(external_key).__name__}, not text; nothing was done")
    if external_key == external_key.lower() and not external_key.startswith(_HASHED):
        try:
            return check_new_session_id(external_key)
        except InvalidSessionId:
            pass
    return _HASHED + sha256(external_key.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def file_name(text: str, limit: int = 200) -> str:
    """Turn any text into a safe file name by percent-encoding.

    ASCII letters, digits, `.`, `_` and `-` stay. Every other byte of the UTF-8 becomes `%XX`. A leading dot is encoded too, so
    that no name is hidden, `.` or `..`. Names over `limit` characters are cut and end in 32 hex digits of their SHA-256.
    """
    if not text:
        return "%"  # no other text gives this name: `%` itself becomes %25
    raw = text.encode("utf-8", "surrogatepass")
    safe = _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], raw).decode("ascii")
    if safe.startswith("."):
        safe = "%2E" + safe[1:]
    if len(safe) <= limit:
        return safe
    from hashlib import sha256

    return f"{safe[: limit - 33]}~{sha256(raw).hexdigest()[:32]}"
