"""Stores that are copied, and what copies must have."""

from collections.abc import Callable

from eventstore import SessionManager, SessionStorage
from eventstore.backends.memory import MemoryBackend
from eventstore.integrity import SigningKey, verify_all
from eventstore.log.contract.sample import said
from eventstore.store import EngineSessionStorage

ANA = SigningKey.generate("ana")


def in_memory(backend: MemoryBackend | None = None) -> SessionStorage:
    return EngineSessionStorage(backend or MemoryBackend())


def filled(storage: SessionStorage) -> list[str]:
    """Fill a store with what copies must keep; return the checkpoints that were signed there."""
    manager = SessionManager(storage)
    for name in ("s", "t"):
        manager.create_session(name, "find out", user_id="ana")
        storage.append(name, [said("one", "key"), said("two")])
        storage.append(name, [said("a secret")])
    manager.templates.save("start", "s")
    manager.create_session("u", template="start")
    manager.fork_session("s", 3, "f")
    manager.fork_session("f", 4, "g")
    storage.append("g", [said("x" * 50_000)])
    with manager.invocation("t", "build", {"path": "src"}) as call:
        call.result = {"out": "y" * 300_000}
    manager.redactions.redact("s", [4], "asked for")
    notes = [manager.proofs.sign_checkpoint(name, ANA) for name in ("s", "t", "g")]
    manager.fork_session("t", 4, "w")
    storage.log.make_whole("w")
    return notes


def content(storage: SessionStorage) -> dict[str, object]:
    """All that a copy must have: each log's own lines, what it goes on from, and its attachments."""
    log = storage.log
    return {
        name: (
            log.inherited(name),
            b"".join(log.chunks(name, log.inherited(name))),
            {one: b"".join(log.read_beside(name, one)) for one in log.attachments(name)},
        )
        for name in [*log.ids(), *(f"_template.{one}" for one in storage.templates())]
    }


def _trash_and_restore(source: SessionStorage) -> None:
    source.trash_session("s")
    source.restore_session("s")


STEPS: dict[str, Callable[[SessionStorage], object]] = {
    "nothing": lambda source: None,
    "delete parent": lambda source: source.delete_session("p"),
    "trash": lambda source: source.trash_session("s"),
    "trash fork": lambda source: source.trash_session("f"),
    "trash both": lambda source: (source.trash_session("f"), source.trash_session("s")),
    "delete": lambda source: source.delete_session("s"),
    "delete fork": lambda source: source.delete_session("f"),
    "trash and restore": _trash_and_restore,
}
"""What is done to a session `s`, its parent `p` and its fork `f` between two copies."""


def called(storage: SessionStorage, session_id: str, text: str) -> None:
    """Record a call whose result is too large for a line."""
    with SessionManager(storage).invocation(session_id, "build", {}) as call:
        call.result = {"out": text * 300_000}


def problems(storage: SessionStorage) -> dict[str, str]:
    """What verification finds wrong."""
    found = verify_all(storage)
    return {one.session_id: one.describe(with_keys=False) for one in found if one.outcome != "whole"}


def trash_of(storage: SessionStorage) -> list[tuple[bytes, dict[str, bytes]]]:
    """What is in the trash, without the names, which each store chooses."""
    log = storage.log
    found = [
        (
            b"\n".join([one.session_id.encode(), *log.trashed_lines(one.name)]),
            {name: b"".join(log.read_trashed(one.name, name)) for name in log.trashed_attachments(one.name)},
        )
        for one in storage.list_trash()
    ]
    return sorted(found, key=lambda one: one[0])
