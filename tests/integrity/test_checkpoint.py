"""Checkpoints: the vectors of other implementations, and every way in which a note or a key is not what it should be."""

import os
import stat
import subprocess
import sys
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.errors import CheckpointRefused, KeyRefused
from eventstore.integrity import (
    Checkpoint,
    Note,
    SignatureLine,
    Signed,
    SigningKey,
    VerifierKey,
    open_note,
    parse_note,
    sign,
)

PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
PETER_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PROBLEM = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_SIGNED = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
ENOCH_SIGNED = "rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ="
SOFA = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)
"""The example of the specification of tlog-checkpoint."""
ROOT = sha256(b"").digest()
CHECKPOINT = Checkpoint("eventstore/s", 3, ROOT, ("at 2026-01-01T00:00:00.000000Z", "chain " + "0" * 64))
KEY = SigningKey("alice", bytes(32))
OTHER = SigningKey("bob", bytes(31) + b"\x01")
NAMESAKE = SigningKey("alice", bytes(31) + b"\x02")
NOTE = sign(CHECKPOINT, KEY)
TEXT, LINE = NOTE.split("\n\n")


def line(name: str, raw: bytes) -> str:
    return f"— {name} {b64encode(raw).decode()}\n"


def refusal(text: str | bytes, *keys: VerifierKey) -> tuple[str, str]:
    with pytest.raises(CheckpointRefused) as caught:
        open_note(text, keys)
    return caught.value.kind, caught.value.reason


# --- keys


@pytest.mark.parametrize("text", [PETER, ENOCH])
def test_a_verifier_key_of_others_is_read_and_written(text: str) -> None:
    key = VerifierKey.from_text(f"{text}\n")
    assert key.to_text() == text
    assert (key.name, key.hash.hex()) == tuple(text.split("+")[:2])
    assert text.startswith(f"{key.id}+")


def test_a_signing_key_of_others_is_read_and_written_and_signs_the_same() -> None:
    key = SigningKey.from_text(PETER_SECRET)
    assert key.to_text() == PETER_SECRET
    assert key.verifier_key.to_text() == PETER
    assert b64encode(key.verifier_key.hash + key.sign(PROBLEM)).decode() == PETER_SIGNED


@pytest.mark.parametrize(("text", "signed"), [(PETER, PETER_SIGNED), (ENOCH, ENOCH_SIGNED)])
def test_signatures_of_others_are_good(text: str, signed: str) -> None:
    key, raw = VerifierKey.from_text(text), b64decode(signed)
    assert raw[:4] == key.hash
    assert key.verify(PROBLEM, raw[4:])
    assert not key.verify(PROBLEM + b" ", raw[4:])
    assert not key.verify(PROBLEM, raw[4:-1] + b"\x00")


def test_no_part_and_no_change_of_a_key_is_a_key() -> None:
    for start in range(len(PETER)):
        for end in range(start, len(PETER) + (start > 0)):
            with pytest.raises(KeyRefused):
                VerifierKey.from_text(PETER[start:end])
    for whole, kind in ((PETER, VerifierKey), (PETER_SECRET, SigningKey)):
        for at, char in enumerate(whole):
            with pytest.raises(KeyRefused) as caught:
                kind.from_text(whole[:at] + chr(ord(char) + 1) + whole[at + 1 :])
            assert whole[-20:] not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        PETER.replace("c74f20a3", "C74F20A3"),
        PETER_SECRET,
        "",
        "é+1+2",
    ],
)
def test_keys_of_another_kind_or_length_are_refused(text: str) -> None:
    with pytest.raises(KeyRefused):
        VerifierKey.from_text(text)


def test_a_verifier_key_is_no_signing_key_and_no_error_shows_a_secret() -> None:
    with pytest.raises(KeyRefused, match="PRIVATE"):
        SigningKey.from_text(PETER)
    for wrong in (PETER_SECRET[:-4], PETER_SECRET.replace("c74f20a3", "c74f20a4"), PETER_SECRET[12:], "PRIVATE+KEY+"):
        with pytest.raises(KeyRefused) as caught:
            SigningKey.from_text(wrong)
        assert "AYEKFALV" not in str(caught.value)
    assert repr(SigningKey.from_text(PETER_SECRET)) == "<SigningKey PeterNeumann+c74f20a3>"


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\tb", "a\nb", "a\u00a0b", "a\u2003b", "a\x1bb", "a\x9bb", "\ud800"]
)
def test_a_name_no_key_can_have_is_refused(name: str) -> None:
    with pytest.raises(KeyRefused):
        SigningKey.generate(name)
    with pytest.raises(KeyRefused):
        VerifierKey(name, bytes(32))


