"""Imported lines are kept compressed in their records, and nobody who reads events sees that."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from eventstore import events as e
from eventstore.custom_events import CustomEvent
from eventstore.errors import EventNotEncodable
from eventstore.record import codec
from eventstore.record.fragment import blank
from eventstore.record.message_run import read_runs
from eventstore.record.packed_origin import MARK, find_packed

TEXT = "The lighthouse keeper wrote the numbers down again. " * 8
SECRET = "correct-horse-battery-staple"


class LineKept(CustomEvent, frozen=True, kw_only=True, tag="acme.line_kept"):
    text: str


def sealed(event: e.Event) -> bytes:
    return codec.seal(codec.prepare(event), 7, b"2026-01-01T00:00:00.000000Z", (1, 3), bytes(32))[0][:-1]


def imported(text: str) -> str:
    return json.dumps({"type": "user", "uuid": "u-1", "message": {"role": "user", "content": text}}) + "\n"


EVENTS = [
    e.MessageAdded(role="user", content=TEXT, origin=e.Origin("f", line=imported(TEXT))),
    e.MessageAdded(role="user", content=TEXT, id="k", by={"actor": "a"}, origin=e.Origin("f", line=imported(TEXT))),
    e.ForeignRecorded(origin=e.Origin("f", line=imported(TEXT))),
    e.UsageRecorded(tokens={"input": 3}, origin=e.Origin("codex", line=imported(TEXT))),
    LineKept(text=TEXT, origin=e.Origin("f", line=imported(TEXT))),
]


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_is_read_with_the_line_that_it_was_written_with(event: e.Event) -> None:
    line = sealed(event)
    assert MARK in line
    assert codec.decode(line).origin == event.origin
    (read,) = codec.decode_lines(line + b"\n")
    assert read.origin == event.origin
    assert json.loads(codec.to_json(read))["origin"] == {"format": event.origin.format, "line": event.origin.line}  # type: ignore[union-attr]


@pytest.mark.parametrize("event", EVENTS)
def test_a_fold_gets_events_whose_line_is_still_compressed(event: e.Event) -> None:
    line = sealed(event)
    (found,) = read_runs(line + b"\n")
    assert isinstance(found, e.Event)
    assert found.origin is not None
    if isinstance(event, e.UsageRecorded):  # without a key: an earlier release counted its tokens by its line
        assert found == codec.decode(line)
    else:
        assert (found.origin.line, found.origin.line_deflate is None) == (None, False)
        assert replace(found, origin=event.origin) == codec.decode(line)


def test_a_line_whose_text_the_event_has_too_takes_little_room() -> None:
    text = " ".join(str(one * one) for one in range(900))
    line = sealed(e.MessageAdded(role="user", content=text, origin=e.Origin("f", line=imported(text))))
    assert len(line) < 1.1 * len(text)


def test_a_short_line_and_bytes_that_are_no_text_are_kept_as_they_are() -> None:
    for origin in (e.Origin("f", line="{}\n"), e.Origin("f", line_base64="/w==" * 100)):
        line = sealed(e.ForeignRecorded(origin=origin))
        assert MARK not in line
        assert codec.decode(line).origin == origin


@given(st.text(max_size=400), st.text(max_size=400), st.integers(1, 300))
def test_any_text_is_read_as_it_was(said: str, other: str, times: int) -> None:
    event = e.MessageAdded(role="user", content=said * times, origin=e.Origin("f", line=(other + said) * times + "\n"))
    try:
        line = sealed(event)
    except EventNotEncodable:
        return  # a lone surrogate
    assert codec.decode(line).origin == event.origin


def test_a_stranger_reads_a_line_with_the_rule_of_the_readme() -> None:
    import base64
    import zlib

    line = sealed(EVENTS[0])
    origin = json.loads(line)["origin"]
    end = line.rindex(b',"origin":{')
    unpacker = zlib.decompressobj(-15, line[end - origin["own_bytes"] : end])
    assert unpacker.decompress(base64.b64decode(origin["line_deflate"])).decode() == imported(TEXT)


def test_a_compressed_line_that_was_changed_is_no_error_but_no_line() -> None:
    line = sealed(EVENTS[2])
    at = line.index(MARK) + len(MARK)
    read = codec.decode(line[:at] + b"####" + line[at + 4 :])
    assert read.origin is not None
    assert read.origin.line is None


# --- what is left of records


def test_a_compressed_line_with_a_removed_text_is_blanked_in_what_a_repair_cut() -> None:
    event = e.ForeignRecorded(origin=e.Origin("f", line=imported(TEXT + SECRET)))
    other = sealed(e.ForeignRecorded(origin=e.Origin("f", line=imported(TEXT))))
    done = blank(sealed(event) + b"\n" + other, [SECRET.encode()])
    first, second = done.split(b"\n")
    assert find_packed(first) == []
    assert second == other


@pytest.mark.parametrize("cut", [300, 350, 400])
def test_a_part_of_a_compressed_line_is_blanked_whole(cut: int) -> None:
    whole = sealed(e.ForeignRecorded(origin=e.Origin("f", line=imported("".join(map(str, range(900))) + SECRET))))
    at = whole.index(MARK) + len(MARK)
    assert set(blank(whole[:cut], [SECRET.encode()])[at:]) <= {ord("*")}
    assert set(blank(whole[cut : cut + 200], [SECRET.encode()])) == {ord("*")}
