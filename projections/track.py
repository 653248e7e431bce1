"""Values over the life of a session: the value of each after any event.

These structures only grow, by events in order, and answer for each earlier event with a few steps of a search.
"""

from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    Seqs: TypeAlias = array[int]
else:
    Seqs = array  # Python 3.11 has no array[int]
"""Event numbers, four bytes each."""
V = TypeVar("V")
_ARRAYS: dict[type, str] = {int: "q", float: "d"}


def seqs() -> Seqs:
    """Return an empty sequence of event numbers."""
    return array("i")


def counts(numbers: "Sequence[int]", versions: Iterable[int]) -> list[int]:
    """Return how many of these events there are up to each version. Both increase, and no event is there twice.

    A search begins where the last one ended, and goes no further than there can be events in between.
    """
    found: list[int] = []
    place = last = 0
    most = len(numbers)
    for version in versions:
        reach = place + version - last
        place = bisect_right(numbers, version, place, reach if reach < most else most)
        last = version
        found.append(place)
    return found


@dataclass(slots=True)
class Track(Generic[V]):
    """One value: `first` before any event, then the values that events set. Numbers take eight bytes per change."""

    first: V
    changed_at: Seqs = field(default_factory=seqs)
    values: Any = field(default_factory=list)

    def set(self, seq: int, value: V) -> None:
        """Set the value after event `seq`; events come in order."""
        values = self.values
        last = values[-1] if len(values) else self.first
        if last is value or (type(last) is type(value) and last == value):
            return
        if not len(values) and type(value) in _ARRAYS:
            values = self.values = array(_ARRAYS[type(value)])
        if type(value) is not type(last) or type(value) is int:
            self._widen(value)
            values = self.values
        if self.changed_at and self.changed_at[-1] == seq:
            values[-1] = value
        else:
            values.append(value)
            self.changed_at.append(seq)

    def at(self, version: int) -> V:
        """Return the value after event `version`."""
        place = bisect_right(self.changed_at, version)
        found: V = self.values[place - 1] if place else self.first
        return found

    def each(self, versions: Iterable[int]) -> list[V]:
        """Return the value after each of these versions, which increase."""
        first, values = self.first, self.values
        return [values[place - 1] if place else first for place in counts(self.changed_at, versions)]

    def _widen(self, value: V) -> None:
        """Store objects instead of machine numbers if this value is not such a number."""
        if not isinstance(self.values, array):
            return
        fits = _ARRAYS.get(type(value)) == self.values.typecode
        if not fits or (isinstance(value, int) and not -(2**63) <= value < 2**63):
            self.values = list(self.values)