@pytest.mark.parametrize("name", ["a", "example.com/abc123", "Zoë", "a@b.example", "名"])
def test_new_keys_differ_and_read_back(name: str) -> None:
    one, two = SigningKey.generate(name), SigningKey.generate(name)
    assert one.to_text() != two.to_text()
    again = SigningKey.from_text(one.to_text())
    assert (again.name, again.verifier_key) == (name, one.verifier_key)
    assert VerifierKey.from_text(one.verifier_key.to_text()) == one.verifier_key
    assert open_note(sign(CHECKPOINT, again), [one.verifier_key]).keys == (one.verifier_key,)


def test_a_key_has_32_bytes() -> None:
    with pytest.raises(KeyRefused, match="31 bytes"):
        VerifierKey("a", bytes(31))
    with pytest.raises(KeyRefused, match="33 bytes"):
        SigningKey("a", bytes(33))


# --- key files


def test_a_key_file_is_for_its_owner_only_and_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    KEY.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == KEY.to_text() + "\n"
    assert SigningKey.load(path).to_text() == KEY.to_text()
    with pytest.raises(KeyRefused, match="not overwritten"):
        OTHER.save(path)
    assert SigningKey.load(str(path)).to_text() == KEY.to_text()


def test_a_key_file_has_that_mode_whatever_the_mask(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        KEY.save(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_key_is_not_written_through_a_link_or_into_nowhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(KeyRefused, match="not overwritten"):
        KEY.save(tmp_path / "link")
    assert not (tmp_path / "target").exists()
    with pytest.raises(KeyRefused, match="No such file"):
        KEY.save(tmp_path / "nowhere" / "key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o777])
def test_a_key_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    KEY.save(path)
    path.chmod(mode)
    with pytest.raises(KeyRefused, match=f"chmod 600 {path}"):
        SigningKey.load(path)
    path.chmod(0o600)
    SigningKey.load(path)


def test_what_is_no_key_file_is_refused_by_its_path(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    for content in (b"", b"\xff", PETER.encode(), PETER_SECRET.encode()[:-1], b"x" * 10_000):
        wrong.write_bytes(content)
        wrong.chmod(0o600)
        with pytest.raises(KeyRefused) as caught:
            SigningKey.load(wrong)
        assert caught.value.key == str(wrong)
        assert "AYEKFALV" not in str(caught.value)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, reason in (("none", "No such file"), (".", "regular"), ("pipe", "regular")):
        with pytest.raises(KeyRefused, match=reason):
            SigningKey.load(tmp_path / name)


def test_without_the_extra_signing_says_what_to_install_and_checking_works() -> None:
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from eventstore.errors import KeyRefused\nfrom eventstore.integrity import *\n"
        "note, key, secret = sys.argv[1:]\n"
        "print(open_note(note, [VerifierKey.from_text(key)]).checkpoint.size)\n"
        "for make in (lambda: SigningKey.generate('a'), lambda: SigningKey.from_text(secret)):\n"
        "    try: make()\n"
        "    except KeyRefused as error: print(error)\n"
    )
    command = [sys.executable, "-c", program, NOTE, KEY.verifier_key.to_text(), KEY.to_text()]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]).stdout
    size, *errors = said.splitlines()
    assert size == "3"
    assert len(errors) == 2
    assert all("pip install '.[sign]'" in error for error in errors)


# --- checkpoints


def test_a_checkpoint_is_lines_of_text() -> None:
    text = CHECKPOINT.to_text()
    assert text.split("\n")[:3] == ["eventstore/s", "3", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]
    assert text.split("\n")[3:] == [*CHECKPOINT.extensions, ""]
    assert Checkpoint.from_text(text) == CHECKPOINT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "o\n3\n",
        f"o\n3\n{b64encode(ROOT).decode()}",
        f"\n3\n{b64encode(ROOT).decode()}\n",
        *(
            f"o\n{size}\n{b64encode(ROOT).decode()}\n"
            for size in ("", "03", "-1", "+1", " 1", "1_0", "٣", "x", 2**63, "9" * 5000)
        ),
        f"o\n3\n{b64encode(ROOT[1:]).decode()}\n",
        f"o\n3\n{b64encode(ROOT).decode().rstrip('=')}\n",
        f"o\n3\n{b64encode(ROOT).decode()[:-2]}V=\n",
        f"o\n3\n{b64encode(ROOT).decode()} \n",
        "o\n3\né\n",
        f"o\n3\n{b64encode(ROOT).decode()}\n\n",
        f"o\n3\n{b64encode(ROOT).decode()}\na\n\nb\n",
        f"o\r\n3\n{b64encode(ROOT).decode()}\n",
    ],
)
def test_what_is_no_checkpoint_is_malformed(text: str) -> None:
    with pytest.raises(CheckpointRefused) as caught:
        Checkpoint.from_text(text)
    assert caught.value.kind == "malformed"


