"""Call: a running tool call, recorded when it ends."""

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from eventstore.log.base import Appended, Head
from eventstore.secret_patterns import Patterns
from eventstore.store.tool_history import Record, ToolHistory


class Recorder(Protocol):
    """The part of the manager that a call uses."""

    tool_history: ToolHistory | None
    secrets: Patterns | None

    def head(self, session_id: str) -> Head:
        """Return the end of a session's log. Raises SessionNotFound."""

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
    ) -> Appended:
        """Link a call to a session."""


@dataclass
class Call:
    """A running tool call. Set `result` before the block ends. `folder` is its own folder, for any files of the tool.

    `folder` is None if the store has no history folder. `duration_ms` (milliseconds) and `success` are set when the block ends.
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

    def __enter__(self) -> Self:
        self._began = datetime.now(UTC)
        if self.session_id is not None:
            self.manager.head(self.session_id)  # raises SessionNotFound before the tool runs
        history = self.manager.tool_history
        self.folder = history.create(self.tool_name, self._began) if history else None
        self.invocation_id = self.folder.name if self.folder else f"inv_{secrets.token_hex(16)}"
        self._link()
        self._clock = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # perf_counter never goes backwards, the wall clock may.
        self.duration_ms = (time.perf_counter() - self._clock) * 1000
        self.success = error is None
        text = None if error is None else f"{type(error).__name__}: {error}".encode(errors="replace").decode()
        try:
            self._record(self.manager.tool_history, text)
            self._link(text)
        except Exception as failed:
            if error is None:
                raise
            # The tool's own error is the one the caller must see.
            error.add_note(f"in addition, this tool call could not be recorded: {failed}")

    def _record(self, history: ToolHistory | None, error: str | None) -> None:
        if history is None or self.folder is None:
            return
        record = Record(
            tool=self.tool_name,
            arguments=self.arguments,
            result=self.result,
            timestamp=self._began.isoformat(timespec="microseconds"),
            duration_ms=self.duration_ms or 0.0,
            success=bool(self.success),
            error=error,
            session_id=self.session_id,
            invocation_id=self.invocation_id,
        )
        secrets = self.manager.secrets
        history.write(self.folder, record, secrets.replace if secrets else None)

    def _link(self, error: str | None = None) -> None:
        if self.session_id is not None:
            self.manager.link_invocation(
                self.session_id,
                self.invocation_id,
                self.tool_name,
                self.folder,
                self.duration_ms,
                success=self.success,
                error=error,
            )