@dataclass(slots=True)
class Stack:
    """A stack of events from which some are removed again: the conversation.

    Element 0 is the bottom. Each element stores the one `below` it, its `depth`, and one much further down, so that any
    lower element is found in a number of steps that grows with the logarithm of the depth. `numbers` are the events,
    which only increase from the bottom to the top; `pushed` are the events that pushed them.
    """

    numbers: Seqs = field(default_factory=lambda: array("i", [0]))
    pushed: Seqs = field(default_factory=lambda: array("i", [0]))
    below: Seqs = field(default_factory=lambda: array("i", [0]))
    depth: Seqs = field(default_factory=lambda: array("i", [0]))
    far: Seqs = field(default_factory=lambda: array("i", [0]))
    cut_at: Seqs = field(default_factory=seqs)
    cut_top: Seqs = field(default_factory=seqs)
    top: int = 0

    def push(self, seq: int, at: int = 0) -> None:
        """Push an event on the stack; with `at`, event `at` pushes it again."""
        top, depth, far = self.top, self.depth, self.far
        jump = far[top]
        is_even = depth[top] - depth[jump] == depth[jump] - depth[far[jump]]
        self.below.append(top)
        depth.append(depth[top] + 1)
        far.append(far[jump] if is_even and top else top)
        self.top = len(self.numbers)
        self.numbers.append(seq)
        self.pushed.append(at or seq)

    def withdraw(self, seq: int, targets: Collection[int]) -> None:
        """Remove these events from the stack by event `seq`.

        The cost grows with the number of elements above the lowest of them.
        """
        top, lowest = self.top, min((one for one in targets if one > 0), default=0)
        above: list[int] = []
        node = top
        while self.numbers[node] >= max(lowest, 1):
            above.append(self.numbers[node])
            node = self.below[node]
        if lowest and set(targets).intersection(above):
            self.cut(seq, lowest - 1)
            for number in reversed(above):
                if number not in targets:
                    self.push(number, seq)

    def cut(self, seq: int, to: int) -> None:
        """Remove all elements after event `to`, by event `seq`."""
        self.top = self._last_upto(self.top, to)
        self.cut_top.append(self.top)
        self.cut_at.append(seq)

    def count(self, version: int) -> int:
        """Return the number of elements after event `version`."""
        return self.depth[self._top_at(version)]

    def window(self, version: int, first: int, limit: int) -> list[int]:
        """Return the elements at positions `first` to `first + limit`, from 0, after event `version`."""
        node = self._top_at(version)
        last = min(first + max(limit, 0), self.depth[node])
        while self.depth[node] > last:
            jump = self.far[node]
            node = jump if self.depth[jump] >= last else self.below[node]
        found: list[int] = []
        while self.depth[node] > max(first, 0):
            found.append(self.numbers[node])
            node = self.below[node]
        return found[::-1]

    def place(self, version: int, seq: int) -> int:
        """Return how many of the elements after event `version` are events up to `seq`."""
        return self.depth[self._last_upto(self._top_at(version), seq)]

    def _top_at(self, version: int) -> int:
        last = bisect_right(self.pushed, version) - 1
        cut = bisect_right(self.cut_at, version)
        return self.cut_top[cut - 1] if cut and self.cut_at[cut - 1] > self.pushed[last] else last

    def _last_upto(self, node: int, seq: int) -> int:
        numbers, below, far = self.numbers, self.below, self.far
        while numbers[node] > max(seq, 0):
            jump = far[node]
            node = jump if numbers[jump] > seq else below[node]
        return node


@dataclass(frozen=True, slots=True)
class Kept:
    """A value of a map: its JSON, or None if the event `seq` must be read for it. `place` orders the keys."""

    place: int
    seq: int
    json: bytes | None


@dataclass(slots=True)
class Values:
    """The values of one key: `places` order the keys, 0 where the key was removed; a JSON of None is read from its event."""

    changed_at: Seqs = field(default_factory=seqs)
    places: Seqs = field(default_factory=seqs)
    jsons: list[bytes | None] = field(default_factory=list)

    def set(self, seq: int, place: int, json: bytes | None) -> None:
        """Set the value after event `seq`; events come in order."""
        if self.changed_at and self.changed_at[-1] == seq:
            self.places[-1], self.jsons[-1] = place, json
        else:
            self.changed_at.append(seq)
            self.places.append(place)
            self.jsons.append(json)

    def at(self, version: int) -> Kept | None:
        """Return the value after event `version`, if there is one."""
        change = bisect_right(self.changed_at, version) - 1
        return self._kept(change) if change >= 0 else None

    def changes(self) -> Iterator[tuple[int, Kept | None]]:
        """Stream the values, each with the event that set or removed it."""
        for change, seq in enumerate(self.changed_at):
            yield seq, self._kept(change)

    def _kept(self, change: int) -> Kept | None:
        place = self.places[change]
        return Kept(place, self.changed_at[change], self.jsons[change]) if place else None


@dataclass(slots=True)
class TrackedMap:
    """A map of JSON values.

    Values are kept here while they take at most `room` bytes together; others stay only in their events.
    """

    room: int = 8 * 1024 * 1024
    keys: dict[str, Values] = field(default_factory=dict)
    alive: dict[str, int] = field(default_factory=dict)
    places: int = 0

    def put(self, seq: int, key: str, json: bytes) -> None:
        """Set a key. An existing key keeps its place in the order."""
        place = self.alive.get(key)
        if place is None:
            self.places += 1
            place = self.alive[key] = self.places
        is_kept = len(json) <= self.room
        if is_kept:
            self.room -= len(json)
        values = self.keys.get(key)
        if values is None:
            values = self.keys[key] = Values()
        values.set(seq, place, json if is_kept else None)

    def remove(self, seq: int, key: str) -> None:
        """Remove a key, if it exists."""
        if self.alive.pop(key, None) is not None:
            self.keys[key].set(seq, 0, None)

    def clear(self, seq: int) -> None:
        """Remove all keys."""
        for key in list(self.alive):
            self.remove(seq, key)

    def at(self, version: int) -> list[tuple[str, Kept]]:
        """Return the keys with their values after event `version`, in order."""
        found = [(key, kept) for key, values in self.keys.items() if (kept := values.at(version)) is not None]
        found.sort(key=lambda one: one[1].place)
        return found


