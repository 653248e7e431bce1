"""LangGraph: the conformance suite of checkpointers, and the tests of its stores with ours in the place of theirs."""

import asyncio
import base64
import importlib.util
import json
import os
import random
import sys
import tarfile
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import langgraph.store.memory as in_memory
import langgraph.store.sqlite as in_sqlite
from counted import run
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.report import ProgressCallbacks
from stores import FOLDER, makers

from eventstore.integrations.langgraph import EventStoreSaver
from eventstore.integrations.langgraph_store import EventStoreStore

SPEC = "langgraph.checkpoint.conformance.spec"
STORES = {
    "langgraph_checkpoint-": ("tests/test_store.py",),
    "langgraph_checkpoint_sqlite-": ("tests/test_store.py", "tests/test_async_store.py"),
}
VECTORS = ("vector", "embed", "scores", "non_ascii")  # they search by meaning, which our store does not offer
THEIRS = (  # SQL, its tables and its dotted paths, and the queue of the awaited store of SQLite
    "test_nonnull_migrations",
    "test_sql_injection_vulnerability",
    "test_filter_keys_with_hyphens_and_digits",
    "test_escape_glob_literal",
    "test_namespace_match_pattern",
    "test_list_namespaces_prefix_uses_indexable_condition",
    "test_no_running_loop",
    "test_async_batch_store",  # the queue of the vendor's, on a mock
    "test_async_batch_store_resilience",
    "test_async_batch_store_handles_cancellation",
    "test_async_batch_store_deduplication",
    "test_get_text_at_path",
)


class Ours(EventStoreStore):
    """Made as those of the vendor are."""

    make: Any = None

    def __init__(self, **options: Any) -> None:
        super().__init__(type(self).make())

    @classmethod
    @contextmanager
    def from_conn_string(cls, *where: Any, **options: Any) -> Iterator["Ours"]:
        """Open an empty store."""
        yield cls()

    def setup(self) -> None:
        """Nothing is to be made."""


class OursAwaited(Ours):
    """Its awaited twin."""

    @classmethod
    @asynccontextmanager
    async def from_conn_string(cls, *where: Any, **options: Any) -> AsyncIterator["Ours"]:  # type: ignore[override]
        """Open an empty store."""
        yield cls()

    async def setup(self) -> None:  # type: ignore[override]
        """Nothing is to be made."""


class Total:
    """What all of it came to."""

    def __init__(self) -> None:
        self.passed, self.failures = 0, list[str]()
        self.left_out: list[str] = []

    def count(self, capability: str, name: str, passed: bool, error: str | None) -> None:
        """Count a test of the conformance suite."""
        self.passed += passed
        self.failures += [] if passed else [f"{capability}: {name}: {error}"]


def saver_on(name: str, make: Any) -> Any:
    """Register the saver on a store."""

    @checkpointer_test(name=name)
    async def on_store() -> AsyncIterator[EventStoreSaver]:
        yield EventStoreSaver(make())

    return on_store


def delta_spec() -> Any:
    """Load the specification of delta channels, which the package has no release of yet; None without it."""
    found = None
    for name in ("_delta_fixtures", "test_delta_channel_history"):
        path = FOLDER / "libs/checkpoint-conformance" / SPEC.replace(".", "/") / f"{name}.py"
        if not path.exists():
            return None
        spec = importlib.util.spec_from_file_location(f"{SPEC}.{name}", path)
        assert spec is not None
        assert spec.loader is not None
        found = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    return found


async def conformance(total: Total) -> None:
    """Run the conformance suite on each store."""
    delta = delta_spec()
    for name, make in makers().items():
        progress = ProgressCallbacks(on_test_result=total.count)
        report = await validate(saver_on(name, make), progress=progress)
        total.failures += [] if report.passed_all() else [f"{name}: not all capabilities"]
        for test in delta.ALL_DELTA_CHANNEL_HISTORY_TESTS if delta else ():
            try:
                await test(EventStoreSaver(make()))
            except Exception as error:  # a test fails with any error
                total.failures.append(f"{name}: {test.__name__}: {error!r}")
            else:
                total.passed += 1
    if delta is None:
        total.left_out.append("delta channels: the specification could not be downloaded")


def scenarios(total: Total) -> None:
    """Run scenarios of our own on each store."""
    for name, make in makers().items():
        for scenario in (long_thread, kept_list, races, redacted, odd_values):
            try:
                scenario(make())
            except Exception as error:  # a scenario fails with any error
                total.failures.append(f"{name}: {scenario.__name__}: {error!r}")
            else:
                total.passed += 1


