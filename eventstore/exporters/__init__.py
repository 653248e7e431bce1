"""Export sessions in other formats."""

from typing import TYPE_CHECKING

from eventstore.door import open_door

if TYPE_CHECKING:
    from eventstore.exporters.archive import Archive as Archive
    from eventstore.exporters.archive import export_archive as export_archive
    from eventstore.exporters.bundle import Bundle as Bundle
    from eventstore.exporters.bundle import export_audit as export_audit
    from eventstore.exporters.cloudevents import export_cloudevents as export_cloudevents
    from eventstore.exporters.conversation import Replacement as Replacement
    from eventstore.exporters.conversation import Sharing as Sharing
    from eventstore.exporters.conversation import export_conversation as export_conversation
    from eventstore.exporters.conversation import plan_sharing as plan_sharing
    from eventstore.exporters.otlp import export_otlp as export_otlp
    from eventstore.exporters.questions import Audited as Audited
    from eventstore.exporters.questions import audit_session as audit_session
    from eventstore.exporters.report import write_html as write_html
    from eventstore.exporters.report import write_markdown as write_markdown
    from eventstore.exporters.tables import export_table as export_table
    from eventstore.exporters.tables import write_table as write_table
    from eventstore.exporters.transcript import export_transcript as export_transcript

__getattr__, __dir__, __all__ = open_door(
    __name__,
    {
        "eventstore.exporters.archive": "Archive export_archive",
        "eventstore.exporters.bundle": "Bundle export_audit",
        "eventstore.exporters.cloudevents": "export_cloudevents",
        "eventstore.exporters.conversation": "Replacement Sharing export_conversation plan_sharing",
        "eventstore.exporters.otlp": "export_otlp",
        "eventstore.exporters.questions": "Audited audit_session",
        "eventstore.exporters.report": "write_html write_markdown",
        "eventstore.exporters.tables": "export_table write_table",
        "eventstore.exporters.transcript": "export_transcript",
    },
)
