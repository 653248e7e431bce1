"""Downloads of one session: always an attachment, never shown at our origin."""

from collections.abc import Iterator
from io import BytesIO
from typing import Literal

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from eventstore.exporters.conversation import export_conversation
from eventstore.exporters.otlp import export_otlp
from eventstore.exporters.questions import audit_with_sub_agents
from eventstore.exporters.report import write_html, write_markdown
from eventstore.exporters.tables import TableName, export_table
from eventstore.ids import check_session_id
from eventstore.server.arguments import read_query
from eventstore.server.live import Live
from eventstore.server.one_file import export_page
from eventstore.server.problems import answer, problem_of
from eventstore.server.route import query_of
from eventstore.server.shown import show_event
from eventstore.sessions.manager import SessionManager

KINDS = {
    "html": "text/html; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "report-html": "text/html; charset=utf-8",
    "report-md": "text/markdown; charset=utf-8",
    "events": "application/x-ndjson",
    "otlp": "application/json",
    "csv": "text/csv; charset=utf-8",
}
_ENDINGS = {"events": "events.jsonl", "otlp": "otlp.json", "report-html": "report.html", "report-md": "report.md"}


class ExportQuery(msgspec.Struct, forbid_unknown_fields=True):
    """`html` is the page with the session in it, `md` its conversation; `report-html` and `report-md` are the audit report.

    These are the files of `eventstore export` and `eventstore audit report`. `events` has one a line, `otlp` is a trace, `csv` a
    table. The trace has names, numbers and times; with `content` also texts, arguments and results.
    """

    kind: Literal["html", "md", "report-html", "report-md", "events", "otlp", "csv"]
    table: TableName = "events"
    content: bool = False


async def export(live: Live, request: Request) -> Response:
    """Download a session: its page, conversation or report, its events, a trace or a table."""
    manager, session_id = live.manager, request.path_params["session_id"]
    try:
        asked = read_query(ExportQuery, query_of(request))
        kind = asked.kind
        check_session_id(session_id)
        name = f"{session_id}.{_ENDINGS.get(kind, kind)}"
        headers = {
            "content-disposition": f'attachment; filename="{name}"',
            "content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
        }
        if not kind.startswith("report-"):
            await run_in_threadpool(manager.head, session_id)
            pieces = _pieces(manager, session_id, asked)
            return StreamingResponse(pieces, media_type=KINDS[kind], headers=headers)
        data = await run_in_threadpool(_report, manager, session_id, kind)
        return Response(data, media_type=KINDS[kind], headers=headers)
    except Exception as error:
        return answer(problem_of(error, session_id))


def _pieces(manager: SessionManager, session_id: str, asked: ExportQuery) -> Iterator[bytes]:
    if asked.kind == "html":
        return export_page(manager, session_id)
    if asked.kind == "md":
        return export_conversation(manager, session_id, "markdown")
    if asked.kind == "otlp":
        return export_otlp(manager, session_id, content=asked.content)
    if asked.kind == "csv":
        return export_table(manager, session_id, asked.table)
    return _lines(manager, session_id)


def _lines(manager: SessionManager, session_id: str) -> Iterator[bytes]:
    """Stream the events without their salts."""
    parts: list[bytes] = []
    for event in manager.events(session_id):
        parts.append(msgspec.json.encode(show_event(event)))
        if len(parts) == 200:
            yield b"\n".join(parts) + b"\n"
            parts.clear()
    if parts:
        yield b"\n".join(parts) + b"\n"


def _report(manager: SessionManager, session_id: str, kind: str) -> bytes:
    stream = BytesIO()
    found = [audit_with_sub_agents(manager.storage, session_id)]
    (write_html if kind == "report-html" else write_markdown)(stream, found)
    return stream.getvalue()
