"""Events to lines and back."""

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import msgspec
import pytest
from histories import EVENTS, JSON, KINDS
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from eventstore import events as e
from eventstore.errors import EventNotEncodable, EventTooLarge
from eventstore.record import clock, codec, hash_chain

AT = "2026-01-02T03:04:05.000006Z"
STAMP = AT.encode()


def line_of(event: e.Event, seq: int = 1, batch: tuple[int, int] | None = None) -> bytes:
    return codec.seal(codec.prepare(event), seq, STAMP, batch, hash_chain.first_hash("s"))[0]


def bare(event: e.Event) -> e.Event:
    return replace(event, seq=0, at="", salt=None, hash="")


@given(EVENTS)
def test_an_event_comes_back_from_its_line(event: e.Event) -> None:
    assert bare(codec.decode(line_of(event))) == bare(event)


@given(EVENTS, st.booleans())
def test_keys_come_in_the_promised_order(event: e.Event, with_head: bool) -> None:
    if with_head:
        origin = e.Origin("f", line="{}\n")
        event = replace(event, id="k", by={"actor": "a"}, occurred_at="2020-01-01T00:00:00Z", origin=origin)
    keys = list(json.loads(line_of(event, batch=(0, 2) if with_head else None)))
    order = ["type", "seq", "at", "occurred_at", "id", "batch"]
    head = [key for key in keys if key in order]
    assert head == [key for key in order if key in keys]
    assert keys[: len(head)] == head
    tail = [key for key in keys if key in ("by", "origin", "salt", "hash")]
    assert keys[-len(tail) :] == tail
    assert keys[-1] == "hash"


def test_every_event_of_the_catalogue_has_a_strategy() -> None:
    assert set(KINDS) == set(e.EVENT_TYPES.values())


def test_a_line_is_the_one_that_the_format_says() -> None:
    line = line_of(e.DataDeleted(key="k", id="i"), seq=7)
    salt = json.loads(line)["salt"]
    assert line.startswith(b'{"type":"data.deleted","seq":7,"at":"' + AT.encode() + b'","id":"i","key":"k","salt":"')
    assert len(salt) == 22
    assert line[-77:].startswith(b',"hash":"') or line[-76:].startswith(b',"hash":"')
    assert line.endswith(b'"}\n')


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (float("nan"), "$.value"),
        (float("inf"), "$.value"),
        ({"a": [1, float("-inf")]}, "$.value.a[1]"),
        (["\u00e4", {"b": 2**64}], "$.value[1].b"),
        ("\ud800", "$.value"),
        ({"\udfff": 1}, "$.value{key}"),
        (2**64, "$.value"),
        (-(2**63) - 1, "$.value"),
        ({1: 2}, "$.value"),
        (b"bytes", "$.value"),
        ({1, 2}, "$.value"),
        (object(), "$.value"),
        (type("Name", (str,), {})("x"), "$.value"),
    ],
)
def test_a_value_that_json_cannot_hold_is_refused_with_its_place(value: object, where: str) -> None:
    with pytest.raises(EventNotEncodable) as caught:
        codec.prepare(e.DataSet(key="k", value=value))
    assert caught.value.path == where
    assert "nothing was written" in str(caught.value)


class _Colour(StrEnum):
    RED = "red"


def test_members_of_an_enum_of_texts_are_texts() -> None:
    event = e.DataSet(key="k", value={_Colour.RED: _Colour.RED})
    assert bare(codec.decode(line_of(event))) == e.DataSet(key="k", value={"red": "red"})
    assert bare(codec.decode(line_of(e.DataSet(key=_Colour.RED, value=1)))) == e.DataSet(key="red", value=1)


