"""Sessions in other formats: what comes out is what was recorded, as others read it."""

import csv
import io
import json
import shutil
import sys
import tracemalloc
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
import tablib  # type: ignore[import-untyped]
from cloudevents.core.bindings import http
from golden_events import EVENTS
from google.protobuf import json_format
from histories import HISTORIES
from hypothesis import given
from msgspec.structs import replace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from transcripts import claude_session, lines

from eventstore import FileSystemSessionStorage, MemorySessionStorage, SessionManager, SessionNotFound, SessionStorage
from eventstore import events as e
from eventstore.errors import ExtraMissing
from eventstore.exporters.cloudevents import export_cloudevents
from eventstore.exporters.otlp import export_otlp
from eventstore.exporters.sheet import Cell, Column, harmless, to_csv, to_json, write_parquet
from eventstore.exporters.tables import TABLES, TableName, export_table, table_rows, write_table
from eventstore.importers.formats import FORMATS
from eventstore.importers.transcript import import_transcript
from eventstore.record import clock, codec, hash_chain

NAMES: list[TableName] = ["events", "calls", "usage"]
HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "  =1",
    "\u00a0=1",
    "\uff1d1",
    "\uff0b1",
    "\uff0d1",
    "\uff201",
    "=cmd|'/c calc'!A1",
    "\0=1",
]


def at(second: float) -> str:
    return f"2026-01-01T10:00:{second:09.6f}Z"


@pytest.fixture
def told(manager: SessionManager) -> SessionManager:
    """A session with a call that goes well, one that fails, one without an end, and a use told of twice."""
    manager.create_session("s", purpose="secret purpose", user_id="ana", by={"actor": "bot"}, occurred_at=at(0))
    manager.add_conversation_message("s", "user", "secret question", occurred_at=at(1))
    manager.add_conversation_message("s", "assistant", '{"q": "secret"}', "grep", "i1", occurred_at=at(2))
    manager.link_invocation("s", "i1", "grep", None, occurred_at=at(2.5))
    manager.record_usage("s", {"input": 10, "output": 2}, 0.5, "claude-x", "k", occurred_at=at(3))
    manager.link_invocation("s", "i1", None, None, 1500.0, success=True, occurred_at=at(4))
    manager.add_conversation_message("s", "tool", "secret answer", "grep", "i1", occurred_at=at(4))
    manager.link_invocation("s", "i2", "rm", None, occurred_at=at(5))
    manager.link_invocation("s", "i2", None, None, success=False, error="OSError: secret", occurred_at=at(6))
    manager.record_usage("s", {"input": 12, "output": 1}, 0.75, "claude-x", "k", occurred_at=at(7))
    manager.record_usage("s", {"input": 1, "cache_read": 30, "audio": 4}, None, "gpt-9", occurred_at=at(8))
    manager.link_invocation("s", "i3", "=sleep", None, 20_000.0, occurred_at=at(9))
    manager.set_data("s", "secret key", "secret value", occurred_at=at(10))
    manager.storage.append("s", [e.ReasoningRecorded(content="secret thought", occurred_at=at(11))])
    return manager


# --- OTLP


class Span(NamedTuple):
    """A span as the protocol's own library reads it."""

    proto: Any
    known: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.proto.name)


def spans_of(told: bytes) -> list[Span]:
    """Read one line as a collector does: ids are hex in OTLP/JSON, where the library's own mapping wants base64."""

    def encoded(found: dict[str, Any]) -> dict[str, Any]:
        for name, size in (("traceId", 16), ("spanId", 8), ("parentSpanId", 8)):
            if name in found:
                digest = bytes.fromhex(found[name])
                assert len(digest) == size
                assert any(digest)
                found[name] = b64encode(digest).decode()
        return found

    raw = json.loads(told, object_hook=encoded)
    request = json_format.ParseDict(raw, ExportTraceServiceRequest())
    (resource,) = request.resource_spans
    (scope,) = resource.scope_spans
    assert values(resource.resource.attributes)["service.name"]
    return [Span(span, values(span.attributes)) for span in scope.spans]


