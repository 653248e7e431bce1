"""Call: a running tool call. Its start and its end are events; the file in its folder is derived from them."""

import os
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import msgspec
from msgspec import UNSET

from eventstore.errors import EventNotEncodable, HistoryRefused
from eventstore.events import InvocationLinked, InvocationStarted
from eventstore.log.base import Appended, Head
from eventstore.record import clock
from eventstore.record.fields import check_value
from eventstore.store.tool_history import Record, ToolHistory, record_of
from projections import calls

if TYPE_CHECKING:  # where secrets stay, nothing needs them
    from eventstore.secret_patterns import Patterns

_ERROR_CHARACTERS = 10_000


class Recorder(Protocol):
    """The part of the manager that a call uses."""

    tool_history: ToolHistory | None
    secrets: "Patterns | None"

    def head(self, session_id: str) -> Head:
        """Return the end of a session's log. Raises SessionNotFound."""

    def start_invocation(
        self,
        session_id: str,
        invocation_id: str,
        tool_name: str | None,
        tool_input: Any = UNSET,
        invocation_dir: Path | str | None = None,
        *,
        occurred_at: datetime | str,
    ) -> Appended:
        """Record that a call began."""

    def link_invocation(
        self,
        session_id: str,
        invocation_id: str,
        tool_name: str | None,
        invocation_dir: Path | str | None,
        duration_ms: float | None = None,
        *,
        success: bool | None = None,
        error: str | None = None,
        result: Any = UNSET,
    ) -> Appended:
        """Record how a call ended."""


@dataclass
class Call:
    """A running tool call. Set `result` before the block ends. `folder` is its own folder, for any files of the tool.

    `folder` is None if the store has no history folder, or if the folder could not be made (a RuntimeWarning reports why).
    `duration_ms` (milliseconds) and `success` are set when the block ends.
    """

    manager: Recorder
    session_id: str | None
    tool_name: str
    arguments: Any
    invocation_id: str = ""
    folder: Path | None = None
    result: Any = None
    duration_ms: float | None = None
    success: bool | None = None
    _began: datetime = field(default_factory=lambda: datetime.now(UTC), repr=False)
    _clock: float = field(default=0.0, repr=False)
    _input: Any = field(default=None, repr=False)

    def __enter__(self) -> Self:
        self._began = datetime.now(UTC)
        check_value(self.arguments, "invocation.started", "$.input", 1)
        self._input = _copy(self.arguments)  # what the tool was given, whatever it does with it
        if self.session_id is not None:
            self.manager.head(self.session_id)  # raises SessionNotFound before the tool runs
        self.folder = self._make_folder()
        self.invocation_id = self.folder.name if self.folder else f"inv_{os.urandom(16).hex()}"
        if self.session_id is not None:
            try:
                self.manager.start_invocation(
                    self.session_id,
                    self.invocation_id,
                    self.tool_name,
                    self._input,
                    self.folder,
                    occurred_at=self._began,
                )
            except BaseException:
                if self.folder is not None:
                    with suppress(OSError):
                        self.folder.rmdir()
                raise
        self._clock = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # perf_counter never goes backwards, the wall clock may.
        self.duration_ms = (time.perf_counter() - self._clock) * 1000
        self.success = error is None
        try:
            self._end(None if error is None else _said(error))
        except Exception as failed:
            if error is None:
                raise
            # The tool's own error is the one the caller must see.
            error.add_note(f"in addition, this tool call could not be recorded: {failed}")

    def _make_folder(self) -> Path | None:
        """Make the folder of the call. Raises HistoryRefused if there is no session, so that nothing else records it."""
        history = self.manager.tool_history
        if history is None:
            return None
        try:
            return history.create(self.tool_name, self._began)
        except OSError as error:
            if self.session_id is None:
                raise HistoryRefused(str(history.path), error.strerror or str(error)) from error
            self._warn(f"has no folder ({error.strerror or error})")
            return None

    def _end(self, error: str | None) -> None:
        """Record the outcome in the session, then write the record into the folder: the truth first."""
        result = self.result if self.success or self.result is not None else UNSET
        refused: EventNotEncodable | None = None
        try:
            check_value(result, "invocation.linked", "$.result", 1) if result is not UNSET else None
        except EventNotEncodable as odd:  # that it ended is recorded all the same
            result, refused, error = UNSET, odd, error or f"the result is not recorded: {odd.path} {odd.reason}"
        if self.session_id is not None:
            self.manager.link_invocation(
                self.session_id,
                self.invocation_id,
                self.tool_name,
                self.folder,
                self.duration_ms,
                success=self.success,
                error=error,
                result=result,
            )
        self._write_record(result, error)
        if refused is not None:
            raise refused

    def _write_record(self, result: Any, error: str | None) -> None:
        history = self.manager.tool_history
        if history is None or self.folder is None:
            return
        try:
            history.write(self.folder, self._record(result, error))
        except (OSError, ValueError) as failed:
            if self.session_id is None:
                raise HistoryRefused(str(self.folder), getattr(failed, "strerror", None) or str(failed)) from failed
            self._warn(f"is recorded, but its record.jsonl could not be written ({failed}); rebuild writes it")

    def _record(self, result: Any, error: str | None) -> Record:
        """Return the record of the call, made from events like those in the log."""
        began = clock.to_text(self._began)
        name = self.invocation_id
        started = InvocationStarted(invocation_id=name, tool_name=self.tool_name, input=self._input, occurred_at=began)
        ended = InvocationLinked(
            invocation_id=name, duration_ms=self.duration_ms, success=self.success, error=error, result=result
        )
        secrets = self.manager.secrets
        call = calls.begin(started if secrets is None else secrets.clean(started))
        call.add(ended if secrets is None else secrets.clean(ended))
        return record_of(call, self.session_id)

    def _warn(self, what: str) -> None:
        warnings.warn(
            f"call {self.invocation_id or self.tool_name!r} of session {self.session_id!r} {what}",
            RuntimeWarning,
            stacklevel=5,
        )


def _copy(value: Any) -> Any:
    """Return an independent copy of a JSON value, as JSON gives it back."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _said(error: BaseException) -> str:
    """Return an error as text: its type and message, cut if it is long."""
    text = f"{type(error).__name__}: {error}".encode(errors="replace").decode()
    return text if len(text) <= _ERROR_CHARACTERS else f"{text[:_ERROR_CHARACTERS]}... ({len(text):,} characters)"
