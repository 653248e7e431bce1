"""Values of other programs, as records keep them."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import MemorySessionStorage, SessionManager
from eventstore.errors import EventNotEncodable
from eventstore.events import RecordPut, SessionCreated
from eventstore.integrations.plain import packed, plain, unpacked

LONE = st.text(st.characters(exclude_categories=()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | LONE,
    lambda inner: st.lists(inner) | st.dictionaries(LONE, inner),
)


def through_a_log(value: Any) -> Any:
    manager = SessionManager(MemorySessionStorage())
    manager.append("s", [RecordPut(stream="a", key="k", value=packed(value))], create=SessionCreated())
    item = manager.records.get("s", "a", "k")
    assert item is not None
    return unpacked(item.value)


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


@given(JSON)
def test_any_json_comes_back_unchanged(value: Any) -> None:
    assert through_a_log(value) == value
    assert packed(value) == value or isinstance(packed(value), bytes)


@pytest.mark.parametrize(
    "value", [nested(100), nested(400), float("inf"), 2**64, -(2**63) - 1, "\ud83d"], ids=lambda one: str(one)[:9]
)
def test_what_a_log_refuses_comes_back_unchanged(value: Any) -> None:
    assert through_a_log({"a": [value]}) == {"a": [value]}


def test_an_object_without_json_is_refused_with_its_place_or_replaced() -> None:
    value = {"a": [datetime(2026, 1, 1)], "b": 2**70}
    with pytest.raises(EventNotEncodable, match=r"\$\.value\.a\[0\] is of type datetime"):
        through_a_log(value)
    assert unpacked(packed(value, plain)) == {"a": ["2026-01-01T00:00:00"], "b": 2**70}
    assert packed({"a": {1}}, plain) == {"a": [1]}
    assert packed({(1, 2): "x"}, plain) == {"(1, 2)": "x"}
