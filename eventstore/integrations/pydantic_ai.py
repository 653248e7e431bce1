"""Pydantic AI: conversations, kept in the store.

`EventStoreConversations(manager)` is a conversation store. A conversation is a session with its record in the stream `record` and
one record for each message in the stream `entries`. A fork points at entries of the session it came from. The stream `order` has
one record for each save: the entry that it follows, and its own. So a history goes on where an entry was redacted.
"""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from eventstore import events as e
from eventstore.errors import ExtraMissing, SessionNotFound
from eventstore.ids import session_id_for
from eventstore.integrations.kept import KeptLists
from eventstore.integrations.meaning import call_began, call_ended, meant, text_of_parts
from eventstore.integrations.plain import packed, unpacked
from eventstore.integrations.sessions import (
    Stored,
    append_decided,
    finish,
    key_of,
    manager_of,
    sessions_named,
    stored,
    stored_or_nothing,
)
from eventstore.sessions.async_manager import AsyncSessionManager
from eventstore.sessions.manager import SessionManager

try:
    from pydantic import TypeAdapter
    from pydantic_ai.conversation_store import (
        ConversationConflict,
        ConversationEntry,
        ConversationRecord,
        ConversationStore,
    )
except ImportError:
    raise ExtraMissing("pydantic-ai", "eventstore.integrations.pydantic_ai") from None

_TAG = "pydantic-ai"
_RECORD, _ENTRIES, _ORDER = "record", "entries", "order"
_MOST_HINTS = 10_000
_ROLES: dict[str, e.Role] = {"user-prompt": "user", "system-prompt": "system", "text": "assistant"}
_records = TypeAdapter(ConversationRecord)
_entries = TypeAdapter(ConversationEntry)


