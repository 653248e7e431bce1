"""The events whose lines, as version 0.1.0 wrote them, stay in `golden/0.1.0.jsonl` for ever."""

from eventstore import events as e

EVENTS: list[e.Event] = [
    e.SessionCreated(purpose="p", user_id="u", tags=("a", "b"), custom_metadata={"k": [1, 2.5, None, True]}),
    e.SessionUpdated(purpose=None, tags=("c",), custom_metadata={"k": "v"}),
    e.SessionUpdated(),
    e.MessageAdded(role="user", content="é\n\u2028\0\N{GRINNING FACE}", id="key", by={"actor": "ann"}),
    e.MessageAdded(role="tool", content="done", tool_name="grep", invocation_id="i"),
    e.ReasoningRecorded(content="hm"),
    e.ConversationRewound(to=4),
    e.ConversationCleared(),
    e.InvocationLinked(invocation_id="i"),
    e.InvocationLinked(
        invocation_id="i", tool_name="grep", invocation_dir="d", duration_ms=1.5, success=False, error="boom"
    ),
    e.InvocationUnlinked(invocation_id="i"),
    e.UsageRecorded(tokens={"input": 3, "output": 4}, cost=0.25, model="m", key="k"),
    e.DataSet(key="k", value={"deep": [{"x": -1}]}),
    e.DataDeleted(key="k"),
    e.DataCleared(),
    e.ForeignRecorded(origin=e.Origin("claude-code", line='{"type":"progress"}\n')),
    e.ForeignRecorded(origin=e.Origin("codex", line_base64="/w=="), occurred_at="2020-01-02T03:04:05.000006Z"),
    e.LogRepaired(offset_bytes=1, removed_bytes=2, quarantine="quarantine/x", reason="torn tail"),
    e.EventRedacted(target=4, leaf="0" * 64, reason="secret"),
    e.CheckpointSigned(size=3, root="AA==", note="n"),
    e.StoreSessionCreated(session_id="s", first_hash="1" * 64),
    e.StoreSessionDeleted(session_id="s", events=3, size_bytes=9, head_hash="2" * 64, reason="retention"),
    e.SessionAdjusted(
        created_at="2020-01-02T03:04:05.000006Z",
        updated_at="2020-01-02T03:04:06.000006Z",
        user_id=None,
        total_invocations=2,
        total_duration_ms=3.5,
        tools_used=("x",),
        estimated_cost=None,
        token_usage={"input": 1},
        custom_metadata={},
    ),
    e.SessionCompleted(status="abandoned", reason="r"),
    e.SessionReopened(),
    e.StoreSessionForked(session_id="f", parent="s", upto=2),
    e.SessionReopened(),
    e.SessionPinned(pinned=False),
    e.StoreSessionTrashed(session_id="s", name="s~2", events=3, size_bytes=9, head_hash="2" * 64, reason="retention"),
    e.StoreTrashPurged(session_id="s", name="s~2"),
    e.StoreSessionRestored(session_id="s", name="s"),
    e.SessionReopened(),
    e.EventRedacted(
        target=4, leaf="3" * 64, reason="secret", target_id="key", target_batch=(0, 2), by={"actor": "ann"}
    ),
    e.StoreEventsRedacted(session_id="s", targets=(4, 5), reason="secret"),
    e.StoreCheckpointSigned(session_id="s", size=3, root="AA==", key="ann+00000000"),
    e.SessionReopened(),
]

CALLS: list[e.Event] = [
    e.SessionCreated(),
    e.InvocationStarted(invocation_id="i"),
    e.InvocationStarted(
        invocation_id="j",
        tool_name="grep",
        invocation_dir="d",
        input={"q": [1, None]},
        occurred_at="2026-01-02T03:04:05.000006Z",
    ),
    e.InvocationLinked(invocation_id="j", duration_ms=1.5, success=True, result=None),
    e.InvocationStarted(invocation_id="k", tool_name="cat", input_bytes=300000, input_sha256="4" * 64),
    e.InvocationLinked(invocation_id="k", success=True, result_bytes=300001, result_sha256="5" * 64),
    e.SessionReopened(),
]
"""Calls with their inputs and results."""

RECORDS: list[e.Event] = [
    e.SessionCreated(external_key="thread/42"),
    e.RecordPut(stream="items", value={"role": "user"}),
    e.RecordPut(stream="items"),
    e.RecordPut(stream="agents", key="a", value=[1, None], once=True),
    e.RecordPut(stream="blobs", key="b", value="AAE=", base64=True),
    e.RecordPut(stream="blobs", key="c", value_bytes=300000, value_sha256="6" * 64),
    e.RecordRemoved(stream="items", last=True),
    e.RecordRemoved(stream="items", item=2),
    e.RecordRemoved(stream="agents", key="a"),
    e.RecordRemoved(stream="agents"),
    e.RecordRemoved(prefix="b"),
    e.SessionReopened(),
]
"""Lists and maps of programs."""

IMPORTS: list[e.Event] = [
    e.MessagesWithdrawn(targets=(2, 3)),
    e.MessageAdded(role="user", content="said before", copied=True),
    e.InvocationLinked(invocation_id="i", tool_name="grep", copied=True),
    e.UsageRecorded(tokens={"input": 1, "cache_write": 5}, cache_write_hour=2, key="k", copied=True),
]
"""What an import says of copied history."""

CONTENT: list[e.Event] = [
    e.SessionCreated(),
    e.MessageAdded(
        role="user",
        content="look\n[image]",
        blocks=[
            {"type": "text", "text": "look"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}},
        ],
        blobs=[{"at": [1, "source", "data"], "prefix": "", "value_bytes": 5000, "value_sha256": "7" * 64}],
    ),
    e.SessionReopened(),
    e.SessionReopened(),
]
"""Messages of more than text."""

REDACTIONS: list[e.Event] = [
    e.StoreEventsRedacted(session_id="s", targets=(4, 5), reason="secret", leaves=("8" * 64, "9" * 64), whole=False),
    e.StoreRedactionFinished(session_id="s", record=1),
    e.SessionReopened(),
    e.SessionReopened(),
]
"""Redactions that are recorded as finished."""

EVENTS_OF = {
    "0.1.0": EVENTS,
    "calls": CALLS,
    "imports": IMPORTS,
    "records": RECORDS,
    "content": CONTENT,
    "redactions": REDACTIONS,
}
"""The events of each file in `golden`."""
