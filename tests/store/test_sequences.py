"""Any operations one after the other, by one manager or two on one store.

Afterwards the store verifies, its caches fit its logs, and lists, searches and figures are right.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from obstore.store import MemoryStore

from eventstore import EventStoreError, FileSystemSessionStorage, MemorySessionStorage, SessionManager, SessionStorage
from eventstore.backends.objectstore import ObjectOptions, ObjectsBackend
from eventstore.integrity import SigningKey, verify_all
from eventstore.store import EngineSessionStorage

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
STEP = st.sampled_from(sorted(OPERATIONS)), st.sampled_from("abc"), st.sampled_from("abc")
STEPS = st.lists(st.tuples(*STEP), min_size=5, max_size=30)


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


def answers(manager: SessionManager) -> dict[str, Any]:
    """Return what a manager says of a store."""
    listed = [one.to_dict() for one in manager.page_sessions(limit=None).sessions]
    return {
        "listed": listed,
        "found": sorted((hit.session_id, hit.seq) for hit in manager.search("needle", limit=1000)),
        "figures": manager.analytics(),
        "statistics": {one["session_id"]: manager.get_session_statistics(one["session_id"]) for one in listed},
    }


@contextmanager
def files() -> Iterator[Callable[[int], SessionStorage]]:
    """Open one store in files again and again."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        yield lambda number: FileSystemSessionStorage(place / ".sessions", place / ".history", fsync="no")


@contextmanager
def objects() -> Iterator[Callable[[int], SessionStorage]]:
    """Open one store in objects again and again, each time with caches of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place, kept, options = Path(folder), MemoryStore(), ObjectOptions(tail_bytes=2_000, merge=3, lease_seconds=2)
        yield lambda number: EngineSessionStorage(
            ObjectsBackend(kept, options=options), cache_dir=place / f"cache{number}", history_dir=place / ".history"
        )


@pytest.mark.long
@pytest.mark.parametrize("stores", [files, objects])
@given(st.lists(st.tuples(st.sampled_from([0, 1]), *STEP), min_size=5, max_size=40))
def test_two_managers_on_one_store(stores: Any, steps: list[tuple[int, str, str, str]]) -> None:
    with stores() as store, ExitStack() as opened:
        managers = [SessionManager(opened.enter_context(store(number))) for number in (0, 1)]
        managers[0].create_session("first")
        for who, operation, name, other in steps:
            with suppress(EventStoreError, ValueError):
                OPERATIONS[operation](managers[who], name, other)
        fresh = answers(SessionManager(opened.enter_context(store(2))))
        for manager in managers:
            verdicts = verify_all(manager.storage, [KEY.verifier_key])
            assert [one for verdict in verdicts for one in verdict.findings] == []
            assert answers(manager) == fresh
            assert list(manager.storage.check_caches()) == []
