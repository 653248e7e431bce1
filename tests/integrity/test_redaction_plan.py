"""A plan knows the patterns that found it: what it names is removed, or refused, whatever `carry_out` is given."""

import json
import pickle
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore import FileSystemSessionStorage, Patterns, SessionManager
from eventstore.errors import RedactionRefused
from eventstore.events import InvocationEvent, RecordPut
from eventstore.integrity.redaction_files import still_there
from eventstore.integrity.redaction_plan import Redactable
from eventstore.store.removed_text import Removed

WORD = "secretword"
OWN = Patterns({"word": WORD})


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[SessionManager]:
    with SessionManager(FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history")) as made:
        made.create_session("s", purpose="p")
        made.add_conversation_message("s", "user", f"{WORD} one, otherword two")
        with made.invocation("s", "tool", {"with": WORD}) as call:
            call.result = "done"
        yield made


def left(manager: SessionManager, text: str = WORD) -> list[str]:
    """Return the files that still have a text."""
    manager.flush()
    removed = Removed()
    removed.add_text(text)
    return still_there(manager.storage, removed, ())


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("given", [None, Patterns({"other": "nothing like it"}), OWN])
def test_a_plan_is_carried_out_with_the_patterns_that_found_it(
    manager: SessionManager, given: Patterns | None, inside: bool
) -> None:
    plan = manager.redactions.plan(OWN, ["s"])
    done = manager.redactions.carry_out(plan, "asked to", given, inside=inside)
    assert left(manager) == []
    assert [name for one in done for name in one.left] == []
    said = [one.content for one in manager.conversation("s")]
    assert said == (["[redacted:word] one, otherword two"] if inside else [])


def test_a_plan_keeps_its_patterns_where_it_is_filtered_stored_or_joined_with_another(manager: SessionManager) -> None:
    other = Patterns({"word": "otherword"})
    plans = [*manager.redactions.plan(OWN), *manager.redactions.plan(other)]
    stored = pickle.loads(pickle.dumps([one for one in plans if one.seq]))  # noqa: S301 - our own bytes
    assert stored == [one for one in plans if one.seq]
    manager.redactions.carry_out(stored, "asked to", inside=True)
    assert [one.content for one in manager.conversation("s")] == ["[redacted:word] one, [redacted:word+] two"]
    assert left(manager) == left(manager, "otherword") == []


def test_a_plan_as_json_does_not_show_the_patterns(manager: SessionManager) -> None:
    (first, *_) = manager.redactions.plan(OWN)
    assert WORD not in json.dumps(first.to_dict())
    assert Redactable(**first.to_dict())._replace(patterns=OWN, labels=first.labels, shown=first.shown) == first


@pytest.mark.parametrize("inside", [True, False])
def test_entries_without_patterns_are_refused_where_the_given_ones_do_not_find_what_they_name(
    manager: SessionManager, inside: bool
) -> None:
    version = manager.head("s").version
    plan = [one._replace(patterns=None) for one in manager.redactions.plan(OWN)]
    for given in (None, Patterns({"other": "otherword"})):
        with pytest.raises(RedactionRefused, match="do not find"):
            manager.redactions.carry_out(plan, "asked to", given, inside=inside)
    assert manager.head("s").version == version
    manager.redactions.carry_out(plan, "asked to", OWN, inside=inside)
    assert left(manager) == []


def test_an_entry_made_by_hand_is_refused_where_nothing_would_be_replaced(manager: SessionManager) -> None:
    entry = Redactable("s", 2, "", ())
    with pytest.raises(RedactionRefused, match="do not find"):
        manager.redactions.carry_out([entry], "asked to", inside=True)
    manager.redactions.carry_out([entry], "asked to")
    assert manager.conversation("s") == []


def test_a_record_in_which_nothing_was_found_is_named(manager: SessionManager) -> None:
    (folder,) = {one.invocation_dir for one in manager.events("s") if isinstance(one, InvocationEvent)} - {None}
    (done,) = manager.redactions.carry_out([Redactable("s", 0, "record", ("word",), folder or "")], "asked to")
    assert done.left == (f"{folder}: the patterns found nothing in its record",)


@pytest.mark.parametrize("size_bytes", [0, 300_000])
@pytest.mark.parametrize("form", ["bytes", "base64", "url"])
def test_a_secret_inside_of_base64_is_named_and_stays_until_its_event_is_redacted(
    manager: SessionManager, form: str, size_bytes: int
) -> None:
    """Savers of frameworks keep bytes in a format of their own: to replace inside of them would break it."""
    raw = b"\xda\x00\xbe" + b" " * size_bytes + WORD.encode() + b"\xff\xbe"
    text = (urlsafe_b64encode if form == "url" else b64encode)(raw).decode()
    value = raw if form == "bytes" else {"kind": "msgpack", "data": [text]}
    seq = manager.append("s", [RecordPut(stream="blobs", key="k", value=value)]).last
    harmless = RecordPut(stream="blobs", key="l", value={"data": b64encode(b"no secret in it").decode()})
    manager.append("s", [harmless])
    (found,) = [one for one in manager.redactions.plan(OWN, ["s"]) if one.type == "record.put"]
    assert (found.seq, found.labels) == (seq, ("word",))
    assert "base64" in found.obstacle
    done = manager.redactions.carry_out(manager.redactions.plan(OWN), "asked to", inside=True)
    assert [one.seq for one in manager.redactions.plan(OWN)] == [seq]
    assert any("events.jsonl" in name or "values" in name for one in done for name in one.left)
    manager.redactions.redact("s", seq, "asked to")
    assert (manager.redactions.plan(OWN), left(manager)) == ([], [])
    assert [one.key for one in manager.records.list("s", "blobs")] == ["l"]
