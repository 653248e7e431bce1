"""Three tables over one or more sessions: events, tool calls, token usage.

Rows are streamed. The tables of a fork include its inherited rows, with `inherited` true. To sum over related sessions, use
only rows with `inherited` false; then nothing counts twice.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from eventstore.events import InvocationLinked, MessageAdded, UnknownEvent, UsageRecorded
from eventstore.exporters.records import (
    Calls,
    Record,
    Source,
    beginnings,
    last_events,
    reasons,
    records,
    sessions_of,
    text_of,
)
from eventstore.exporters.sheet import Cell, Column, to_csv, to_json, write_parquet
from eventstore.log.engine import EventLog
from projections import timeline

TableName: TypeAlias = Literal["events", "calls", "usage"]
TextForm: TypeAlias = Literal["csv", "json", "jsonl"]
TableRow: TypeAlias = tuple[Cell, ...]

_KINDS = ("input", "output", "cache_read", "cache_write", "reasoning")
_TOKENS = tuple(Column(f"{kind}_tokens", "integer") for kind in _KINDS)
_EVENTS = (
    Column("session_id"),
    Column("seq", "integer"),
    Column("time", "time"),
    Column("recorded_at", "time"),
    Column("type"),
    Column("actor"),
    Column("role"),
    Column("tool"),
    Column("invocation_id"),
    Column("text"),
    Column("duration_ms", "number"),
    Column("success", "boolean"),
    Column("error"),
    Column("model"),
    *_TOKENS,
    Column("cost", "number"),
    Column("hash"),
    Column("redacted"),
    Column("inherited", "boolean"),
)
_CALLS = (
    Column("session_id"),
    Column("invocation_id"),
    Column("tool"),
    Column("time", "time"),
    Column("duration_ms", "number"),
    Column("success", "boolean"),
    Column("error"),
    Column("input"),
    Column("result"),
    Column("seq", "integer"),
    Column("inherited", "boolean"),
)
_USAGE = (
    Column("session_id"),
    Column("seq", "integer"),
    Column("time", "time"),
    Column("model"),
    Column("key"),
    *_TOKENS,
    Column("other_tokens", "integer"),
    Column("cost", "number"),
    *(Column(f"counted_{column.name}", column.kind) for column in _TOKENS),
    Column("counted_other_tokens", "integer"),
    Column("counted_cost", "number"),
    Column("inherited", "boolean"),
)


class Table(NamedTuple):
    """A table: its columns, and a function from (log, session id, version) to its rows."""

    columns: tuple[Column, ...]
    rows: Callable[[EventLog, str, int], Iterator[TableRow]]


def table_rows(source: Source, session_ids: str | Sequence[str], name: TableName = "events") -> Iterator[TableRow]:
    """Stream the rows of a table, session by session, as tuples in the order of `TABLES[name].columns`; times are RFC 3339.

    `events` and `usage` are in log order, `calls` in the order of their last events; a row of `calls` combines all events of the
    call. The `counted_...` columns of `usage` hold only what an event adds to earlier ones of the same key. Raises
    SessionNotFound at the call, LogDamaged when the iteration reaches the damage.
    """
    sessions = sessions_of(source, session_ids)
    rows = TABLES[name].rows
    return (row for log, session_id, version in sessions for row in rows(log, session_id, version))


def export_table(
    source: Source, session_ids: str | Sequence[str], name: TableName = "events", form: TextForm = "csv"
) -> Iterator[bytes]:
    """Stream a table as CSV, as a JSON array, or as JSON lines. The CSV has a byte order mark, for Excel.

    Raises like `table_rows`.
    """
    columns, rows = TABLES[name].columns, table_rows(source, session_ids, name)
    return to_csv(columns, rows, bom=True) if form == "csv" else to_json(columns, rows, lines=form == "jsonl")


def write_table(source: Source, session_ids: str | Sequence[str], path: Path, name: TableName = "events") -> None:
    """Write a table as a Parquet file, atomically. Raises like `table_rows`, and ExtraMissing without duckdb."""
    write_parquet(path, TABLES[name].columns, table_rows(source, session_ids, name))


# --- events


def _event_rows(log: EventLog, session_id: str, version: int) -> Iterator[TableRow]:
    own = beginnings(log, session_id, version)[-1][0]
    state = timeline.State()
    why: dict[int, str] | None = None
    for record in records(log, session_id, 0, version):
        redacted = None
        if record.redacted:
            why = reasons(log, session_id, version) if why is None else why
            redacted = why.get(record.event.seq, "no event records why")
        yield _event_row(session_id, state, record, redacted, inherited=record.event.seq < own)


def _event_row(
    session_id: str, state: timeline.State, record: Record, redacted: str | None, *, inherited: bool
) -> TableRow:
    event = record.event
    row = text_of(state, event)
    actor = (event.by or {}).get("actor")
    linked = event if isinstance(event, InvocationLinked) else None
    used = event if isinstance(event, UsageRecorded) else None
    return (
        session_id,
        event.seq,
        event.time,
        event.at,
        event.type,
        actor if isinstance(actor, str) else None,
        event.role if isinstance(event, MessageAdded) else None,
        row.tool_name,
        getattr(event, "invocation_id", None),
        None if record.redacted or linked or used or isinstance(event, UnknownEvent) else row.text,
        linked.duration_ms if linked else None,
        linked.success if linked else None,
        linked.error if linked else None,
        used.model if used else None,
        *_counts(used.tokens if used else {}),
        used.cost if used else None,
        event.hash,
        redacted,
        inherited,
    )


def _counts(tokens: dict[str, int]) -> tuple[int | None, ...]:
    return tuple(tokens.get(kind) for kind in _KINDS)


def _others(tokens: dict[str, int]) -> int:
    return sum(count for kind, count in tokens.items() if kind not in _KINDS)


# --- calls


def _call_rows(log: EventLog, session_id: str, version: int) -> Iterator[TableRow]:
    own = beginnings(log, session_id, version)[-1][0]
    calls = Calls(last_events(log, session_id, 0, version)[0])
    for record in records(log, session_id, 0, version):
        call = calls.done(record.event)
        if call is not None:
            yield (
                session_id,
                call.invocation_id,
                call.tool_name,
                call.start,
                call.known.duration_ms,
                call.known.success,
                call.known.error,
                call.input.text,
                call.result.text,
                call.seq,
                call.seq < own,
            )


# --- usage


class _Counted(NamedTuple):
    """The maximum of a usage key so far: tokens by kind, and cost."""

    tokens: dict[str, int]
    cost: float


def _usage_rows(log: EventLog, session_id: str, version: int) -> Iterator[TableRow]:
    own = beginnings(log, session_id, version)[-1][0]
    last = last_events(log, session_id, 0, version)[1]
    counted: dict[str, _Counted] = {}
    for record in records(log, session_id, 0, version):
        if isinstance(record.event, UsageRecorded):
            yield _usage_row(session_id, record.event, counted, last, inherited=record.event.seq < own)


def _usage_row(
    session_id: str, event: UsageRecorded, counted: dict[str, _Counted], last: dict[str, int], *, inherited: bool
) -> TableRow:
    known = counted.pop(event.key, _Counted({}, 0.0)) if event.key is not None else _Counted({}, 0.0)
    more = {kind: max(count - known.tokens.get(kind, 0), 0) for kind, count in event.tokens.items()}
    cost = max((event.cost or 0.0) - known.cost, 0.0)
    if event.key is not None and event.seq < last[event.key]:
        most = {kind: known.tokens.get(kind, 0) + more.get(kind, 0) for kind in {**known.tokens, **more}}
        counted[event.key] = _Counted(most, max(event.cost or 0.0, known.cost))
    return (
        session_id,
        event.seq,
        event.time,
        event.model,
        event.key,
        *_counts(event.tokens),
        _others(event.tokens),
        event.cost,
        *(more.get(kind, 0) for kind in _KINDS),
        _others(more),
        cost,
        inherited,
    )


TABLES: dict[TableName, Table] = {
    "events": Table(_EVENTS, _event_rows),
    "calls": Table(_CALLS, _call_rows),
    "usage": Table(_USAGE, _usage_rows),
}
"""The tables by name."""
