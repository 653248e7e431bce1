"""What version 0.1 imported with copied history is right once its file is imported again."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from transcripts import lines, second

from eventstore import MemorySessionStorage, SessionManager, SessionStorage
from eventstore import events as e
from eventstore.exporters.transcript import export_transcript
from eventstore.importers.formats import FORMATS
from eventstore.importers.many import import_all

NAMES = "parent", "child", "sibling"


def meta(name: str, parent: str | None = None) -> dict[str, Any]:
    payload = {"id": name, "cwd": f"/{name}"} | ({"forked_from_id": parent} if parent else {})
    return {"timestamp": second(0), "type": "session_meta", "payload": payload}


def said(role: str, text: str, at: float) -> dict[str, Any]:
    part = {"type": "output_text" if role == "assistant" else "input_text", "text": text}
    payload = {"type": "message", "role": role, "content": [part]}
    return {"timestamp": second(at), "type": "response_item", "payload": payload}


def counted(total: int, last: int, at: float) -> dict[str, Any]:
    info = {
        f"{kind}_token_usage": {"input_tokens": n, "cached_input_tokens": n // 2, "output_tokens": n // 10}
        for kind, n in (("total", total), ("last", last))
    }
    return {"timestamp": second(at), "type": "event_msg", "payload": {"type": "token_count", "info": info}}


def rollout(name: str) -> list[dict[str, Any]]:
    def told(step: float) -> list[dict[str, Any]]:
        said_by = said("user", "plan the trip", step), said("assistant", "by train", 2 * step)
        return [*said_by, counted(1000, 1000, 3 * step)]

    if name == "parent":
        return [meta("parent"), *told(1)]
    own = [said("user", f"{name} asks", 40), said("assistant", "done", 41), counted(1400, 400, 42)]
    return [meta(name, "parent"), meta("parent"), *told(0), *own]


def as_0_1(storage: SessionStorage, name: str, objects: list[dict[str, Any]]) -> None:
    """Import as version 0.1 did: each line by itself, tokens as Codex counts them and without a key."""
    created = e.SessionCreated(tags=("codex",), custom_metadata={"source": "codex"})
    storage.append(name, [created], expected_version=0)
    for one in objects:
        origin = e.Origin("codex", line=lines(one).decode())
        payload = one["payload"]
        event: e.Event = e.ForeignRecorded(origin=origin)
        if one is objects[0]:
            event = e.SessionUpdated(purpose="plan the trip", custom_metadata={"cwd": payload["cwd"]}, origin=origin)
        elif payload.get("type") == "message":
            event = e.MessageAdded(role=payload["role"], content=payload["content"][0]["text"], origin=origin)
        elif payload.get("type") == "token_count":
            last = payload["info"]["last_token_usage"]
            tokens = {"input": last["input_tokens"], "cache_read": last["cached_input_tokens"]}
            event = e.UsageRecorded(tokens=tokens | {"output": last["output_tokens"]}, origin=origin)
        storage.append(name, [event])


def answers(storage: SessionStorage) -> str:
    """Return what a store knows of its sessions, besides when that was recorded."""
    manager = SessionManager(storage)
    rows = [(row.key, row.tokens, row.messages) for row in manager.analytics("model")]
    found = {}
    for name in NAMES:
        session = manager.get_session(name)
        assert session is not None
        known = session.metadata
        said = [(one.role, one.content) for one in session.conversation]
        found[name] = [said, known.purpose, known.token_usage, known.custom_metadata, b"".join(
            export_transcript(storage, name, "codex")
        ).decode()]  # fmt: skip
    return json.dumps([rows, found], sort_keys=True)


@pytest.mark.parametrize("order", list(permutations(NAMES)))
def test_importing_again_gives_the_store_that_a_fresh_import_gives(tmp_path: Path, order: tuple[str, ...]) -> None:
    paths = []
    for name in order:
        path = tmp_path / f"rollout-{name}.jsonl"
        path.write_bytes(lines(*rollout(name)))
        paths.append((FORMATS["codex"], path))
    with MemorySessionStorage() as fresh, MemorySessionStorage() as old:
        list(import_all(fresh, paths))
        for name in order:
            as_0_1(old, name, rollout(name))
        assert answers(old) != answers(fresh)
        done = list(import_all(old, paths))
        assert not [one for one in done if isinstance(one, Exception)]
        assert answers(old) == answers(fresh)
        events = sum(old.log.head(name).version for name in NAMES)
        list(import_all(old, paths))
        assert sum(old.log.head(name).version for name in NAMES) == events


@pytest.mark.parametrize("change", ["continued", "redacted"])
def test_a_session_that_somebody_changed_stays(tmp_path: Path, change: str) -> None:
    path = tmp_path / "rollout-child.jsonl"
    path.write_bytes(lines(*rollout("child")))
    with MemorySessionStorage() as storage:
        as_0_1(storage, "parent", rollout("parent"))
        as_0_1(storage, "child", rollout("child"))
        if change == "continued":
            storage.append("child", [e.MessageAdded(role="user", content="by hand")])
        else:
            SessionManager(storage).redactions.redact("child", 4, "a secret")
        list(import_all(storage, [(FORMATS["codex"], path)]))
        assert storage.list_trash() == []
