"""Key-value stores: the interface of py-key-value-aio, which FastMCP uses for the state of sessions.

`EventStoreKeyValue(manager)` keeps a collection as a session with one record for each key, so each past value can still be read.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from eventstore import events as e
from eventstore.errors import ExtraMissing, SessionNotFound
from eventstore.ids import session_id_for
from eventstore.integrations.kept import KeptLists
from eventstore.integrations.sessions import (
    Stored,
    append_decided,
    finish,
    key_of,
    manager_of,
    parts_of,
    stored_or_nothing,
)
from eventstore.sessions.async_manager import AsyncSessionManager
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
        self,
        manager: SessionManager | AsyncSessionManager,
        name: str = "default",
        *,
        default_collection: str | None = None,
        seed: Any = None,
    ) -> None:
        self._manager, self._name = manager_of(manager), name
        self._adapter = BasicSerializationAdapter()
        self._collections = KeptLists(self._manager, lambda session_id, external: parts_of(external)[-1])
        super().__init__(default_collection=default_collection, seed=seed, stable_api=True)

    def _external(self, collection: str) -> str:
        return key_of(_TAG, self._name, collection)

    def _id(self, collection: str) -> str:
        return session_id_for(self._external(collection))

    async def _get_managed_entry(self, *, collection: str, key: str) -> Any:
        return (await self._get_managed_entries(collection=collection, keys=[key]))[0]

    async def _get_managed_entries(self, *, collection: str, keys: Sequence[str]) -> list[Any]:
        return await asyncio.to_thread(self._get, collection, keys)

    def _get(self, collection: str, keys: Sequence[str]) -> list[ManagedEntry | None]:
        now = stored_or_nothing(self._manager, self._id(collection))
        texts = [now.value(_VALUES, key) for key in keys]
        return [None if text is None else self._adapter.load_json(json_str=text) for text in texts]

    async def _put_managed_entry(self, *, collection: str, key: str, managed_entry: Any) -> None:
        put = e.RecordPut(stream=_VALUES, key=key, value=self._adapter.dump_json(entry=managed_entry))
        await finish(self._put, collection, [put])

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
            await finish(self._put, collection, puts)

    def _put(self, collection: str, puts: Sequence[e.Event]) -> None:
        created = e.SessionCreated(external_key=self._external(collection), tags=(_TAG,))
        self._manager.append(self._id(collection), puts, create=created)

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        return await self._delete_managed_entries(keys=[key], collection=collection) == 1

    async def _delete_managed_entries(self, *, keys: Sequence[str], collection: str) -> int:
        return await finish(self._delete, collection, keys)

    def _delete(self, collection: str, keys: Sequence[str]) -> int:
        removed: list[e.Event] = []

        def decide(now: Stored) -> list[e.Event]:
            known = now.keys(_VALUES)
            removed[:] = [e.RecordRemoved(stream=_VALUES, key=key) for key in dict.fromkeys(keys) if key in known]
            return removed

        append_decided(self._manager, self._id(collection), decide)
        return len(removed)

    async def _get_collection_keys(self, *, collection: str, limit: int | None = None) -> list[str]:
        return await asyncio.to_thread(self._keys, collection, limit)

    def _keys(self, collection: str, limit: int | None) -> list[str]:
        found = stored_or_nothing(self._manager, self._id(collection)).keys(_VALUES)
        return list(found)[: limit or _MOST_NAMES]

    async def _get_collection_names(self, *, limit: int | None = None) -> list[str]:
        return await asyncio.to_thread(self._names, limit)

    def _names(self, limit: int | None) -> list[str]:
        return self._all_names()[: limit or _MOST_NAMES]

    def _all_names(self) -> list[str]:
        return sorted(self._collections.of(f"{key_of(_TAG, self._name)}/"))

    async def _delete_collection(self, *, collection: str) -> bool:
        return await finish(self._drop, collection)

    def _drop(self, collection: str) -> bool:
        try:
            return self._manager.delete_session(self._id(collection))
        except SessionNotFound:
            return False

    async def _delete_store(self) -> bool:
        for name in await asyncio.to_thread(self._all_names):
            await self._delete_collection(collection=name)
        return True
