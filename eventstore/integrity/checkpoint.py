"""Checkpoints: signed statements of a log's size and Merkle root, as C2SP tlog-checkpoints in signed notes.

    eventstore/<session id>          origin: the log
    42                               size: number of events
    <base64 of 32 bytes>             root of the Merkle tree over them
    at 2026-01-01T00:00:00.000000Z   extension lines, if any

    — <key name> <base64 of 4 bytes of key hash and 64 bytes of Ed25519 signature>

Signing needs the extra `sign`; reading and verifying need nothing. Read note files as bytes: text mode may change line ends.
"""

import os
import re
import stat
from base64 import b64decode, b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from eventstore.backends.files.descriptor import NEW
from eventstore.backends.files.durability import sync_folder
from eventstore.errors import CheckpointRefused, KeyRefused
from eventstore.integrity import ed25519
from eventstore.release import install_hint

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_SIGNATURES = 100
"""A note with more signatures is refused."""
MAX_NOTE_BYTES = 1_000_000
"""A longer note is refused."""

_ED25519 = b"\x01"
_PRIVATE = "PRIVATE+KEY+"
_DASH = "— "
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NEW_KEY = "make a new one, or get the text again"


class VerifierKey(msgspec.Struct, frozen=True):
    """A public key and its name, for verifying signatures. Raises KeyRefused for an invalid name."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.public) != 32:
            raise KeyRefused(self.name, f"it has {len(self.public)} bytes, not 32", _NEW_KEY)

    @classmethod
    def from_text(cls, text: str) -> "VerifierKey":
        """Read `<name>+<8 hex digits>+<base64>`; white space around it is allowed. Raises KeyRefused."""
        name, claimed, public = _parse_key(text.strip(), "a verifier key")
        key = cls(name, public)
        _check_hash(key, claimed)
        return key

    def to_text(self) -> str:
        """Return the key in the form of C2SP: `<name>+<8 hex digits>+<base64>`."""
        return f"{self.id}+{_base64(_ED25519 + self.public)}"

    @property
    def hash(self) -> bytes:
        """The 4 bytes that identify the key in signatures, together with its name."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    @property
    def id(self) -> str:
        """The name, `+`, and the hash as 8 hex digits: a short id for people."""
        return f"{self.name}+{self.hash.hex()}"

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Return whether this key made a signature of 64 bytes over a message. Takes about 1.5 ms."""
        return ed25519.verify(self.public, message, signature)


class SigningKey:
    """A secret key and its name, from `generate`, `from_text` or `load`. Needs the extra `sign`.

    Neither its repr nor any error shows the secret; `to_text` does.
    """

    def __init__(self, name: str, seed: bytes) -> None:
        _check_name(name)
        if len(seed) != 32:
            raise KeyRefused(name, f"its secret has {len(seed)} bytes, not 32", _NEW_KEY)
        self._secret = _signer(name, seed)
        self.verifier_key = VerifierKey(name, self._secret.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str) -> "SigningKey":
        """Return a new key from 32 random bytes. Raises KeyRefused for an invalid name, and without the extra `sign`."""
        return cls(name, os.urandom(32))

    @classmethod
    def from_text(cls, text: str) -> "SigningKey":
        """Read `PRIVATE+KEY+<name>+<8 hex digits>+<base64>`; white space around it is allowed. Raises KeyRefused."""
        text = text.strip()
        if not text.startswith(_PRIVATE):
            raise KeyRefused("text", f"it does not begin with {_PRIVATE}", "give a signing key, not a verifier key")
        name, claimed, seed = _parse_key(text.removeprefix(_PRIVATE), "a signing key")
        key = cls(name, seed)
        _check_hash(key.verifier_key, claimed)
        return key

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "SigningKey":
        """Read a key file. Raises KeyRefused, also where other users than its owner may read or write it. Links are followed."""
        shown = os.fspath(path)
        try:
            text = _read_secret(path)
        except OSError as error:
            raise KeyRefused(shown, _why(error), "check the path, or make a key") from None
        try:
            return cls.from_text(text.decode())
        except UnicodeDecodeError:
            raise KeyRefused(shown, "it is not a key file", "give the path of a key file") from None
        except KeyRefused as error:
            raise KeyRefused(shown, error.reason, error.advice) from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the key to a new file of mode 0600 and flush it to disk. Raises KeyRefused if the path exists."""
        target = Path(path)
        try:
            descriptor = os.open(target, NEW, 0o600)
        except FileExistsError:
            raise KeyRefused(
                str(target), "the file exists, and keys are not overwritten", "choose another path"
            ) from None
        except OSError as error:
            raise KeyRefused(str(target), _why(error), "choose another path") from None
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o600)
                file.write(self.to_text().encode() + b"\n")
                file.flush()
                os.fsync(descriptor)
            sync_folder(str(target.parent))
        except OSError as error:
            target.unlink(missing_ok=True)
            raise KeyRefused(str(target), _why(error), "choose another path") from None

    def to_text(self) -> str:
        """Return the secret in the form of C2SP: `PRIVATE+KEY+<name>+<8 hex digits>+<base64>`. Keep it private."""
        return f"{_PRIVATE}{self.verifier_key.id}+{_base64(_ED25519 + self._secret.private_bytes_raw())}"

    @property
    def name(self) -> str:
        """The name in its signatures."""
        return self.verifier_key.name

    def sign(self, message: bytes) -> bytes:
        """Return a signature of 64 bytes, the same for the same message."""
        return self._secret.sign(message)

    def __repr__(self) -> str:
        return f"<SigningKey {self.verifier_key.id}>"


