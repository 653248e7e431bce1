"""The async twin: the same methods, and an event loop that never waits for a lock or a flush."""

import asyncio
import errno
import fcntl
import inspect
import os
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from eventstore import (
    AsyncSessionManager,
    FileSystemSessionStorage,
    MemorySessionStorage,
    OutcomeUnknown,
    Patterns,
    SessionManager,
    SessionNotFound,
    VersionConflict,
)
from eventstore.backends.files.backend import FilesBackend
from eventstore.events import DataSet, MessageAdded, RecordPut, SessionCreated
from eventstore.log import Append, Written, batch, writer
from eventstore.sessions import (
    AsyncMoments,
    AsyncProofs,
    AsyncRecords,
    AsyncRedactions,
    AsyncTemplates,
    AsyncTrash,
    Moments,
    Proofs,
    Records,
    Redactions,
    Templates,
    Trash,
)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def public(kind: type) -> set[str]:
    return {name for name, thing in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("kind", "twin"),
    [
        (SessionManager, AsyncSessionManager),
        (Trash, AsyncTrash),
        (Templates, AsyncTemplates),
        (Proofs, AsyncProofs),
        (Records, AsyncRecords),
        (Redactions, AsyncRedactions),
        (Moments, AsyncMoments),
    ],
)
def test_the_twin_has_the_same_methods_with_the_same_arguments(kind: type, twin: type) -> None:
    assert public(kind) <= public(twin)
    for name in public(kind) - {"close", "follow", "subscribe"}:
        ours, theirs = (inspect.signature(getattr(one, name)).parameters for one in (kind, twin))
        assert list(ours) == list(theirs), name
        for one, other in zip(ours.values(), theirs.values(), strict=True):
            assert (one.kind, one.default, one.annotation) == (other.kind, other.default, other.annotation), name
        assert inspect.getdoc(getattr(twin, name))


def test_it_does_what_the_manager_does(manager: SessionManager) -> None:
    async def main() -> None:
        async with AsyncSessionManager(manager) as twin:
            session = await twin.create_session("s", purpose="p", tags=["t"])
            assert session.metadata.purpose == "p"
            await twin.add_conversation_message("s", "user", "hi", id="k")
            again = await twin.add_conversation_message("s", "user", "hi", id="k")
            assert again.repeated
            async with twin.invocation("s", "grep", {"q": 1}) as call:
                call.result = 1
            statistics = await twin.get_session_statistics("s")
            assert statistics is not None
            assert (statistics["total_invocations"], statistics["message_count"]) == (1, 1)
            assert [event.seq async for event in twin.events("s")] == [1, 2, 3, 4]
            with pytest.raises(SessionNotFound):
                await twin.set_data("nope", "k", 1)
            with pytest.raises(SessionNotFound):
                _ = [row async for row in twin.timeline("nope")]

    run(main())


@pytest.mark.parametrize("name", ["events", "timeline", "history", "salvage"])
def test_a_long_session_is_streamed_whole(manager: SessionManager, name: str) -> None:
    """Longer than what one thread reads at once."""
    manager.create_session("s")
    for after in range(0, 1200, 100):
        manager.append("s", [DataSet(key=f"k{seq}", value=seq) for seq in range(after, after + 100)])
    wanted = list(getattr(manager, name)("s"))
    assert len(wanted) == 1201

    async def work() -> None:
        assert [one async for one in getattr(AsyncSessionManager(manager), name)("s")] == wanted

    run(work())


def test_an_exception_inside_a_call_is_recorded(manager: SessionManager) -> None:
    async def main() -> None:
        twin = AsyncSessionManager(manager)
        await twin.create_session("s")
        with pytest.raises(KeyError):
            async with twin.invocation("s", "grep"):
                raise KeyError("x")
        await twin.close()

    run(main())
    (call,) = manager.storage.fold("s").invocations.values()
    assert (call.success, call.error) == (False, "KeyError: 'x'")