def values(attributes: Any) -> dict[str, Any]:
    found = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
    assert len(found) == len(attributes)
    return found


def exported(manager: SessionManager, *session_ids: str, content: bool = False) -> list[list[Span]]:
    told = b"".join(export_otlp(manager, session_ids, content=content))
    return [spans_of(line) for line in told.splitlines()]


def check_trace(spans: list[Span]) -> Span:
    """Look for one root, above all others and around them in time."""
    (root,) = [span for span in spans if not span.proto.parent_span_id]
    assert len({span.proto.span_id for span in spans}) == len(spans)
    assert {span.proto.trace_id for span in spans} == {root.proto.trace_id}
    for span in spans:
        assert span.proto.parent_span_id in (b"", root.proto.span_id)
        assert root.proto.start_time_unix_nano <= span.proto.start_time_unix_nano <= span.proto.end_time_unix_nano
        assert span.proto.end_time_unix_nano <= root.proto.end_time_unix_nano
        for event in span.proto.events:
            assert root.proto.start_time_unix_nano <= event.time_unix_nano <= root.proto.end_time_unix_nano
    return root


def seconds(span: Span) -> tuple[float, float]:
    zero = int(clock.to_datetime(at(0)).timestamp()) * 10**9
    return (span.proto.start_time_unix_nano - zero) / 1e9, (span.proto.end_time_unix_nano - zero) / 1e9


def test_a_session_is_a_trace_with_its_calls_and_uses_below_the_agent(told: SessionManager) -> None:
    (spans,) = exported(told, "s")
    root = check_trace(spans)
    assert root.name == "invoke_agent bot"
    assert root.known["gen_ai.operation.name"] == "invoke_agent"
    assert root.known["gen_ai.conversation.id"] == "s"
    assert root.known["gen_ai.agent.name"] == "bot"
    assert root.known["enduser.id"] == root.known["user.id"] == "ana"
    names = sorted(span.name for span in spans)
    assert names == [
        "chat claude-x",
        "chat gpt-9",
        "execute_tool =sleep",
        "execute_tool grep",
        "execute_tool rm",
        "invoke_agent bot",
    ]
    assert [event.name for event in root.proto.events] == [
        "session.created",
        "message.added",
        "message.added",
        "message.added",
        "data.set",
        "reasoning.recorded",
    ]


def test_spans_have_the_times_that_were_told(told: SessionManager) -> None:
    by_name = {span.name: seconds(span) for span in exported(told, "s")[0]}
    assert by_name["execute_tool grep"] == (2.0, 3.5)
    assert by_name["execute_tool rm"] == (5.0, 6.0)
    assert by_name["execute_tool =sleep"] == (9.0, 29.0)
    assert by_name["chat claude-x"] == (1.0, 7.0)
    assert by_name["chat gpt-9"] == (7.0, 8.0)
    assert by_name["invoke_agent bot"] == (0.0, 29.0)


def test_failed_calls_are_errors_named_by_their_exception_alone(told: SessionManager) -> None:
    by_name = {span.name: span for span in exported(told, "s")[0]}
    failed, went_well = by_name["execute_tool rm"], by_name["execute_tool grep"]
    assert failed.proto.status.code == 2
    assert failed.known["error.type"] == "OSError"
    assert failed.known["gen_ai.tool.call.id"] == "i2"
    assert went_well.proto.status.code == 0
    assert "error.type" not in went_well.known
    told.link_invocation("s", "i4", "x", None, success=False, error="my password is 1Error: x")
    assert {span.name: span.known.get("error.type") for span in exported(told, "s")[0]}["execute_tool x"] == "_OTHER"