def test_values_that_no_checkpoint_can_have_are_refused() -> None:
    for origin, size, root, extensions in (
        ("", 1, ROOT, ()),
        ("a\nb", 1, ROOT, ()),
        ("a\x00", 1, ROOT, ()),
        ("\ud800", 1, ROOT, ()),
        ("a", -1, ROOT, ()),
        ("a", 2**63, ROOT, ()),
        ("a", 1, ROOT + b"x", ()),
        ("a", 1, ROOT, ("",)),
        ("a", 1, ROOT, ("b\nc",)),
    ):
        with pytest.raises(CheckpointRefused):
            Checkpoint(origin, size, root, extensions)


LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=[chr(n) for n in range(32)]), min_size=1)


@given(
    origin=LINES,
    size=st.integers(0, 2**63 - 1),
    root=st.binary(min_size=32, max_size=32),
    extensions=st.lists(LINES, max_size=4).map(tuple),
)
def test_every_checkpoint_signed_reads_back(origin: str, size: int, root: bytes, extensions: tuple[str, ...]) -> None:
    checkpoint = Checkpoint(origin, size, root, extensions)
    assert Checkpoint.from_text(checkpoint.to_text()) == checkpoint
    note = sign(checkpoint, KEY)
    assert open_note(note, [KEY.verifier_key]) == Signed(checkpoint, (KEY.verifier_key,))
    assert open_note(note.encode(), [KEY.verifier_key]) == Signed(checkpoint, (KEY.verifier_key,))


# --- notes


def test_a_note_is_the_text_a_blank_line_and_a_signature() -> None:
    made = KEY.verifier_key.hash + KEY.sign(CHECKPOINT.to_text().encode())
    assert CHECKPOINT.to_text() + "\n" + line("alice", made) == NOTE


