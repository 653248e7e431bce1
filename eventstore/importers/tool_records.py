"""The folders of imported tool calls in the history folder, if they are requested."""

from dataclasses import dataclass
from pathlib import Path

from eventstore.importers.meaning import ToolAnswer, ToolCall
from eventstore.record.clock import to_datetime
from eventstore.store.tool_history import Record, ToolHistory


@dataclass
class _Open:
    """A tool call without a result so far: its folder and its record."""

    folder: str | None
    record: Record


class ToolRecords:
    """The calls of one session that have no result so far. Without a history nothing is written."""

    def __init__(self, history: ToolHistory | None, session_id: str) -> None:
        self._history, self._session_id = history, session_id
        self._open: dict[str, _Open] = {}

    def known(self, call: ToolCall) -> None:
        """Remember a call that was imported before."""
        self._open[call.invocation_id] = _Open(None, self._record(call))

    def placed(self, invocation_id: str, folder: str) -> None:
        """Remember the folder of a call that was imported before."""
        if invocation_id in self._open:
            self._open[invocation_id].folder = folder

    def ended(self, invocation_id: str) -> None:
        """Forget a call whose result was imported before."""
        self._open.pop(invocation_id, None)

    def begin(self, call: ToolCall) -> str | None:
        """Create the folder of a call, or find the one that an interrupted import created."""
        if self._history is None:
            return None
        record = self._record(call)
        moment = to_datetime(call.time) if call.time else None
        path = self._history.create(
            call.tool_name, moment, session_id=self._session_id, invocation_id=call.invocation_id
        )
        self._history.write(path, record)
        folder = self._history.relative(path)
        self._open[call.invocation_id] = _Open(folder, record)
        return folder

    def end(self, answer: ToolAnswer) -> None:
        """Write the result of a call into its folder."""
        call = self._open.pop(answer.invocation_id, None)
        if call is None or call.folder is None or self._history is None:
            return
        known = {name: getattr(call.record, name) for name in Record.__dataclass_fields__}
        known |= {
            "result": answer.result,
            "duration_ms": answer.duration_ms or 0.0,
            "success": answer.success is not False,
            "error": answer.error,
        }
        self._history.write(Path(call.folder), Record(**known))

    def _record(self, call: ToolCall) -> Record:
        return Record(
            tool=call.tool_name,
            arguments=call.arguments,
            timestamp=call.time or "",
            session_id=self._session_id,
            invocation_id=call.invocation_id,
        )