def test_a_use_counts_once_by_maximum_and_input_holds_what_was_cached(told: SessionManager) -> None:
    by_name = {span.name: span.known for span in exported(told, "s")[0]}
    first, second = by_name["chat claude-x"], by_name["chat gpt-9"]
    assert (first["gen_ai.usage.input_tokens"], first["gen_ai.usage.output_tokens"]) == (12, 2)
    assert first["gen_ai.request.model"] == first["gen_ai.response.model"] == "claude-x"
    assert (first["gen_ai.provider.name"], second["gen_ai.provider.name"]) == ("anthropic", "openai")
    assert first["eventstore.usage.cost"] == 0.75
    assert second["gen_ai.usage.cache_read.input_tokens"] == 30
    assert second["gen_ai.usage.input_tokens"] == 31
    assert second["eventstore.usage.audio"] == 4


def test_content_leaves_the_house_only_where_asked_for(told: SessionManager) -> None:
    assert b"secret" not in b"".join(export_otlp(told, "s"))
    (spans,) = exported(told, "s", content=True)
    by_name = {span.name: span for span in spans}
    assert by_name["execute_tool grep"].known["gen_ai.tool.call.arguments"] == '{"q": "secret"}'
    assert by_name["execute_tool grep"].known["gen_ai.tool.call.result"] == "secret answer"
    assert by_name["execute_tool rm"].proto.status.message == "OSError: secret"
    assert [values(event.attributes).get("eventstore.content") for event in check_trace(spans).proto.events] == [
        "secret purpose",
        "secret question",
        '{"q": "secret"}',
        "secret answer",
        'secret key = "secret value"',
        "secret thought",
    ]


def test_a_fork_is_a_trace_of_its_own_linked_to_those_it_goes_on_from(told: SessionManager) -> None:
    told.fork_session("s", new_id="f")
    told.add_conversation_message("f", "user", "more")
    told.fork_session("f", new_id="g")
    told.record_usage("g", {"input": 1}, model="m")
    parent, fork, grandchild = map(check_trace, exported(told, "s", "f", "g"))
    assert len({parent.proto.trace_id, fork.proto.trace_id, grandchild.proto.trace_id}) == 3
    assert not parent.proto.links
    assert [(link.trace_id, link.span_id) for link in fork.proto.links] == [
        (parent.proto.trace_id, parent.proto.span_id)
    ]
    assert [(link.trace_id, link.span_id) for link in grandchild.proto.links] == [
        (fork.proto.trace_id, fork.proto.span_id),
        (parent.proto.trace_id, parent.proto.span_id),
    ]
    assert [values(link.attributes)["gen_ai.conversation.id"] for link in grandchild.proto.links] == ["f", "s"]
    assert [event.name for event in fork.proto.events] == ["session.created", "message.added"]
    assert fork.known["user.id"] == "ana"


