"""What others append while a redaction runs, or after it was stopped, is not undone, and takes away nothing else."""

from typing import Any

import pytest

from eventstore import SessionManager
from eventstore.events import Event, RecordPut, RecordRemoved
from eventstore.integrity import verify_session
from eventstore.integrity.redaction_steps import Redaction

LAST = RecordRemoved(stream="q", last=True)


def entries(manager: SessionManager, session_id: str = "s") -> list[tuple[str | None, Any]]:
    return [(one.key, one.value) for one in manager.records.list(session_id, "q")]


@pytest.fixture
def begun(manager: SessionManager) -> SessionManager:
    """A list whose first value stays, and whose second one is redacted."""
    manager.create_session("s")
    manager.append("s", [RecordPut(stream="q", key=key, value=key) for key in ("stays", "goes")])
    return manager


@pytest.mark.parametrize(
    "event",
    [LAST, RecordPut(stream="q", key="goes", value="put again", once=True), RecordRemoved(stream="other", last=True)],
)
def test_what_is_appended_in_the_middle_of_a_redaction_has_the_effect_that_it_had(
    begun: SessionManager, monkeypatch: pytest.MonkeyPatch, event: Event
) -> None:
    """A program appends after the redaction has kept the other values, and before it records that it takes one away."""
    log, pending = type(begun.storage.log), [event]
    real = log.redact

    def redact(self: Any, *args: Any, **options: Any) -> Any:
        if pending:
            begun.append("s", [pending.pop()])
        return real(self, *args, **options)

    monkeypatch.setattr(log, "redact", redact)
    begun.redactions.redact("s", 3, "asked to")
    assert entries(begun) == [("stays", "stays")]
    assert not pending
    assert verify_session(begun.storage, "s").is_whole


def test_a_redaction_that_is_finished_later_keeps_what_was_there_then(
    begun: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stopped after the fork had recorded it. Then a program removes the last value, and the next redaction finishes it."""
    begun.fork_session("s", new_id="f")
    real = Redaction._redact_log

    def stop(self: Redaction, copy: Any) -> None:
        if copy.log.log_id == "s":
            raise KeyboardInterrupt
        real(self, copy)

    with monkeypatch.context() as stopped:
        stopped.setattr(Redaction, "_redact_log", stop)
        with pytest.raises(KeyboardInterrupt):
            begun.redactions.redact("s", 3, "asked to")
    begun.append("s", [LAST])
    begun.redactions.redact("s", 3, "asked to")
    assert entries(begun) == entries(begun, "f") == [("stays", "stays")]
