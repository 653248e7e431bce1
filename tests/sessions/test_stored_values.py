"""Events that name a value by its hash: refused before writing, where the value is not stored with that session."""

import asyncio
import base64
import os
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from msgspec.structs import replace

from eventstore import AsyncSessionManager, FileSystemSessionStorage, SessionManager, SessionNotFound
from eventstore import events as e
from eventstore.errors import EventNotEncodable
from eventstore.integrity.verification import verify_all
from eventstore.store.rebuild import check_all
from projections.calls import INLINE_BYTES
from projections.models import Session, SessionMetadata

LARGE = "x" * INLINE_BYTES
PNG = base64.b64encode(os.urandom(6_000)).decode()
IMAGE = [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}]
BLOB = {"at": [0, "source", "data"], "prefix": "", "value_bytes": 6_000, "value_sha256": "0" * 64}


@pytest.fixture
def src(manager: SessionManager) -> SessionManager:
    """A manager with a session `src` that has one event of each kind with a stored value, and an empty session `dst`."""
    manager.create_session("src")
    manager.create_session("dst")
    manager.add_conversation_message("src", "user", IMAGE)
    manager.append("src", [e.RecordPut(stream="a", value=LARGE), e.RecordPut(stream="b", value=os.urandom(300_000))])
    manager.start_invocation("src", "i", "t", LARGE)
    manager.link_invocation("src", "i", "t", None, 1.0, result=[LARGE])
    return manager


def damaged(manager: SessionManager) -> list[str]:
    """Return what is wrong with the sessions, and with the views of those on files."""
    storage = manager.storage
    wrong = [finding.text for one in verify_all(storage) for finding in one.findings]
    if isinstance(storage, FileSystemSessionStorage):
        wrong += [one.damage or one.difference for one in check_all(storage, jobs=1)]
    return [one for one in wrong if one]


@pytest.mark.parametrize(
    ("number", "field"),
    [(1, "blobs[0].value_sha256"), (2, "value_sha256"), (3, "value_sha256"), (4, "input_sha256"), (5, "result_sha256")],
)
@pytest.mark.parametrize("create", [None, True])
def test_an_event_of_another_session_is_refused_if_its_value_is_not_with_this_one(
    src: SessionManager, number: int, field: str, create: bool | None
) -> None:
    event = list(src.events("src"))[number]
    with pytest.raises(
        EventNotEncodable, match=r"that is not stored with this session.*nothing was written"
    ) as refused:
        src.append("dst", [e.ReasoningRecorded(content="x"), event], create)
    assert (refused.value.event_type, refused.value.path) == (event.type, f"$.{field}")
    assert src.head("dst").version == 1
    with pytest.raises(EventNotEncodable, match="that is not stored with this session"):
        src.append("new", [e.RecordPut(stream="c", value=LARGE), event], create=True)
    assert not src.storage.session_exists("new")
    with pytest.raises(SessionNotFound):
        src.append("new", [event])
    assert damaged(src) == []


def test_events_of_the_same_session_can_be_appended_again(src: SessionManager) -> None:
    again = [replace(one, origin=None) for one in list(src.events("src"))[1:]]
    src.append("src", again)
    first, second = src.conversation("src")[:2]
    assert first.blocks == second.blocks == IMAGE
    assert [one.value for one in src.records.list("src", "a")] == [LARGE, LARGE]
    assert damaged(src) == []


def test_a_fork_has_the_value_of_its_parent_also_after_that_is_deleted(src: SessionManager) -> None:
    put = list(src.events("src"))[2]
    src.fork_session("src", 1, "f")
    src.append("f", [put])
    src.delete_session("src")
    assert [one.value for one in src.records.list("f", "a")] == [LARGE]
    assert damaged(src) == []


def test_events_with_their_values_filled_in_can_be_appended_to_another_session(src: SessionManager) -> None:
    log = src.storage.log
    calls = [one for one in log.with_values("src", log.read("src")) if isinstance(one, e.InvocationEvent)]
    src.append("dst", calls)
    assert len(log.values("dst")) == 2
    src.append("new", calls, create=True)
    assert damaged(src) == []


