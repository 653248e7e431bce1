"""Key-value stores: the interface of py-key-value-aio, which FastMCP uses for the state of sessions.

`EventStoreKeyValue(manager)` keeps a collection as a session with one record for each key, so each past value can still be read.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from eventstore import events as e
from eventstore.errors import ExtraMissing, SessionNotFound
from eventstore.ids import session_id_for
from eventstore.integrations.sessions import Stored, append_decided, key_of, parts_of, sessions_named, stored
from eventstore.sessions.manager import SessionManager

try:
    from key_value.aio._utils.managed_entry import ManagedEntry
    from key_value.aio._utils.serialization import BasicSerializationAdapter
    from key_value.aio.stores.base import (
        BaseDestroyCollectionStore,
        BaseDestroyStore,
        BaseEnumerateCollectionsStore,
        BaseEnumerateKeysStore,
    )
except ImportError:
    raise ExtraMissing("fastmcp", "eventstore.integrations.keyvalue") from None

_TAG = "key-value"
_VALUES = "values"
_MOST_NAMES = 10_000


class EventStoreKeyValue(
    BaseDestroyStore, BaseDestroyCollectionStore, BaseEnumerateCollectionsStore, BaseEnumerateKeysStore
):
    """A key-value store on any backend. Safe for threads, tasks and processes.

    `name` separates the collections of several stores in one. Expired entries are removed when they are requested.
    """

    def __init__(
        self, manager: SessionManager, name: str = "default", *, default_collection: str | None = None, seed: Any = None
    ) -> None:
        self._manager, self._name = manager, name
        self._adapter = BasicSerializationAdapter()
        super().__init__(default_collection=default_collection, seed=seed, stable_api=True)

    def _external(self, collection: str) -> str:
        return key_of(_TAG, self._name, collection)

    def _id(self, collection: str) -> str:
        return session_id_for(self._external(collection))

    async def _get_managed_entry(self, *, collection: str, key: str) -> Any:
        return await asyncio.to_thread(self._get, collection, key)

    def _get(self, collection: str, key: str) -> ManagedEntry | None:
        try:
            item = self._manager.records.get(self._id(collection), _VALUES, key)
        except SessionNotFound:
            return None
        return None if item is None else self._adapter.load_json(json_str=item.value)

    async def _put_managed_entry(self, *, collection: str, key: str, managed_entry: Any) -> None:
        put = e.RecordPut(stream=_VALUES, key=key, value=self._adapter.dump_json(entry=managed_entry))
        await asyncio.to_thread(self._put, collection, [put])

    async def _put_managed_entries(
        self,
        *,
        collection: str,
        keys: Sequence[str],
        managed_entries: Sequence[Any],
        ttl: float | None,
        created_at: Any,
        expires_at: Any,
    ) -> None:
        puts = [
            e.RecordPut(stream=_VALUES, key=key, value=self._adapter.dump_json(entry=one))
            for key, one in zip(keys, managed_entries, strict=True)
        ]
        if puts:
            await asyncio.to_thread(self._put, collection, puts)

    def _put(self, collection: str, puts: Sequence[e.Event]) -> None:
        created = e.SessionCreated(external_key=self._external(collection), tags=(_TAG,))
        self._manager.append(self._id(collection), puts, create=created)

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        return await asyncio.to_thread(self._delete, collection, key)

    def _delete(self, collection: str, key: str) -> bool:
        session_id = self._id(collection)

        def decide(now: Stored) -> list[e.Event]:
            if key not in now.keys(_VALUES):
                return []
            return [e.RecordRemoved(stream=_VALUES, key=key)]

        return append_decided(self._manager, session_id, decide) is not None

    async def _get_collection_keys(self, *, collection: str, limit: int | None = None) -> list[str]:
        return await asyncio.to_thread(self._keys, collection, limit)

    def _keys(self, collection: str, limit: int | None) -> list[str]:
        try:
            found = stored(self._manager, self._id(collection)).keys(_VALUES)
        except SessionNotFound:
            return []
        return list(found)[: limit or _MOST_NAMES]

    async def _get_collection_names(self, *, limit: int | None = None) -> list[str]:
        return await asyncio.to_thread(self._names, limit)

    def _names(self, limit: int | None) -> list[str]:
        found = sessions_named(self._manager, f"{key_of(_TAG, self._name)}/")
        return sorted(parts_of(one.external_key or "")[-1] for one in found)[: limit or _MOST_NAMES]

    async def _delete_collection(self, *, collection: str) -> bool:
        return await asyncio.to_thread(self._drop, collection)

    def _drop(self, collection: str) -> bool:
        try:
            return self._manager.delete_session(self._id(collection))
        except SessionNotFound:
            return False

    async def _delete_store(self) -> bool:
        for name in await self._get_collection_names():
            await self._delete_collection(collection=name)
        return True