def test_the_event_loop_turns_while_a_flush_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes its time blocks the tasks that wait for it, and no other."""
    hung, go_on = threading.Event(), threading.Event()
    fdatasync = os.fdatasync

    def hang(descriptor: int) -> None:
        hung.set()
        assert go_on.wait(60)
        fdatasync(descriptor)

    async def main() -> None:
        manager = SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h"))
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s")
            monkeypatch.setattr(os, "fdatasync", hang)
            waiting = asyncio.ensure_future(twin.add_conversation_message("s", "user", "x"))
            while not hung.is_set():
                await asyncio.sleep(0)
            turns = 0
            for _ in range(1000):
                await asyncio.sleep(0)
                turns += 1
            assert not waiting.done()
            go_on.set()
            await waiting
            assert turns == 1000

    run(main())


def test_many_tasks_share_their_flushes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes = 0
    fdatasync = os.fdatasync

    slow = threading.Event()

    def count(descriptor: int) -> None:
        nonlocal flushes
        flushes += 1
        slow.wait(0.002)  # a disk as slow as disks are, also where the test runs on memory
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", count)

    async def main() -> None:
        manager = SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h"))
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s")
            await asyncio.gather(*(twin.add_conversation_message("s", "user", str(n)) for n in range(400)))
            assert (await twin.head("s")).version == 401

    run(main())
    assert flushes < 200


class _SlowStorage(MemorySessionStorage):
    """A store of which each append waits until the test lets it go on, as one on a network does."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go_on = threading.Event(), threading.Event()
        self.thread = ""

    def append_many(self, appends: Sequence[Append], *, imported: bool = False) -> Written:
        self.thread = threading.current_thread().name
        self.began.set()
        assert self.go_on.wait(60)
        return super().append_many(appends, imported=imported)


def test_the_event_loop_turns_while_an_append_takes_its_time() -> None:
    """Verifying what another process wrote, waiting for a lock, opening a file, asking a server: none of it is for the loop."""

    async def main() -> None:
        storage = _SlowStorage()
        async with AsyncSessionManager(SessionManager(storage)) as twin:
            await twin.create_session("s")
            waiting = asyncio.ensure_future(twin.add_conversation_message("s", "user", "x"))
            turns = 0
            while not storage.began.is_set() or turns < 1000:
                await asyncio.sleep(0)
                turns += 1
            assert not waiting.done()
            storage.go_on.set()
            assert (await waiting).last == 2
            assert storage.thread != threading.current_thread().name

    run(main())


def test_the_event_loop_turns_while_another_process_holds_the_lock(tmp_path: Path) -> None:
    async def main() -> None:
        manager = SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no"))
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s")
            with (tmp_path / "s" / "s" / "events.jsonl").open("rb") as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                waiting = asyncio.ensure_future(twin.set_data("s", "k", 1))
                for _ in range(1000):
                    await asyncio.sleep(0)
                assert not waiting.done()
            assert (await waiting).last == 2

    run(main())


def test_the_parts_are_awaited_too(manager: SessionManager) -> None:
    async def main() -> None:
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s", "p")
            await twin.templates.save("t", "s")
            assert await twin.templates.list() == ["t"]
            assert (await twin.create_session("u", template="t")).metadata.session_id == "u"
            assert await twin.trash.put("u")
            assert [one.session_id for one in await twin.trash.list()] == ["u"]
            await twin.trash.restore("u")
            assert await twin.proofs.checkpoints("u") == []
            assert await twin.redactions.plan() == []

    run(main())


def test_an_append_can_be_made_a_task(manager: SessionManager) -> None:
    async def main() -> None:
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s")
            tasks = [asyncio.create_task(twin.set_data("s", "k", number)) for number in range(3)]
            assert [one.last for one in await asyncio.gather(*tasks)] == [2, 3, 4]

    run(main())


def test_secrets_are_replaced_on_the_way_in(tmp_path: Path) -> None:
    async def main() -> None:
        manager = SessionManager(MemorySessionStorage(), secrets=Patterns())
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s")
            await twin.add_conversation_message("s", "user", "AKIA" + "ABCDEFGHIJKLMNOP")
            (said,) = await twin.conversation("s")
            assert "ABCDEFGHIJKLMNOP" not in said.content

    run(main())


def test_tasks_that_create_the_same_session_all_have_their_events(manager: SessionManager) -> None:
    """One creates it, also where the values are too large for the batch that creates; the others append to it."""

    async def main() -> None:
        async with AsyncSessionManager(manager) as twin:
            for large in (False, True):
                name = f"s-{large}"
                values = [RecordPut(stream="x", value=str(n) * (300_000 if large else 1)) for n in range(6)]
                created = SessionCreated(purpose="p")
                await asyncio.gather(*(twin.append(name, [value], create=created) for value in values))
                kept = [item.value[0] for item in await twin.records.list(name, "x")]
                assert sorted(kept) == ["0", "1", "2", "3", "4", "5"]
                session = await twin.get_session(name)
                assert session is not None
                assert session.metadata.purpose == "p"
                with pytest.raises(VersionConflict):
                    await twin.append(name, [RecordPut(stream="x", value=1)], create=True, expected_version=0)

    run(main())


