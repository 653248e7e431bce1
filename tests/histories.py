"""Random histories: any events in any order, as a log could hold them."""

from datetime import datetime
from typing import Any

from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from eventstore import events as e

IDS = st.sampled_from(["a", "b", "c"])
TEXTS = st.text(max_size=8)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
COUNTS = st.dictionaries(st.sampled_from(["input", "output", "x"]), st.integers(0, 99), max_size=3)
TAGS = st.lists(TEXTS, max_size=3).map(tuple)
TIMES = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2030, 1, 1)).map(
    lambda when: when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
)
OBJECTS = st.dictionaries(TEXTS, JSON, max_size=2)
DURATIONS = st.none() | st.integers(0, 9).map(float)
COSTS = st.none() | st.integers(0, 9).map(float)

KINDS: dict[type[e.Event], st.SearchStrategy[Any]] = {
    e.SessionCreated: st.builds(
        e.SessionCreated, purpose=st.none() | TEXTS, user_id=st.none() | TEXTS, tags=TAGS, custom_metadata=OBJECTS
    ),
    e.SessionUpdated: st.builds(e.SessionUpdated, purpose=st.none() | TEXTS, tags=TAGS, custom_metadata=OBJECTS)
    | st.builds(e.SessionUpdated, custom_metadata=OBJECTS),
    e.SessionCompleted: st.builds(
        e.SessionCompleted, status=st.sampled_from(["completed", "failed", "abandoned"]), reason=st.none() | TEXTS
    ),
    e.SessionReopened: st.builds(e.SessionReopened),
    e.SessionAdjusted: st.builds(
        e.SessionAdjusted, user_id=TEXTS, total_invocations=st.integers(0, 9), token_usage=COUNTS, tools_used=TAGS
    )
    | st.builds(e.SessionAdjusted, created_at=TIMES, updated_at=TIMES, estimated_cost=COSTS, custom_metadata=OBJECTS),
    e.MessageAdded: st.builds(
        e.MessageAdded,
        role=st.sampled_from(["user", "assistant", "tool", "system"]),
        content=TEXTS,
        tool_name=st.none() | IDS,
        invocation_id=st.none() | IDS,
    ),
    e.ReasoningRecorded: st.builds(e.ReasoningRecorded, content=TEXTS),
    e.ConversationCleared: st.builds(e.ConversationCleared),
    e.ConversationRewound: st.builds(e.ConversationRewound, to=st.integers(0, 30)),
    e.MessagesWithdrawn: st.builds(e.MessagesWithdrawn, targets=st.lists(st.integers(0, 30), max_size=3).map(tuple)),
    e.InvocationLinked: st.builds(
        e.InvocationLinked,
        invocation_id=IDS,
        tool_name=st.none() | IDS,
        invocation_dir=st.none() | IDS,
        duration_ms=DURATIONS,
        success=st.none() | st.booleans(),
        error=st.none() | TEXTS,
        result=st.just(UNSET) | JSON,
        sub_session=st.none() | IDS,
    ),
    e.InvocationStarted: st.builds(
        e.InvocationStarted,
        invocation_id=IDS,
        tool_name=st.none() | IDS,
        invocation_dir=st.none() | IDS,
        input=st.just(UNSET) | JSON,
    ),
    e.InvocationUnlinked: st.builds(e.InvocationUnlinked, invocation_id=IDS),
    e.UsageRecorded: st.builds(e.UsageRecorded, tokens=COUNTS, cost=COSTS, key=st.none() | IDS),
    e.DataSet: st.builds(e.DataSet, key=IDS, value=JSON),
    e.DataDeleted: st.builds(e.DataDeleted, key=IDS),
    e.DataCleared: st.builds(e.DataCleared),
    e.RecordPut: st.builds(e.RecordPut, stream=IDS, key=st.none() | IDS, value=JSON, once=st.booleans()),
    e.RecordRemoved: st.builds(e.RecordRemoved, stream=IDS)
    | st.builds(e.RecordRemoved, stream=IDS, key=IDS)
    | st.builds(e.RecordRemoved, stream=IDS, item=st.integers(1, 30))
    | st.builds(e.RecordRemoved, stream=IDS, last=st.just(True))
    | st.builds(e.RecordRemoved, prefix=st.sampled_from(["", "a"])),
    e.ForeignRecorded: st.builds(e.ForeignRecorded),
    e.LogRepaired: st.builds(
        e.LogRepaired,
        offset_bytes=st.integers(0, 9),
        removed_bytes=st.integers(0, 9),
        quarantine=TEXTS,
        reason=TEXTS,
    ),
    e.EventRedacted: st.builds(e.EventRedacted, target=st.integers(1, 9), leaf=TEXTS, reason=TEXTS),
    e.StoreEventsRedacted: st.builds(
        e.StoreEventsRedacted, session_id=IDS, targets=st.lists(st.integers(1, 9), max_size=3).map(tuple), reason=TEXTS
    ),
    e.StoreRedactionFinished: st.builds(e.StoreRedactionFinished, session_id=IDS, record=st.integers(1, 9)),
    e.StoreCheckpointSigned: st.builds(
        e.StoreCheckpointSigned, session_id=IDS, size=st.integers(1, 9), root=TEXTS, key=TEXTS
    ),
    e.CheckpointSigned: st.builds(e.CheckpointSigned, size=st.integers(1, 9), root=TEXTS, note=TEXTS),
    e.StoreSessionCreated: st.builds(e.StoreSessionCreated, session_id=IDS, first_hash=TEXTS),
    e.SessionPinned: st.builds(e.SessionPinned, pinned=st.booleans()),
    e.StoreSessionTrashed: st.builds(
        e.StoreSessionTrashed,
        session_id=IDS,
        name=IDS,
        events=st.integers(0, 9),
        size_bytes=st.integers(0, 9),
        head_hash=TEXTS,
        reason=st.none() | TEXTS,
    ),
    e.StoreSessionRestored: st.builds(e.StoreSessionRestored, session_id=IDS, name=IDS),
    e.StoreTrashPurged: st.builds(e.StoreTrashPurged, session_id=IDS, name=IDS),
    e.StoreSessionForked: st.builds(e.StoreSessionForked, session_id=IDS, parent=IDS, upto=st.integers(1, 9)),
    e.StoreSessionDeleted: st.builds(
        e.StoreSessionDeleted,
        session_id=IDS,
        events=st.integers(0, 9),
        size_bytes=st.integers(0, 9),
        head_hash=TEXTS,
        reason=st.none() | TEXTS,
    ),
}
EVENTS: st.SearchStrategy[e.Event] = st.one_of(*KINDS.values())


def _numbered(drawn: list[tuple[e.Event, str | None]]) -> list[e.Event]:
    return [
        replace(event, seq=seq, at=f"2026-01-01T00:00:{seq:02d}.000000Z", occurred_at=occurred)
        for seq, (event, occurred) in enumerate(drawn, 1)
    ]


HISTORIES: st.SearchStrategy[list[e.Event]] = st.lists(st.tuples(EVENTS, st.none() | TIMES), max_size=30).map(_numbered)
"""Events with numbers and times, as they are read from a log."""
