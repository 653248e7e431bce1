"""Fragments of records, from a crash or a repair, and parts of removed texts in them."""

import re
from collections.abc import Collection, Iterator

from eventstore.record.packed_origin import MARK, find_packed

_PIECE = re.compile(rb"[^\n\0]+")
_HEAD = re.compile(rb'\{"type":"[^"]*","seq":[0-9]+,"at":"[^"]*"')
_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*\\?)(?:"|\Z)|(-?[0-9][0-9.eE+-]*)', re.DOTALL)
_UNQUOTED = re.compile(rb'[^"]+')
_MAYBE_PACKED = re.compile(rb"[A-Za-z0-9+/=]{65,}")  # longer than a hash
_SHORTEST_ANYWHERE = (
    4  # a shorter text is too common: it is blanked only if it is a complete value, or the torn end of one
)
_SAMPLE_BYTES, _MOST_SAMPLES = 16, 4096


def blank(data: bytes, removed: Collection[bytes]) -> bytes:
    """Return `data` with every part of the removed texts overwritten by `*`; its length stays the same.

    `data` was cut from a log: records, and records torn at any byte. `removed` are texts as they are between the quotes
    of a record, and numbers. Blanked are complete values; a value torn at its end, if a removed text begins with it;
    and, in a piece without the beginning of its record, each part that occurs in a removed text. The beginning of a
    record stays: type, number and time.
    """
    forms = [one for one in removed if one]
    found = bytearray(data)
    for start, end in _spans(data, forms):
        found[start:end] = b"*" * (end - start)
    return bytes(found)


def _spans(data: bytes, forms: Collection[bytes]) -> Iterator[tuple[int, int]]:
    """Stream the start and the end (excluded) of each part to blank."""
    for piece in _PIECE.finditer(data):
        head = _HEAD.match(piece[0])
        start = piece.start() + (head.end() if head else 0)
        body = data[start : piece.end()]
        spans = _values(body, forms) if head else _parts(body, forms)
        for first, end in (*spans, *_anywhere(body, forms), *_packed(body, forms, is_headed=head is not None)):
            yield start + first, start + end


def _values(body: bytes, forms: Collection[bytes]) -> Iterator[tuple[int, int]]:
    """Find removed values after the head of a record, where text can be distinguished from other bytes."""
    whole = frozenset(forms)
    for token in _TOKEN.finditer(body):
        group = 1 if token[1] is not None else 2
        value = token[group]
        is_torn = token.end(group) == len(body)
        if value and (
            value in whole
            or (is_torn and any(form.startswith(value) for form in forms))
            or any(_overlaps(value, form) for form in forms)
        ):
            yield token.span(group)


def _parts(body: bytes, forms: Collection[bytes]) -> Iterator[tuple[int, int]]:
    """Find parts of removed texts in a piece that may begin inside an escape or a character."""
    for part in _UNQUOTED.finditer(body):
        if any(part[0] in form or _overlaps(part[0], form) for form in forms):
            yield part.span()


def _packed(body: bytes, forms: Collection[bytes], *, is_headed: bool) -> Iterator[tuple[int, int]]:
    """Find compressed lines with a removed text, and what may be a part of one that cannot be read any more."""
    kept = set[int]()
    for one in find_packed(body):
        if one.line is None or any(form in one.line for form in forms):
            yield one.start, one.end
        else:
            kept.add(one.start)
    for part in _MAYBE_PACKED.finditer(body):
        if part.start() not in kept and (not is_headed or body.endswith(MARK, 0, part.start())):
            yield part.span()


def _anywhere(body: bytes, forms: Collection[bytes]) -> Iterator[tuple[int, int]]:
    for form in forms:
        if len(form) >= _SHORTEST_ANYWHERE:
            at = body.find(form)
            while at >= 0:
                yield at, at + len(form)
                at = body.find(form, at + len(form))


def _overlaps(value: bytes, form: bytes) -> bool:
    """Check by samples whether a value contains a part of a removed text: enough for a text with a flipped byte."""
    if min(len(value), len(form)) < _SAMPLE_BYTES:
        return False
    step = max(_SAMPLE_BYTES, len(form) // _MOST_SAMPLES)
    return any(form[at : at + _SAMPLE_BYTES] in value for at in range(0, len(form) - _SAMPLE_BYTES + 1, step))