def of(name: str, **values: Any) -> Callable[[SessionManager], e.Event]:
    """Return an event of `src` with other values."""
    kinds = {"message": 1, "put": 2, "bytes": 3, "start": 4, "link": 5}
    return lambda manager: replace(list(manager.events("src"))[kinds[name]], **values)


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (of("put", value_bytes=5), "$.value_bytes"),
        (of("put", value_bytes=None), "$.value_bytes"),
        (of("put", value_sha256="0" * 64), "$.value_sha256"),
        (of("put", value_sha256="../../x"), "$.value_sha256"),
        (of("put", value_sha256=None), "$.value_bytes"),
        (of("put", value=5), "$.value"),
        (of("bytes", base64=False), "$.value_sha256"),
        (of("start", input_sha256=None), "$.input_bytes"),
        (of("start", input=5), "$.input"),
        (of("start", input_sha256=5), "$.input_sha256"),
        (of("link", result_bytes=1), "$.result_bytes"),
        (of("message", blobs=[]), None),
        (of("message", blobs={}), "$.blobs"),
        (of("message", blobs=[5]), "$.blobs[0]"),
        (of("message", blobs=[{}]), "$.blobs[0].value_sha256"),
        (of("message", blobs=[BLOB]), "$.blobs[0].value_sha256"),
        (of("message", blocks=None), "$.blobs[0].at"),
        (of("message", blocks=[{"type": "text", "text": ""}]), "$.blobs[0].at"),
    ],
)
def test_what_an_event_says_of_a_stored_value_has_to_be_true(
    src: SessionManager, make: Callable[[SessionManager], e.Event], path: str | None
) -> None:
    before = src.head("src")
    if path is None:
        src.append("src", [make(src)])
    else:
        with pytest.raises(EventNotEncodable, match="nothing was written") as refused:
            src.append("src", [make(src)])
        assert refused.value.path == path
        assert src.head("src") == before
    assert damaged(src) == []


@pytest.mark.parametrize("field", ["value_bytes", "prefix", "at"])
def test_a_file_of_a_message_needs_all_its_fields(src: SessionManager, field: str) -> None:
    message = list(src.events("src"))[1]
    assert isinstance(message, e.MessageAdded)
    assert message.blobs is not None
    blob = {name: value for name, value in message.blobs[0].items() if name != field}
    with pytest.raises(EventNotEncodable) as refused:
        src.append("src", [replace(message, blobs=[blob])])
    assert refused.value.path == f"$.blobs[0].{field}"


def test_the_async_manager_refuses_them_too(src: SessionManager) -> None:
    put = e.RecordPut(stream="s", value_bytes=5, value_sha256=sha256(b"12345").hexdigest())

    async def run() -> None:
        async with AsyncSessionManager(src) as manager:
            for session_id, create in (("dst", None), ("dst", True), ("new", True)):
                with pytest.raises(EventNotEncodable, match="that is not stored with this session"):
                    await manager.append(session_id, [put], create)
            await manager.append("dst", [e.ReasoningRecorded(content="x")])

    asyncio.run(run())
    assert not src.storage.session_exists("new")
    assert damaged(src) == []


@pytest.mark.parametrize("session_id", ["dst", "new"])
def test_a_saved_session_cannot_have_the_files_of_another_one(src: SessionManager, session_id: str) -> None:
    found = src.get_session("src")
    assert found is not None
    saved = src.get_session(session_id) or Session(
        SessionMetadata("new", found.metadata.created_at, found.metadata.updated_at)
    )
    saved.conversation.append(found.conversation[0])
    with pytest.raises(EventNotEncodable, match=r"\$\.blobs.*that is not stored with this session"):
        src.storage.save_session(saved)
    found.conversation.append(found.conversation[0])
    src.storage.save_session(found)
    assert [one.blocks for one in src.conversation("src") if one.blocks] == [IMAGE, IMAGE]
    assert src.head("dst").version == 1
    assert not src.storage.session_exists("new")
    assert damaged(src) == []
