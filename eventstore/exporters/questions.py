"""The report of a session for an auditor: five questions with answers, figures, and the format of values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from typing import Literal, NamedTuple, TypeAlias

from msgspec import json

from eventstore.errors import LogDamaged
from eventstore.escape import VERY_LARGE
from eventstore.events import Event
from eventstore.integrity.reader import read_chain
from eventstore.record import clock, codec
from eventstore.store.storage import SessionStorage
from projections import audit, statistics
from projections.audit import Entry, Index, Removal

Mark: TypeAlias = Literal["good", "warn", "bad", ""]
"""The rating of a fact; empty if it is neutral."""

_MOST_REMOVALS, _MOST_NAMES = 50, 12  # shown in the answers; the timeline shows all


@dataclass(frozen=True)
class Audited:
    """An audited session: its first `version` events, the last with `hash`. `read` streams them again.

    `root` is the id that the hash chain begins with, `sha256` the hash of all lines, `tail` a description of incomplete bytes
    after them.
    """

    session_id: str
    root: str
    version: int
    hash: str
    index: Index
    read: Callable[[], Iterator[Event]]
    tail: str | None = None
    sha256: str = ""
    agents: "tuple[AuditedAgent, ...]" = ()


class AuditedAgent(NamedTuple):
    """A sub-agent of an audited session, and the call that started it. `is_in_parent`: the parent's log has its calls."""

    invocation_id: str | None
    is_in_parent: bool
    session: Audited


def audit_with_sub_agents(storage: SessionStorage, session_id: str) -> Audited:
    """Read and verify a session and all sub-agents below it. Raises SessionNotFound, LogDamaged."""
    return _audit_family(storage, session_id, {session_id})


def _audit_family(storage: SessionStorage, session_id: str, seen: set[str]) -> Audited:
    found = []
    for one in storage.sub_agents(session_id):
        if one.session_id not in seen:
            seen.add(one.session_id)
            session = _audit_family(storage, one.session_id, seen)
            found.append(AuditedAgent(one.invocation_id, one.is_in_parent, session))
    return replace(audit_session(storage, session_id), agents=tuple(found))


def entries(one: Audited, depth: int = 0, *, calls: bool = True) -> "Iterator[tuple[int, Audited, Entry]]":
    """Stream the entries of a session, and those of sub-agents after the calls that started them, each with depth and session.

    Without `calls` the calls of this session are left out: they are entries of its parent.
    """
    left = list(one.agents)
    for entry in audit.entries(one.read(), one.index):
        if entry.kind == "call" and not calls:
            continue
        yield depth, one, entry
        if entry.kind == "call":
            for agent in [agent for agent in left if agent.invocation_id == entry.invocation_id]:
                left.remove(agent)
                yield from entries(agent.session, depth + 1, calls=not agent.is_in_parent)
    for agent in left:
        yield from entries(agent.session, depth + 1, calls=not agent.is_in_parent)


def audit_session(storage: SessionStorage, session_id: str) -> Audited:
    """Read and verify every byte of a session for a report. Raises SessionNotFound, LogDamaged."""
    log = storage.log
    head, root = log.head(session_id), log.root_of(session_id)
    index, hashed, offset = audit.projection.initial(), sha256(), 0
    for link in read_chain(session_id, root, log.chunks(session_id, 0, head.version)):
        hashed.update(link.line)
        hashed.update(b"\n")
        offset = link.offset_bytes + len(link.line) + 1
        audit.apply(index, codec.decode(link.line))
    if (index.version, index.hash) != (head.version, head.hash):
        reason = "the end of the log changed while it was read"
        raise LogDamaged(session_id, "its log", index.version + 1, offset, reason, index.version)

    def read() -> Iterator[Event]:
        return log.with_values(session_id, log.read(session_id, 0, head.version), strict=False)

    tail = log.tail(session_id)
    return Audited(session_id, root, head.version, head.hash, index, read, tail, hashed.hexdigest())


# --- the five questions


class Fact(NamedTuple):
    """One part of an answer: name, value and rating. `code` marks hashes, `seq` is the event to link to, or 0."""

    name: str
    value: str
    mark: Mark = ""
    code: bool = False
    seq: int = 0


def answers(one: Audited) -> list[tuple[str, list[Fact]]]:
    """Return the five questions with their answers. Texts are not escaped."""
    return [
        ("Is it complete, and to which event?", list(_complete(one))),
        ("Unchanged since when?", list(_unchanged(one))),
        ("Who did it, and with which model?", list(_who(one))),
        ("What was removed, by whom, and why?", list(_removed(one))),
        ("How do I check it without you?", list(_check(one))),
    ]


