"""What an error means over HTTP: a status, and `application/problem+json` (RFC 9457) with our own sentence."""

import msgspec
from starlette.responses import Response

from eventstore import errors

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (errors.SessionNotFound, 404),
    (errors.SessionExists, 409),
    (errors.VersionConflict, 409),
    (errors.IdReused, 409),
    (errors.RedactionRefused, 409),
    (errors.OperationRefused, 409),
    (errors.LogRolledBack, 410),
    (errors.LogDamaged, 409),
    (errors.NotSupported, 501),
    (errors.ExtraMissing, 501),
    (errors.AppendRefused, 503),
    (errors.ReadRefused, 503),
    (errors.OutcomeUnknown, 503),
    (ValueError, 422),
)


class Problem(msgspec.Struct, omit_defaults=True):
    """A problem: `type` names the kind of error, `title` the same for people, `detail` what happened and what to do."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"


class Refusal(Exception):
    """A request that is refused before it reaches a store."""

    def __init__(self, status: int, detail: str, title: str = "Refused") -> None:
        super().__init__(status, detail, title)
        self.problem = Problem(title, status, detail)


def problem_of(error: Exception, path_id: str = "") -> Problem:
    """Describe an error. What is not ours gets no text of its own: it may hold content.

    `path_id` is the session that the path of the request names: if no session can have that id, there is none.
    """
    if isinstance(error, Refusal):
        return error.problem
    for kind, status in _STATUS if not isinstance(error, msgspec.MsgspecError | UnicodeError) else ():
        if isinstance(error, kind):
            if isinstance(error, errors.InvalidSessionId) and error.session_id == path_id:
                status = 404
            if isinstance(error, errors.SessionNotFound) and error.not_begun:
                status = 422
            return Problem(type(error).__name__, status, str(error), f"urn:eventstore:error:{type(error).__name__}")
    if isinstance(error, errors.EventStoreError):
        return Problem(type(error).__name__, 500, str(error), f"urn:eventstore:error:{type(error).__name__}")
    return Problem("Server error", 500, f"{type(error).__name__}: nothing more is shown; see the server's own output")


def answer(problem: Problem) -> Response:
    """Make the response."""
    return Response(msgspec.json.encode(problem), problem.status, media_type="application/problem+json")