def test_the_note_of_the_specification_is_read_and_refused_without_its_key() -> None:
    note = parse_note(SOFA)
    assert isinstance(note, Note)
    assert (note.checkpoint.origin, note.checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    (found,) = note.signatures
    assert isinstance(found, SignatureLine)
    assert (found.id, len(found.signature)) == ("example.com/behind-the-sofa+033de0ae", 64)
    kind, reason = refusal(SOFA, KEY.verifier_key)
    assert kind == "unknown"
    assert "example.com/behind-the-sofa+033de0ae" in reason


def test_signatures_of_keys_not_given_are_ignored_and_each_given_one_is_named() -> None:
    by_other = sign(CHECKPOINT, OTHER).partition("\n\n")[2]
    foreign = line("carol", b"1234" + b"x" * 5000)
    both = f"{TEXT}\n\n{foreign}{by_other}{LINE}"
    alice, bob = KEY.verifier_key, OTHER.verifier_key
    assert open_note(both, [alice]).keys == (alice,)
    assert open_note(both, [bob]).keys == (bob,)
    assert open_note(both, [alice, bob]).keys == (bob, alice)
    assert [one.name for one in parse_note(both).signatures] == ["carol", "bob", "alice"]
    assert refusal(both)[0] == "unknown"


def test_a_key_is_known_by_its_name_and_its_hash_together() -> None:
    assert refusal(NOTE, NAMESAKE.verifier_key)[0] == "unknown"
    renamed = NOTE.replace("— alice", "— alicia")
    assert refusal(renamed, KEY.verifier_key)[0] == "unknown"
    alice, namesake = KEY.verifier_key, NAMESAKE.verifier_key
    wrong = line("alice", b"1234" + b"x" * 64) + line("mallory", alice.hash + b"x" * 64)
    assert open_note(f"{TEXT}\n\n{wrong}{LINE}", [namesake, alice]).keys == (alice,)


def test_one_wrong_signature_of_a_given_key_refuses_the_whole_note() -> None:
    alice, bob = KEY.verifier_key, OTHER.verifier_key
    wrong = line("bob", bob.hash + b"x" * 64)
    assert open_note(f"{TEXT}\n\n{LINE}{wrong}", [alice]).keys == (alice,)
    assert refusal(f"{TEXT}\n\n{LINE}{wrong}", alice, bob) == ("forged", f"the signature of {bob.id} is wrong")
    assert refusal(f"{TEXT}\n\n{LINE}{line('alice', alice.hash + b'x' * 64)}", alice)[0] == "forged"
    assert refusal(f"{TEXT}\n\n{line('alice', alice.hash + b'x')}{LINE}", alice)[0] == "forged"
    assert refusal(NOTE.replace("eventstore/s\n3\n", "eventstore/s\n4\n"), alice)[0] == "forged"


def test_a_key_given_twice_and_a_signature_made_twice_count_once() -> None:
    alice = KEY.verifier_key
    assert open_note(f"{TEXT}\n\n{LINE}{LINE}", [alice, alice]).keys == (alice,)


def test_at_most_a_hundred_signatures_are_read() -> None:
    alice = KEY.verifier_key
    foreign = line("carol", b"1234x")
    assert open_note(f"{TEXT}\n\n{foreign * 99}{LINE}", [alice]).keys == (alice,)
    assert refusal(f"{TEXT}\n\n{foreign * 100}{LINE}", alice)[0] == "malformed"
    assert refusal(f"{TEXT}\n\n{line('carol', b'x' * 1_000_000)}{LINE}", alice)[0] == "malformed"


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n\n",
        f"{TEXT}\n",
        f"{TEXT}\n\n",
        f"{TEXT}\n{LINE}",
        NOTE[:-1],
        NOTE[:-1] + "x",
        NOTE[:-1] + " ",
        f"{NOTE}\n",
        f"{NOTE}Unexpected line.\n",
        f"{TEXT}\n\n\n{LINE}",
        f"\n{NOTE}",
        NOTE.replace("\n", "\r\n"),
        NOTE.replace("eventstore/s", "eventstore/\ts"),
        NOTE.replace("eventstore/s", "eventstore/\x00s"),
        NOTE.replace("eventstore/s", "eventstore/\ud800s"),
        NOTE.encode().replace(b"eventstore/s", b"eventstore/\xff"),
        NOTE.replace("— ", "- "),
        NOTE.replace("— ", "—"),
        NOTE.replace("— alice", "— "),
        NOTE.replace("— alice", "— al ice"),
        NOTE.replace("— alice", "— al\u00a0ice"),
        NOTE.replace("— alice", "— al+ice"),
        NOTE.replace("— alice ", "— alice  "),
        NOTE.replace("— alice ", "— alice"),
        f"{TEXT}\n\n{line('alice', KEY.verifier_key.hash)}",
        f"{TEXT}\n\n— alice \n",
        f"{TEXT}\n\n— alice {LINE[8:-1]} \n",
        f"{TEXT}\n\n— alice {LINE[8:-1]}=\n",
        f"{TEXT}\n\n— alice ****\n",
        "a\nb\n\n" + LINE,
    ],
)
def test_what_is_no_note_is_malformed(note: str | bytes) -> None:
    assert refusal(note, KEY.verifier_key)[0] == "malformed"
    with pytest.raises(CheckpointRefused):
        parse_note(note)


@given(at=st.integers(0, len(NOTE.encode()) - 1), bit=st.integers(0, 7))
def test_no_bit_of_a_note_can_be_turned(at: int, bit: int) -> None:
    raw = bytearray(NOTE.encode())
    raw[at] ^= 1 << bit
    refusal(bytes(raw), KEY.verifier_key)


@given(noise=st.binary(max_size=200) | st.text(max_size=200), at=st.integers(0, len(NOTE)))
def test_noise_is_refused_and_raises_nothing_else(noise: str | bytes, at: int) -> None:
    refusal(noise, KEY.verifier_key)
    if isinstance(noise, str) and noise:
        mixed = NOTE[:at] + noise + NOTE[at + 1 :]
        if mixed != NOTE:
            refusal(mixed, KEY.verifier_key)
