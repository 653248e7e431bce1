"""Find keys, tokens and passwords in texts and replace them by `[redacted:<label>]`. Their shapes are in `secret_shapes.py`."""

import json
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec.structs import fields, replace

from eventstore.custom_events import CustomEvent
from eventstore.errors import EventNotEncodable
from eventstore.events import Event, Origin, RecordPut
from eventstore.secret_shapes import CHECKS, HINTS, SECRET_NAME, is_secret_value
from eventstore.secret_shapes import PERSONAL as PERSONAL
from eventstore.secret_shapes import SECRETS as SECRETS
from eventstore.secret_shapes import SHARED as SHARED

E = TypeVar("E", bound=Event)


def _check_pattern(label: object, pattern: object) -> None:
    if not isinstance(pattern, str):
        raise ValueError(f"pattern {label!r} is a {type(pattern).__name__}, not a regular expression in a text")
    try:
        re.compile(pattern.replace(r"\K", ""))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"pattern {label!r} is not a regular expression: {error}") from None


class Patterns:
    """Labelled patterns, such as `SECRETS`, searched in one pass. A match of no text is none.

    Raises ValueError for what is not a regular expression, and names its label.
    """

    def __init__(self, patterns: Mapping[str, str] = SECRETS) -> None:
        if not isinstance(patterns, Mapping):
            raise TypeError(f"patterns is a {type(patterns).__name__}, not a mapping of labels to regular expressions")
        self._patterns = dict(patterns)
        for label, pattern in self._patterns.items():
            _check_pattern(label, pattern)
        ours = {label for label, pattern in patterns.items() if SHARED.get(label) == pattern}
        self._hints = [
            (hint.lower(), label)
            for label in patterns
            for hint in (HINTS.get(label, ("",)) if label in ours else ("",))
        ]
        self._checks = {label: check for label, check in CHECKS.items() if label in ours}
        self._names = "assigned-secret" in ours
        self._compiled: dict[frozenset[str], re.Pattern[str]] = {}
        self._labels = {f"p{number}": label for number, label in enumerate(patterns)}
        self._finder(
            frozenset(patterns)
        )  # compile now, so that an invalid pattern fails here and not at the first search

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Patterns) and list(self._patterns.items()) == list(other._patterns.items())

    def __hash__(self) -> int:
        return hash(tuple(self._patterns.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Patterns, (self._patterns,)

    def __or__(self, other: "Patterns") -> "Patterns":
        """Return patterns that find what either finds. The other's label is marked where both have it for different patterns."""
        found = dict(self._patterns)
        for label, pattern in other._patterns.items():
            name = label
            while found.get(name, pattern) != pattern:
                name += "+"
            found[name] = pattern
        return Patterns(found)

    def _finder(self, labels: frozenset[str]) -> re.Pattern[str]:
        found = self._compiled.get(labels)
        if found is None:
            parts = []
            for name, label in self._labels.items():
                if label in labels:
                    front, cut, secret = self._patterns[label].rpartition(r"\K")
                    parts.append(f"{front if cut else ''}(?P<{name}>{secret})")
            if len(self._compiled) >= _MOST_COMPILED:
                self._compiled.clear()
            try:
                found = self._compiled[labels] = re.compile("|".join(parts))
            except re.error as error:
                raise ValueError(f"the patterns cannot be searched together: {error}") from None
        return found

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Stream (start, end, label) of each secret in a text, in characters, in order, without overlaps."""
        lower = text.lower()
        labels = frozenset(label for hint, label in self._hints if hint in lower)
        if not labels:
            return
        finder, here = self._finder(labels), 0
        while here <= len(text) and (found := finder.search(text, here)) is not None:
            secret = self._secret(found, text) or self._later_kind(found, text, labels)
            if secret is None:
                here = max(found.start(found.lastgroup or 0), found.start() + 1)
            else:
                yield secret
                here = secret[1]

    def _secret(self, found: re.Match[str], text: str) -> tuple[int, int, str] | None:
        """Return what a match says is secret; None for no text, or one that the check of its kind refuses."""
        group = found.lastgroup
        assert group is not None  # noqa: S101 - each alternative is one
        start, end = found.span(group)
        label = self._labels[group]
        check = self._checks.get(label)
        is_secret = start < end and (check is None or check(found[group], text[max(0, start - 20) : start]))
        return (start, end, label) if is_secret else None

    def _later_kind(self, refused: re.Match[str], text: str, labels: frozenset[str]) -> tuple[int, int, str] | None:
        """Return the secret of a kind that begins where another one was refused, and hid it."""
        names = list(self._labels)
        for name in names[names.index(refused.lastgroup or "") + 1 :]:
            if self._labels[name] in labels:
                found = self._finder(frozenset({self._labels[name]})).match(text, refused.start())
                if found is not None and (secret := self._secret(found, text)) is not None:
                    return secret
        return None

    def replace(self, text: str) -> str:
        """Return the text with each secret replaced by `[redacted:<label>]`."""
        done, parts = 0, list[str]()
        for start, end, label in self.find(text):
            parts += [text[done:start], f"[redacted:{label}]"]
            done = end
        return "".join([*parts, text[done:]]) if parts else text

    def labels(self, value: Any) -> Iterator[str]:
        """Stream the label of each secret in a text, a JSON value, an event or an Origin."""
        return (label for label, _ in self.secrets(value))

    def secrets(self, value: Any) -> Iterator[tuple[str, str]]:
        """Stream (label, secret) of each secret in a text, a JSON value, an event or an Origin."""
        for key, text in _texts(value, "", keys=True):
            if key is not None and self.is_named(key, text):
                yield "assigned-secret", text
            else:
                for start, end, label in self.find(text):
                    yield label, text[start:end]

    def replace_in(self, value: Any) -> Any:
        """Return a JSON value with each secret in its texts replaced; the same object if it has none.

        A text under a key such as `password` is replaced completely.
        """
        return self._replaced(value, "")

    def _replaced(self, value: Any, key: str) -> Any:
        if isinstance(value, str):
            new = "[redacted:assigned-secret]" if self.is_named(key, value) else self.replace(value)
            return value if new == value else new
        if isinstance(value, dict):
            pairs = {
                (self.replace(name) if isinstance(name, str) else name): self._replaced(item, str(name))
                for name, item in value.items()
            }
            same = len(pairs) == len(value) and all(
                name in value and value[name] is item for name, item in pairs.items()
            )
            return value if same else pairs
        if isinstance(value, list | tuple):
            items = [self._replaced(item, key) for item in value]
            return value if all(new is old for new, old in zip(items, value, strict=True)) else type(value)(items)
        return value

    def is_named(self, key: str, value: str) -> bool:
        """Return whether a text is a secret because of the name of its field, such as `password`."""
        return (
            self._names
            and bool(key)
            and SECRET_NAME.search(key) is not None
            and not value.startswith("[redacted:")
            and is_secret_value(value, is_quoted=True)
        )

    def clean(self, event: E) -> E:
        """Return the event without secrets, or the same object if it has none."""
        if isinstance(event, CustomEvent):
            return self._clean_custom(event)
        changed = {}
        for field in fields(event):
            if field.name in _NEVER_CLEANED:
                continue
            value = getattr(event, field.name)
            new = self.replace_in(value)
            if new is not value:
                changed[field.name] = new
        packed = _packed(event)
        if packed is not None and (new := self.replace_in(packed)) is not packed:
            changed["value"] = b2a_base64(json.dumps(new).encode(), newline=False).decode("ascii")
        return replace(event, **changed) if changed else event

    def _clean_custom(self, event: E) -> E:
        """Return an event of a program's own type without secrets; its fields may hold objects of any class."""
        try:
            raw = msgspec.to_builtins(event)
        except (TypeError, ValueError, RecursionError):
            return event  # it has no JSON form, so that it cannot be written
        new = {name: value if name in _NEVER_CLEANED else cleaned(value, self.replace) for name, value in raw.items()}
        if all(new[name] is value for name, value in raw.items()):
            return event
        try:
            return msgspec.json.decode(msgspec.json.encode(new), type=type(event))
        except (msgspec.DecodeError, TypeError):
            raise EventNotEncodable(event.type, "$", "does not fit its class once secrets are replaced in it") from None


_MOST_COMPILED = 200  # combinations of labels; a long-lived program meets many
_NEVER_CLEANED = frozenset(["seq", "at", "v", "batch", "salt", "hash", "occurred_at", "id", "origin"])


def cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    """Return a JSON value with `clean` applied to every text, keys included; the same object if nothing changed."""
    if isinstance(value, str):
        new = clean(value)
        return value if new == value else new
    if isinstance(value, dict):
        pairs = {cleaned(key, clean): cleaned(item, clean) for key, item in value.items()}
        same = len(pairs) == len(value) and all(key in value and value[key] is item for key, item in pairs.items())
        return value if same else pairs
    if isinstance(value, list | tuple):
        items = [cleaned(item, clean) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else type(value)(items)
    return value


def texts(value: Any, *, keys: bool = True) -> Iterator[str]:
    """Stream every text in an event, a JSON value or an Origin. `keys` includes the keys of objects."""
    for _, text in _texts(value, None, keys=keys):
        yield text


def _texts(value: Any, key: str | None, *, keys: bool) -> Iterator[tuple[str | None, str]]:
    """Stream (key of the object it is under, text) of every text."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            if keys:
                yield from _texts(name, None, keys=keys)
            yield from _texts(item, name if isinstance(name, str) else None, keys=keys)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, key, keys=keys)
    elif isinstance(value, Origin):
        yield from _texts([value.line, value.line_base64], None, keys=keys)
    elif isinstance(value, Event):
        yield from _texts(_own(value), None, keys=keys)


def numbers(value: Any) -> Iterator[int | float]:
    """Stream every number in an event or a JSON value; booleans are not numbers."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, dict):
        yield from numbers(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, Event):
        yield from numbers(_own(value))


def _own(event: Event) -> list[Any]:
    if isinstance(event, CustomEvent):
        return [value for name, value in msgspec.to_builtins(event).items() if name not in _ENVELOPE and name != "type"]
    values = [getattr(event, field.name) for field in fields(event) if field.name not in _ENVELOPE]
    packed = _packed(event)
    return values if packed is None else [*values, packed]


def _packed(event: Event) -> Any:
    """Return the value of a record whose bytes are JSON, such as an item with half a surrogate pair; else None."""
    if not (isinstance(event, RecordPut) and event.base64 and isinstance(event.value, str)):
        return None
    try:
        return json.loads(a2b_base64(event.value))
    except (ValueError, RecursionError):
        return None


_ENVELOPE = frozenset(["seq", "at", "v", "batch", "salt", "hash", "occurred_at"])