class Checkpoint(msgspec.Struct, frozen=True):
    """The signed statement: the log `origin` had `size` events, and their Merkle tree has `root` (32 bytes).

    `extensions` are further lines of text, opaque here. Raises CheckpointRefused for invalid values.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for line in (self.origin, *self.extensions):
            if not line or "\n" in line or not _is_text(line):
                raise CheckpointRefused("malformed", "a line of it is empty, or has a character that no line may have")
        if not 0 <= self.size < 2**63:
            raise CheckpointRefused("malformed", "its size is not a number of events")
        if len(self.root) != 32:
            raise CheckpointRefused("malformed", f"its root has {len(self.root)} bytes, not 32")

    @classmethod
    def from_text(cls, text: str) -> "Checkpoint":
        """Read the lines of a checkpoint, without signatures. Raises CheckpointRefused."""
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() != "":
            raise CheckpointRefused("malformed", "it has fewer than three complete lines")
        origin, size, root, *extensions = lines
        digest = _bytes_of(root)
        if not _SIZE.fullmatch(size) or digest is None:
            raise CheckpointRefused("malformed", "its second line is not a size, or its third line is not base64")
        return cls(origin, int(size), digest, tuple(extensions))

    def to_text(self) -> str:
        """Return the lines of the checkpoint, each ended by LF: the signed text."""
        return "".join(f"{line}\n" for line in (self.origin, self.size, _base64(self.root), *self.extensions))


class SignatureLine(msgspec.Struct, frozen=True):
    """A signature in a note: the name and hash (4 bytes) of the key that it claims. Nothing is verified."""

    name: str
    hash: bytes
    signature: bytes

    @property
    def id(self) -> str:
        """The name, `+`, and the hash as 8 hex digits: the key that it claims."""
        return f"{self.name}+{self.hash.hex()}"


class Note(msgspec.Struct, frozen=True):
    """An unverified note, for display: anyone can have written it."""

    checkpoint: Checkpoint
    signatures: tuple[SignatureLine, ...]


class Signed(msgspec.Struct, frozen=True):
    """A checkpoint, and the keys that signed it, in the order of their signatures; at least one."""

    checkpoint: Checkpoint
    keys: tuple[VerifierKey, ...]


def sign(checkpoint: Checkpoint, key: SigningKey) -> str:
    """Sign a checkpoint: a note with one signature."""
    text = checkpoint.to_text()
    made = key.verifier_key.hash + key.sign(text.encode())
    return f"{text}\n{_DASH}{key.name} {_base64(made)}\n"


def open_note(text: str | bytes, keys: Sequence[VerifierKey]) -> Signed:
    """Verify the signatures in a note, and return the checkpoint with the keys that signed it.

    Signatures of other keys are ignored, even if they have the name or the hash of a given key. Raises CheckpointRefused for
    a malformed note, for a wrong signature of a given key, and if no given key signed.
    """
    body, note = _parse(text)
    signers: dict[VerifierKey, None] = {}
    for line in note.signatures:
        for key in keys:
            if (key.name, key.hash) != (line.name, line.hash):
                continue
            if not key.verify(body, line.signature):
                raise CheckpointRefused("forged", f"the signature of {key.id} is wrong")
            signers[key] = None
    if not signers:
        shown = ", ".join(ascii(line.id[:80]) for line in note.signatures[:3])
        raise CheckpointRefused(
            "unknown", f"it claims to be signed by {shown}, and that is none of the {len(keys)} given keys"
        )
    return Signed(note.checkpoint, tuple(signers))


def parse_note(text: str | bytes) -> Note:
    """Read a note without verifying its claims. Raises CheckpointRefused if it is malformed."""
    return _parse(text)[1]


def _parse(text: str | bytes) -> tuple[bytes, Note]:
    """Read a note, and return also the signed bytes."""
    full = _decode(text)
    body, blank, end = full.rpartition("\n\n")
    if not blank or not end.endswith("\n"):
        raise CheckpointRefused("malformed", "it has no blank line with complete signature lines after it")
    lines = end[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise CheckpointRefused("malformed", f"it has more than {MAX_SIGNATURES} signatures")
    signatures = tuple(map(_signature, lines))
    return f"{body}\n".encode(), Note(Checkpoint.from_text(f"{body}\n"), signatures)


def _decode(text: str | bytes) -> str:
    if len(text) > MAX_NOTE_BYTES:
        raise CheckpointRefused("malformed", f"it is longer than {MAX_NOTE_BYTES} bytes")
    try:
        found = text.decode() if isinstance(text, bytes) else text
    except UnicodeDecodeError:
        raise CheckpointRefused("malformed", "it is not UTF-8") from None
    if not _is_text(found):
        raise CheckpointRefused("malformed", "it has a character that is not allowed")
    return found


def _signature(line: str) -> SignatureLine:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    raw = _bytes_of(encoded)
    if not line.startswith(_DASH) or not _is_name(name) or raw is None or len(raw) < 5:
        raise CheckpointRefused("malformed", "a line after its blank line is not a signature")
    return SignatureLine(name, raw[:4], raw[4:])


def _is_text(text: str) -> bool:
    """Return whether a text may be in a note: no ASCII control characters except LF, valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return not _CONTROL.search(text)


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(map(str.isspace, name))


