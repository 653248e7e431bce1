"""The OpenAI Agents SDK: its tests of sessions with ours in the place of `SQLiteSession`, and one scenario beside it."""

import asyncio
import json
import os
import sys
from typing import Any

import agents
from agents.memory.session import Session
from agents.memory.sqlite_session import SQLiteSession
from counted import run
from stores import FOLDER, makers

from eventstore.integrations.openai_agents import EventStoreSession

TESTS = ("tests/memory/test_session.py", "tests/memory/test_session_limit.py")
THEIRS = {
    **dict.fromkeys(
        (
            "test_sqlite_session_close_closes_worker_thread_connections",
            "test_sqlite_session_file_lock_is_shared_across_instances",
            "test_sqlite_session_failed_add_items_releases_write_lock",
            "test_sqlite_session_failed_clear_session_rolls_back",
            "test_sqlite_session_failed_pop_item_releases_write_lock",
            "test_sqlite_session_rollback_failure_evicts_connection",
            "test_sqlite_session_close_retries_quarantined_connection",
            "test_sqlite_session_post_commit_cancellation_propagates_after_known_outcome",
        ),
        "reads locks and connections of SQLiteSession",
    ),
    **dict.fromkeys(
        (
            "test_sqlite_session_pop_item_skips_corrupt_most_recent",
            "test_sqlite_session_pop_item_returns_none_after_dropping_only_corrupt_rows",
            "test_sqlite_session_get_items_limit_skips_corrupt_newest_rows",
            "test_sqlite_session_get_items_session_settings_limit_skips_corrupt_rows",
        ),
        "writes its tables",
    ),
    "test_sqlite_session_closed_rejects_empty_add_items": "closes it; ours needs no closing",
}
ITEMS: list[Any] = [
    {"role": "user", "content": "what changed?"},
    {"type": "function_call", "call_id": "c1", "name": "git_log", "arguments": '{"since": "yesterday"}'},
    {"type": "function_call_output", "call_id": "c1", "output": "3 commits"},
    {"type": "reasoning", "id": "r1", "summary": []},
    {"role": "assistant", "content": [{"type": "output_text", "text": "日本語 \U0001f600 \u0000 nul"}]},
]


async def scenario(session: Session) -> list[Any]:
    """Use everything; return what was answered, step by step."""
    said: list[Any] = [await session.get_items(), await session.pop_item()]
    await session.clear_session()
    await session.add_items([])
    await session.add_items(ITEMS)
    said += [
        await session.get_items(),
        await session.get_items(2),
        await session.get_items(0),
        await session.get_items(99),
    ]
    said += [await session.pop_item(), await session.get_items()]
    await session.clear_session()
    said += [await session.get_items(), await session.pop_item()]
    await session.add_items([{"role": "user", "content": str(number)} for number in range(30)])
    popped = await asyncio.gather(*(session.pop_item() for _ in range(40)))
    said.append(sorted(str(one) for one in popped))
    await asyncio.gather(*(session.add_items([{"role": "user", "content": str(number)}]) for number in range(40)))
    said.append(sorted(str(one) for one in await session.get_items()))
    return said


class Ours(EventStoreSession):
    """Made as SQLiteSession is: sessions of one path are in one store."""

    make: Any = None
    known: dict[str, Any] = {}  # noqa: RUF012 - one for all on purpose

    def __init__(self, session_id: str, db_path: Any = ":memory:", *tables: str, session_settings: Any = None) -> None:
        path = str(db_path)
        manager = type(self).make() if path == ":memory:" else self.known.get(path) or type(self).make()
        self.known[path] = manager
        super().__init__(session_id, manager, session_settings or agents.SessionSettings())

    def close(self) -> None:
        """Nothing is to be closed."""


async def scenarios() -> tuple[int, list[Any]]:
    """Run the scenario on each store, and compare; return how many steps passed, and those that did not."""
    passed, failures = 0, list[Any]()
    theirs = await scenario(SQLiteSession("user:1/a"))
    for name, make in makers().items():
        ours = await scenario(EventStoreSession("user:1/a", make()))
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True), 1):
            passed += mine == other
            failures += [] if mine == other else [[name, number, mine, other]]
    return passed, failures


def main() -> int:
    """Run both; print the line of JSON."""
    passed, failures = asyncio.run(scenarios())
    left_out: dict[str, str] = {}
    os.chdir(FOLDER)
    agents.SQLiteSession = Ours  # type: ignore[misc, assignment, unused-ignore]
    for name, make in makers().items():
        if not all((FOLDER / one).exists() for one in TESTS):
            left_out = dict.fromkeys(TESTS, "could not be downloaded")
            continue
        left_out = THEIRS
        Ours.make = staticmethod(make)
        for known in [one for one in sys.modules if one.partition(".")[0] == "tests"]:
            del sys.modules[known]  # they have the store of before
        sys.path.insert(0, str(FOLDER))
        counted = run(TESTS, lambda item: item.originalname not in THEIRS, "-o", "asyncio_mode=auto")
        passed += counted.passed
        failures += [f"{name}: {one}" for one in counted.failures]
    print(json.dumps({"passed": passed, "failed": len(failures), "failures": failures, "left_out": left_out}))
    return 1 if failures else 0


sys.exit(main())