@dataclass(slots=True)
class Lives:
    """Objects that begin, are changed by events, and may end: tool calls. A name may begin again after its end."""

    names: list[str] = field(default_factory=list)
    born: Seqs = field(default_factory=seqs)
    died: Seqs = field(default_factory=seqs)
    last: Seqs = field(default_factory=seqs)
    event: Seqs = field(default_factory=seqs)
    before: Seqs = field(default_factory=seqs)
    known: dict[str, int] = field(default_factory=dict)

    def change(self, seq: int, name: str) -> None:
        """Record that event `seq` is about an object; the first such event begins its life."""
        life = self.known.get(name)
        if life is None:
            life = self.known[name] = len(self.names)
            self.names.append(name)
            self.died.append(0)
            self.last.append(-1)
            self.born.append(seq)
        self.before.append(self.last[life])
        self.last[life] = len(self.event)
        self.event.append(seq)

    def end(self, seq: int, name: str) -> None:
        """End a life by event `seq`."""
        life = self.known.pop(name, None)
        if life is not None:
            self.died[life] = seq

    def count(self, version: int) -> int:
        """Return how many lives began up to event `version`, including ended ones."""
        return bisect_right(self.born, version)

    def alive(self, version: int, before: int | None = None) -> Iterator[int]:
        """Stream the lives after event `version`, the latest begun first; with `before` those that began before that event."""
        upto = version if before is None else min(version, before - 1)
        for life in range(bisect_right(self.born, upto) - 1, -1, -1):
            if not 0 < self.died[life] <= version:
                yield life

    def events(self, life: int, version: int) -> list[int]:
        """Return the events of a life up to `version`, in order."""
        found: list[int] = []
        place = self.last[life]
        while place >= 0:
            if self.event[place] <= version:
                found.append(self.event[place])
            place = self.before[place]
        return found[::-1]


@dataclass(slots=True)
class Postings:
    """The events of each kind, by the name of the kind."""

    lists: dict[str, Seqs] = field(default_factory=dict)

    def add(self, seq: int, name: str) -> None:
        """Record that event `seq` is of a kind."""
        found = self.lists.get(name)
        if found is None:
            found = self.lists[name] = seqs()
        if not found or found[-1] != seq:
            found.append(seq)

    def count(self, name: str, version: int) -> int:
        """Return how many events up to `version` are of a kind."""
        return bisect_right(self.lists.get(name, ()), version)

    def has(self, names: Iterable[str], seq: int) -> bool:
        """Return whether event `seq` is of any of these kinds."""
        for name in names:
            numbers = self.lists.get(name, ())
            place = bisect_right(numbers, seq)
            if place and numbers[place - 1] == seq:
                return True
        return False

    def counts(self, version: int) -> dict[str, int]:
        """Return how many events up to `version` are of each kind, without empty kinds."""
        found = {name: bisect_right(numbers, version) for name, numbers in list(self.lists.items())}
        return {name: count for name, count in found.items() if count}

    def after(self, names: Iterable[str], seq: int, limit: int, upto: int) -> list[int]:
        """Return the first events after `seq`, up to `upto`, that are of any of these kinds."""
        found: set[int] = set()
        for name in names:
            numbers = self.lists.get(name, seqs())
            place = bisect_right(numbers, seq)
            found.update(one for one in numbers[place : place + limit] if one <= upto)
        return sorted(found)[:limit]

    def before(self, names: Iterable[str], seq: int, limit: int) -> list[int]:
        """Return the last events before `seq` that are of any of these kinds, in order."""
        found: set[int] = set()
        for name in names:
            numbers = self.lists.get(name, seqs())
            place = bisect_right(numbers, seq - 1)
            found.update(numbers[max(place - limit, 0) : place])
        return sorted(found)[-limit:] if limit else []
