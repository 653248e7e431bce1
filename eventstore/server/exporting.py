"""Downloads of one session: always an attachment, never shown at our origin."""

from collections.abc import Iterator
from io import BytesIO
from typing import Literal

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from eventstore.exporters.questions import audit_session
from eventstore.exporters.report import write_html, write_markdown
from eventstore.ids import check_session_id
from eventstore.server.problems import answer, problem_of
from eventstore.server.route import query_of, read_query
from eventstore.server.shown import show_event
from eventstore.sessions.manager import SessionManager

KINDS = {"html": "text/html; charset=utf-8", "md": "text/markdown; charset=utf-8", "events": "application/x-ndjson"}


class ExportQuery(msgspec.Struct, forbid_unknown_fields=True):
    """`html` and `md` are reports, `events` has one a line."""

    kind: Literal["html", "md", "events"]


async def export(manager: SessionManager, request: Request) -> Response:
    """Download a session: a report (`kind=html`, `md`), or its events, one a line (`events`)."""
    session_id = request.path_params["session_id"]
    try:
        kind = read_query(ExportQuery, query_of(request)).kind
        check_session_id(session_id)
        name = f"{session_id}.{'events.jsonl' if kind == 'events' else kind}"
        headers = {
            "content-disposition": f'attachment; filename="{name}"',
            "content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
        }
        if kind == "events":
            await run_in_threadpool(manager.head, session_id)
            return StreamingResponse(_lines(manager, session_id), media_type=KINDS[kind], headers=headers)
        data = await run_in_threadpool(_report, manager, session_id, kind)
        return Response(data, media_type=KINDS[kind], headers=headers)
    except Exception as error:
        return answer(problem_of(error))


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
    found = [audit_session(manager.storage, session_id)]
    (write_html if kind == "html" else write_markdown)(stream, found)
    return stream.getvalue()
