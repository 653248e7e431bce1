"""Lines: one event is one line. Nothing here opens a file or knows what an event means for a session."""

from typing import TYPE_CHECKING

from eventstore.door import open_door

if TYPE_CHECKING:
    from eventstore.record.message_run import Message as Message
    from eventstore.record.message_run import MessageRun as MessageRun
    from eventstore.record.salvage import Remnant as Remnant

__getattr__, __dir__, __all__ = open_door(
    __name__,
    {
        "eventstore.record.message_run": "Message MessageRun",
        "eventstore.record.salvage": "Remnant",
    },
)