def _check_name(name: str) -> None:
    if not (_is_name(name) and name.isprintable()):
        raise KeyRefused(
            name,
            "its name is empty, or has a space, a plus, or a character that cannot be printed",
            "choose another name",
        )


def _check_hash(key: VerifierKey, claimed: str) -> None:
    if key.hash.hex() != claimed:
        raise KeyRefused(key.name, "its hash fits neither this key nor its name", _NEW_KEY)


def _parse_key(text: str, wanted: str) -> tuple[str, str, bytes]:
    """Split `<name>+<hash>+<base64>`. Errors do not quote the text: it may be a secret."""
    parts = text.split("+", 2)
    raw = _bytes_of(parts[2]) if len(parts) == 3 else None
    if not raw or not re.fullmatch(r"[0-9a-f]{8}", parts[1]):
        raise KeyRefused("text", f"it is not {wanted}: <name>+<8 hex digits>+<base64>", _NEW_KEY)
    if raw[:1] != _ED25519:
        raise KeyRefused(parts[0], "it is not an Ed25519 key of type 1", _NEW_KEY)
    return parts[0], parts[1], raw[1:]


def _base64(raw: bytes) -> str:
    return b64encode(raw).decode("ascii")


def _bytes_of(encoded: str) -> bytes | None:
    """Decode base64; None for an invalid or non-canonical text: a note must have only one form."""
    try:
        raw = b64decode(encoded, validate=True)
    except ValueError:
        return None
    return raw if _base64(raw) == encoded else None


def _signer(name: str, seed: bytes) -> "Ed25519PrivateKey":
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise KeyRefused(name, "signing needs the extra `sign`", install_hint("sign")) from None
    return Ed25519PrivateKey.from_private_bytes(seed)


def _read_secret(path: str | os.PathLike[str]) -> bytes:
    """Read a key file through one descriptor, so that the checked file is the one that is read. Does not wait for a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise KeyRefused(os.fspath(path), "it is not a regular file", "give the path of a key file")
        if mode & 0o077:
            reason = f"other users than its owner may use the file (mode {stat.S_IMODE(mode):04o})"
            advice = f"chmod 600 {os.fspath(path)}, and make a new key if others may have read it"
            raise KeyRefused(os.fspath(path), reason, advice)
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def _why(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else "the system refused"
