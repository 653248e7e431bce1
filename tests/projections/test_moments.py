"""The moment index answers for every event what the folds answer when they are given the events up to it."""

from array import array
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from histories import HISTORIES, TIMES
from hypothesis import given
from hypothesis import strategies as st

from eventstore import MemoryEventLog
from eventstore import events as e
from eventstore.store.as_of import version_at
from projections import metadata, moments, summary, timeline
from projections.moments import Moments


def shown(state: metadata.State) -> dict[str, Any]:
    """What is asked of metadata, without what the index does not keep: calls, uses, the map of custom metadata."""
    model = state.to_model("s").to_dict()
    model.pop("custom_metadata")
    return {**model, "created": state.created_at, "updated": state.updated_at, "forks": state.forks}


def map_at(found: list[tuple[str, Any]], events: Sequence[e.Event]) -> dict[str, Any]:
    """The values of a tracked map, those that are not kept read from their events."""
    values: dict[str, Any] = {}
    for key, kept in found:
        event: Any = events[kept.seq - 1]
        read = event.value if isinstance(event, e.DataSet) else getattr(event, "custom_metadata", {}).get(key)
        values[key] = msgspec.json.decode(kept.json) if kept.json is not None else read
    return values


def check(index: Moments, events: Sequence[e.Event], version: int) -> None:
    fold = summary.projection.fold(events[:version])
    state = index.metadata_at(version)
    assert shown(state) == shown(fold.metadata)
    custom = map_at(index.custom.at(version), events)
    assert list(custom.items()) == list(fold.metadata.custom_metadata.items())
    data = map_at(index.data.at(version), events)
    assert list(data.items()) == list(fold.data.items())
    assert index.conversation.count(version) == len(fold.spoken)
    assert index.conversation.window(version, 0, 1000) == list(fold.spoken)
    assert index.conversation.window(version, 2, 3) == list(fold.spoken)[2:5]
    assert index.conversation.place(version, 7) == sum(seq <= 7 for seq in fold.spoken)
    alive = list(index.calls.alive(version))[::-1]
    assert [index.calls.names[life] for life in alive] == list(fold.metadata.calls)
    for life in alive:
        said = [events[seq - 1] for seq in index.calls.events(life, version)]
        name = index.calls.names[life]
        assert metadata.projection.fold(said).calls[name] == fold.metadata.calls[name]


@given(history=HISTORIES, room=st.sampled_from([0, 20, 10_000]))
def test_every_moment_is_what_the_folds_say(history: list[e.Event], room: int) -> None:
    index = Moments()
    index.data.room = index.custom.room = room
    for event in history:
        moments.apply(index, event)
    assert index.version == len(history)
    for version in range(len(history) + 1):
        check(index, history, version)


@given(history=HISTORIES, runs=st.lists(st.integers(1, 60), max_size=4), moment=TIMES)
def test_skimmed_and_continued_it_is_the_same(history: list[e.Event], runs: list[int], moment: str) -> None:
    """Long rows of messages are skimmed, and each answer is asked while the log grows and again at the end."""
    with MemoryEventLog() as log:
        log.append("s", [e.SessionCreated()], expected_version=0)
        index, done = Moments(), 0
        for place, count in enumerate(runs):
            log.append("s", [e.MessageAdded(role="user", content="x" * 200, tool_name="t") for _ in range(count)])
            log.append("s", history[place * 4 : place * 4 + 4] or [e.ReasoningRecorded(content="-")])
            index = moments.kept_projection.fold(log.skim("s", done), index)
            done = index.version
            check(index, list(log.read("s")), done)
        events = list(log.read("s"))
        for version in range(done + 1):
            check(index, events[:done], version)
        if done:
            assert index.version_at(moment) == version_at(log, "s", moment)
            assert index.version_at(events[-1].at, recorded=True) == done
            rows = list(timeline.rows(events))
            assert [index.tool_name(row.seq) for row in rows] == [row.tool_name or None for row in rows]
            assert index.start == rows[0].time