def long_thread(manager: Any) -> None:
    """Fill a thread that grows with each checkpoint; each must be what was put, also after copies and `prune`."""
    saver, said, put = EventStoreSaver(manager), list[HumanMessage](), dict[str, list[str]]()
    config: Any = {"configurable": {"thread_id": "long", "checkpoint_ns": ""}}
    version = None
    for number in range(250):
        said = [*said, HumanMessage(content=f"message {number} " * 20, id=f"m{number}")]
        if number % 60 == 59:
            said[number // 2].content = "changed where it is"
        if number == 150:
            said, saver = said[:100], EventStoreSaver(manager)  # a new program goes on with fewer messages
        version = saver.get_next_version(version, None)
        checkpoint = {
            **empty_checkpoint(),
            "channel_values": {"messages": list(said)},
            "channel_versions": {"messages": version},
        }
        config = saver.put(config, checkpoint, {"step": number}, {"messages": version})
        put[checkpoint["id"]] = [str(one.content) for one in said]
    saver.copy_thread("long", "fork")
    saver.put({"configurable": {"thread_id": "other", "checkpoint_ns": ""}}, empty_checkpoint(), {}, {})
    saver.copy_thread("long", "other")
    saver.prune(["long"])
    for thread, count in (("long", 1), ("fork", 250), ("other", 251)):
        found = [
            one
            for one in EventStoreSaver(manager).list({"configurable": {"thread_id": thread}})
            if one.checkpoint["id"] in put
        ]
        assert len(found) == min(count, 250), (thread, len(found))
        for one in found:
            assert [message.content for message in one.checkpoint["channel_values"]["messages"]] == put[
                one.checkpoint["id"]
            ]


def kept_list(manager: Any) -> None:
    """List all threads again and again while another saver writes: a list that is kept must be what a new saver lists."""
    keeps, writes, rng = EventStoreSaver(manager), EventStoreSaver(manager), random.Random(1)
    for number in range(120):
        thread, act = f"t{rng.randrange(6)}", rng.randrange(10)
        config: Any = {"configurable": {"thread_id": thread, "checkpoint_ns": rng.choice(["", "inner"])}}
        if act == 0:
            writes.delete_thread(thread)
        elif act == 1 and writes.get_tuple({"configurable": {"thread_id": thread}}):
            writes.copy_thread(thread, f"copy{number}")
        elif act == 2 and writes.get_tuple({"configurable": {"thread_id": thread}}):
            writes.prune([thread])
        elif act == 3:
            writes.delete_for_runs([f"run{rng.randrange(20)}"])
        elif act == 4 and (latest := writes.get_tuple(config)):
            writes.put_writes(latest.config, [("messages", "a later write")], f"task{number}")
        else:
            version = writes.get_next_version(None, None)
            checkpoint = {
                **empty_checkpoint(),
                "channel_values": {"messages": [HumanMessage(content="x" * 3_000, id=f"m{number}")]},
                "channel_versions": {"messages": version},
            }
            metadata: Any = {"step": number, "run_id": f"run{rng.randrange(20)}"}
            config = writes.put(config, checkpoint, metadata, {"messages": version})
            writes.put_writes(config, [("messages", number)], "task")
        if number % 3 == 0:
            kept, fresh = list(keeps.list(None)), list(EventStoreSaver(manager).list(None))
            assert kept == fresh, number
            assert len({one.config["configurable"]["thread_id"] for one in kept}) > number // 60


def races(manager: Any) -> None:
    """Let programs copy one thread to the same place at once, and remove what others delete and write at that moment."""
    put_many(EventStoreSaver(manager), "source", 20)
    wanted = listed(manager, "source")
    for number in range(8):
        at_once([lambda name=f"copy{number}": EventStoreSaver(manager).copy_thread("source", name)] * 4)
        assert listed(manager, f"copy{number}") == wanted
    for number in range(8):
        for thread in "abc":
            put_many(EventStoreSaver(manager), f"{thread}{number}", 5)
        at_once(
            [
                lambda: EventStoreSaver(manager).delete_for_runs(["run1"]),
                lambda name=f"a{number}": EventStoreSaver(manager).delete_thread(name),
                lambda name=f"b{number}": put_many(EventStoreSaver(manager), name, 5),
                lambda name=f"c{number}": EventStoreSaver(manager).prune([name]),
            ]
        )
        EventStoreSaver(manager).delete_for_runs(["run1"])
        assert all(one.metadata["run_id"] != "run1" for one in EventStoreSaver(manager).list(None))
        assert (len(listed(manager, f"a{number}")), len(listed(manager, f"b{number}"))) == (0, 8)
        assert len(listed(manager, f"c{number}")) == 1


def redacted(manager: Any) -> None:
    """Redact a message under a saver that has just read it: it must not be in what that reads afterwards, nor in a new saver."""
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    saver, said = EventStoreSaver(manager), list[HumanMessage]()
    for number in range(30):
        said = [*said, HumanMessage(content=f"message {number} " * 20 + "sk-LEAKED" * (number == 7), id=f"m{number}")]
        version = f"{number:032}.0"
        checkpoint = {
            **empty_checkpoint(),
            "channel_values": {"messages": said},
            "channel_versions": {"messages": version},
        }
        config = saver.put(config, checkpoint, {"step": number}, {"messages": version})
    latest: Any = {"configurable": {"thread_id": "t"}}
    for _ in range(2):  # the second is answered from what the first has read
        found = saver.get_tuple(latest)
        assert found is not None
        assert "sk-LEAKED" in str(found.checkpoint["channel_values"]["messages"])
        assert "sk-LEAKED" in str([*saver.list(latest), *saver.list(None)])
    events = [one.seq for one in manager.events(saver.session_id_of("t")) if b"sk-LEAKED" in line_of(one)]
    assert events
    manager.redactions.redact(saver.session_id_of("t"), events, "a key")
    for one in (saver, EventStoreSaver(manager)):
        after = one.get_tuple(latest), *one.list(latest), *one.list(None)
        assert "sk-LEAKED" not in str(after), after


def odd_values(manager: Any) -> None:
    """Put values that a log refuses, once more over the first: each comes back as of the store of the vendor."""
    ours, theirs = EventStoreStore(manager), in_memory.InMemoryStore()
    for value in (
        {"text": "half an emoji \ud83d"},
        {"number": 1 << 70, "none": None},
        {"infinite": float("inf"), "": {}},
    ):
        for store in (ours, theirs):
            store.put(("a",), "k", value)
        mine, other = EventStoreStore(manager).get(("a",), "k"), theirs.get(("a",), "k")
        assert mine is not None
        assert other is not None
        assert mine.value == other.value == value
        assert [one.value for one in ours.search(("a",), filter=value)] == [value]


def line_of(event: Any) -> bytes:
    """Return an event's content, what MessagePack and base64 hide in it as well."""
    value = getattr(event, "value", None)
    tail = base64.b64decode(value["tail"]) if isinstance(value, dict) and "tail" in value else b""
    return repr(event).encode() + tail


def put_many(saver: EventStoreSaver, thread: str, count: int) -> None:
    """Put checkpoints, the second of five by `run1`."""
    config: Any = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    for number in range(count):
        metadata: Any = {"step": number, "run_id": f"run{number % 5}"}
        config = saver.put(config, empty_checkpoint(), metadata, {})


def listed(manager: Any, thread: str) -> list[str]:
    """List the checkpoints of a thread."""
    found = EventStoreSaver(manager).list({"configurable": {"thread_id": thread}})
    return [one.config["configurable"]["checkpoint_id"] for one in found]


def at_once(calls: list[Any]) -> None:
    """Make calls in threads that begin together; raise what one of them raised."""
    begin = threading.Barrier(len(calls))

    def do(call: Any) -> None:
        begin.wait(60)
        call()

    with ThreadPoolExecutor(len(calls)) as pool:
        for _ in pool.map(do, calls):
            pass


def stores(total: Total) -> None:
    """Run the vendor's tests of stores on each store."""
    in_memory.InMemoryStore = Ours  # type: ignore[misc, assignment, unused-ignore]
    in_sqlite.SqliteStore = Ours  # type: ignore[misc, assignment, unused-ignore]
    in_sqlite.AsyncSqliteStore = OursAwaited  # type: ignore[misc, assignment, unused-ignore]
    for name, make in makers().items():
        Ours.make = staticmethod(make)
        for prefix, paths in STORES.items():
            (source,) = FOLDER.glob(f"{prefix}*.tar.gz")
            with tarfile.open(source) as archive:
                archive.extractall(FOLDER, filter="data")
            os.chdir(source.with_name(source.name.removesuffix(".tar.gz")))
            for known in [one for one in sys.modules if one.partition(".")[0] == "tests"]:
                del sys.modules[known]  # each source has its own
            sys.path.insert(0, str(Path.cwd()))
            counted = run(paths, is_of_any_store, "-o", "asyncio_mode=auto")
            total.passed += counted.passed
            total.failures += [f"{name}: {prefix}: {one}" for one in counted.failures]
            total.left_out += [one for one in counted.left_out if one not in total.left_out]


def is_of_any_store(item: Any) -> bool:
    """Return whether a test is about promises of every store."""
    name = str(getattr(item, "originalname", item.name))
    return name not in THEIRS and not any(word in name for word in VECTORS)


def main() -> int:
    """Run all; print the line of JSON."""
    total = Total()
    asyncio.run(conformance(total))
    scenarios(total)
    stores(total)
    found = {"failed": len(total.failures), "failures": total.failures, "left_out": total.left_out}
    print(json.dumps({"passed": total.passed, **found}))
    return 1 if total.failures else 0


sys.exit(main())
