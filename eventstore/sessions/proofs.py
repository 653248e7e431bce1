"""Proofs: signed checkpoints of sessions, and proofs against them."""

from eventstore.integrity import signing
from eventstore.integrity.checkpoint import SigningKey
from eventstore.integrity.signing import Consistency, Inclusion
from eventstore.sessions import arguments
from eventstore.store.storage import SessionStorage


class Proofs:
    """Checkpoints and proofs for the sessions of a store: `manager.proofs`."""

    def __init__(self, storage: SessionStorage) -> None:
        self._storage = storage

    def sign_checkpoint(self, session_id: str, key: SigningKey) -> str:
        """Sign a checkpoint of the current log and return the signed note. Keep a copy of it outside the store.

        The entire log is verified first. If only checkpoints were appended since the last one of this key, that one is returned.
        The registry is session `_store`: sign it last, because each checkpoint adds an event to it. Raises SessionNotFound,
        LogDamaged, and LogTampered if the log contradicts an earlier checkpoint of this key; then nothing is signed.
        """
        if not isinstance(key, SigningKey):
            raise ValueError(f"key is a {type(key).__name__}, not a SigningKey; nothing was signed")
        return signing.sign_checkpoint(self._storage, session_id, key)

    def checkpoints(self, session_id: str) -> list[str]:
        """List the signed notes of a session, the newest last. Signatures are not checked. Raises SessionNotFound, LogDamaged."""
        return signing.checkpoints(self._storage, session_id)

    def prove_inclusion(self, session_id: str, seq: int, size: int | None = None) -> Inclusion:
        """Return a proof that event `seq` is in the log of `size` events (None: the current size).

        Raises NoSuchMoment, SessionNotFound, LogDamaged.
        """
        wanted = arguments.integer("seq", seq)
        return signing.prove_inclusion(self._storage, session_id, wanted, arguments.limit("size", size))

    def prove_consistency(self, session_id: str, old: int, new: int | None = None) -> Consistency:
        """Return a proof that the log of `new` events (None: the current size) begins with the log of `old` events.

        Raises NoSuchMoment, SessionNotFound, LogDamaged.
        """
        first = arguments.integer("old", old)
        return signing.prove_consistency(self._storage, session_id, first, arguments.limit("new", new))