@pytest.mark.parametrize("fsync", ["no", "everysec", "always"])
def test_what_waits_for_nobody_is_written_without_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: Any
) -> None:
    """A thread costs several times as much as the write; only the flush needs one."""
    in_threads = list[str]()
    submit = ThreadPoolExecutor.submit

    def submitting(pool: ThreadPoolExecutor, work: Any, *args: Any, **named: Any) -> Any:
        in_threads.extend([work.__name__] if work.__name__ in ("_write", "_flush") else [])
        return submit(pool, work, *args, **named)

    async def main() -> None:
        manager = SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync=fsync))
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s")
            in_threads.clear()
            done = await asyncio.gather(*(twin.set_data("s", "k", number) for number in range(5)))
            assert [one.last for one in done] == [2, 3, 4, 5, 6]
            assert in_threads == (["_flush"] if fsync == "always" else [])
            other = SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no"))
            other.set_data("s", "k", "of another program")
            assert (await twin.set_data("s", "k", 6)).last == 8
            assert in_threads[-1] == "_write"
            other.close()

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submitting)
    run(main())


def test_an_append_is_not_done_before_its_flush_and_the_event_loop_turns_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushing, go_on = threading.Event(), threading.Event()

    async def main() -> None:
        manager = SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="always"))
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s")
            sync = manager.storage.log.backend.sync

            def waiting(log: str, tip: Any) -> None:
                flushing.set()
                assert go_on.wait(60)
                sync(log, tip)

            monkeypatch.setattr(manager.storage.log._states.backend, "sync", waiting)
            append = asyncio.ensure_future(twin.set_data("s", "k", 1))
            while not flushing.is_set():
                assert not append.done()
                await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            assert not append.done()
            go_on.set()
            assert (await append).last == 2

    run(main())


@pytest.mark.parametrize("is_shut_down", [False, True])
def test_an_append_whose_flush_ends_in_any_error_hears_of_it_and_the_next_one_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_shut_down: bool
) -> None:
    """It waited for ever, and with it all later appends to the session."""

    async def main() -> None:
        manager = SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="always"))
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s")
            with monkeypatch.context() as patched:

                def failing(log: str, tip: Any) -> None:
                    raise MemoryError

                def shut(*args: Any) -> None:
                    raise RuntimeError("cannot schedule new futures after shutdown")

                patched.setattr(manager.storage.log._states.backend, "sync", failing)
                if is_shut_down:
                    patched.setattr(twin._threads.pool, "submit", shut)
                with pytest.raises(MemoryError):
                    await asyncio.wait_for(twin.set_data("s", "k", 1), 20)
            assert (await asyncio.wait_for(twin.set_data("s", "k", 2), 20)).last == 3

    run(main())


