"""Import sessions: transcripts of other tools, and archives of another store."""

from typing import TYPE_CHECKING

from eventstore.door import open_door

if TYPE_CHECKING:
    from eventstore.importers.archive import ImportedArchive as ImportedArchive
    from eventstore.importers.archive import import_archive as import_archive
    from eventstore.importers.transcript import Imported as Imported
    from eventstore.importers.transcript import import_transcript as import_transcript

__getattr__, __dir__, __all__ = open_door(
    __name__,
    {
        "eventstore.importers.archive": "ImportedArchive import_archive",
        "eventstore.importers.transcript": "Imported import_transcript",
    },
)