WRONG: list[e.Event] = [
    e.SessionCreated(purpose=5),  # type: ignore[arg-type]
    e.SessionCreated(tags=["a"]),  # type: ignore[arg-type]
    e.SessionCreated(tags=(1,)),  # type: ignore[arg-type]
    e.SessionCreated(custom_metadata=[]),  # type: ignore[arg-type]
    e.SessionUpdated(tags=None),  # type: ignore[arg-type]
    e.SessionCompleted(status="finished"),  # type: ignore[arg-type]
    e.MessageAdded(role="robot", content="x"),  # type: ignore[arg-type]
    e.MessageAdded(role="user", content=None),  # type: ignore[arg-type]
    e.InvocationLinked(invocation_id="i", duration_ms=True),
    e.InvocationLinked(invocation_id="i", success=1),  # type: ignore[arg-type]
    e.InvocationLinked(invocation_id="i", duration_ms=float("nan"), success="yes"),  # type: ignore[arg-type]
    e.UsageRecorded(tokens={"input": 1.5}),  # type: ignore[dict-item]
    e.UsageRecorded(tokens="input", cache_write_hour=True),  # type: ignore[arg-type]
    e.ConversationRewound(to="1"),  # type: ignore[arg-type]
    e.DataCleared(id=5),  # type: ignore[arg-type]
    e.DataCleared(by=["me"]),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("event", WRONG)
def test_a_field_of_the_wrong_type_is_refused_before_it_becomes_a_line(event: e.Event) -> None:
    """A log that holds what its reader cannot decode is lost: nothing like that gets in."""
    with pytest.raises(EventNotEncodable, match=r"refused: \$\.\w+ is "):
        codec.prepare(event)


def test_deep_nesting_is_refused_and_not_a_crash() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(EventNotEncodable, match="deeper than 200"):
        codec.prepare(e.DataSet(key="k", value=value))


@given(JSON)
def test_any_json_value_comes_back(value: object) -> None:
    found = codec.decode(line_of(e.DataSet(key="k", value=value)))
    assert isinstance(found, e.DataSet)
    assert found.value == value


def test_a_line_over_the_limit_is_refused() -> None:
    with pytest.raises(EventTooLarge) as caught:
        codec.prepare(e.MessageAdded(role="user", content="x" * 2000), max_bytes=1000)
    assert caught.value.limit_bytes == 1000


def test_unknown_types_and_fields_are_kept_as_bytes() -> None:
    body = b'{"type":"later.invented","seq":3,"at":"' + AT.encode() + b'","id":"i","new":[1, 2]'
    digest = hash_chain.next_hash(hash_chain.first_hash("s"), hash_chain.leaf_hash(body))
    line = body + b',"hash":"' + digest.hex().encode() + b'"}\n'
    found = codec.decode(line)
    assert isinstance(found, e.UnknownEvent)
    assert (found.type, found.seq, found.id, found.raw) == ("later.invented", 3, "i", line[:-1])
    assert codec.to_json(found) == line[:-1]
    known = line.replace(b"later.invented", b"data.cleared")
    assert isinstance(codec.decode(known), e.DataCleared)


def test_a_newer_version_of_a_known_type_is_unknown() -> None:
    line = line_of(e.DataDeleted(key="k")).replace(b'"key":', b'"v":2,"key":')
    found = codec.decode(line)
    assert isinstance(found, e.UnknownEvent)
    assert (found.type, found.v) == ("data.deleted", 2)


def test_a_chunk_is_decoded_as_its_lines_are() -> None:
    lines = [line_of(e.DataCleared(), n) for n in range(1, 5)]
    strange = lines[1].replace(b"data.cleared", b"data.sorted!")
    assert list(codec.decode_lines(b"".join(lines))) == [codec.decode(line) for line in lines]
    mixed = [lines[0], strange, lines[2]]
    assert list(codec.decode_lines(b"".join(mixed))) == [codec.decode(line) for line in mixed]


def test_a_line_whose_hash_does_not_fit_is_no_record() -> None:
    line = line_of(e.DataDeleted(key="k"))
    assert hash_chain.verify(line[:-1], hash_chain.first_hash("s")) is not None
    assert hash_chain.verify(line[:-1], hash_chain.first_hash("t")) is None
    for place in range(len(line) - 1):
        damaged = line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]
        assert hash_chain.verify(damaged[:-1], hash_chain.first_hash("s")) is None