def _complete(one: Audited) -> Iterator[Fact]:
    index = one.index
    yield Fact(
        "Events", f"1 to {one.version:,}, none missing; the hash chain verifies from the first to the last", "good"
    )
    yield Fact("Recorded", f"{moment(index.first_at)} to {moment(index.last_at)}")
    yield Fact("Hash of the last", one.hash, code=True)
    forks = index.summary.metadata.forks
    if forks:
        line = ", ".join(f"{parent} up to event {upto:,}" for parent, upto in forks)
        yield Fact("Began as a fork", f"of {line}; those events are included. The chain begins at {one.root}")
    status = index.summary.metadata.status
    if index.kinds["session.created"]:
        more = "more events may follow" if status == "active" else "it may still be reopened"
        yield Fact("Status", f"{status}; {more}")
    if one.tail is not None:
        yield Fact("Torn tail", f"{one.tail}; it contains no event", "warn")
    for repair in index.repairs[:_MOST_REMOVALS]:
        repaired = f"event {repair.seq:,}: {repair.removed_bytes:,} bytes were removed and saved as {repair.quarantine}"
        yield Fact("Repaired", repaired, "warn")
    if index.unknown:
        yield Fact(
            "Not understood",
            f"{index.unknown:,} events of types this release does not know; they are shown raw",
            "warn",
        )


def _unchanged(one: Audited) -> Iterator[Fact]:
    signed = one.index.checkpoint
    if signed is None:
        yield Fact(
            "Checkpoint", "none in this log: anyone who can write the files could have rewritten all of it", "warn"
        )
        yield Fact("Advice", "compare the hash of the last event with a copy that was stored elsewhere")
        return
    keys = ", ".join(_signers(signed.note)) or "a key that the note does not name"
    yield Fact("Checkpoint", f"signed {moment(signed.time)} over events 1 to {signed.size:,} by {keys}")
    yield Fact("Merkle root", signed.root, code=True)
    uncovered = one.version - signed.size
    yield Fact(
        "Not covered",
        f"{uncovered:,} events after it (the checkpoint's own record is one)",
        "warn" if uncovered > 1 else "",
    )
    yield Fact("Mind", "the signature was not checked for this report: see the last question", "warn")


def _signers(note: str) -> list[str]:
    lines = [line.split(" ") for line in note.split("\n") if line.startswith("\N{EM DASH} ")]
    return [words[1] for words in lines if len(words) == 3]


def _who(one: Audited) -> Iterator[Fact]:
    index, known = one.index, one.index.summary.metadata
    if known.purpose:
        yield Fact("Purpose", known.purpose)
    if known.user_id:
        yield Fact("For user", known.user_id)
    yield Fact("Actors", _counted(index.actors) or "none is recorded (field by.actor)", "" if index.actors else "warn")
    yield Fact("Models", _counted(index.models) or "none is recorded (usage.recorded)", "" if index.models else "warn")
    if known.tools_used:
        yield Fact("Tools", _listed(known.tools_used))


def _counted(names: Mapping[str, int]) -> str:
    ordered = sorted(names.items(), key=lambda pair: (-pair[1], pair[0]))
    return _listed([f"{name} ({count:,} event{'s' if count > 1 else ''})" for name, count in ordered])


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {rest:,} more" if rest > 0 else "")


def _removed(one: Audited) -> Iterator[Fact]:
    index = one.index
    found = list(islice(index.removals(), _MOST_REMOVALS))
    total = len({*index.tombstones, *index.redactions})
    if not total:
        yield Fact("Redactions", "none: no event of this log was redacted", "good")
    for removal in found:
        seq = 0 if removal.state == "unfinished" else removal.target
        yield Fact(f"Event {removal.target:,}", describe_removal(removal), _MARKS[removal.state], seq=seq)
    if total > len(found):
        yield Fact("And", f"{total - len(found):,} more: see the timeline")
    removals = [
        ("conversation.cleared", "cleared"),
        ("conversation.rewound", "rewound"),
        ("messages.withdrawn", "messages withdrawn"),
        ("invocation.unlinked", "calls unlinked"),
        ("data.deleted", "data deleted"),
        ("data.cleared", "data cleared"),
    ]
    counts = [f"{name} {index.kinds[tag]:,} times" for tag, name in removals if index.kinds[tag]]
    if counts:
        yield Fact("Hidden", f"{', '.join(counts)}: no longer in the session, but in the log and this report")


