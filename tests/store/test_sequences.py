"""Any operations one after the other: afterwards the store verifies, its caches fit its logs, lists and searches are right."""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventstore import EventStoreError, FileSystemSessionStorage, MemorySessionStorage, SessionManager, SessionStorage
from eventstore.integrity import SigningKey, verify_all

KEY = SigningKey.generate("sequences.example")
LARGE = "large " * 60_000


def call(manager: SessionManager, name: str, other: str) -> None:
    with manager.invocation(name, "grep", LARGE) as running:
        running.result = other


OPERATIONS: dict[str, Callable[[SessionManager, str, str], object]] = {
    "create": lambda manager, name, other: manager.create_session(name, f"purpose of {name}"),
    "message": lambda manager, name, other: manager.add_conversation_message(name, "user", "needle"),
    "call": call,
    "clear": lambda manager, name, other: manager.clear_conversation(name),
    "fork": lambda manager, name, other: manager.fork_session(name, new_id=other),
    "fork early": lambda manager, name, other: manager.fork_session(name, 1, new_id=other),
    "ask": lambda manager, name, other: (manager.list_sessions(), manager.search("needle"), manager.analytics()),
    "redact": lambda manager, name, other: manager.redactions.redact(name, [2], "why"),
    "delete": lambda manager, name, other: manager.delete_session(name),
    "trash": lambda manager, name, other: manager.trash.put(name),
    "restore": lambda manager, name, other: manager.trash.restore(name),
    "purge": lambda manager, name, other: manager.trash.clean_up(manager.trash.plan_cleanup(0, 0)),
    "save template": lambda manager, name, other: manager.templates.save(other, name),
    "create from template": lambda manager, name, other: manager.create_session(name, template=other),
    "remove template": lambda manager, name, other: manager.templates.remove(other),
    "sign": lambda manager, name, other: manager.proofs.sign_checkpoint(name, KEY),
    "sign the store": lambda manager, name, other: manager.proofs.sign_checkpoint("_store", KEY),
}
STEPS = st.lists(
    st.tuples(st.sampled_from(sorted(OPERATIONS)), st.sampled_from("abc"), st.sampled_from("abc")),
    min_size=5,
    max_size=30,
)


def healthy_after(storage: SessionStorage, steps: list[tuple[str, str, str]]) -> None:
    with SessionManager(storage) as manager:
        manager.create_session("first")
        for operation, name, other in steps:
            with suppress(EventStoreError, ValueError):
                OPERATIONS[operation](manager, name, other)
        assert [one for verdict in verify_all(storage, [KEY.verifier_key]) for one in verdict.findings] == []
        assert list(storage.check_caches()) == []
        living = {one.session_id for one in manager.page_sessions(limit=None).sessions}
        assert living == set(storage.log.ids())
        own_of = storage.log.inherited  # inherited messages are found in the parent
        assert {hit.session_id for hit in manager.search("needle", limit=1000)} == {
            name
            for name in living
            if any(getattr(one, "content", "") == "needle" for one in manager.events(name, own_of(name)))
        }


# A fork that was in the trash while another session had its id, and was deleted.
@example(
    [
        ("create", "a", "a"),
        ("fork", "a", "c"),
        ("trash", "c", "c"),
        ("create", "c", "c"),
        ("delete", "c", "c"),
        ("restore", "c", "c"),
    ]
)
# A redaction in a template, which is no session.
@example([(one, "a", "a") for one in ("create", "message", "save template", "ask", "redact")])
@given(STEPS)
def test_in_memory(steps: list[tuple[str, str, str]]) -> None:
    healthy_after(MemorySessionStorage(), steps)


@pytest.mark.long
@given(STEPS)
def test_on_files(steps: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        healthy_after(FileSystemSessionStorage(place / ".sessions", place / ".history", fsync="no"), steps)
