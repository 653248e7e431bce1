"""Random operations on a store of a vendor, and on two objects of ours over one store: each answer must be the same."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias


@dataclass
class Side:
    """A store that is compared, or several objects over one; what it gave, by names that both sides share."""

    stores: Sequence[Any]
    rng: Random
    held: dict[Any, Any] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)

    @property
    def store(self) -> Any:
        """One of the objects."""
        return self.rng.choice(self.stores)

    def number(self, made_up: str | None) -> int | None:
        """Return the number of an id that the side made up: the first is 0."""
        return None if made_up is None else self.ids.setdefault(made_up, len(self.ids))


Step: TypeAlias = Callable[[Side], Awaitable[Any]]


def compare(theirs: Callable[[], Any], ours: Callable[[], Sequence[Any]], step: Callable[[Random], Step]) -> list[str]:
    """Return how 60 histories of 80 random steps differ: the first difference of each."""
    return [one for seed in range(60) if (one := asyncio.run(_compare(theirs(), ours(), step, seed)))]


async def _compare(theirs: Any, ours: Sequence[Any], step: Callable[[Random], Step], seed: int) -> str:
    rng = Random(seed)
    sides = Side([theirs], Random(seed)), Side(ours, Random(seed))
    for number in range(80):
        do, state = step(rng), rng.getstate()
        answers = []
        for side in sides:
            rng.setstate(state)
            answers.append(await _answer(do, side))
        if answers[0] != answers[1]:
            return f"history {seed}, step {number}, {do.__qualname__}: {answers[0]!r:.300}, ours {answers[1]!r:.300}"
    return ""


async def _answer(do: Step, side: Side) -> Any:
    """Return what a step answers; an error by the name of its type."""
    try:
        return await do(side)
    except Exception as error:
        return type(error).__name__
