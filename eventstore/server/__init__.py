"""The server: a JSON API over sessions, live streams, and the page. It needs the extra `serve`."""

from typing import TYPE_CHECKING

from eventstore.door import open_door

if TYPE_CHECKING:
    from eventstore.server.app import Access as Access
    from eventstore.server.app import Application as Application
    from eventstore.server.serve import Server as Server
    from eventstore.server.serve import Started as Started

__getattr__, __dir__, __all__ = open_door(
    __name__,
    {
        "eventstore.server.app": "Access Application",
        "eventstore.server.serve": "Server Started",
    },
)
