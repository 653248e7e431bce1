"""Values that continue an earlier one: stored as what was added, and read back to the byte."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.integrations import grown
from eventstore.integrations.grown import Value, added, needed, plain, resolve, resolve_known

ITEM = st.text("abc", max_size=4).map(lambda text: text * 150)
STEPS = st.lists(
    st.tuples(st.sampled_from(["more", "edit", "shorter", "other", "same"]), st.lists(ITEM, max_size=20)), max_size=30
)


class Store:
    """Records of one channel, stored as a saver does."""

    def __init__(self, records: dict[str, Any] | None = None) -> None:
        self.records: dict[str, Any] = {} if records is None else records
        self.last: tuple[str, Value] | None = None

    def put(self, key: str, value: Value) -> None:
        kept, records = grown.put(key, value, self.last, self.records.keys(), self.records.get)
        self.records.update(records)
        self.last = key, kept


def packed(value: object) -> Value:
    return Value("msgpack", msgspec.msgpack.encode(value))


@given(steps=STEPS)
def test_every_version_is_read_back_and_the_last_one_needs_only_what_it_names(
    steps: list[tuple[str, list[str]]],
) -> None:
    store, items, versions = Store(), list[str](), dict[str, Value]()
    for number, (what, new) in enumerate(steps):
        if what == "more":
            items = items + new
        elif what == "edit" and items:
            items = [*items[:-1], "x" * 300]
        elif what == "shorter":
            items = items[:-1]
        elif what == "other":
            items = new
        versions[f"{number}"] = packed(items)
        store.put(f"{number}", versions[f"{number}"])
    get = store.records.get
    for key, value in versions.items():
        found = resolve(key, get)
        assert found is not None
        assert (found.kind, found.data) == (value.kind, value.data)
    if steps:
        kept = set(needed(f"{len(steps) - 1}", get))
        left = {key: value for key, value in store.records.items() if key in kept}
        found = resolve(f"{len(steps) - 1}", left.get)
        assert found is not None
        assert found.data == packed(items).data


PUTS = st.tuples(
    st.sampled_from("abcd"), st.booleans(), st.sampled_from(["more", "same", "other"]), st.lists(ITEM, max_size=20)
)


@given(st.lists(PUTS, max_size=30))
def test_a_value_that_is_put_again_or_replaced_takes_no_other_with_it(
    steps: list[tuple[str, bool, str, list[str]]],
) -> None:
    """By two processes, each of which knows what it stored last."""
    first = Store()
    stores = {False: first, True: Store(first.records)}
    items, values = list[str](), dict[str, Value]()
    for key, whose, what, new in steps:
        items = {"more": items + new, "same": items, "other": new}[what]
        values[key] = packed(items)
        stores[whose].put(key, values[key])
        for name, value in values.items():
            found = resolve(name, first.records.get)
            assert found is not None
            assert found.data == value.data
            assert list(needed(name, first.records.get)) == [name, *found.bases]
        for store in stores.values():
            if store.last is not None:
                known = resolve_known(store.last[0], store.last, first.records.keys(), first.records.get)
                assert known is not None
                assert known.data == values[store.last[0]].data


@pytest.mark.parametrize("base", ["a", "b"])
def test_a_record_that_leads_back_to_itself_is_no_value(base: str) -> None:
    value = packed(["x" * 3_000])
    made = added("a", value, value)
    assert made is not None
    records = {"a": {**made, "base": base}, "b": made}
    assert resolve("a", records.get) is None
    assert set(needed("a", records.get)) <= {"a", "b"}


def test_what_is_there_already_is_not_put_again() -> None:
    store, items = Store(), ["x" * 3_000]
    for key in ("a", "b"):
        items = [*items, key]
        store.put(key, packed(items))
    assert grown.put("b", packed(items), store.last, store.records.keys(), store.records.get)[1] == {}


def test_a_list_that_grows_costs_what_is_added_and_no_chain_is_endless() -> None:
    store = Store()
    items = ["x" * 300] * 20
    for number in range(400):
        items.append(f"message {number} " * 20)
        store.put(f"{number}", packed(items))
    sizes = [len(msgspec.json.encode(one)) for one in store.records.values() if isinstance(one, dict)]
    assert len(sizes) > 390
    assert max(sizes) < 1_000
    depths = [len(list(needed(key, store.records.get))) for key in store.records]
    assert max(depths) == 101


@pytest.mark.parametrize("change", ["gone", "replaced"])
def test_a_value_whose_base_is_gone_or_replaced_is_not_there(change: str) -> None:
    store = Store()
    store.put("a", packed(["x" * 300] * 20))
    store.put("b", packed(["x" * 300] * 21))
    assert isinstance(store.records["b"], dict)
    if change == "gone":
        del store.records["a"]
    else:
        store.records["a"] = plain(packed(["y" * 300] * 20))
    assert resolve("b", store.records.get) is None


@pytest.mark.parametrize("gone", ["a", "b", "c"])
def test_a_value_that_the_process_has_is_not_there_when_a_record_of_it_is_removed(gone: str) -> None:
    store, items = Store(), ["x" * 300] * 20
    for key in "abc":
        items = [*items, key]
        store.put(key, packed(items))
    assert store.last is not None
    assert resolve_known("c", store.last, store.records.keys(), store.records.get) == store.last[1]
    del store.records[gone]
    assert resolve_known("c", store.last, store.records.keys(), store.records.get) is None
    assert resolve("none", store.records.get) is None


@pytest.mark.parametrize(
    ("kind", "value"), [("msgpack", {"a": "x" * 3_000}), ("msgpack", "x" * 3_000), ("json", ["x" * 300] * 20)]
)
def test_what_is_no_list_of_messagepack_is_stored_as_it_is(kind: str, value: object) -> None:
    one = packed(value)._replace(kind=kind)
    assert added("a", one, one) is None
    assert resolve("a", {"a": plain(one)}.get) == one