def test_a_session_that_failed_is_an_error(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.complete_session("s", "failed")
    ((root,),) = exported(manager, "s")
    assert (root.name, root.proto.status.code) == ("invoke_agent", 2)
    manager.reopen_session("s")
    ((root,),) = exported(manager, "s")
    assert root.proto.status.code == 0


def test_the_same_log_gives_the_same_bytes_wherever_it_lies(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    source = tmp_path / "one.jsonl"
    source.write_bytes(lines(*claude_session()))
    import_transcript(files, FORMATS["claude-code"], source)
    manager = SessionManager(files)

    def everything(manager: SessionManager) -> list[bytes]:
        tables = [b"".join(export_table(manager, "one", name, "csv")) for name in NAMES]
        return [b"".join(export_otlp(manager, "one")), b"".join(export_cloudevents(manager, "one")), *tables]

    before = everything(manager)
    list(files.rebuild())
    assert everything(manager) == before
    files.flush()
    shutil.copytree(tmp_path / ".sessions", tmp_path / "copy")
    with FileSystemSessionStorage(tmp_path / "copy", tmp_path / ".history", fsync="no") as copy:
        assert everything(SessionManager(copy)) == before
    other = MemorySessionStorage()
    import_transcript(other, FORMATS["claude-code"], source)
    assert spans_of(before[0])[0].proto.trace_id != exported(SessionManager(other), "one")[0][0].proto.trace_id


# --- CloudEvents


def events_of(told: bytes) -> list[Any]:
    head = {"content-type": "application/cloudevents+json"}
    return [http.from_structured_event(http.HTTPMessage(head, line)) for line in told.splitlines()]


def test_each_event_is_a_cloudevent_with_its_line_as_data(told: SessionManager) -> None:
    raw = b"".join(export_cloudevents(told, ["s"]))
    found = events_of(raw)
    kept = list(told.storage.log.lines("s"))
    assert all(b'"data":' + line + b"}" in raw for line in kept)
    assert [one.get_data() for one in found] == [json.loads(line) for line in kept]
    second = found[1]
    assert second.get_id() == "s/2"
    assert second.get_source() == "urn:eventstore:session:s"
    assert second.get_type() == "org.eventstore.message.added"
    assert second.get_subject() == "s"
    assert second.get_time() == clock.to_datetime(at(1))
    assert second.get_datacontenttype() == "application/json"
    assert second.get_extension("seq") == 2
    assert second.get_extension("hash") == json.loads(kept[1])["hash"]


def test_a_batch_is_one_array_of_the_same_events(told: SessionManager) -> None:
    single = [json.loads(line) for line in b"".join(export_cloudevents(told, "s")).splitlines()]
    assert json.loads(b"".join(export_cloudevents(told, ["s"], batch=True))) == single
    assert json.loads(b"".join(export_cloudevents(told, [], batch=True))) == []


# --- redacted and unknown


def stub_of(line: bytes) -> bytes:
    """Write a redacted line as the format has it."""
    body, digest = hash_chain.split(line) or (b"", b"")
    head = codec.head(line)
    assert head is not None
    leaf = urlsafe_b64encode(hash_chain.leaf_hash(body)).rstrip(b"=").decode()
    told = f'{{"type":"{head.type}","seq":{head.seq},"at":"{head.at}","redacted":"{leaf}"'.encode()
    return told.ljust(len(body)) + b',"hash":"%b"}' % digest.hex().encode()


@pytest.fixture
def redacted(told: SessionManager, monkeypatch: pytest.MonkeyPatch) -> SessionManager:
    """The same session with a message, a use and data redacted, and an event of a later release."""
    told.storage.append("s", [e.EventRedacted(target=2, leaf="0" * 64, reason="=a secret")])
    plain = told.storage.log.chunks

    def chunks(session_id: str, after: int = 0, upto: int | None = None) -> Iterator[bytes]:
        for chunk in plain(session_id, after, upto):
            shown = []
            for line in codec.lines(chunk):
                head = codec.head(line)
                assert head is not None
                if head.seq in (2, 5, 13):
                    shown.append(stub_of(line))
                elif head.seq == 14:
                    line = line.replace(b'"reasoning.recorded"', b'"from.tomorrow"')
                    shown.append(line.replace(b'"occurred_at":"2', b'"occurred_at":"x'))
                else:
                    shown.append(line)
            yield b"".join(line + b"\n" for line in shown)

    monkeypatch.setattr(told.storage.log, "chunks", chunks)
    return told


def test_redacted_and_unknown_events_are_told_without_what_is_gone(redacted: SessionManager) -> None:
    rows = [dict(zip(columns_of("events"), row, strict=True)) for row in table_rows(redacted, "s")]
    assert {row["seq"]: row["redacted"] for row in rows if row["redacted"]} == {
        2: "=a secret",
        5: "no event records why",
        13: "no event records why",
    }
    assert [row["text"] for row in rows if row["redacted"]] == [None, None, None]
    assert (rows[1]["type"], rows[13]["type"]) == ("message.added", "from.tomorrow")
    (usage, _) = table_rows(redacted, "s", "usage")
    assert usage[1] == 10
    found = events_of(b"".join(export_cloudevents(redacted, "s")))
    assert len(found) == len(rows)
    assert "content" not in found[1].get_data()
    assert found[13].get_type() == "org.eventstore.from.tomorrow"
    (spans,) = exported(redacted, "s", content=True)
    root = check_trace(spans)
    assert [values(event.attributes).get("eventstore.redacted") for event in root.proto.events][:2] == [None, True]
    assert "from.tomorrow" in [event.name for event in root.proto.events]


# --- tables


def columns_of(name: TableName) -> list[str]:
    return [column.name for column in TABLES[name].columns]


def dicts(manager: SessionManager, name: TableName, *session_ids: str) -> list[dict[str, Cell]]:
    return [dict(zip(columns_of(name), row, strict=True)) for row in table_rows(manager, session_ids, name)]


def test_events_have_a_row_each(told: SessionManager) -> None:
    rows = dicts(told, "events", "s")
    assert [row["seq"] for row in rows] == list(range(1, 15))
    created, message, usage, linked = rows[0], rows[1], rows[4], rows[5]
    assert (created["actor"], created["text"], created["time"]) == ("bot", "secret purpose", at(0))
    assert (message["role"], message["text"], message["type"]) == ("user", "secret question", "message.added")
    assert created["recorded_at"] != created["time"]
    assert (linked["tool"], linked["duration_ms"], linked["success"]) == ("grep", 1500.0, True)
    assert (usage["model"], usage["input_tokens"], usage["cache_read_tokens"], usage["cost"]) == (
        "claude-x",
        10,
        None,
        0.5,
    )
    assert [row["hash"] for row in rows] == [event.hash for event in told.storage.log.read("s")]


def test_calls_have_a_row_each_with_all_that_was_told(told: SessionManager) -> None:
    assert [tuple(row.values())[1:-2] for row in dicts(told, "calls", "s")] == [
        ("i1", "grep", at(2), 1500.0, True, None, '{"q": "secret"}', "secret answer"),
        ("i2", "rm", at(5), None, False, "OSError: secret", None, None),
        ("i3", "=sleep", at(9), 20_000.0, None, None, None, None),
    ]
    told.storage.append("s", [e.InvocationUnlinked(invocation_id="i2")])
    assert [row["invocation_id"] for row in dicts(told, "calls", "s")] == ["i1", "i3"]


def test_usage_counts_only_what_was_not_told_before(told: SessionManager) -> None:
    rows = dicts(told, "usage", "s")
    assert [row["input_tokens"] for row in rows] == [10, 12, 1]
    assert [row["counted_input_tokens"] for row in rows] == [10, 2, 1]
    assert [row["counted_output_tokens"] for row in rows] == [2, 0, 0]
    assert [row["counted_other_tokens"] for row in rows] == [0, 0, 4]
    assert [row["counted_cost"] for row in rows] == [0.5, 0.25, 0.0]


def test_what_a_fork_inherits_is_told_apart(told: SessionManager) -> None:
    told.fork_session("s", new_id="f")
    told.link_invocation("f", "i9", "new", None)
    told.record_usage("f", {"input": 100})
    assert [row["seq"] for row in dicts(told, "events", "f") if not row["inherited"]] == [15, 16, 17]
    assert [row["invocation_id"] for row in dicts(told, "calls", "f") if not row["inherited"]] == ["i9"]
    both = dicts(told, "usage", "s", "f")
    assert [row["session_id"] for row in both] == ["s"] * 3 + ["f"] * 4
    assert sum(row["counted_input_tokens"] or 0 for row in both if not row["inherited"]) == 113  # type: ignore[misc]


def test_csv_holds_no_formula_and_numbers_stay_numbers(manager: SessionManager) -> None:
    manager.create_session("s", purpose="=1", by={"actor": "@a"})
    for text in [*HOSTILE, 'a "b", c\r\nd\re', "plain - text", "\ufeffx", ""]:
        manager.add_conversation_message("s", "assistant", text, text or None, text or None)
        manager.link_invocation("s", text or "x", text or None, None, -0.0, success=False, error=text)
        manager.record_usage("s", {"input": 5}, 0.5, text, text)
    for name in NAMES:
        told = b"".join(export_table(manager, "s", name, "csv"))
        assert told.startswith(b"\xef\xbb\xbf")
        (_, *read) = csv.reader(io.StringIO(told.decode("utf-8-sig"), newline=""), strict=True)
        wanted = list(table_rows(manager, "s", name))
        sheet = tablib.import_set(io.StringIO(told.decode("utf-8-sig"), newline=""), format="csv")
        assert sheet.headers == columns_of(name)
        assert [list(row) for row in sheet] == read
        assert len(read) == len(wanted)
        for cells, row in zip(read, wanted, strict=True):
            for cell, value in zip(cells, row, strict=True):
                check_cell(cell, value)


def check_cell(cell: str, value: Cell) -> None:
    if isinstance(value, str):
        assert cell.lstrip()[:1] not in tuple("=+-@\uff1d\uff0b\uff0d\uff20")
        assert cell[:1] not in tuple("\t\r\n")
        assert not set(cell) & {chr(code) for code in range(32) if chr(code) not in "\t\r\n"}
        assert cell.removeprefix("'").replace("\u2400", "\0") == value
    elif isinstance(value, bool):
        assert cell == str(value).lower()
    else:
        assert (float(cell) if cell else None) == value


def test_a_text_is_marked_only_where_it_could_be_a_formula() -> None:
    assert [harmless(text) for text in ("a=1", "1-2", "'x", "", "x\0y")] == ["a=1", "1-2", "'x", "", "x\u2400y"]
    assert all(harmless(text).startswith(("'", "\u2400")) for text in HOSTILE)


def test_csv_is_rfc_4180() -> None:
    rows: list[list[Cell]] = [['a"b', 1], ["c,d\ne", -2.5], [None, True]]
    told = b"".join(to_csv([Column("t"), Column("=n", "number")], rows))
    assert told == b't,\'=n\r\n"a""b",1\r\n"c,d\ne",-2.5\r\n,true\r\n'


@pytest.mark.parametrize("name", NAMES)
def test_json_is_an_array_or_lines_of_objects(told: SessionManager, name: TableName) -> None:
    wanted = dicts(told, name, "s")
    assert json.loads(b"".join(export_table(told, "s", name, "json"))) == wanted
    assert [json.loads(line) for line in b"".join(export_table(told, "s", name, "jsonl")).splitlines()] == wanted
    assert b"".join(to_json([Column("a")], [])) == b"[]\n"
    assert b"".join(to_json([Column("a")], [], lines=True)) == b""


@pytest.mark.parametrize("name", NAMES)
def test_parquet_holds_the_rows_with_times_as_times(told: SessionManager, name: TableName, tmp_path: Path) -> None:
    for text in HOSTILE:
        told.add_conversation_message("s", "assistant", text, text, text)
    path = tmp_path / "it's.parquet"
    write_table(told, "s", path, name)
    assert [one.name for one in tmp_path.iterdir() if "parquet" in one.name] == [path.name]
    with duckdb.connect() as base:
        read = base.execute("SELECT * FROM read_parquet(?)", [str(path)])
        assert [column[0] for column in read.description or []] == columns_of(name)
        found = read.fetchall()
        kinds = dict(row[:2] for row in base.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(path)]).fetchall())
    times = [place for place, column in enumerate(TABLES[name].columns) if column.kind == "time"]
    assert times
    assert all(kinds[TABLES[name].columns[place].name] == "TIMESTAMP" for place in times)
    shown = [tuple(as_text(cell) if place in times else cell for place, cell in enumerate(row)) for row in found]
    assert shown == list(table_rows(told, "s", name))


