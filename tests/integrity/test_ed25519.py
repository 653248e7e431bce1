"""Ed25519: the vectors of RFC 8032, forgeries, odd encodings, and agreement with a library that shares nothing with ours."""

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from eventstore.integrity.ed25519 import verify

VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
SMALL = [
    (1).to_bytes(32, "little"),
    (P - 1).to_bytes(32, "little"),
    bytes(32),
    bytes(31) + b"\x80",
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
]
"""The eight points of small order."""
BASE = bytes.fromhex("5866666666666666666666666666666666666666666666666666666666666666")


def flipped(raw: bytes, bit: int) -> bytes:
    return bytes(byte ^ (1 << bit % 8 if at == bit // 8 else 0) for at, byte in enumerate(raw))


def other_library(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS)
def test_signatures_of_rfc_8032_are_good_and_one_bit_makes_them_bad(public: str, message: str, signature: str) -> None:
    key, text, good = bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature)
    assert verify(key, text, good)
    assert not verify(key, text + b"x", good)
    assert not verify(key, b"x" + text, good)
    for bit in range(0, 512, 7):
        assert not verify(key, text, flipped(good, bit))
    for bit in range(0, 256, 7):
        assert not verify(flipped(key, bit), text, good)
    for bit in range(0, len(text) * 8, 7):
        assert not verify(key, flipped(text, bit), good)


def test_what_has_a_wrong_length_is_a_bad_signature() -> None:
    key, text, good = (bytes.fromhex(one) for one in VECTORS[1])
    for wrong in (b"", good[:-1], good + b"\x00"):
        assert not verify(key, text, wrong)
    for wrong in (b"", key[:-1], key + b"\x00"):
        assert not verify(wrong, text, good)


def test_a_signature_has_only_one_form() -> None:
    key, text, good = (bytes.fromhex(one) for one in VECTORS[0])
    s = int.from_bytes(good[32:], "little")
    for multiple in range(1, 16):
        if (more := s + multiple * L) < 2**256:
            assert not verify(key, text, good[:32] + more.to_bytes(32, "little"))


@pytest.mark.parametrize("small", SMALL)
def test_keys_of_small_order_sign_nothing(small: bytes) -> None:
    for text in (b"", *(b"%d" % number for number in range(16))):
        for s, r in ((0, small), (0, SMALL[0]), (1, BASE)):
            assert not verify(small, text, r + s.to_bytes(32, "little"))


def test_points_have_only_one_encoding() -> None:
    good = SMALL[0] + bytes(32)
    for number in range(P, 2**255):
        for sign in (0, 2**255):
            assert not verify((number | sign).to_bytes(32, "little"), b"", good)
    assert not verify(flipped(SMALL[0], 255), b"", good)
    assert not verify(b"\xff" * 32, b"", b"\xff" * 64)


@given(seed=st.binary(min_size=32, max_size=32), text=st.binary(max_size=300), bit=st.integers(0, 767))
def test_it_agrees_with_another_library(seed: bytes, text: bytes, bit: int) -> None:
    secret = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = secret.public_key().public_bytes_raw(), secret.sign(text)
    assert verify(public, text, signature)
    spoiled = flipped(public + signature, bit)
    assert not verify(spoiled[:32], text, spoiled[32:])
    assert not other_library(spoiled[:32], text, spoiled[32:])


@given(public=st.binary(min_size=32, max_size=32), signature=st.binary(min_size=64, max_size=64))
def test_noise_is_no_signature_and_no_error(public: bytes, signature: bytes) -> None:
    assert not verify(public, b"text", signature)
