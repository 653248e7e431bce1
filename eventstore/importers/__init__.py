"""Foreign transcripts as sessions: one file a format, and `transcript`, which does for all of them what is the same."""

from typing import TYPE_CHECKING

from eventstore.door import open_door

if TYPE_CHECKING:
    from eventstore.importers.archive import Adopted as Adopted
    from eventstore.importers.archive import import_archive as import_archive
    from eventstore.importers.transcript import Imported as Imported
    from eventstore.importers.transcript import import_transcript as import_transcript

__getattr__, __dir__, __all__ = open_door(
    __name__,
    {
        "eventstore.importers.archive": "Adopted import_archive",
        "eventstore.importers.transcript": "Imported import_transcript",
    },
)
