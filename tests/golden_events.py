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
