"""OpenTelemetry traces: a session as OTLP/JSON, following the semantic conventions for generative AI (1.41).

A session is one trace. Its root span is `invoke_agent <agent>`. Its children are one `execute_tool <tool>` per call and one
`chat <model>` per usage key. All other events of the session are events of the root span. The trace of a fork has its own
events only, and its root links to the roots of its ancestors. Ids are derived from the hash of the session's first own event,
so the same log always gives the same trace.

Content is exported only on request.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec

from eventstore.custom_events import ReadEvent
from eventstore.events import (
    ForeignRecorded,
    InvocationLinked,
    InvocationUnlinked,
    MessageAdded,
    SessionAdjusted,
    SessionCompleted,
    SessionCreated,
    SessionReopened,
    UsageRecorded,
)
from eventstore.exporters.records import (
    Calls,
    Record,
    Source,
    beginnings,
    last_events,
    records,
    sessions_of,
    text_of,
)
from eventstore.log.engine import EventLog
from eventstore.record.clock import read_time
from projections import timeline
from projections.calls import Call

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"
"""The version of the conventions that attribute names follow."""

_INTERNAL, _CLIENT, _ERROR = 1, 3, 2  # of the enums Span.SpanKind and Status.StatusCode
_SAMPLED = 0x01  # the W3C trace flag: without it, collectors may drop the span
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_MOST = 2**63 - 1  # OTLP integers are signed 64-bit
_TOKENS = {
    "input": "gen_ai.usage.input_tokens",
    "output": "gen_ai.usage.output_tokens",
    "cache_read": "gen_ai.usage.cache_read.input_tokens",
    "cache_write": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning": "gen_ai.usage.reasoning.output_tokens",
}
_PROVIDERS = (
    (re.compile(r"claude", re.IGNORECASE), "anthropic"),
    (re.compile(r"(gpt|o[1-9]|codex|chatgpt)\b", re.IGNORECASE), "openai"),
    (re.compile(r"gemini", re.IGNORECASE), "gcp.gemini"),
    (re.compile(r"(open-)?(mi|co|pix|minis|magis|devs)tral", re.IGNORECASE), "mistral_ai"),
    (re.compile(r"deepseek", re.IGNORECASE), "deepseek"),
    (re.compile(r"grok", re.IGNORECASE), "x_ai"),
    (re.compile(r"command", re.IGNORECASE), "cohere"),
)
_NAMED_ERROR = re.compile(r"([A-Za-z_][\w.]{0,79}(?:Error|Exception|Interrupt|Exit|Timeout|Warning))(?::|\Z)")
_SPANS_NOT_EVENTS = (InvocationLinked, InvocationUnlinked, UsageRecorded, ForeignRecorded)


def export_otlp(
    source: Source, session_ids: str | Sequence[str], *, content: bool = False, service: str = "eventstore"
) -> Iterator[bytes]:
    """Stream sessions as OTLP/JSON, one line per session: a complete ExportTraceServiceRequest.

    `content` adds messages, reasoning, arguments and results of tools, and the session's own data; without it the trace has
    names, numbers and times only. `service` is the `service.name`. Raises SessionNotFound at the call, LogDamaged when the
    iteration reaches the damage.
    """
    sessions = sessions_of(source, session_ids)
    return (piece for one in sessions for piece in _Trace(*one, content, service).pieces())


@dataclass
class _Use:
    """One use of tokens. `seq` is its first event; `start` and `end` (its last event) are in nanoseconds."""

    seq: int
    start: int
    end: int
    model: str | None = None
    tokens: dict[str, int] = field(default_factory=dict)
    cost: float | None = None

    def add(self, event: UsageRecorded, time: int) -> None:
        self.end = max(self.end, time)
        self.model = event.model or self.model
        for kind, count in event.tokens.items():
            self.tokens[kind] = max(count, self.tokens.get(kind, 0))
        if event.cost is not None:
            self.cost = max(event.cost, self.cost or 0.0)


@dataclass
class _Known:
    """Attributes of a session that its spans share."""

    agent: str | None = None
    user: str | None = None
    source: str | None = None
    status: str = "active"

    def learn(self, event: ReadEvent, *, own: bool) -> None:
        actor = (event.by or {}).get("actor")
        if isinstance(actor, str) and self.agent is None and own:
            self.agent = actor
        if isinstance(event, SessionCreated):
            self.user = event.user_id or self.user
            source = event.custom_metadata.get("source")
            self.source = source if isinstance(source, str) else self.source
            self.status = "active"
        elif isinstance(event, SessionAdjusted) and (event.user_id is None or isinstance(event.user_id, str)):
            self.user = event.user_id
        elif isinstance(event, SessionCompleted):
            self.status = event.status
        elif isinstance(event, SessionReopened):
            self.status = "active"


class _Trace:
    """One session as a trace."""

    def __init__(self, log: EventLog, session_id: str, version: int, content: bool, service: str) -> None:
        self._log, self._session_id, self._version = log, session_id, version
        self._content, self._service = content, service
        self._line = beginnings(log, session_id, version)
        self._began, self._hash, _ = self._line[-1]
        self._trace_id = _trace_id(self._hash)
        self._root_id = _span_id(self._hash, self._began)
        self._known = _Known()
        self._start, self._end = _MOST, 0

    def pieces(self) -> Iterator[bytes]:
        """Stream the line in pieces. The root span is last, because its times span all others."""
        resource = {"attributes": _attributes({"service.name": self._service})}
        yield b'{"resourceSpans":[{"resource":%b,"scopeSpans":[{"scope":{"name":"eventstore"},"spans":[' % _json(
            resource
        )
        for span in self._below():
            yield _json(span) + b","
        yield from self._root()
        yield b'],"schemaUrl":"%b"}],"schemaUrl":"%b"}]}\n' % (SCHEMA_URL.encode(), SCHEMA_URL.encode())

    def _own(self) -> Iterator[Record]:
        return records(self._log, self._session_id, self._began - 1, self._version)

    # --- the children of the root

    def _below(self) -> Iterator[dict[str, Any]]:
        self._inherit()
        calls_last, uses_last = last_events(self._log, self._session_id, self._began - 1, self._version)
        calls, uses = Calls(calls_last), dict[str, _Use]()
        turn: int | None = None
        for record in self._own():
            event, time = record.event, _nanoseconds(record.event.time)
            self._known.learn(event, own=True)
            self._span(time, time)
            call = calls.done(event)
            if call is not None:
                yield self._tool(call)
            if isinstance(event, MessageAdded) and event.role != "assistant":
                turn = time
            elif isinstance(event, UsageRecorded):
                use = self._use(uses, event, min(time, self._start if turn is None else turn), time)
                if event.key is None or uses_last[event.key] == event.seq:
                    uses.pop(event.key or "", None)
                    yield self._chat(use)
                turn = time

    def _inherit(self) -> None:
        """Read the attributes that a fork inherits."""
        inherited = records(self._log, self._session_id, 0, self._began - 1) if self._began > 1 else ()
        for record in inherited:
            self._known.learn(record.event, own=False)

    def _use(self, uses: dict[str, _Use], event: UsageRecorded, start: int, time: int) -> _Use:
        use = uses.get(event.key) if event.key is not None else None
        if use is None:
            use = _Use(event.seq, start, time)
            if event.key is not None:
                uses[event.key] = use
        use.add(event, time)
        return use

    def _span(self, start: int, end: int) -> None:
        self._start, self._end = min(self._start, start), max(self._end, end)

    def _tool(self, call: Call) -> dict[str, Any]:
        start = _nanoseconds(call.start)
        if call.known.duration_ms is not None:
            end = start + round(min(max(call.known.duration_ms, 0.0) * 1e6, _MOST))
        else:
            end = start if call.end is None else _nanoseconds(call.end)
        known: dict[str, Any] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call.tool_name,
            "gen_ai.tool.call.id": call.invocation_id,
            "gen_ai.conversation.id": self._session_id,
            "gen_ai.agent.name": self._known.agent,
        }
        if call.known.success is False:
            known["error.type"] = _error_type(call.known.error)
        if self._content:
            known |= {"gen_ai.tool.call.arguments": call.input.text, "gen_ai.tool.call.result": call.result.text}
        status: dict[str, Any] = {"code": _ERROR} if call.known.success is False else {}
        if status and self._content and call.known.error:
            status["message"] = call.known.error
        return self._child(call.seq, _named("execute_tool", call.tool_name), _INTERNAL, start, end, known, status)

    def _chat(self, use: _Use) -> dict[str, Any]:
        tokens = {name: use.tokens.get(kind) for kind, name in _TOKENS.items()}
        tokens["gen_ai.usage.input_tokens"] = self._total_input(use.tokens)
        others = {f"eventstore.usage.{kind}": count for kind, count in use.tokens.items() if kind not in _TOKENS}
        known = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _provider(use.model),
            "gen_ai.request.model": use.model,
            "gen_ai.response.model": use.model,
            "gen_ai.conversation.id": self._session_id,
            "gen_ai.agent.name": self._known.agent,
            **tokens,
            **others,
            "eventstore.usage.cost": use.cost,
        }
        return self._child(use.seq, _named("chat", use.model), _CLIENT, use.start, use.end, known, {})

    def _total_input(self, tokens: dict[str, int]) -> int | None:
        """Return the input tokens including cached ones, as the conventions define them.

        Counts from Claude Code exclude cached tokens. Counts with more cached tokens than input tokens must exclude them too.
        """
        if "input" not in tokens:
            return None
        cached = tokens.get("cache_read", 0) + tokens.get("cache_write", 0)
        apart = self._known.source == "claude-code" or cached > tokens["input"]
        return tokens["input"] + (cached if apart else 0)

    def _child(
        self, seq: int, name: str, kind: int, start: int, end: int, known: dict[str, Any], status: dict[str, Any]
    ) -> dict[str, Any]:
        end = min(max(start, end), _MOST)
        self._span(start, end)
        return {
            "traceId": self._trace_id,
            "spanId": _span_id(self._hash, seq),
            "parentSpanId": self._root_id,
            "flags": _SAMPLED,
            "name": name,
            "kind": kind,
            "startTimeUnixNano": str(start),
            "endTimeUnixNano": str(end),
            "attributes": _attributes({**known, "eventstore.seq": seq}),
            "status": status,
        }

    # --- the root

    def _root(self) -> Iterator[bytes]:
        known = self._known
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.conversation.id": self._session_id,
            "gen_ai.agent.name": known.agent,
            "enduser.id": known.user,
            "user.id": known.user,
            "eventstore.session.status": known.status,
        }
        if known.status == "failed":
            attributes["error.type"] = "_OTHER"
        span = {
            "traceId": self._trace_id,
            "spanId": self._root_id,
            "flags": _SAMPLED,
            "name": _named("invoke_agent", known.agent),
            "kind": _INTERNAL,
            "startTimeUnixNano": str(self._start),
            "endTimeUnixNano": str(self._end),
            "attributes": _attributes(attributes),
            "links": self._links(),
            "status": {"code": _ERROR} if known.status == "failed" else {},
        }
        yield _json(span)[:-1] + b',"events":['
        before, state = b"", timeline.State()
        for record in self._own():
            if not isinstance(record.event, _SPANS_NOT_EVENTS):
                yield before + _json(self._event(record, state))
                before = b","
        yield b"]}"

    def _links(self) -> list[dict[str, Any]]:
        """Return links to the roots of the ancestors, the nearest first."""
        return [
            {
                "traceId": _trace_id(digest),
                "spanId": _span_id(digest, seq),
                "flags": _SAMPLED,
                "attributes": _attributes({"gen_ai.conversation.id": session_id}),
            }
            for seq, digest, session_id in reversed(self._line[:-1])
        ]

    def _event(self, record: Record, state: timeline.State) -> dict[str, Any]:
        event = record.event
        known: dict[str, Any] = {"eventstore.seq": event.seq}
        if record.redacted:
            known["eventstore.redacted"] = True
        if isinstance(event, MessageAdded):
            known["eventstore.role"] = event.role
            known["gen_ai.tool.name"] = event.tool_name
            known["gen_ai.tool.call.id"] = event.invocation_id
        if self._content:
            known["eventstore.content"] = text_of(state, event).text or None
        return {
            "timeUnixNano": str(_nanoseconds(event.time)),
            "name": event.type,
            "attributes": _attributes(known),
        }


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _trace_id(digest: str) -> str:
    return sha256(f"eventstore/otlp/trace\n{digest}".encode()).hexdigest()[:32]


def _span_id(digest: str, seq: int) -> str:
    return sha256(f"eventstore/otlp/span\n{digest}\n{seq}".encode()).hexdigest()[:16]


def _nanoseconds(time: str) -> int:
    return min(max((read_time(time, "") - _EPOCH) // _MICROSECOND * 1000, 0), _MOST)


def _named(operation: str, of: str | None) -> str:
    return f"{operation} {of}" if of else operation


def _error_type(error: str | None) -> str:
    """Return the exception name that an error text begins with. Any other text is content and must not leak."""
    found = _NAMED_ERROR.match(error or "")
    return found[1] if found else "_OTHER"


def _provider(model: str | None) -> str | None:
    name = (model or "").rpartition("/")[2]
    return next((provider for pattern, provider in _PROVIDERS if pattern.match(name)), None)


def _attributes(known: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in known.items() if value is not None]


def _value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(max(min(value, _MOST), -_MOST))}
        case float():
            return {"doubleValue": value}
        case _:
            return {"stringValue": value}