@given(HISTORIES)
def test_postings_name_each_event_of_their_kind(history: list[e.Event]) -> None:
    index = moments.projection.fold(history)
    for name, numbers in index.types.lists.items():
        assert list(numbers) == [event.seq for event in history if event.type == name]
    users = [one.seq for one in history if isinstance(one, e.MessageAdded) and one.role == "user"]
    assert list(index.kinds.lists.get("prompt", [])) == users
    names = ["prompt", "error"]
    wanted = sorted({*users, *index.kinds.lists.get("error", [])})
    for seq in range(len(history) + 2):
        assert index.kinds.after(names, seq, 2, 30) == [one for one in wanted if seq < one <= 30][:2]
        assert index.kinds.before(names, seq, 2) == [one for one in wanted if one < seq][-2:]
        assert index.kinds.count("prompt", seq) == sum(one <= seq for one in users)


def test_a_time_in_another_format_is_compared_as_text() -> None:
    """Logs of other writers may hold times without microseconds: order is that of the folds, texts."""
    times = ["2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:01Z", "2026-01-01T00:00:02.000000Z"]
    events = [e.ReasoningRecorded(content="x", seq=seq, at=at) for seq, at in enumerate(times, 1)]
    index = moments.projection.fold(events)
    assert [index.latest.text(seq) for seq in (1, 2, 3)] == times
    assert index.version_at("2026-01-01T00:00:01.999999Z") == 1
    assert index.version_at("2026-01-01T00:00:02.000000Z") == 3


@given(
    days=st.lists(st.integers(1, 28), min_size=1, max_size=8),
    gone=st.sets(st.integers(1, 8)),
)
def test_a_redacted_event_of_an_import_hides_none_of_those_that_follow(days: list[int], gone: set[int]) -> None:
    """Its time of writing is that of the import: a question as of an earlier time goes on behind it."""
    with MemoryEventLog() as log:
        log.append("s", [e.SessionCreated(occurred_at="2025-01-01T00:00:00Z")], expected_version=0)
        for one in days:
            log.append("s", [e.MessageAdded(role="user", content="x" * 99, occurred_at=f"2025-01-{one:02}T00:00:00Z")])
        last = len(days) + 1
        before = [version_at(log, "s", f"2025-01-{one:02}T12:00:00Z") for one in range(1, 29)]
        seqs = sorted(one for one in gone if one < last)
        if seqs:
            log.redact("s", seqs, "asked for")
        index = moments.projection.fold(log.read("s"))
        for one in range(1, 29):
            moment = f"2025-01-{one:02}T12:00:00Z"
            found = version_at(log, "s", moment)
            assert found == index.version_at(moment.replace("Z", ".000000Z"))
            assert found >= before[one - 1] or all(seq in gone for seq in range(found + 1, before[one - 1] + 1))
        index = moments.projection.fold(log.read("s"))
        for version in range(1, index.version + 1):
            assert (
                index.metadata_at(version).updated_at == metadata.projection.fold(log.read("s", 0, version)).updated_at
            )


@given(history=HISTORIES, versions=st.sets(st.integers(0, 60)))
def test_sums_of_many_versions_are_those_of_each_prefix(history: list[e.Event], versions: set[int]) -> None:
    asked = sorted(min(version, len(history)) for version in versions)
    found = zip(*moments.projection.fold(history).sums(asked), strict=True)
    for version, (messages, calls, errors, tokens, cost) in zip(asked, found, strict=True):
        index = moments.projection.fold(history[:version])
        state = summary.projection.fold(history[:version]).metadata
        assert messages == sum(isinstance(one, e.MessageAdded) for one in history[:version])
        assert calls == len(index.calls.names)
        assert errors == len(index.kinds.lists.get("error", ()))
        assert tokens == sum((state.token_usage or {}).values())
        assert cost == (state.estimated_cost or 0.0)


@given(st.datetimes())
def test_a_time_is_given_back_as_it_was_recorded(moment: datetime) -> None:
    clock, text = moments.Clock(), moment.isoformat(timespec="microseconds") + "Z"
    clock.add(text)
    assert isinstance(clock.values, array)
    assert clock.text(1) == text


def test_a_conversation_that_is_rewound_often_is_walked_in_few_steps() -> None:
    index = Moments()
    seq = 0
    for _ in range(3000):
        for _ in range(3):
            seq += 1
            index.conversation.push(seq)
        seq += 1
        index.conversation.cut(seq, seq - 2)
    assert index.conversation.count(seq) == 6000
    assert index.conversation.window(seq, 0, 2) == [1, 2]
    assert index.conversation.place(seq, 5) == 3
