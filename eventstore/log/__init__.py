"""Logs: append, read and verify lines of bytes. What events mean for a session is not known here."""

from typing import TYPE_CHECKING

from eventstore.door import open_door

if TYPE_CHECKING:
    from eventstore.log.base import Append as Append
    from eventstore.log.base import Appended as Appended
    from eventstore.log.base import Head as Head
    from eventstore.log.base import Repair as Repair
    from eventstore.log.base import Written as Written
    from eventstore.log.engine import EventLog as EventLog
    from eventstore.log.watch import Watch as Watch

__getattr__, __dir__, __all__ = open_door(
    __name__,
    {
        "eventstore.log.base": "Append Appended Head Repair Written",
        "eventstore.log.engine": "EventLog",
        "eventstore.log.watch": "Watch",
    },
)