class EventStoreConversations(ConversationStore):
    """A conversation store on any backend. Safe for threads, tasks and processes.

    A deleted conversation is not loaded or listed any more, and its entries stay in the log, since forks may use them: to erase
    them, delete the session `session_id_of(conversation_id)` with the manager.

    A conversation, or a fork of it, of which complete entries were redacted loads without them. A run of an agent repairs what it
    sends then: it answers calls that lost their results, and leaves out results that lost their call.
    """

    def __init__(self, manager: SessionManager | AsyncSessionManager) -> None:
        self._manager = manager_of(manager)
        self._homes: dict[str, str] = {}
        self._listed = KeptLists(self._manager, self._make_listed)
        self._mutex = threading.Lock()

    def session_id_of(self, conversation_id: str) -> str:
        """Return the id of the session that holds a conversation."""
        return session_id_for(key_of(_TAG, conversation_id))

    async def read_record(self, conversation_id: str) -> Any:
        """Return the record of a conversation; None if there is none."""
        return await asyncio.to_thread(self._record, self.session_id_of(conversation_id))

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> Sequence[Any]:
        """Return the records of a scope, or all, the last saved first. Reads one session after the other."""
        return await asyncio.to_thread(self._all, scope, limit)

    async def write_record(
        self, record: Any, *, new_entries: Sequence[Any] = (), expected_revision: str | None
    ) -> None:
        """Store a record with its new entries in one batch, where the stored record has `expected_revision`."""
        await finish(self._write, record, new_entries, expected_revision)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Remove a record. Its entries stay."""
        await finish(self._delete, conversation_id, expected_revision)

    async def read_entry(self, entry_id: str) -> Any:
        """Return an entry. Raises LookupError if no session has it, or if it was redacted."""
        return await asyncio.to_thread(self._entry, entry_id, {})

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[Any]:
        """Return the entries up to `head_id` in order, the last `limit` of those that were not redacted.

        Raises LookupError if one was never stored, or if its session was deleted.
        """
        return await asyncio.to_thread(self._history, head_id, limit)

    # --- reading

    def _record(self, session_id: str) -> ConversationRecord | None:
        try:
            item = self._manager.records.get(session_id, _RECORD, _RECORD)
        except SessionNotFound:
            return None
        if item is None:
            return None
        record = _records.validate_python(item.value)
        if record.head_id is not None:
            self._note(record.head_id, session_id if self._has(session_id, record.head_id) else None)
        return record

    def _all(self, scope: str | None, limit: int | None) -> list[ConversationRecord]:
        found = [_records.validate_json(one) for one in self._listed.of(f"{_TAG}/") if one]
        records = [one for one in found if scope in (None, one.scope)]
        return sorted(records, key=lambda one: one.updated_at, reverse=True)[:limit]

    def _make_listed(self, session_id: str, external: str) -> bytes:
        """Return the record of a conversation as JSON; nothing where it was deleted."""
        now = stored(self._manager, session_id)
        return b"".join(now.text(entry) for entry in now.entries(_RECORD).values())

    def _history(self, head_id: str | None, limit: int | None) -> list[ConversationEntry]:
        found: list[ConversationEntry] = []
        read = dict[str, Stored]()
        while head_id is not None and (limit is None or len(found) < limit):
            entry = self._find(head_id, read)
            if isinstance(entry, ConversationEntry):
                found.append(entry)
            if entry.parent_id is not None and entry.parent_id not in self._homes:
                self._note(entry.parent_id, self._homes.get(head_id))
            head_id = entry.parent_id
        return found[::-1]

    def _entry(self, entry_id: str, read: dict[str, Stored]) -> ConversationEntry:
        """Return an entry. `read` is that of `_find`. Raises LookupError."""
        entry = self._find(entry_id, read)
        if isinstance(entry, ConversationEntry):
            return entry
        raise LookupError(f"the entry {entry_id!r} was redacted: only its place in its conversation is known")

    def _find(self, entry_id: str, read: dict[str, Stored]) -> "ConversationEntry | _Redacted":
        """Return an entry, or what is left of it. Raises LookupError.

        `read` are the sessions that were read for the same answer: entries do not change.
        """
        for session_id in self._where(entry_id):
            now = read.get(session_id) or stored_or_nothing(self._manager, session_id)
            item = now.get(_ENTRIES, entry_id)
            found = _redacted(now, entry_id) if item is None else _entries.validate_python(unpacked(item.value))
            if found is not None:
                read[session_id] = now
                self._note(entry_id, session_id)
                return found
        raise LookupError(f"no conversation has the entry {entry_id!r}")

    def _where(self, entry_id: str) -> Iterator[str]:
        """List the sessions that may have an entry: the one it was last seen in, the parents of that one, then all."""
        home: str | None = self._homes.get(entry_id)
        seen = set[str]()
        while home is not None and home not in seen:
            seen.add(home)
            yield home
            record = self._record_of(home)
            home = (
                None
                if record is None or record.get("forked_from") is None
                else self.session_id_of(record["forked_from"])
            )
        for one in sessions_named(self._manager, f"{_TAG}/"):
            if one.session_id not in seen:
                yield one.session_id

    def _record_of(self, session_id: str) -> dict[str, Any] | None:
        try:
            item = self._manager.records.get(session_id, _RECORD, _RECORD)
        except SessionNotFound:
            return None
        return None if item is None else dict(item.value)

    def _has(self, session_id: str, entry_id: str) -> bool:
        return entry_id in stored(self._manager, session_id).keys(_ENTRIES)

    def _note(self, entry_id: str, session_id: str | None) -> None:
        """Remember where an entry is: a hint, which may be wrong."""
        if session_id is not None:
            with self._mutex:
                if len(self._homes) >= _MOST_HINTS:
                    self._homes.clear()
                self._homes[entry_id] = session_id

    # --- writing

    def _write(
        self, record: ConversationRecord, new_entries: Sequence[ConversationEntry], expected: str | None
    ) -> None:
        external = key_of(_TAG, record.conversation_id)
        session_id = session_id_for(external)
        if record.head_id is not None and record.head_id not in {one.id for one in new_entries}:
            self._require(record)

        def decide(now: Stored) -> list[e.Event]:
            _check(now, record.conversation_id, expected)
            events: list[e.Event] = []
            if new_entries:
                ids = [one.id for one in new_entries]
                events.append(e.RecordPut(stream=_ORDER, key=ids[0], value=[new_entries[0].parent_id, *ids], once=True))
            for entry in new_entries:
                value = _entries.dump_python(entry, mode="json")
                events.append(e.RecordPut(stream=_ENTRIES, key=entry.id, value=packed(value), once=True))
                events += meant(_meaning, value["message"])
            value = _records.dump_python(record, mode="json")
            return [*events, e.RecordPut(stream=_RECORD, key=_RECORD, value=value)]

        created = e.SessionCreated(external_key=external, tags=(_TAG,), user_id=record.scope)
        append_decided(self._manager, session_id, decide, created)
        for entry in new_entries:
            self._note(entry.id, session_id)

    def _require(self, record: ConversationRecord) -> None:
        try:
            self._find(record.head_id or "", {})
        except LookupError:
            raise ConversationConflict(record.conversation_id) from None

    def _delete(self, conversation_id: str, expected: str) -> None:
        session_id = self.session_id_of(conversation_id)

        def decide(now: Stored) -> list[e.Event]:
            _check(now, conversation_id, expected)
            return [e.RecordRemoved(stream=_RECORD)]

        append_decided(self._manager, session_id, decide)


class _Redacted(NamedTuple):
    """What is left of an entry that was redacted."""

    parent_id: str | None


def _redacted(now: Stored, entry_id: str) -> _Redacted | None:
    """Return the place of an entry whose content is gone; None if the session never had it."""
    for ids in now.values(_ORDER):
        if entry_id in ids[1:]:
            return _Redacted(ids[ids.index(entry_id, 1) - 1])
    return None


def _check(now: Stored, conversation_id: str, expected: str | None) -> None:
    item = now.get(_RECORD, _RECORD)
    if (None if item is None else item.value["revision"]) != expected:
        raise ConversationConflict(conversation_id)


def _meaning(message: dict[str, Any]) -> Iterator[e.Event]:
    """Stream the events of a message, given as JSON."""
    for part in message.get("parts", ()):
        kind, text, call_id = part.get("part_kind"), text_of_parts(part.get("content")), part.get("tool_call_id")
        if kind in _ROLES and text:
            yield e.MessageAdded(role=_ROLES[kind], content=text)
        elif kind == "tool-call" and call_id:
            yield from call_began(call_id, part.get("tool_name"), part.get("args"))
        elif kind in ("tool-return", "retry-prompt") and call_id:
            yield from call_ended(call_id, part.get("tool_name"), part.get("content"), success=kind == "tool-return")
    usage = message.get("usage") or {}
    tokens = {"input": usage.get("input_tokens"), "output": usage.get("output_tokens")}
    counted = {name: count for name, count in tokens.items() if isinstance(count, int) and count}
    if counted:
        yield e.UsageRecorded(tokens=counted, model=message.get("model_name"), key=message.get("provider_response_id"))
