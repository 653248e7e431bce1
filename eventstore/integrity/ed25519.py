"""Ed25519 signatures of RFC 8032: verification only, in plain Python.

Verification needs no installed library and handles no secret, so its time may depend on the input. Signing handles a secret and
is left to a library made for it.
"""

from functools import cache
from hashlib import sha512
from typing import TypeAlias

Point: TypeAlias = tuple[int, int, int, int]
"""A point of the curve as X, Y, Z, T with x = X/Z, y = Y/Z and xy = T/Z."""

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_D2 = 2 * _D % _P
_ROOT_OF_MINUS_ONE = pow(2, (_P - 1) // 4, _P)
_ZERO: Point = (0, 1, 1, 0)
_BASE_Y = 4 * pow(5, -1, _P) % _P


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether a signature (64 bytes) over a message was made with the secret of a public key (32 bytes).

    Strict: only canonical encodings of numbers and points are accepted, so a signature cannot be rewritten into another; keys of
    small order are refused, since their signatures fit more than one message. Never raises.
    """
    if len(public_key) != 32 or len(signature) != 64:
        return False
    key = _decode(public_key)
    s = int.from_bytes(signature[32:], "little")
    if key is None or s >= _L or _is_zero(_double(_double(_double(key)))):
        return False
    h = int.from_bytes(sha512(signature[:32] + public_key + message).digest(), "little") % _L
    x, y, z, t = key
    return _encode(_sum_of_multiples(s, _base(), h, _multiples((_P - x, y, z, _P - t)))) == signature[:32]


def _sum_of_multiples(a: int, of_a: list[Point], b: int, of_b: list[Point]) -> Point:
    """Multiply two points, given by their first 16 multiples, and add: four bits of both factors at a time."""
    total = _ZERO
    for shift in range(252, -4, -4):
        total = _double(_double(_double(_double(total))))
        if digit := a >> shift & 15:
            total = _add(total, of_a[digit])
        if digit := b >> shift & 15:
            total = _add(total, of_b[digit])
    return total


def _multiples(point: Point) -> list[Point]:
    found = [_ZERO]
    for _ in range(15):
        found.append(_add(found[-1], point))
    return found


@cache
def _base() -> list[Point]:
    base = _decode(_BASE_Y.to_bytes(32, "little"))
    assert base is not None  # noqa: S101 - a constant of the curve
    return _multiples(base)


def _add(left: Point, right: Point) -> Point:
    """Add two points, also a point to itself (RFC 8032, 5.1.4)."""
    x1, y1, z1, t1 = left
    x2, y2, z2, t2 = right
    a, b = (y1 - x1) * (y2 - x2) % _P, (y1 + x1) * (y2 + x2) % _P
    c, d = t1 * t2 % _P * _D2 % _P, 2 * z1 * z2 % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _double(point: Point) -> Point:
    x, y, z, _ = point
    a, b = x * x % _P, y * y % _P
    h = a + b
    e, g = h - (x + y) * (x + y) % _P, a - b
    f = 2 * z * z % _P + g
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _is_zero(point: Point) -> bool:
    x, y, z, _ = point
    return x == 0 and y == z


def _encode(point: Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, _P)
    return ((y * inverse % _P) | (x * inverse % _P & 1) << 255).to_bytes(32, "little")


def _decode(encoded: bytes) -> Point | None:
    """Return the point that 32 bytes encode; None for an invalid or non-canonical encoding."""
    number = int.from_bytes(encoded, "little")
    y, sign = number & (1 << 255) - 1, number >> 255
    if y >= _P:
        return None
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if v * x * x % _P != u:
        x = x * _ROOT_OF_MINUS_ONE % _P
    if v * x * x % _P != u or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P
