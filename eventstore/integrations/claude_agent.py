"""The Claude Agent SDK: its session transcripts, kept in the store.

`ClaudeSessionStore(manager)` is a `SessionStore` of `claude_agent_sdk`. Each transcript line is a record in the stream `main`, or
`sub/PATH` for that of a sub-agent, once for each `uuid`. What a line of the main transcript means (messages, tool calls, usage,
titles) is appended in the same batch.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec.structs import replace

from eventstore import events as e
from eventstore.errors import ExtraMissing, SessionNotFound
from eventstore.ids import session_id_for
from eventstore.importers.claude_code import ClaudeCode
from eventstore.integrations.meaning import meant
from eventstore.integrations.plain import packed, plain, unpacked
from eventstore.integrations.sessions import (
    Stored,
    append_decided,
    finish,
    key_of,
    manager_of,
    parts_of,
    sessions_named,
    stored,
)
from eventstore.sessions.async_manager import AsyncSessionManager
from eventstore.sessions.manager import SessionManager
from projections.models import SessionMetadata

try:
    from claude_agent_sdk import fold_session_summary
except ImportError:
    raise ExtraMissing("claude", "eventstore.integrations.claude_agent") from None

_TAG = "claude-agent"
_MAIN, _SUB, _SUMMARY = "main", "sub/", "summary"
_KEPT_TRANSLATORS = 256


class _Translated(NamedTuple):
    """A translator that has read a main transcript up to a version of the session."""

    version: int
    translator: ClaudeCode


class ClaudeSessionStore:
    """A `SessionStore` of the Claude Agent SDK on any backend. Safe for threads, tasks and processes.

    `delete` deletes a session permanently; its earlier content is removed from the store, as the SDK expects.
    """

    def __init__(self, manager: SessionManager | AsyncSessionManager) -> None:
        self._manager = manager_of(manager)
        self._translators: OrderedDict[str, _Translated] = OrderedDict()
        self._mutex = threading.Lock()

    async def append(self, key: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> None:
        """Append transcript lines in order. A line whose `uuid` is there already is left out."""
        if entries:
            await finish(self._append, _Key.of(key), [dict(one) for one in entries])

    async def load(self, key: Mapping[str, Any]) -> list[Any] | None:
        """Return the lines of a transcript in order; None for one that was never written, or was deleted."""
        return await asyncio.to_thread(self._load, _Key.of(key))

    async def list_sessions(self, project_key: str) -> list[Any]:
        """List the sessions of a project: `session_id`, and `mtime` in milliseconds since 1970, no two the same."""
        return await asyncio.to_thread(self._list, project_key)

    async def list_session_summaries(self, project_key: str) -> list[Any]:
        """List the summaries of the sessions of a project, as the SDK folded them. Reads one session after the other."""
        return await asyncio.to_thread(self._summaries, project_key)

    async def delete(self, key: Mapping[str, Any]) -> None:
        """Delete a session with its sub-agents, or the transcript of one sub-agent. Nothing happens where it is not there."""
        await finish(self._delete, _Key.of(key))

    async def list_subkeys(self, key: Mapping[str, Any]) -> list[str]:
        """List the paths of the sub-agents of a session that have a transcript."""
        return await asyncio.to_thread(self._subkeys, _Key.of(key))

    # --- writing

    def _append(self, key: "_Key", entries: list[dict[str, Any]]) -> None:
        translated: list[ClaudeCode] = []

        def decide(now: Stored) -> list[e.Event]:
            new = _new(now, key.stream, entries)
            if not new:
                return []
            if key.stream != _MAIN:
                return [put for put, _ in new]
            translated[:] = [self._translator(key.id, now)]
            # Tag a session that a sub-agent's transcript began: only with a main one it is listed.
            events: list[e.Event] = [e.SessionUpdated(tags=(_TAG,))] if now.version and not now.has(_MAIN) else []
            seq = max(now.version, 1)  # a session that is created begins with an event of its own
            for put, entry in new:
                events += [put, *meant(_meaning, translated[0], entry)]
                translated[0].placed(seq + len(events))
            return [*events, _summary(now, key, [one for _, one in new])]

        tags = (_TAG,) if key.stream == _MAIN else ()
        created = e.SessionCreated(external_key=key.external, tags=tags)
        appended = append_decided(self._manager, key.id, decide, created)
        if appended is not None and translated:
            self._keep(key.id, appended.last, translated[0])

    def _delete(self, key: "_Key") -> None:
        try:
            if key.stream == _MAIN:
                self._manager.delete_session(key.id)
            else:
                self._manager.append(key.id, [e.RecordRemoved(stream=key.stream)])
        except SessionNotFound:
            pass

    # --- what lines mean

    def _translator(self, session_id: str, now: Stored) -> ClaudeCode:
        """Return a translator that has read what is stored, taken out: a failed append must leave none that read more."""
        with self._mutex:
            kept = self._translators.pop(session_id, None)
        if kept is not None and kept.version == now.version:
            return kept.translator
        translator = ClaudeCode(session_id)
        for item in now.list(_MAIN):
            events = meant(_meaning, translator, unpacked(item.value))
            translator.placed(item.seq + len(events))
        return translator

    def _keep(self, session_id: str, version: int, translator: ClaudeCode) -> None:
        with self._mutex:
            self._translators[session_id] = _Translated(version, translator)
            while len(self._translators) > _KEPT_TRANSLATORS:
                self._translators.popitem(last=False)

    # --- reading

    def _load(self, key: "_Key") -> list[Any] | None:
        try:
            return [unpacked(one) for one in stored(self._manager, key.id).values(key.stream)] or None
        except SessionNotFound:
            return None

    def _subkeys(self, key: "_Key") -> list[str]:
        try:
            return [name.removeprefix(_SUB) for name in self._manager.records.streams(key.id, _SUB)]
        except SessionNotFound:
            return []

    def _list(self, project_key: str) -> list[Any]:
        return [{"session_id": session_id, "mtime": mtime} for session_id, mtime, _ in self._found(project_key)]

    def _summaries(self, project_key: str) -> list[Any]:
        found = []
        for session_id, mtime, metadata in self._found(project_key):
            try:
                item = self._manager.records.get(metadata.session_id, _SUMMARY, _SUMMARY)
            except SessionNotFound:  # deleted in the meantime
                continue
            if item is not None:
                found.append({"session_id": session_id, "mtime": mtime, "data": unpacked(item.value)})
        return found

    def _found(self, project_key: str) -> list[tuple[str, int, SessionMetadata]]:
        """List id, time of the last update and metadata, oldest first. Times within one millisecond are kept distinct."""
        rows = list(sessions_named(self._manager, f"{key_of(_TAG, project_key)}/", [_TAG]))
        found: list[tuple[str, int, SessionMetadata]] = []
        last = 0
        for one in sorted(rows, key=lambda row: (row.updated_at, row.session_id)):
            last = max(_milliseconds(one.updated_at), last + 1)
            found.append((parts_of(one.external_key or "")[-1], last, one))
        return found


class _Key(NamedTuple):
    """The SDK's key of a transcript, and ours."""

    project_key: str
    session_id: str
    subpath: str | None

    @classmethod
    def of(cls, key: Mapping[str, Any]) -> "_Key":
        return cls(str(key["project_key"]), str(key["session_id"]), key.get("subpath") or None)

    @property
    def external(self) -> str:
        return key_of(_TAG, self.project_key, self.session_id)

    @property
    def id(self) -> str:
        return session_id_for(self.external)

    @property
    def stream(self) -> str:
        return _MAIN if self.subpath is None else _SUB + self.subpath

    def to_dict(self) -> Any:
        return {"project_key": self.project_key, "session_id": self.session_id}


