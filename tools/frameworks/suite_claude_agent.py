"""The Claude Agent SDK: its conformance kit, and the tests of its source distribution with our store in the place of theirs.

Before these, random operations on its store in memory, and on ours.
"""

import asyncio
import json
import os
import sys
import tarfile
from functools import partial
from random import Random
from typing import Any

import claude_agent_sdk
from claude_agent_sdk._internal import session_store
from claude_agent_sdk.testing import run_session_store_conformance
from counted import run
from random_steps import Side, Step, compare
from stores import FOLDER, makers

from eventstore.integrations.claude_agent import ClaudeSessionStore, _Key

KIT = 14  # contracts that the kit asserts, one after the other; it raises at the first that fails
TESTS = [
    f"tests/test_{name}.py"
    for name in (
        "session_helpers_store",
        "session_import",
        "session_resume",
        "session_store_conformance",
        "session_summary",
        "transcript_mirror",
    )
]
THEIRS = {
    "test_continue_picks_most_recent": "writes `_mtimes` of their store",
    "test_continue_skips_sidechain_sessions": "writes `_mtimes` of their store",
    "test_continue_tie_break_is_deterministic": "writes `_mtimes` of their store",
    "test_load_concurrency_is_bounded": "counts five turns of the loop, and ours works in threads",
    "test_gap_fill_bounded_concurrency": "counts five turns of the loop, and ours works in threads",
    "test_eager_flush_mode_appends_per_frame_before_result": "counts ten turns of the loop, and ours works in threads",
    "test_cancelled_after_mkdtemp_cleans_temp_dir": "counts 50 turns of the loop, and ours works in threads",
}
LINES: list[Any] = [
    {"type": "user", "uuid": "u1", "message": {"role": "user", "content": "cut in an emoji \ud83d"}},
    {"type": "assistant", "message": {"role": "assistant", "content": [{"type": "tool_use", "id": 5, "input": 2**70}]}},
    {"type": "user", "uuid": "u2", "message": {"role": "user", "content": "x" * 17_000_000}},
    {"type": "user", "message": "of another shape"},
]


class Ours(ClaudeSessionStore):
    """Made without arguments, with what their tests ask of their store besides."""

    make: Any = None

    def __init__(self) -> None:
        super().__init__(type(self).make())

    def get_entries(self, key: Any) -> list[Any]:
        """Return the entries of a transcript."""
        return self._load(_Key.of(key)) or []

    @property
    def size(self) -> int:
        """How many sessions there are."""
        return len(self._manager.page_sessions(tags=["claude-agent"], limit=1_000).sessions)

    def clear(self) -> None:
        """Delete all sessions."""
        for one in self._manager.page_sessions(limit=1_000).sessions:
            self._manager.delete_session(one.session_id)


def main() -> int:
    """Run both on each store; print the line of JSON."""
    passed, failures = 0, list[str]()
    for make in makers().values():
        different = compare(session_store.InMemorySessionStore, partial(stores_of, make), random_step)
        passed, failures = passed + 60 - len(different), [*failures, *different]
        asyncio.run(run_session_store_conformance(lambda make=make: ClaudeSessionStore(make())))
        passed += KIT + asyncio.run(keeps_lines(ClaudeSessionStore(make())))
    (source,) = FOLDER.glob("claude_agent_sdk-*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(FOLDER, filter="data")
    os.chdir(source.with_name(source.name.removesuffix(".tar.gz")))
    claude_agent_sdk.InMemorySessionStore = session_store.InMemorySessionStore = Ours
    for name, make in makers().items():
        Ours.make = staticmethod(make)
        for known in [one for one in sys.modules if one.partition(".")[0] == "tests" or one.startswith("test_")]:
            del sys.modules[known]  # they have the store of before
        counted = run(TESTS, is_of_any_store, "-o", "asyncio_mode=auto")
        passed += counted.passed
        failures += [f"{name}: {one}" for one in counted.failures]
    print(json.dumps({"passed": passed, "failed": len(failures), "failures": failures, "left_out": THEIRS}))
    return 1 if failures else 0


async def keeps_lines(store: ClaudeSessionStore) -> int:
    """Store lines that have no meaning, or hold what a log refuses; return how many steps passed."""
    key: Any = {"project_key": "p", "session_id": "s"}
    for one in LINES:
        await store.append(key, [one])
    assert await store.load(key) == LINES
    return 1


def random_step(rng: Random) -> Step:
    """Return an operation on one of three sessions of two projects, or on one of their sub-agents."""
    key: Any = {"project_key": rng.choice("pq"), "session_id": rng.choice("stu")}
    below: Any = rng.choice([{}, {}, {"subpath": rng.choice(["subagents/agent-1", "subagents/x/agent-2"])}])
    kind = rng.choice(["append", "append", "append", "append", "load", "list", "summaries", "subkeys", "delete"])
    made = rng.choices([*LINES[:2], LINES[3], {"type": "tag", "tag": ""}, {"type": "summary", "summary": "T"}, {}], k=2)
    new = [{**one, "uuid": f"{rng.random()}"} if "uuid" in one else one for one in made]

    async def do(side: Side) -> Any:
        store = side.store
        if kind == "append":
            return await store.append({**key, **below}, new)
        if kind == "load":
            return await store.load({**key, **below})
        if kind == "list":
            return sorted(one["session_id"] for one in await store.list_sessions(key["project_key"]))
        if kind == "summaries":
            found = await store.list_session_summaries(key["project_key"])
            return sorted(((one["session_id"], one["data"]) for one in found), key=lambda one: one[0])
        return sorted(await store.list_subkeys(key)) if kind == "subkeys" else await store.delete({**key, **below})

    return do


def stores_of(make: Any) -> list[ClaudeSessionStore]:
    """Return two session stores over an empty store."""
    manager = make()
    return [ClaudeSessionStore(manager), ClaudeSessionStore(manager)]


def is_of_any_store(item: Any) -> bool:
    """Tell whether a test asks what each store promises; the variants for trio are left out, since ours is for asyncio."""
    return item.originalname not in THEIRS and "[trio" not in item.name


sys.exit(main())
