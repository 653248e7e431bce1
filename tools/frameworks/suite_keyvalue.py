"""One scenario on our key-value store and on the library's MemoryStore: both must answer the same."""

import asyncio
import json
import sys
from typing import Any

from key_value.aio.stores.memory import MemoryStore
from stores import makers

from eventstore.integrations.keyvalue import EventStoreKeyValue


async def scenario(store: Any) -> list[Any]:
    """Use everything; return what was answered, step by step."""
    said: list[Any] = [await store.get("a"), await store.delete("a")]
    await store.put("a", {"x": 1})
    await store.put("a", {"x": 2, "text": "日本語"})
    said.append(await store.get("a"))
    await store.put_many(["b", "c/d"], [{"y": 1}, {"z": [1, {"w": None}]}], ttl=1_000)
    said.append(await store.get_many(["a", "b", "c/d", "nothing"]))
    value, seconds = await store.ttl("b")
    said.append([value, 900 < seconds <= 1_000])
    said.append(sorted(await store.keys()))
    await store.put("a", {"in": "another"}, collection="other/1")
    said += [await store.get("a", collection="other/1"), await store.get("a")]
    said.append(sorted(await store.collections()))
    said += [await store.delete("a"), await store.delete("a"), await store.delete_many(["b", "nothing", "b"])]
    said += [await store.get_many(["c/d", "b", "c/d"]), await store.get_many([]), await store.delete_many([])]
    said.append(await store.get_many(["a"], collection="never/made"))
    said.append(await store.destroy_collection("other/1"))
    await store.put("short", {"v": 1}, ttl=0.001)
    while await store.get("short") is not None:
        await asyncio.sleep(0)
    said.append(await store.ttl("short"))
    await asyncio.gather(*(store.put(f"k{number}", {"n": number}) for number in range(40)))
    said.append(sum(one is not None for one in await store.get_many([f"k{number}" for number in range(40)])))
    cancelled = asyncio.create_task(store.put("k", {"v": "cancelled"}))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    await store.put("k", {"v": "later"})
    await asyncio.gather(*(store.put(f"k{number}", {"n": number}) for number in range(40)))  # time for a late one
    said += [await store.get("k"), await store.destroy()]
    return said


async def main() -> int:
    """Run it on each store, and compare."""
    passed, differences = 0, list[Any]()
    theirs = await scenario(MemoryStore())
    for name, make in makers().items():
        ours = await scenario(EventStoreKeyValue(make()))
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True), 1):
            passed += mine == other
            differences += [] if mine == other else [[name, number, mine, other]]
    print(json.dumps({"passed": passed, "failed": len(differences), "steps": differences}, default=str))
    return 1 if differences else 0


sys.exit(asyncio.run(main()))
