"""LangGraph: checkpoints of graphs, kept in the store.

`EventStoreSaver(manager)` is a checkpoint saver. A thread is a session; `langgraph_streams.py` has its streams. Messages, tool
calls and usage in the channel `messages` of the root graph are appended in the same batch as the checkpoint that brought them.
"""

import asyncio
import random
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from eventstore import events as e
from eventstore.errors import ExtraMissing, SessionExists, SessionNotFound
from eventstore.ids import session_id_for
from eventstore.integrations import grown
from eventstore.integrations.chat_messages import meaning_of
from eventstore.integrations.kept import KeptLists, KeptValues
from eventstore.integrations.langgraph_streams import (
    BLOBS,
    CHECKPOINTS,
    WRITES,
    Parts,
    Place,
    Typed,
    namespaces,
    removal,
    typed,
)
from eventstore.integrations.meaning import meant
from eventstore.integrations.plain import plain
from eventstore.integrations.sessions import (
    Stored,
    append_decided,
    finish,
    key_of,
    manager_of,
    parts_of,
    stored,
    stored_or_nothing,
)
from eventstore.log.base import Head
from eventstore.sessions.async_manager import AsyncSessionManager
from eventstore.sessions.manager import SessionManager
from eventstore.sessions.records import Item

try:
    from langgraph.checkpoint.base import (
        WRITES_IDX_MAP,
        BaseCheckpointSaver,
        CheckpointTuple,
        get_checkpoint_id,
        get_checkpoint_metadata,
        writes_sort_key,
    )
except ImportError:
    raise ExtraMissing("langgraph", "eventstore.integrations.langgraph") from None

_TAG = "langgraph"
_SAID = "said"
_MESSAGES = "messages"


