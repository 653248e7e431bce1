"""What an error of psycopg means at the port: refused, unclear, or another writer was first."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from eventstore.log.port import Moved, PortError, Refused, Unclear

# Classes of SQLSTATE after which it is unknown whether the transaction was committed: the connection broke, the server shut
# down or failed internally. (A pooler reports a dead server as a protocol violation, 08P01.)
_UNCLEAR = ("08", "57P", "58", "XX", "40003")
_ERRNO = {
    "53100": errno.ENOSPC,
    "53200": errno.ENOMEM,
    "53300": errno.EAGAIN,
    "25006": errno.EROFS,
    "42501": errno.EACCES,
}


WRONG_URL = "the URL has a part that PostgreSQL does not know"


class NotConnected(Exception):
    """There was no connection: nothing was sent. The text is the reason, without a password."""


def code_of(error: BaseException) -> str:
    """Return the SQLSTATE of an error; empty if the server gave none."""
    return (error.sqlstate or "") if isinstance(error, psycopg.Error) else ""


def is_lost(error: BaseException) -> bool:
    """Return whether the connection can no longer be used."""
    code = code_of(error)
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and (
        not code or code.startswith(("08", "57P"))
    )


def translate(error: BaseException, log: str, where: str) -> PortError:
    """Translate an error of psycopg, in a statement that writes, into the port's error."""
    code = code_of(error)
    if isinstance(error, NotConnected):
        return Refused(f"{where}: {error}", _no_connection(str(error)), "no connection")
    if isinstance(error, errors.UniqueViolation):
        return Moved(log)
    cause = f"SQLSTATE {code}" if code else "the connection was lost"
    if not code or code.startswith(_UNCLEAR):
        return Unclear(where, errno.ECONNRESET, cause)
    return Refused(where, _ERRNO.get(code, errno.EIO), cause)


def _no_connection(reason: str) -> int:
    """Return the number of the system's error for a reason: psycopg has no other form of it."""
    if reason == WRONG_URL:
        return errno.EINVAL
    if "onnection refused" in reason:
        return errno.ECONNREFUSED
    return errno.ETIMEDOUT if "timeout expired" in reason else errno.ENOTCONN


@contextmanager
def translated(log: str, where: str) -> Iterator[None]:
    """Raise errors of psycopg as errors of the port. Their text may contain content, so it is not passed on."""
    try:
        yield
    except (psycopg.Error, NotConnected) as error:
        raise translate(error, log, where) from None