def as_text(moment: Any) -> str:
    return f"{moment.isoformat(timespec='microseconds')}Z"


def test_parquet_takes_what_other_tables_cannot(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = [Column('a "b"'), Column("n", "integer"), Column("empty", "number")]
    rows: list[list[Cell]] = [["x" * 3_000_000, 2**63 - 1, None], ["{}", 2**64 - 1, None], ["2026-01-01", -1, None]]
    write_parquet(path, columns, rows)
    wanted = [tuple(row) for row in rows]
    wanted[1] = ("{}", None, None)
    assert duckdb.read_parquet(str(path)).fetchall() == wanted
    write_parquet(path, columns, [])
    assert duckdb.read_parquet(str(path)).fetchall() == []
    assert [one.name for one in tmp_path.iterdir()] == ["t.parquet"]


def test_parquet_without_its_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ExtraMissing, match=r"pip install '\.\[parquet\]'"):
        write_parquet(tmp_path / "t.parquet", [Column("a")], [])
    assert list(tmp_path.iterdir()) == []


# --- all of them


def test_a_session_that_is_not_there_is_refused_before_anything_is_written(
    told: SessionManager, tmp_path: Path
) -> None:
    for export in (export_otlp, export_cloudevents, export_table):
        with pytest.raises(SessionNotFound):
            export(told, ["s", "nobody"])
    with pytest.raises(SessionNotFound):
        write_table(told, ["nobody"], tmp_path / "t.parquet")
    assert not (tmp_path / "t.parquet").exists()


