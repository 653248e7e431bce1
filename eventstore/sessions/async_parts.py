"""The parts of AsyncSessionManager: trash, templates, proofs and redactions."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from eventstore.errors import LogDamaged
from eventstore.events import Event, SessionCreated
from eventstore.integrity.checkpoint import SigningKey
from eventstore.integrity.compaction import Compacted
from eventstore.integrity.redaction import Redacted
from eventstore.integrity.redaction_plan import Redactable
from eventstore.integrity.signing import Consistency, Inclusion
from eventstore.log.base import Appended
from eventstore.secret_patterns import Patterns
from eventstore.sessions.appending import AppendOptions
from eventstore.sessions.proofs import Proofs
from eventstore.sessions.records import Item, Records
from eventstore.sessions.redactions import Redactions
from eventstore.sessions.templates import Templates
from eventstore.sessions.threads import Threads
from eventstore.sessions.trash import Plan, Trash
from eventstore.store.as_of import At
from eventstore.store.pages import warn_damaged
from projections.models import Session

if TYPE_CHECKING:  # as in `trash`
    from eventstore.store.retention import Expiry, Trashed


class AsyncTrash:
    """`Trash` for asyncio."""

    def __init__(self, trash: Trash, threads: Threads) -> None:
        self._trash, self._threads = trash, threads

    async def put(self, session_id: str) -> bool:
        """Await `Trash.put`."""
        return await self._threads.run(lambda: self._trash.put(session_id))

    async def restore(self, session_id: str) -> None:
        """Await `Trash.restore`."""
        await self._threads.run(lambda: self._trash.restore(session_id))

    async def list(self) -> "list[Trashed]":
        """Await `Trash.list`."""
        return await self._threads.run(lambda: self._trash.list())

    async def plan_cleanup(
        self, max_age_days: float = 30, grace_days: float = 7, on_damage: Callable[[LogDamaged], None] = warn_damaged
    ) -> Plan:
        """Await `Trash.plan_cleanup`."""
        return await self._threads.run(lambda: self._trash.plan_cleanup(max_age_days, grace_days, on_damage))

    async def clean_up(self, plan: "Iterable[Expiry]") -> Plan:
        """Await `Trash.clean_up`."""
        return await self._threads.run(lambda: self._trash.clean_up(plan))


class AsyncTemplates:
    """`Templates` for asyncio."""

    def __init__(self, templates: Templates, threads: Threads) -> None:
        self._templates, self._threads = templates, threads

    async def save(self, name: str, from_session: str, at: At | None = None, *, recorded: bool = False) -> None:
        """Await `Templates.save`."""
        await self._threads.run(lambda: self._templates.save(name, from_session, at, recorded=recorded))

    async def list(self) -> list[str]:
        """Await `Templates.list`."""
        return await self._threads.run(lambda: self._templates.list())

    async def get(self, name: str) -> Session:
        """Await `Templates.get`."""
        return await self._threads.run(lambda: self._templates.get(name))

    async def remove(self, name: str) -> bool:
        """Await `Templates.remove`."""
        return await self._threads.run(lambda: self._templates.remove(name))


class AsyncProofs:
    """`Proofs` for asyncio."""

    def __init__(self, proofs: Proofs, threads: Threads) -> None:
        self._proofs, self._threads = proofs, threads

    async def sign_checkpoint(self, session_id: str, key: SigningKey) -> str:
        """Await `Proofs.sign_checkpoint`."""
        return await self._threads.run(lambda: self._proofs.sign_checkpoint(session_id, key))

    async def checkpoints(self, session_id: str) -> list[str]:
        """Await `Proofs.checkpoints`."""
        return await self._threads.run(lambda: self._proofs.checkpoints(session_id))

    async def prove_inclusion(self, session_id: str, seq: int, size: int | None = None) -> Inclusion:
        """Await `Proofs.prove_inclusion`."""
        return await self._threads.run(lambda: self._proofs.prove_inclusion(session_id, seq, size))

    async def prove_consistency(self, session_id: str, old: int, new: int | None = None) -> Consistency:
        """Await `Proofs.prove_consistency`."""
        return await self._threads.run(lambda: self._proofs.prove_consistency(session_id, old, new))


class AsyncRecords:
    """`Records` for asyncio."""

    def __init__(self, records: Records, threads: Threads) -> None:
        self._records, self._threads = records, threads

    async def list(
        self,
        session_id: str,
        stream: str,
        limit: int | None = None,
        at: At | None = None,
        *,
        after: int = 0,
        newest: bool = False,
    ) -> list[Item]:
        """Await `Records.list`."""
        return await self._threads.run(
            lambda: self._records.list(session_id, stream, limit, at, after=after, newest=newest)
        )

    async def get(self, session_id: str, stream: str, key: str, at: At | None = None) -> Item | None:
        """Await `Records.get`."""
        return await self._threads.run(lambda: self._records.get(session_id, stream, key, at))

    async def streams(self, session_id: str, prefix: str = "", at: At | None = None) -> dict[str, int]:
        """Await `Records.streams`."""
        return await self._threads.run(lambda: self._records.streams(session_id, prefix, at))

    async def append_new(
        self,
        session_id: str,
        events: Sequence[Event],
        create: SessionCreated | bool | None = None,
        **options: Unpack[AppendOptions],
    ) -> Appended | None:
        """Await `Records.append_new`."""
        return await self._threads.run(lambda: self._records.append_new(session_id, events, create, **options))

    async def pop(self, session_id: str, stream: str, **options: Unpack[AppendOptions]) -> Item | None:
        """Await `Records.pop`."""
        return await self._threads.run(lambda: self._records.pop(session_id, stream, **options))

    async def compact(self, session_id: str, *, by: Mapping[str, Any] | None = None) -> Compacted:
        """Await `Records.compact`."""
        return await self._threads.run(lambda: self._records.compact(session_id, by=by))


class AsyncRedactions:
    """`Redactions` for asyncio."""

    def __init__(self, redactions: Redactions, threads: Threads) -> None:
        self._redactions, self._threads = redactions, threads

    async def redact(
        self, session_id: str, seqs: int | Sequence[int], reason: str, *, by: Mapping[str, Any] | None = None
    ) -> Redacted:
        """Await `Redactions.redact`."""
        return await self._threads.run(lambda: self._redactions.redact(session_id, seqs, reason, by=by))

    async def plan(
        self,
        patterns: Patterns | None = None,
        session_ids: Collection[str] | None = None,
        on_damage: Callable[[LogDamaged], None] = warn_damaged,
    ) -> list[Redactable]:
        """Await `Redactions.plan`."""
        return await self._threads.run(lambda: self._redactions.plan(patterns, session_ids, on_damage))

    async def carry_out(
        self,
        plan: Iterable[Redactable],
        reason: str,
        patterns: Patterns | None = None,
        *,
        inside: bool = False,
        by: Mapping[str, Any] | None = None,
    ) -> list[Redacted]:
        """Await `Redactions.carry_out`."""
        return await self._threads.run(lambda: self._redactions.carry_out(plan, reason, patterns, inside=inside, by=by))

    async def vacuum(self) -> tuple[str, ...]:
        """Await `Redactions.vacuum`."""
        return await self._threads.run(self._redactions.vacuum)
