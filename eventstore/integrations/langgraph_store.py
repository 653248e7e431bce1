"""LangGraph: the memory that graphs share between threads, kept in the store.

`EventStoreStore(manager)` is a `BaseStore`. A namespace is a session with one record for each key in the stream `items`, so each
past value can still be read.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from eventstore import events as e
from eventstore.errors import ExtraMissing, SessionNotFound
from eventstore.ids import session_id_for
from eventstore.integrations.plain import packed, unpacked
from eventstore.integrations.sessions import (
    Stored,
    append_decided,
    finish,
    key_of,
    manager_of,
    parts_of,
    sessions_named,
)
from eventstore.sessions.async_manager import AsyncSessionManager
from eventstore.sessions.manager import SessionManager
from projections.records import Entry

try:
    from langgraph.store.base import (
        BaseStore,
        GetOp,
        Item,
        ListNamespacesOp,
        PutOp,
        SearchItem,
        SearchOp,
        validate_op_namespace,
    )
except ImportError:
    raise ExtraMissing("langgraph", "eventstore.integrations.langgraph_store") from None

_TAG = "langgraph-store"
_ITEMS = "items"
_ORDERS = {
    "$gt": lambda one, other: one > other,
    "$gte": lambda one, other: one >= other,
    "$lt": lambda one, other: one < other,
    "$lte": lambda one, other: one <= other,
}


class EventStoreStore(BaseStore):
    """A store of LangGraph on any backend. Safe for threads, tasks and processes.

    The puts of a batch are one write for each namespace, after its reads. `search` gives the last updated first. Values are
    JSON. Not offered: vectors (`query` and `index` have no effect) and `ttl`, which is refused. `name` parts several stores.
    """

    __slots__ = ("_manager", "_name")

    def __init__(self, manager: SessionManager | AsyncSessionManager, name: str = "default") -> None:
        self._manager, self._name = manager_of(manager), name

    def session_id_of(self, namespace: Sequence[str]) -> str:
        """Return the id of the session that holds a namespace."""
        return session_id_for(self._external(namespace))

    def batch(self, ops: Iterable[Any]) -> list[Any]:
        """Do several operations; return what each gives. Of puts of one key the last counts. Raises InvalidNamespaceError."""
        found: list[Any] = []
        puts: dict[tuple[str, ...], dict[str, Any]] = {}
        for op in ops:
            validate_op_namespace(op)
            if isinstance(op, GetOp):
                found.append(self._get(op.namespace, op.key))
            elif isinstance(op, SearchOp):
                found.append(self._search(op))
            elif isinstance(op, ListNamespacesOp):
                found.append(self._list(op))
            elif isinstance(op, PutOp):
                puts.setdefault(op.namespace, {})[op.key] = op.value
                found.append(None)
            else:
                raise ValueError(f"{type(op).__name__} is no operation of a store; nothing was written")
        for namespace, values in puts.items():
            self._put(namespace, values)
        return found

    async def abatch(self, ops: Iterable[Any]) -> list[Any]:
        """Do what `batch` does."""
        return await finish(self.batch, list(ops))

    # --- one operation

    def _put(self, namespace: tuple[str, ...], values: Mapping[str, Any]) -> None:
        session_id = self.session_id_of(namespace)

        def decide(now: Stored) -> list[e.Event]:
            known = now.entries(_ITEMS)
            events: list[e.Event] = []
            for key, value in values.items():
                if value is not None:
                    entry = known.get(key)
                    created = None if entry is None else self._created(namespace, entry)
                    stored = {"value": dict(value)} if created is None else {"value": dict(value), "created": created}
                    events.append(e.RecordPut(stream=_ITEMS, key=key, value=packed(stored)))
                elif key in known:
                    events.append(e.RecordRemoved(stream=_ITEMS, key=key))
            left = (known.keys() - values.keys()) or any(value is not None for value in values.values())
            if now.version and bool(left) != bool(known):  # an empty namespace is not listed
                events.append(e.SessionUpdated(tags=(_TAG,) if left else ()))
            return events

        created = e.SessionCreated(external_key=self._external(namespace), tags=(_TAG,))
        append_decided(self._manager, session_id, decide, created)

    def _get(self, namespace: tuple[str, ...], key: str) -> Any:
        entry = self._entries(namespace).get(key)
        item = None if entry is None else self._item(_Found(namespace, entry))
        return None if item is None else Item(**item)

    def _search(self, op: Any) -> list[Any]:
        """Search from the last updated on, and decode only the requested values."""
        found = [
            _Found(namespace, entry)
            for namespace in self._namespaces(op.namespace_prefix)
            for entry in self._entries(namespace).values()
        ]
        most = op.offset + op.limit
        latest = sorted(found, key=_age) if op.filter else heapq.nsmallest(most, found, key=_age)
        items: list[Any] = []
        for one in latest:
            if len(items) >= most:
                break
            item = self._item(one)
            if item is None:
                continue
            if not op.filter or all(_matches(item["value"].get(key), wanted) for key, wanted in op.filter.items()):
                items.append(SearchItem(**item))
        return items[op.offset : most]

    def _list(self, op: Any) -> list[tuple[str, ...]]:
        conditions = op.match_conditions or ()
        start: list[str] = []
        for part in next((one.path for one in conditions if one.match_type == "prefix"), ()):
            if part == "*":
                break
            start.append(part)
        found = [one for one in self._namespaces(start) if all(_is_below(one, condition) for condition in conditions)]
        return sorted({one[: op.max_depth] for one in found})[op.offset : op.offset + op.limit]

    # --- sessions

    def _external(self, namespace: Sequence[str]) -> str:
        return key_of(_TAG, self._name, *namespace)

    def _namespaces(self, prefix: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Stream the namespaces that hold something and begin with these labels."""
        for one in sessions_named(self._manager, self._external(prefix), [_TAG]):
            _, name, *namespace = parts_of(one.external_key or "")
            if name == self._name and namespace[: len(prefix)] == list(prefix):
                yield tuple(namespace)

    def _entries(self, namespace: tuple[str, ...]) -> Mapping[Any, Entry]:
        try:
            return self._manager.storage.records(self.session_id_of(namespace)).streams.get(_ITEMS, {})
        except SessionNotFound:
            return {}

    def _stored(self, namespace: tuple[str, ...], entry: Entry) -> Any:
        """Return what is stored for a key; None if it was removed in the meantime."""
        try:
            found = self._manager.records.get(self.session_id_of(namespace), _ITEMS, entry.key or "")
        except SessionNotFound:
            return None
        return None if found is None else unpacked(found.value)

    def _created(self, namespace: tuple[str, ...], entry: Entry) -> str:
        """Return when a key was put first; a value that replaced another one has that time with it."""
        stored = None if entry.first == entry.seq else self._stored(namespace, entry)
        return entry.time if stored is None else str(stored.get("created", entry.time))

    def _item(self, found: "_Found") -> dict[str, Any] | None:
        stored = self._stored(found.namespace, found.entry)
        return stored and {
            "namespace": found.namespace,
            "key": found.entry.key,
            "value": stored["value"],
            "created_at": datetime.fromisoformat(stored.get("created", found.entry.time)),
            "updated_at": datetime.fromisoformat(found.entry.time),
        }


