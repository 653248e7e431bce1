"""Random histories of one stream of records, some with a secret."""

from hypothesis import strategies as st

from eventstore.events import Event, RecordPut, RecordRemoved

TOKEN = "ghp_" + "a1B2" * 9

_KEYS = st.sampled_from([None, "k", "l"])
_VALUES = st.sampled_from(["a", "b", f"x {TOKEN}", f"y {TOKEN}"])
PUTS = st.builds(
    lambda key, value, once: RecordPut(stream="q", key=key, value=value, once=once and key is not None),
    _KEYS, _VALUES, st.booleans(),
)  # fmt: skip
REMOVALS: st.SearchStrategy[Event] = st.one_of(
    st.builds(lambda key: RecordRemoved(stream="q", key=key), st.sampled_from(["k", "l"])),
    st.builds(lambda item: RecordRemoved(stream="q", item=item), st.integers(2, 12)),
    st.just(RecordRemoved(stream="q", last=True)),
    st.just(RecordRemoved(stream="q")),
)