_MARKS: dict[str, Mark] = {"done": "warn", "unfinished": "warn", "unexplained": "bad"}


def describe_removal(removal: Removal) -> str:
    """Return a redaction as one sentence."""
    if removal.state == "unexplained":
        return (
            f"{removal.type} of {moment(removal.at)}: its content is missing and no matching event.redacted "
            "records it: TAMPERING"
        )
    actor = removal.by or "an unnamed actor"
    record = f"by {actor}, {moment(removal.recorded_at)}, event {removal.recorded_in:,}: {removal.reason}"
    if removal.state == "unfinished":
        return f"recorded, but the content is still there: {record}"
    return f"{removal.type} of {moment(removal.at)}, redacted {record}"


def _check(one: Audited) -> Iterator[Fact]:
    log = f"sessions/{one.session_id}/events.jsonl"
    yield Fact(
        "You need", f"the bundle (manifest.json, {log}) and Python 3.8 or later; none of our software or services"
    )
    yield Fact("Run", "python verify.py BUNDLE", code=True)
    yield Fact(
        "Mind", "use your own copy of verify.py from another source: a copy that comes with the evidence proves nothing"
    )
    yield Fact(
        "Anchor",
        "pass the public key and the checkpoints that you, or a person you trust, kept; without them it can only "
        "show that the log is consistent in itself",
    )
    yield Fact("By hand", "eventstore/record/README.md: each line's hash can be recomputed with sha256sum")


def moment(text: str) -> str:
    """Format a time in UTC, to the millisecond: the same for every reader."""
    try:
        return clock.to_datetime(text).isoformat(" ", "milliseconds")[:23] + " UTC"
    except ValueError:
        return text


def figures(one: Audited) -> list[tuple[str, str]]:
    """Return names and values of the figures; the same figures as `get_session_statistics`."""
    index = one.index
    if not index.kinds["session.created"]:
        return [("Events", f"{one.version:,}")]
    known = statistics.to_dict(index.summary, one.session_id)
    failed = len(index.failed)
    tokens = known["token_usage"] or {}
    found = [
        ("Events", f"{one.version:,}"),
        ("Messages", f"{known['message_count']:,}"),
        ("Tool calls", f"{known['total_invocations']:,}" + (f" ({failed:,} failed)" if failed else "")),
        ("Sub-agents", f"{len(one.agents):,}" if one.agents else ""),
        ("Time in tools", duration(known["total_duration_ms"])),
        ("From creation to last update", duration(known["duration_seconds"] * 1000)),
        *((f"Tokens {kind}", f"{count:,}") for kind, count in tokens.items()),
        ("Cost", "" if known["estimated_cost"] is None else money(known["estimated_cost"])),
    ]
    return [(name, value) for name, value in found if value]


def duration(milliseconds: float | None) -> str:
    """Format a duration: 12 ms, 3.40 s, 2 min 05 s."""
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return f"{milliseconds:,.3g} ms" if milliseconds < 100 else f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.2f} s"
    if seconds > VERY_LARGE:
        return f"{seconds / 3600:.3g} h"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def money(cost: float | None) -> str:
    """Format a cost in the caller's currency, to six decimals; of a very large one, three digits."""
    if cost is not None and abs(cost) > VERY_LARGE:
        return f"{cost:.3g}"
    return "" if cost is None else f"{cost:,.6f}".rstrip("0").rstrip(".")


def tokens_of(entry: Entry) -> str:
    """Format the tokens of an entry by kind."""
    return ", ".join(f"{count:,} {kind}" for kind, count in entry.tokens.items())


def numbers_of(entry: Entry) -> str:
    """Format the event numbers of an entry: 4, or 4-6, 9."""
    runs: list[list[int]] = []
    for seq in entry.seqs:
        if runs and runs[-1][1] + 1 == seq:
            runs[-1][1] = seq
        else:
            runs.append([seq, seq])
    shown = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs[:4])
    return shown + (" …" if len(runs) > 4 else "")


def origin_of(entry: Entry) -> str:
    """Format the fields of `by` other than the actor."""
    more = {name: value for name, value in entry.by.items() if name != "actor"}
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.encode(value).decode()}" for name, value in more.items()
    )