@given(HISTORIES)
def test_any_history_can_be_exported_and_sums_up_the_same(history: list[e.Event]) -> None:
    storage = MemorySessionStorage()
    manager = SessionManager(storage)
    manager.create_session("s")
    if history:
        storage.append("s", history)
    (spans,) = exported(manager, "s", content=True)
    check_trace(spans)
    assert len(events_of(b"".join(export_cloudevents(storage, "s")))) == len(history) + 1
    assert len(dicts(manager, "events", "s")) == len(history) + 1
    used = [event for event in history if isinstance(event, e.UsageRecorded)]
    rows = dicts(manager, "usage", "s")
    assert len(rows) == len(used)
    facts = manager.analytics("model")
    for kind in ("input", "output"):
        counted: list[Any] = [row[f"counted_{kind}_tokens"] for row in rows]
        assert sum(counted) == sum(getattr(row, f"{kind}_tokens") for row in facts)
    chats = [span for span in spans if span.known["gen_ai.operation.name"] == "chat"]
    assert len(chats) == len({event.key for event in used if event.key}) + sum(event.key is None for event in used)
    linked = storage.summary("s").metadata.calls
    assert set(linked) <= {row["invocation_id"] for row in dicts(manager, "calls", "s")}
    csv_rows = b"".join(export_table(storage, "s", "events", "csv")).decode("utf-8-sig")
    assert len(list(csv.reader(io.StringIO(csv_rows, newline=""), strict=True))) == len(history) + 2


