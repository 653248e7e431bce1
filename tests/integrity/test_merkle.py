"""Merkle trees: the vectors of Certificate Transparency, and the laws of RFC 9162 for trees of every small size."""

from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.integrity.merkle import (
    EMPTY,
    Tree,
    consistency_proof,
    inclusion_proof,
    root,
    verify_consistency,
    verify_inclusion,
)

ENTRIES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
LEAVES = [sha256(b"\x00" + bytes.fromhex(entry)).digest() for entry in ENTRIES]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCY = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
MANY = [sha256(b"%d" % number).digest() for number in range(130)]


def unhex(hashes: list[str]) -> list[bytes]:
    return [bytes.fromhex(one) for one in hashes]


def defined(leaves: list[bytes]) -> bytes:
    """The root as RFC 9162 defines it, in its own words."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + defined(leaves[:k]) + defined(leaves[k:])).digest()


def spoiled(proof: list[bytes]) -> list[list[bytes]]:
    """List proofs that differ from a proof: longer, shorter, in another order, with a bit turned, with bytes moved along."""
    made = [[*proof, EMPTY], [EMPTY, *proof], [*proof, *(proof[-1:] or [EMPTY])]]
    for at, node in enumerate(proof):
        made.append([*proof[:at], *proof[at + 1 :]])
        made += [[*proof[:at], turned(node, bit), *proof[at + 1 :]] for bit in (0, 77, 255)]
        made.append([*proof[:at], node[:-1], *proof[at + 1 :]])
        made.append([*proof[:at], node + b"\x00", *proof[at + 1 :]])
    if proof[::-1] != proof:
        made.append(proof[::-1])
    return made


def turned(node: bytes, bit: int) -> bytes:
    return (int.from_bytes(node, "big") ^ 1 << bit).to_bytes(32, "big")


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert root(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
def test_inclusion_proofs_are_those_of_certificate_transparency(index: int, size: int, proof: list[str]) -> None:
    assert inclusion_proof(LEAVES[:size], index) == unhex(proof)
    assert verify_inclusion(LEAVES[index], index, size, unhex(proof), bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "new", "proof"), CONSISTENCY)
def test_consistency_proofs_are_those_of_certificate_transparency(old: int, new: int, proof: list[str]) -> None:
    assert consistency_proof(LEAVES[:new], old) == unhex(proof)
    assert verify_consistency(old, new, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]), unhex(proof))


def test_a_tree_that_grows_has_the_root_of_its_leaves_at_every_size() -> None:
    tree = Tree()
    for size, leaf in enumerate(MANY):
        assert (tree.size, tree.root()) == (size, defined(MANY[:size]))
        tree.append(leaf)
    assert tree.root() == root(MANY) == root(iter(MANY)) == Tree(MANY).root()


@given(cuts=st.lists(st.integers(0, len(MANY)), max_size=5))
def test_it_does_not_matter_in_what_pieces_a_tree_grows(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(MANY)]
    tree = Tree()
    for start, end in pairwise(edges):
        tree.extend(MANY[start:end])
        assert tree.root() == root(MANY[:end])
    assert tree.size == len(MANY)


def test_a_leaf_that_is_no_hash_is_refused_and_leaves_the_tree_as_it_was() -> None:
    tree = Tree(MANY[:3])
    for wrong in (b"", MANY[0][:-1], MANY[0] + b"x"):
        with pytest.raises(ValueError, match="32 bytes"):
            tree.append(wrong)
        with pytest.raises(ValueError, match="32 bytes"):
            tree.extend([MANY[3], wrong])
    assert tree.size == 6
    assert tree.root() == root([*MANY[:3], MANY[3], MANY[3], MANY[3]])


def test_every_leaf_of_every_tree_is_proved() -> None:
    for size in range(1, 40):
        leaves = MANY[:size]
        head = root(leaves)
        for index, leaf in enumerate(leaves):
            proof = inclusion_proof(leaves, index)
            assert len(proof) <= (size - 1).bit_length()
            assert verify_inclusion(leaf, index, size, proof, head)


def test_every_tree_is_proved_the_beginning_of_every_later_one() -> None:
    for new in range(40):
        for old in range(new + 1):
            proof = consistency_proof(MANY[:new], old)
            assert len(proof) <= new.bit_length() + 1
            assert verify_consistency(old, new, root(MANY[:old]), root(MANY[:new]), proof)


@given(data=st.data(), size=st.integers(1, len(MANY)))
def test_no_other_proof_leaf_place_or_root_is_taken_for_an_inclusion(data: st.DataObject, size: int) -> None:
    leaves = MANY[:size]
    index = data.draw(st.integers(0, size - 1))
    leaf, head, proof = leaves[index], root(leaves), inclusion_proof(leaves, index)
    assert verify_inclusion(leaf, index, size, proof, head)
    for other in spoiled(proof):
        assert not verify_inclusion(leaf, index, size, other, head)
    for place in {*range(-2, size + 3)} - {index}:
        assert not verify_inclusion(leaf, place, size, proof, head)
    assert not verify_inclusion(MANY[index - 1] if size > 1 else EMPTY, index, size, proof, head)
    assert not verify_inclusion(leaf, index, size, proof, turned(head, data.draw(st.integers(0, 255))))
    assert not verify_inclusion(leaf, index, 0, proof, head)
    if proof:
        moved = [leaf[-1:] + proof[0], *proof[1:]]
        assert not verify_inclusion(leaf[:-1], index, size, moved, head)


@given(data=st.data(), new=st.integers(0, len(MANY)))
def test_no_other_proof_or_root_is_taken_for_consistency(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(0, new))
    before, after, proof = root(MANY[:old]), root(MANY[:new]), consistency_proof(MANY[:new], old)
    assert verify_consistency(old, new, before, after, proof)
    for other in spoiled(proof):
        assert not verify_consistency(old, new, before, after, other)
    bit = data.draw(st.integers(0, 255))
    assert not verify_consistency(old, new, turned(before, bit), after, proof)
    if old:
        assert not verify_consistency(old, new, before, turned(after, bit), proof)
    if old != new:
        assert not verify_consistency(new, old, after, before, proof)
    assert not verify_consistency(-1, new, before, after, proof)


@given(data=st.data(), size=st.integers(2, 64))
def test_a_log_with_another_past_is_not_consistent(data: st.DataObject, size: int) -> None:
    old = data.draw(st.integers(1, size - 1))
    changed = data.draw(st.integers(0, old - 1))
    rewritten = [*MANY[:changed], EMPTY, *MANY[changed + 1 : size]]
    proof = consistency_proof(rewritten, old)
    assert verify_consistency(old, size, root(rewritten[:old]), root(rewritten), proof)
    assert not verify_consistency(old, size, root(MANY[:old]), root(rewritten), proof)
    assert not verify_consistency(old, size, root(MANY[:old]), root(rewritten), consistency_proof(MANY[:size], old))


@pytest.mark.parametrize("part", [1, 2, 3, 4, 7, 8, 11])
def test_the_proof_of_one_tree_proves_nothing_of_a_larger_or_a_smaller_one(part: int) -> None:
    small, large = MANY[:part], MANY[: part + 32]
    for index in range(part):
        assert not verify_inclusion(MANY[index], index, part + 32, inclusion_proof(small, index), root(small))
    for old in range(1, part):
        proof = consistency_proof(small, old)
        assert not verify_consistency(old, part + 32, root(small[:old]), root(small), proof)
        assert not verify_consistency(old, part, root(small[:old]), root(large), consistency_proof(large, old))


def test_the_right_half_of_a_tree_is_not_taken_for_the_tree() -> None:
    assert not verify_inclusion(MANY[7], 3, 4, inclusion_proof(MANY[:8], 7), root(MANY[:8]))
    assert not verify_consistency(3, 4, root(MANY[:7]), root(MANY[:8]), consistency_proof(MANY[:8], 7))


def test_the_empty_tree_begins_every_tree_and_has_one_root() -> None:
    assert verify_consistency(0, 0, EMPTY, EMPTY, [])
    assert verify_consistency(0, 3, EMPTY, root(MANY[:3]), [])
    for old, new, before, after in ((0, 0, EMPTY, MANY[0]), (0, 0, MANY[0], MANY[0]), (0, 3, MANY[0], root(MANY[:3]))):
        assert not verify_consistency(old, new, before, after, [])


def test_what_a_tree_never_had_cannot_be_proved() -> None:
    for index in (-1, 3):
        with pytest.raises(IndexError):
            inclusion_proof(MANY[:3], index)
    for old in (-1, 4):
        with pytest.raises(IndexError):
            consistency_proof(MANY[:3], old)


def test_proofs_are_at_the_door() -> None:
    proof = inclusion_proof(LEAVES, 3)
    assert verify_inclusion(LEAVES[3], 3, 8, proof, root(LEAVES))
    proof = consistency_proof(LEAVES, 3)
    assert verify_consistency(3, 8, root(LEAVES[:3]), root(LEAVES), proof)
