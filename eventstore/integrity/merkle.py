"""Merkle trees of RFC 9162 (and 6962) over leaf hashes: roots, and proofs that fit in a message.

Leaves are leaf hashes of 32 bytes, in order; the hashed data does not matter here. An interior node is
`SHA-256(0x01 || left || right)`, the root of a tree without leaves is `SHA-256("")`.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import islice

EMPTY = sha256(b"").digest()
"""The root of a tree without leaves."""


class Tree:
    """A tree that grows at its right end and keeps only the roots of complete subtrees: at most log2(size) + 1 hashes."""

    __slots__ = ("_parts", "_size")

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.extend(leaves)

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash of 32 bytes at the right end. Raises ValueError for another length."""
        self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes in order; quicker than one by one. Raises ValueError at one that is not of 32 bytes."""
        parts, size, hashed = self._parts, self._size, sha256
        for node in leaves:
            if len(node) != 32:
                raise ValueError(f"a leaf hash has 32 bytes, not {len(node)}; it was not added: hash the leaf first")
            rest = size
            while rest & 1:
                node = hashed(b"\x01" + parts.pop() + node).digest()
                rest >>= 1
            parts.append(node)
            self._size = size = size + 1

    def root(self) -> bytes:
        """Compute the root over all leaves so far, 32 bytes, in at most log2(size) hashes. The tree may grow afterwards."""
        if not self._parts:
            return EMPTY
        node = self._parts[-1]
        for left in self._parts[-2::-1]:
            node = _node(left, node)
        return node


def root(leaves: Iterable[bytes]) -> bytes:
    """Compute the root over leaf hashes, 32 bytes."""
    return Tree(leaves).root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Prove that leaf `index` (from 0) is in the tree over all leaves: the sibling hashes along its path, the deepest first.

    Costs as many hashes as there are leaves. Raises IndexError if there is no such leaf.
    """
    return [root(leaves[start:end]) for start, end in inclusion_ranges(index, len(leaves))]


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """Return the ranges of leaves (start, end excluded) whose roots are the hashes of `inclusion_proof`.

    Use them with `roots`, in one pass, where not all leaves fit in memory. Raises IndexError if there is no such leaf.
    """
    if not 0 <= index < size:
        raise IndexError(f"a tree of {size} leaves has no leaf {index}")
    ranges: list[tuple[int, int]] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def roots(leaves: Iterable[bytes], ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Compute the roots of ranges of leaves, which must not overlap, in one pass; memory holds a few hashes for each range."""
    order = sorted(range(len(ranges)), key=lambda place: ranges[place])
    found = [EMPTY] * len(ranges)
    stream, done = iter(leaves), 0
    for place in order:
        start, end = ranges[place]
        for _ in islice(stream, start - done):
            pass
        found[place], done = root(islice(stream, end - start)), end
    return found


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether a proof shows that `leaf` is leaf `index` (from 0) of the tree of `size` leaves with this root.

    Never raises. Size and root must come from the same trusted source: a root does not prove its size.
    """
    if not 0 <= index < size or not _hashes(leaf, *proof):
        return False
    node, last = leaf, size - 1
    for sibling in proof:
        if not last:
            return False
        if index & 1 or index == last:
            node = _node(sibling, node)
            index, last = _skip(index, last)
        else:
            node = _node(node, sibling)
        index, last = index >> 1, last >> 1
    return not last and node == root


def consistency_proof(leaves: Sequence[bytes], old: int) -> list[bytes]:
    """Prove that the tree over the first `old` leaves is the beginning of the tree over all of them (RFC 9162, 2.1.4.1).

    Empty for no leaves and for all of them. Costs as many hashes as there are leaves. Raises IndexError if there are fewer.
    """
    return [root(leaves[start:end]) for start, end in consistency_ranges(old, len(leaves))]


def consistency_ranges(old: int, size: int) -> list[tuple[int, int]]:
    """Return the ranges of leaves whose roots are the hashes of `consistency_proof`. Raises IndexError if there are fewer."""
    if not 0 <= old <= size:
        raise IndexError(f"a tree of {size} leaves never had {old}")
    ranges: list[tuple[int, int]] = []
    start, end, known = 0, size if old else 0, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start, known = middle, False
    if not known:
        ranges.append((start, end))
    return ranges[::-1]


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Return whether a proof shows that the tree of `new` leaves begins with the tree of `old` leaves (RFC 9162, 2.1.4.2).

    Never raises. Every tree begins with the empty tree; that needs no proof.
    """
    if not 0 <= old <= new or not _hashes(old_root, new_root, *proof):
        return False
    if old == 0:
        return not proof and old_root == EMPTY and (new > 0 or new_root == EMPTY)
    if old == new:
        return not proof and old_root == new_root
    nodes = list(proof)
    if old & (old - 1) == 0:
        nodes.insert(0, old_root)
    if not nodes:
        return False
    index, last = old - 1, new - 1
    while index & 1:
        index, last = index >> 1, last >> 1
    before = after = nodes[0]
    for sibling in nodes[1:]:
        if not last:
            return False
        if index & 1 or index == last:
            before, after = _node(sibling, before), _node(sibling, after)
            index, last = _skip(index, last)
        else:
            after = _node(after, sibling)
        index, last = index >> 1, last >> 1
    return not last and (before, after) == (old_root, new_root)


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """The greatest power of two below size: the number of leaves in the left half."""
    return 1 << ((size - 1).bit_length() - 1)


def _skip(index: int, last: int) -> tuple[int, int]:
    """Skip the levels where the last node of a row has no sibling."""
    while index and not index & 1:
        index, last = index >> 1, last >> 1
    return index, last


def _hashes(*values: bytes) -> bool:
    """Check that all hashes have 32 bytes: else bytes could move from one hash to the next."""
    return all(len(value) == 32 for value in values)