def test_every_type_of_the_catalogue_can_be_exported(manager: SessionManager) -> None:
    manager.create_session("s")
    manager.storage.append("s", [replace(event, id=None) for event in EVENTS])
    (spans,) = exported(manager, "s", content=True)
    check_trace(spans)
    kept = [event.type for event in manager.storage.log.read("s")]
    assert [row["type"] for row in dicts(manager, "events", "s")] == kept
    assert [one.get_type() for one in events_of(b"".join(export_cloudevents(manager, "s")))] == [
        f"org.eventstore.{tag}" for tag in kept
    ]
    for name in NAMES:
        assert b"".join(export_table(manager, "s", name))


@pytest.mark.long
def test_memory_does_not_grow_with_what_is_said(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    manager = SessionManager(files)
    manager.create_session("s")
    text = "x" * 20_000
    said: list[e.Event] = []
    for place in range(300):
        said.append(e.MessageAdded(role="assistant", content=text, tool_name="t", invocation_id=f"i{place}"))
        said.append(e.MessageAdded(role="tool", content=text, tool_name="t", invocation_id=f"i{place}"))
    files.append("s", said)

    def most(pieces: Iterator[object]) -> int:
        tracemalloc.start()
        try:
            for _ in pieces:
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    size = sum(map(len, files.log.chunks("s")))
    assert size > 12_000_000
    for name in NAMES:
        assert most(export_table(files, "s", name)) < size / 4
        assert most(export_table(files, "s", name, "json")) < size / 4
    assert most(export_otlp(files, "s", content=True)) < size / 4
    assert most(export_cloudevents(files, "s")) < size / 4


def test_a_storage_is_as_good_as_its_manager(storage: SessionStorage) -> None:
    manager = SessionManager(storage)
    manager.create_session("s")
    assert list(table_rows(storage, "s")) == list(table_rows(manager, ["s"]))
