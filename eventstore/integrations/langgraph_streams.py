"""How checkpoints of LangGraph lie in the streams of a session, and their names.

A thread is a session with the streams `checkpoints/NS`, `blobs/NS` (values of channels, one for each version) and
`writes/NS/CHECKPOINT`.
"""

from binascii import a2b_base64
from collections.abc import Sequence
from typing import Any, NamedTuple

from eventstore import events as e
from eventstore.integrations.sessions import Stored, key_of, parts_of

CHECKPOINTS, BLOBS, WRITES = "checkpoints", "blobs", "writes"
Typed = tuple[str, bytes]  # bytes of LangGraph's serializer, with their type


class Place(NamedTuple):
    """What a config of LangGraph names."""

    thread: str
    namespace: str
    checkpoint: str | None

    @classmethod
    def of(cls, config: Any, checkpoint: str | None) -> "Place":
        """Return the place of a checkpoint, which the config need not name."""
        named = config["configurable"]
        return cls(str(named["thread_id"]), named.get("checkpoint_ns") or "", checkpoint)

    def to_config(self) -> Any:
        """Write it as a config."""
        return {
            "configurable": {
                "thread_id": self.thread,
                "checkpoint_ns": self.namespace,
                "checkpoint_id": self.checkpoint,
            }
        }


class Parts(NamedTuple):
    """A checkpoint as it is stored when the last event of its log has the hash `at`. `writes` have a task and a channel."""

    at: str
    checkpoint: Typed
    metadata: Typed
    parent: str | None
    values: list[tuple[str, Typed]]
    writes: list[tuple[str, str, Typed]]

    def size_bytes(self) -> int:
        """Return about how much memory it takes."""
        typed = (self.checkpoint, self.metadata, *(one[-1] for one in self.values), *(one[-1] for one in self.writes))
        return 1_000 + sum(len(data) for _, data in typed)


def namespaces(now: Stored) -> Sequence[str]:
    """Return the namespaces that have checkpoints."""
    return [parts_of(name)[1] for name in now.streams(f"{CHECKPOINTS}/")]


def typed(stored: Sequence[str]) -> Typed:
    """Return what a record holds of a value: its type, and its bytes as base64."""
    return stored[0], a2b_base64(stored[1])


def removal(namespace: str, checkpoint_id: str) -> list[e.Event]:
    """Return the events that remove a checkpoint and its writes."""
    return [
        e.RecordRemoved(stream=key_of(CHECKPOINTS, namespace), key=checkpoint_id),
        e.RecordRemoved(stream=key_of(WRITES, namespace, checkpoint_id)),
    ]
