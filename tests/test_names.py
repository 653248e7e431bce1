"""Which names are allowed, and how odd ones become file names."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.errors import InvalidSessionId
from eventstore.ids import check_session_id, file_name, new_session_id


@pytest.mark.parametrize("name", ["a", "0", "A.b_c-d", "x" * 128, "console", "com10", "a..b"])
def test_a_good_id_is_returned(name: str) -> None:
    assert check_session_id(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("x" * 129, "129 characters"),
        (".a", "begin"),
        ("_store", "begin"),
        ("a.", "ends in a dot"),
        ("a b", "not allowed"),
        ("a\n", "not allowed"),
        ("a/../b", "not allowed"),
        ("a\0", "not allowed"),
        ("a\u0660", "not allowed"),
        ("\u0660", "begin"),
        ("CON", "device"),
        ("lpt9.log", "device"),
    ],
)
def test_a_bad_id_is_an_error_that_says_why(name: str, reason: str) -> None:
    with pytest.raises(InvalidSessionId, match=reason):
        check_session_id(name)


def test_what_is_no_text_is_no_id() -> None:
    with pytest.raises(InvalidSessionId, match="not text"):
        check_session_id(None)  # type: ignore[arg-type]


def test_a_long_id_is_cut_in_its_error() -> None:
    with pytest.raises(InvalidSessionId) as caught:
        check_session_id("x" * 10_000)
    assert len(str(caught.value)) < 400


def test_a_made_up_id_tells_its_second() -> None:
    name = new_session_id(datetime(2026, 11, 23, 5, 17, 1, tzinfo=UTC))
    assert re.fullmatch(r"session_20261123_051701_[0-9a-f]{32}", name)
    assert check_session_id(name) == name
    assert new_session_id() != new_session_id()


@given(st.text())
def test_any_text_becomes_one_safe_file_name(text: str) -> None:
    name = file_name(text)
    assert re.fullmatch(r"[A-Za-z0-9._~%-]{1,200}", name)
    assert not name.startswith(".")


@given(st.lists(st.text(max_size=300), unique=True, max_size=20))
def test_different_texts_become_different_names(texts: list[str]) -> None:
    assert len({file_name(text) for text in texts}) == len(texts)