def test_times_are_utc_with_microseconds() -> None:
    zone = timezone(timedelta(hours=2))
    assert clock.to_text(datetime(2026, 1, 2, 5, 4, 5, 6, zone)) == AT
    assert clock.to_datetime(AT) == datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    local = datetime(2026, 1, 2, 3, 4, 5)
    assert clock.to_datetime(clock.to_text(local)) == local.astimezone(UTC)


def test_a_bad_time_is_refused() -> None:
    with pytest.raises(EventNotEncodable, match="occurred_at"):
        codec.prepare(e.DataCleared(occurred_at="yesterday"))


def test_a_chain_of_upcasters_has_no_gap() -> None:
    class Third(e.Event, frozen=True, kw_only=True, tag="third.made"):
        schema_version = 3

    types: dict[str, type[e.Event]] = {"third.made": Third}
    with pytest.raises(TypeError, match="from version 2"):
        codec.check_upcasters({("third.made", 1): dict}, types)
    with pytest.raises(TypeError, match="nowhere"):
        codec.check_upcasters({("third.made", step): dict for step in (1, 2, 3)}, types)
    codec.check_upcasters({("third.made", step): dict for step in (1, 2)}, types)


def test_an_old_version_is_led_to_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(raw: dict[str, object]) -> dict[str, object]:
        raw["key"] = raw.pop("name")
        return raw

    line = line_of(e.DataDeleted(key="k")).replace(b'"key"', b'"name"')
    monkeypatch.setattr(e.DataDeleted, "schema_version", 2)
    monkeypatch.setitem(codec.UPCASTERS, ("data.deleted", 1), rename)
    found = codec.decode(line)
    assert isinstance(found, e.DataDeleted)
    assert (found.key, found.v) == ("k", 2)


def test_salts_differ_and_events_without_text_have_none() -> None:
    salts = {json.loads(line_of(e.MessageAdded(role="user", content="x")))["salt"] for _ in range(1000)}
    assert len(salts) == 1000
    assert "salt" not in json.loads(line_of(e.DataCleared()))


def test_an_origin_that_is_not_text_is_base64() -> None:
    found = codec.decode(line_of(e.ForeignRecorded(origin=e.Origin("f", line_base64="/w=="))))
    assert found.origin == e.Origin("f", line_base64="/w==")
    assert msgspec.json.decode(codec.to_json(found))["origin"] == {"format": "f", "line_base64": "/w=="}


def test_what_no_field_could_hold_is_shown_as_unknown() -> None:
    line = line_of(e.DataSet(key="k", value=1)).rstrip(b"\n")
    for old, new in (
        (b'"value":1', b'"value":1e999'),
        (b'"key":"k"', b'"v":"x","key":"k"'),
        (b'"key":"k"', b'"v":-1,"key":"k"'),
    ):
        found = codec.decode(line.replace(old, new))
        assert isinstance(found, e.UnknownEvent)
        assert (found.type, found.raw) == ("data.set", line.replace(old, new))


@pytest.mark.parametrize("moment", [datetime.min, datetime(1, 1, 1, 0, 0, 0, 1), datetime(999, 12, 31), datetime.max])
def test_times_are_written_with_four_digits_of_the_year_and_come_back(moment: datetime) -> None:
    text = clock.to_text(moment.replace(tzinfo=UTC))
    assert len(text) == 27
    assert clock.to_datetime(text) == moment.replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00", "24:00", "", 5, None, b"x"])
def test_what_is_no_time_in_utc_is_a_value_error(text: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        clock.to_datetime(text)


def test_a_time_in_a_record_that_cannot_be_read_gives_way_to_another() -> None:
    noon = "2026-01-02T12:00:00.000000Z"
    for text in ("9999-12-31T23:59:59-05:00", "nonsense", ""):
        assert clock.read_time(text, noon) == clock.to_datetime(noon)
    assert clock.read_time("1-01-01T00:00:00.000000Z", noon).year == 1, "as older releases wrote it"
    assert clock.read_time("x", "y").year == 1


def test_a_clock_beyond_the_calendar_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 253_402_300_800_000_000_000)
    with pytest.raises(ValueError, match="the clock of this machine is after the year 9999; nothing was written"):
        clock.now()
