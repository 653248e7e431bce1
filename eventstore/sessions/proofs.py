"""Proofs: signed checkpoints of sessions, and proofs for whoever holds one."""

from eventstore.integrity import signing
from eventstore.integrity.checkpoint import SigningKey
from eventstore.integrity.signing import Consistency, Inclusion
from eventstore.sessions import arguments
from eventstore.store.storage import SessionStorage


class Proofs:
    """What can be proven of the sessions of a store: `manager.proofs`."""

    def __init__(self, storage: SessionStorage) -> None:
        self._storage = storage

    def sign_checkpoint(self, session_id: str, key: SigningKey) -> str:
        """Sign what a session is now, and return the note, for somebody who keeps it elsewhere; it is kept in the session too.

        Every byte is verified first. Where nothing but checkpoints came since the last one of this key, that one is returned. The
        store's own log is session `_store`: sign it last. Raises SessionNotFound, LogDamaged, and LogTampered where the log is
        not what this key signed before; nothing is signed then.
        """
        if not isinstance(key, SigningKey):
            raise ValueError(f"key is a {type(key).__name__}, not a SigningKey; nothing was signed")
        return signing.sign_checkpoint(self._storage, session_id, key)

    def checkpoints(self, session_id: str) -> list[str]:
        """List the signed notes of a session, the newest last; no signature is checked. Raises SessionNotFound, LogDamaged."""
        return signing.checkpoints(self._storage, session_id)

    def prove_inclusion(self, session_id: str, seq: int, size: int | None = None) -> Inclusion:
        """Prove to whoever has a checkpoint of `size` events (None: all there are now) that event `seq` is one of them.

        Raises NoSuchMoment, SessionNotFound, LogDamaged.
        """
        wanted = arguments.whole("seq", seq)
        return signing.prove_inclusion(self._storage, session_id, wanted, arguments.limit("size", size))

    def prove_consistency(self, session_id: str, old: int, new: int | None = None) -> Consistency:
        """Prove to whoever has checkpoints of `old` and `new` events (None: all there are now) that one begins with the other.

        Raises NoSuchMoment, SessionNotFound, LogDamaged.
        """
        first = arguments.whole("old", old)
        return signing.prove_consistency(self._storage, session_id, first, arguments.limit("new", new))