def test_the_event_loop_prepares_no_more_than_it_may_write_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It encoded all that was waiting, found it too much, and left it to a thread that encoded it again."""
    in_loop, prepare = list[str](), batch.prepare

    def preparing(*args: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            in_loop.append("one")
        return prepare(*args)

    async def main() -> None:
        manager = SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no"))
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s")
            await asyncio.gather(*(twin.add_conversation_message("s", "user", "x" * 100_000) for _ in range(50)))

    monkeypatch.setattr(writer, "prepare", preparing)
    run(main())
    assert len(in_loop) == 3


@pytest.mark.parametrize("held", ["writing", "scanning", "the lock of the file"])
def test_the_event_loop_turns_while_a_thread_appends_to_the_log_or_reads_it(tmp_path: Path, held: str) -> None:
    holds, release = threading.Event(), threading.Event()

    async def main() -> None:
        manager = SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no"))
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s")

            def hold() -> None:
                state: Any = manager.storage.log._states.known["s"]
                file: Any = manager.storage.log.backend
                with getattr(state, held) if hasattr(state, held) else file._handles.of("s").writing:
                    holds.set()
                    assert release.wait(60)

            thread = threading.Thread(target=hold)
            thread.start()
            assert holds.wait(60)
            append = asyncio.ensure_future(twin.set_data("s", "k", 1))
            for _ in range(1000):
                await asyncio.sleep(0)
            assert not append.done()
            release.set()
            assert (await append).last == 2
            thread.join(60)

    run(main())


def test_what_has_to_be_made_ready_is_so_in_a_store_of_files(tmp_path: Path) -> None:
    async def main() -> None:
        manager = SessionManager(
            FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no"), secrets=Patterns()
        )
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s")
            await twin.add_conversation_message("s", "user", "AKIA" + "ABCDEFGHIJKLMNOP")
            (said,) = await twin.conversation("s")
            assert "ABCDEFGHIJKLMNOP" not in said.content
        async with AsyncSessionManager(
            SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no"))
        ) as twin:
            await twin.set_data("s", "k", 1)
            await twin.append("s", [RecordPut(stream="a", key="k", value="x" * 300_000)])
            image = {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoA" + "AAAA" * 20_000},
            }
            await twin.append("s", [MessageAdded(role="user", content="", blocks=[image])])
            *_, put, shown = [event async for event in twin.events("s")]
            assert isinstance(put, RecordPut)
            assert put.value_sha256 is not None
            assert isinstance(shown, MessageAdded)
            assert shown.blobs is not None

    run(main())


@pytest.mark.parametrize("fsync", ["no", "always"])
def test_what_a_failed_write_left_in_the_log_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: Any
) -> None:
    """The disk is full in the second of three lines, and they cannot be cut back: the first one was there twice."""
    write, truncate, read = os.write, os.ftruncate, FilesBackend.read
    failing, in_threads = ["cut back", "next", "first"], set[str]()

    def writing(descriptor: int, data: bytes) -> int:
        if failing[-1:] == ["first"] and data.count(b"\n") == 3:
            failing.pop()
            return write(descriptor, data[: data.index(b"\n") + 20])
        if failing[-1:] == ["next"]:
            failing.pop()
            raise OSError(errno.ENOSPC, "no space left")
        return write(descriptor, data)

    def truncating(descriptor: int, size: int) -> None:
        if failing == ["cut back"]:
            failing.pop()
            raise OSError(errno.EIO, "input/output error")
        truncate(descriptor, size)

    def reading(*args: Any) -> Any:
        in_threads.add(threading.current_thread().name)
        return read(*args)

    async def main() -> None:
        manager = SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync=fsync))
        async with AsyncSessionManager(manager) as twin:
            await twin.create_session("s")
            with monkeypatch.context() as patched:
                patched.setattr(os, "write", writing)
                patched.setattr(os, "ftruncate", truncating)
                patched.setattr(FilesBackend, "read", reading)
                done = await asyncio.gather(*(twin.add_conversation_message("s", "user", str(n)) for n in range(3)))
            assert [one.last for one in done] == [2, 4, 5]  # 3 records the repair
            assert [said.content for said in await twin.conversation("s")] == ["0", "1", "2"]

    run(main())
    assert not failing
    assert in_threads
    assert threading.current_thread().name not in in_threads


def test_a_ctrl_c_while_the_event_loop_writes_leaves_it_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next append to that session, and all later ones, waited for ever."""

    def interrupt(descriptor: int, data: bytes) -> int:
        raise KeyboardInterrupt

    manager = SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h", fsync="no"))
    twin, loop = AsyncSessionManager(manager), asyncio.new_event_loop()
    loop.run_until_complete(twin.create_session("s"))
    interrupted = loop.create_task(twin.set_data("s", "k", 1))
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(interrupted)
    assert loop.run_until_complete(asyncio.wait_for(twin.set_data("s", "k", 2), 20)).last == 2
    assert isinstance(interrupted.exception(), OutcomeUnknown)
    loop.run_until_complete(twin.close())
    loop.close()


def test_event_loops_that_ended_while_their_appends_were_flushed_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, fdatasync = threading.Event(), os.fdatasync

    def wait(descriptor: int) -> None:
        assert go_on.wait(60)
        fdatasync(descriptor)

    async def begin() -> None:
        _ = asyncio.ensure_future(twin.set_data("s", "k", 1))
        for _ in range(5):
            await asyncio.sleep(0)

    twin = AsyncSessionManager(SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h")))
    twin.manager.create_session("s")
    monkeypatch.setattr(os, "fdatasync", wait)
    for _ in range(3):
        run(begin())
        assert len(twin._queue._queues) == 1
    go_on.set()
    run(twin.close())
    assert twin.manager.head("s").version == 4


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_forked_child_has_threads_of_its_own(tmp_path: Path, is_closed: bool) -> None:
    """It gave its work to the threads of its parent, which do not run there, and waited for ever."""
    twin = AsyncSessionManager(SessionManager(FileSystemSessionStorage(tmp_path / "s", tmp_path / "h")))

    async def begin() -> None:
        await twin.create_session("s")
        await asyncio.gather(*(twin.set_data("s", "k", number) for number in range(20)))
        if is_closed:
            await twin.close()

    async def append() -> None:
        assert (await twin.set_data("s", "k", "of the child")).last == 22

    run(begin())
    child = os.fork()
    if not child:
        status = 1
        try:
            if is_closed:
                with pytest.raises(RuntimeError):
                    run(append())
            else:
                run(append())
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    if not is_closed:
        assert twin.manager.head("s").version == 22
        run(twin.close())