def _new(now: Stored, stream: str, entries: Sequence[dict[str, Any]]) -> list[tuple[e.RecordPut, dict[str, Any]]]:
    """Return what is not there yet, each once."""
    found: list[tuple[e.RecordPut, dict[str, Any]]] = []
    known, seen = now.entries(stream), set[str]()
    for one in entries:
        uuid = one.get("uuid")
        named = uuid if isinstance(uuid, str) and uuid else None
        if named is not None:
            if named in seen or named in known:
                continue
            seen.add(named)
        found.append((e.RecordPut(stream=stream, key=named, value=packed(one), once=named is not None), one))
    return found


def _summary(now: Stored, key: "_Key", entries: Sequence[dict[str, Any]]) -> e.RecordPut:
    found = now.get(_SUMMARY, _SUMMARY)
    before = None if found is None else {"session_id": key.session_id, "mtime": 0, "data": unpacked(found.value)}
    after: Any = fold_session_summary(before, key.to_dict(), list(entries))
    return e.RecordPut(stream=_SUMMARY, key=_SUMMARY, value=packed(after["data"]))


def _meaning(translator: ClaudeCode, entry: dict[str, Any]) -> list[e.Event]:
    """Return the events of a line of a main transcript."""
    found = translator.read(entry)
    calls = {one.invocation_id: one for one in found.calls}
    answers = {one.invocation_id: one for one in found.answers}
    events: list[e.Event] = []
    for event in found.events:
        if isinstance(event, e.InvocationLinked):
            call, answer = calls.get(event.invocation_id), answers.get(event.invocation_id)
            if answer is not None:
                event = replace(event, result=plain(answer.result))
            elif call is not None:
                event = e.InvocationStarted(
                    invocation_id=call.invocation_id, tool_name=call.tool_name, input=plain(call.arguments)
                )
        events.append(e.at_time(event, event.occurred_at or translator.time))
    return events


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)