class _Awaited(BaseCheckpointSaver[str]):
    """The awaited twin of each method, in a thread. A change that is cancelled ends before the call does."""

    async def aget_tuple(self, config: Any) -> Any:
        """Return what `get_tuple` returns."""
        return await asyncio.to_thread(self.get_tuple, config)

    async def alist(
        self,
        config: Any,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the interface's
        before: Any = None,
        limit: int | None = None,
    ) -> AsyncIterator[Any]:
        """Stream what `list` streams."""
        found = self.list(config, filter=filter, before=before, limit=limit)
        while (one := await asyncio.to_thread(next, found, None)) is not None:
            yield one

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Mapping[str, Any]) -> Any:
        """Store what `put` stores."""
        return await finish(self.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what `put_writes` stores."""
        await finish(self.put_writes, config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete what `delete_thread` deletes."""
        await finish(self.delete_thread, thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove what `delete_for_runs` removes."""
        await finish(self.delete_for_runs, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy what `copy_thread` copies."""
        await finish(self.copy_thread, source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove what `prune` removes."""
        await finish(self.prune, thread_ids, strategy=strategy)


class _Reader(_Awaited):
    """Reads checkpoints."""

    def __init__(self, manager: SessionManager | AsyncSessionManager, *, serde: Any = None) -> None:
        super().__init__(serde=serde)
        self._manager = manager_of(manager)
        self._last = KeptValues[tuple[str, str, str], tuple[str, grown.Value]](lambda one: len(one[1].data))
        """The last value of each channel of each thread, with its key, by session, stream and channel."""
        self._parts = KeptValues[tuple[str, str, str], Parts](Parts.size_bytes)
        """The checkpoints that were listed, by session, namespace and name."""
        self._known = KeptLists(self._manager, self._make_known)

    def session_id_of(self, thread_id: str) -> str:
        """Return the id of the session that holds a thread."""
        return session_id_for(key_of(_TAG, str(thread_id)))

    def get_next_version(self, current: Any, channel: None) -> str:
        """Return the version after another one; they sort as texts."""
        number = 0 if current is None else int(str(current).partition(".")[0])
        return f"{number + 1:032}.{random.random():016}"  # noqa: S311 - it only parts two versions of one number

    # --- reading

    def get_tuple(self, config: Any) -> Any:
        """Return the checkpoint that `config` names, or the latest of its thread and namespace; None if there is none."""
        place = Place.of(config, get_checkpoint_id(config))
        session_id = self.session_id_of(place.thread)
        try:
            now, stream = stored(self._manager, session_id), key_of(CHECKPOINTS, place.namespace)
            checkpoint_id = place.checkpoint or max(now.keys(stream), default=None)
            item = None if checkpoint_id is None else now.get(stream, checkpoint_id)
            if item is None:
                return None
            named = config if place.checkpoint else place._replace(checkpoint=checkpoint_id).to_config()
            return self._tuple(place, named, self._parts_of(now, place.namespace, item, session_id))
        except SessionNotFound:
            return None

    def list(
        self,
        config: Any,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the interface's
        before: Any = None,
        limit: int | None = None,
    ) -> Iterator[Any]:
        """Stream checkpoints, the latest first in each namespace, which are those of one thread or of all."""
        left = limit
        wanted = None if config is None else config["configurable"].get("checkpoint_ns")
        only = None if config is None else get_checkpoint_id(config)
        until = None if before is None else get_checkpoint_id(before)
        for thread, session_id, now in self._threads(config):
            for namespace in namespaces(now):
                if wanted is not None and namespace != wanted:
                    continue
                stream, latest = key_of(CHECKPOINTS, namespace), None if config is None else session_id
                for checkpoint_id in sorted(now.keys(stream), reverse=True):
                    if (only and checkpoint_id != only) or (until and checkpoint_id >= until):
                        continue
                    if filter and not self._matches(now.get(stream, checkpoint_id), filter):
                        continue
                    if left is not None and left <= 0:
                        return
                    left = None if left is None else left - 1
                    place = Place(thread, namespace, checkpoint_id)
                    yield self._tuple(place, place.to_config(), self._kept_parts(now, session_id, place, latest))
                    latest = None  # the next checkpoint continues none of the older values

    def _threads(self, config: Any) -> Iterator[tuple[str, str, Stored]]:
        """Stream the thread of a config, or all, the last written first: its name, its session, and what that holds."""
        if config is not None:
            thread = str(config["configurable"]["thread_id"])
            session_id = self.session_id_of(thread)
            yield thread, session_id, stored_or_nothing(self._manager, session_id)
            return
        known = sorted(self._known.of(f"{_TAG}/"), key=lambda one: one.head.at, reverse=True)
        for thread, session_id, head in known:
            try:
                now = stored(self._manager, session_id, head)
            except SessionNotFound:  # deleted in the meantime
                continue
            yield thread, session_id, now

    def _make_known(self, session_id: str, external: str) -> "_Known":
        return _Known(parts_of(external)[1], session_id, stored(self._manager, session_id).head)

    def _matches(self, item: Item | None, wanted: Mapping[str, Any]) -> bool:
        metadata = {} if item is None else self._load(item.value["metadata"])
        return all(metadata.get(name) == value for name, value in wanted.items())

    def _kept_parts(self, now: Stored, session_id: str, place: Place, latest: str | None) -> Parts:
        """Return the parts of a checkpoint that is there. What was returned before is kept while the log does not change."""
        name = session_id, place.namespace, place.checkpoint or ""
        kept = self._parts.get(name)
        if kept is None or kept.at != now.head.hash:
            stream = key_of(CHECKPOINTS, place.namespace)
            item = now.item(stream, now.entries(stream)[name[2]])
            kept = self._parts_of(now, place.namespace, item, latest)
            self._parts.put(name, kept)
        return kept

    def _parts_of(self, now: Stored, namespace: str, item: Item, latest: str | None) -> Parts:
        """Return the parts of a checkpoint. `latest` is its session where the next checkpoint probably continues its values."""
        checkpoint = typed(item.value["checkpoint"])
        writes = sorted(now.list(key_of(WRITES, namespace, item.key or "")), key=_order_of)
        return Parts(
            now.head.hash,
            checkpoint,
            typed(item.value["metadata"]),
            item.value["parent"],
            list(self._values(now, namespace, self.serde.loads_typed(checkpoint)["channel_versions"], latest)),
            [(one.value["task"], one.value["channel"], typed(one.value["value"])) for one in writes],
        )

    def _values(
        self, now: Stored, namespace: str, versions: Mapping[str, Any], latest: str | None
    ) -> Iterator[tuple[str, Typed]]:
        stream = key_of(BLOBS, namespace)
        there, get = now.keys(stream), partial(now.value, stream)
        for channel, version in versions.items():
            key = key_of(channel, str(version))
            known = None if latest is None else self._last.get((latest, stream, channel))
            value = grown.resolve_known(key, known, there, get)
            if value is not None:
                if latest is not None:
                    self._last.put((latest, stream, channel), (key, value))
                yield channel, (value.kind, value.data)

    def _tuple(self, place: Place, config: Any, parts: Parts) -> Any:
        load = self.serde.loads_typed
        checkpoint = load(parts.checkpoint)
        checkpoint["channel_values"] = {channel: load(value) for channel, value in parts.values}
        return CheckpointTuple(
            config=config,
            checkpoint=checkpoint,
            metadata=load(parts.metadata),
            parent_config=place._replace(checkpoint=parts.parent).to_config() if parts.parent else None,
            pending_writes=[(task, channel, load(value)) for task, channel, value in parts.writes],
        )

    def _dump(self, value: Any) -> tuple[str, str]:
        kind, data = self.serde.dumps_typed(value)
        return kind, b64encode(data).decode("ascii")

    def _load(self, stored: Sequence[str]) -> Any:
        return self.serde.loads_typed(typed(stored))


class EventStoreSaver(_Reader):
    """A checkpoint saver on any backend. Safe for threads, tasks and processes.

    A value of a channel is stored once for each version, a list that grew as what was added, so a checkpoint costs what it
    changed. `copy_thread` copies no value.
    `prune` and `delete_for_runs` remove checkpoints from what LangGraph sees; `delete_thread` deletes the log.
    """

    # --- writing

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Mapping[str, Any]) -> Any:
        """Store a checkpoint and the new values of its channels, in one batch."""
        place = Place.of(config, config["configurable"].get("checkpoint_id"))
        kept = dict(checkpoint)
        values = kept.pop("channel_values")
        blobs = key_of(BLOBS, place.namespace)
        new = [
            (channel, key_of(channel, str(version)), grown.Value(*self.serde.dumps_typed(values[channel])))
            for channel, version in new_versions.items()
            if channel in values
        ]
        stored = {
            "parent": place.checkpoint,
            "checkpoint": self._dump(kept),
            "metadata": self._dump(get_checkpoint_metadata(config, metadata)),
        }
        put = e.RecordPut(stream=key_of(CHECKPOINTS, place.namespace), key=checkpoint["id"], value=stored)
        messages = values.get(_MESSAGES) if _MESSAGES in new_versions and not place.namespace else None
        self._append(place.thread, [put], messages, blobs, new)
        return place._replace(checkpoint=checkpoint["id"]).to_config()

    def put_writes(self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = "") -> None:
        """Store what a task wrote after a checkpoint. Errors and interrupts replace, others keep the first write."""
        place = Place.of(config, config["configurable"]["checkpoint_id"])
        events: list[e.Event] = []
        for number, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, number)
            stored = {
                "task": task_id,
                "channel": channel,
                "index": index,
                "path": task_path,
                "value": self._dump(value),
            }
            stream = key_of(WRITES, place.namespace, place.checkpoint or "")
            key = key_of(task_id, str(index))
            events.append(e.RecordPut(stream=stream, key=key, value=stored, once=index >= 0))
        if events:
            self._append(place.thread, events)

    def _append(
        self,
        thread: str,
        events: Sequence[e.Event],
        messages: Any = None,
        blobs: str = "",
        values: Sequence[tuple[str, str, grown.Value]] = (),
    ) -> None:
        """Append events, with the values of channels, each with its channel and key, and what is new in messages."""
        session_id, external = self.session_id_of(thread), key_of(_TAG, thread)
        created = e.SessionCreated(external_key=external, tags=(_TAG,))
        said = messages if isinstance(messages, list) else []
        kept: dict[str, grown.Value] = {}

        def decide(now: Stored) -> list[e.Event]:
            there, get = now.keys(blobs), partial(now.value, blobs)
            puts = list[e.Event]()
            for channel, key, value in values:
                known = self._last.get((session_id, blobs, channel))
                kept[key], records = grown.put(key, value, known, there, get)
                puts += [e.RecordPut(stream=blobs, key=name, value=one) for name, one in records.items()]
            return [*puts, *events, *_meanings(now, said)]

        if values or said:
            append_decided(self._manager, session_id, decide, created)
        else:
            self._manager.append(session_id, events, create=created)
        for channel, key, _ in values:
            self._last.put((session_id, blobs, channel), (key, kept[key]))

    # --- removing

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread with its log. Nothing happens where there is none."""
        with suppress(SessionNotFound):
            self._manager.delete_session(self.session_id_of(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints that these runs made, with their writes, in all threads. Reads all threads."""
        wanted = set(run_ids)
        for _, session_id, now in self._threads(None) if wanted else ():
            events: list[e.Event] = []
            for namespace in namespaces(now):
                for item in now.list(key_of(CHECKPOINTS, namespace)):
                    if self._load(item.value["metadata"]).get("run_id") in wanted:
                        events += removal(namespace, item.key or "")
            if events:
                with suppress(SessionNotFound):  # deleted in the meantime
                    self._manager.append(session_id, events)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread. A new thread is a fork: it holds no copy of any value."""
        source, target = self.session_id_of(source_thread_id), self.session_id_of(target_thread_id)
        external = key_of(_TAG, str(target_thread_id))
        if not self._manager.storage.log.exists(target):
            with suppress(SessionExists):  # another program was faster: then the copy is added to what it began
                self._manager.fork_session(source, new_id=target, external_key=external)
                return
        copied, now = list[e.RecordPut](), stored(self._manager, source)
        for stream in now.streams():
            get = partial(now.value, stream)
            for item in now.list(stream):
                copied.append(e.RecordPut(stream=stream, key=item.key, value=_standing_alone(item, get)))
        self._manager.append(target, [one for one in copied if one.value is not None])

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove all but the latest checkpoint of each namespace, or with `delete` the threads.

        Older checkpoints stay where a delta channel of the latest is still built from their writes.
        """
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"strategy {strategy!r} is not one of keep_latest, delete")
        for thread in thread_ids:
            if strategy == "delete":
                self.delete_thread(thread)
            else:
                self._keep_latest(self.session_id_of(thread))

    def _keep_latest(self, session_id: str) -> None:
        def decide(now: Stored) -> list[e.Event]:
            events: list[e.Event] = []
            for namespace in namespaces(now):
                ids = now.keys(key_of(CHECKPOINTS, namespace))
                kept = set(self._needed(now, namespace, max(ids)))
                blobs = key_of(BLOBS, namespace)
                used = set(self._with_bases(now, namespace, kept))
                for checkpoint_id in ids:
                    if checkpoint_id not in kept:
                        events += removal(namespace, checkpoint_id)
                events += [e.RecordRemoved(stream=blobs, key=blob) for blob in now.keys(blobs) if blob not in used]
            return events

        append_decided(self._manager, session_id, decide)

    def _needed(self, now: Stored, namespace: str, checkpoint_id: str) -> Iterator[str]:
        """List a checkpoint and its ancestors, up to those where each of its delta channels has a complete value."""
        name: str | None = checkpoint_id
        open_channels: set[str] | None = None
        while name is not None:
            item = now.get(key_of(CHECKPOINTS, namespace), name)
            if item is None:
                return
            yield name
            checkpoint = self._load(item.value["checkpoint"])
            if open_channels is None:
                open_channels = set(self._load(item.value["metadata"]).get("counters_since_delta_snapshot") or ())
            values = now.keys(key_of(BLOBS, namespace))
            versions = checkpoint["channel_versions"]
            open_channels = {
                one for one in open_channels if one not in versions or key_of(one, str(versions[one])) not in values
            }
            name = item.value["parent"] if open_channels else None

    def _blobs_of(self, now: Stored, namespace: str, checkpoint_id: str) -> Iterator[str]:
        item = now.get(key_of(CHECKPOINTS, namespace), checkpoint_id)
        versions = self._load(item.value["checkpoint"])["channel_versions"] if item is not None else {}
        for channel, version in versions.items():
            yield key_of(channel, str(version))

    def _with_bases(self, now: Stored, namespace: str, checkpoints: Iterable[str]) -> Iterator[str]:
        """Stream the keys of the values of checkpoints, and of those that these are made from."""
        get = partial(now.value, key_of(BLOBS, namespace))
        for name in checkpoints:
            for blob in self._blobs_of(now, namespace, name):
                yield from grown.needed(blob, get)


class _Known(NamedTuple):
    """A thread, its session, and where the log of that ended when it was last read."""

    thread: str
    session_id: str
    head: Head


def _meanings(now: Stored, messages: Sequence[Any]) -> Iterator[e.Event]:
    """Stream what messages mean that are not recorded yet."""
    known = now.keys(_SAID)
    for message in messages:
        name = plain(getattr(message, "id", None))
        if isinstance(name, str) and name and name not in known:
            yield e.RecordPut(stream=_SAID, key=name, once=True)
            yield from meant(meaning_of, message)


def _standing_alone(item: Item, get: Callable[[str], Any]) -> Any:
    """Return the value of a record without those that it is made from; None if one of these is not there."""
    if item.key is None or not item.stream.startswith(f"{BLOBS}/"):
        return item.value
    value = grown.resolve(item.key, get)
    return None if value is None else grown.plain(value)


def _order_of(write: Item) -> Any:
    return writes_sort_key(write.value["path"], write.value["task"], write.value["index"])