class _Found(NamedTuple):
    """An entry, and where it is."""

    namespace: tuple[str, ...]
    entry: Entry


def _age(found: _Found) -> tuple[float, int]:
    """Sort the last updated first."""
    return -datetime.fromisoformat(found.entry.time).timestamp(), -found.entry.seq


def _is_below(namespace: tuple[str, ...], condition: Any) -> bool:
    """Return whether a namespace begins, or ends, with the labels of a condition; `*` is any label."""
    path = tuple(condition.path)
    if condition.match_type not in ("prefix", "suffix"):
        raise ValueError(f"match_type {condition.match_type!r} is not one of prefix, suffix")
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[len(namespace) - len(path) :]
    return len(namespace) >= len(path) and all(label in ("*", own) for label, own in zip(path, part, strict=True))


def _matches(value: Any, wanted: Any) -> bool:
    """Return whether a value fits a filter: equal, or by operators, also inside objects and lists."""
    if isinstance(wanted, Mapping):
        if any(name.startswith("$") for name in wanted):
            return all(_holds(value, name, other) for name, other in wanted.items())
        return isinstance(value, dict) and all(_matches(value.get(name), other) for name, other in wanted.items())
    if isinstance(wanted, list | tuple):
        if not isinstance(value, list) or len(value) != len(wanted):
            return False
        return all(_matches(one, other) for one, other in zip(value, wanted, strict=True))
    return bool(value == wanted)


def _holds(value: Any, operator: str, other: Any) -> bool:
    if operator in ("$eq", "$ne"):
        return bool(value == other) == (operator == "$eq")
    if operator not in _ORDERS:
        raise ValueError(f"operator {operator!r} is not one of $eq, $ne, {', '.join(_ORDERS)}")
    try:
        return bool(_ORDERS[operator](value, other))
    except TypeError:  # values of two kinds have no order
        return False
