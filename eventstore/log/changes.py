"""Which logs changed. Imports nothing, so that a list of sessions can be current without loading the engine."""

from typing import NamedTuple


class Changes(NamedTuple):
    """The logs that may have changed, and the token to ask with next time; see `EventLog.changed`.

    `logs` maps the id of a log to a short text that differs whenever its content differs; None if the log was deleted.
    `complete`: these are all existing logs; a log that is not named was deleted too.
    """

    logs: list[tuple[str, str | None]]
    token: str
    complete: bool


NO_LOG = "!"
"""The text for an object in the place of a log that is not one, for example a link. Lists report it; it is never followed."""
