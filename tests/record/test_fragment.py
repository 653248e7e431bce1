"""Pieces of records: nothing of a removed text is left in them, wherever they were torn."""

import msgspec
import pytest

from eventstore import events as e
from eventstore.record import codec
from eventstore.record.fragment import blank

TEXT = '№ "4111" \\ Zoë 東京\n\tpin'
FORM = msgspec.json.encode(TEXT)[1:-1]


def line(event: e.Event) -> bytes:
    return codec.seal(codec.prepare(event), 7, b"2026-01-01T00:00:00.000000Z", None, bytes(32))[0]


@pytest.mark.parametrize("end", range(len(line(e.MessageAdded(role="user", content=TEXT))) + 1))
def test_a_record_torn_at_any_byte_keeps_its_head_and_nothing_of_the_text(end: int) -> None:
    whole = line(e.MessageAdded(role="user", content=TEXT))
    start, behind = whole.find(FORM), whole.find(FORM) + len(FORM)
    done = blank(whole[:end], [FORM])
    assert end < 20 or done[:start] == whole[:end][:start]
    assert done[start:behind] == b"*" * len(whole[:end][start:behind])
    assert done[behind:] == whole[:end][behind:]


@pytest.mark.parametrize("start", range(1, len(FORM)))
@pytest.mark.parametrize("hole", [b"", b"\0" * 512])
def test_an_end_or_a_middle_of_a_text_is_blanked(start: int, hole: bytes) -> None:
    whole = line(e.MessageAdded(role="user", content=TEXT))
    at = whole.find(FORM)
    ends = blank(hole + whole[at + start :], [FORM])
    assert set(ends[len(hole) : len(hole) + len(FORM) - start]) <= set(b'*"')
    for stop in range(start + 1, len(FORM)):
        middle = blank(hole + whole[at + start : at + stop], [FORM])
        assert set(middle[len(hole) :]) <= set(b'*"')


@pytest.mark.parametrize("text", ["q", "7Z", "q7Z", "é"])
def test_texts_of_one_to_three_characters_are_blanked_as_values_only(text: str) -> None:
    data = line(e.MessageAdded(role="user", content=text)) + line(e.MessageAdded(role="user", content=f"a {text} b"))
    done = blank(data, [text.encode()])
    assert done.split(b"\n")[0] == data.split(b"\n")[0].replace(
        f'"{text}"'.encode(), b'"' + b"*" * len(text.encode()) + b'"'
    )
    assert done.split(b"\n")[1] == data.split(b"\n")[1]


def test_numbers_are_blanked_torn_or_whole() -> None:
    whole = line(e.DataSet(key="pin", value={"n": [4711, 5]}))
    torn = whole[: whole.find(b"4711") + 3]
    assert b"4711" not in blank(whole, [b"4711"])
    assert b"471" not in blank(torn, [b"4711"])
    assert b",5]" in blank(whole, [b"4711"])


def test_what_says_something_else_stays() -> None:
    data = (
        line(e.MessageAdded(role="user", content="nothing of that"))
        + b'{"type":"message.added","seq":8,"at":"x","content":"not'
    )
    assert blank(data, [FORM]) == data


def test_a_text_with_a_flipped_byte_is_blanked() -> None:
    text = "the quick brown fox jumps over the lazy dog, and the token is hunter2"
    data = bytearray(line(e.MessageAdded(role="user", content=text)))
    data[data.find(b"lazy")] ^= 1
    assert b"hunter2" not in blank(bytes(data), [text.encode()])
