"""Patterns of secrets: find keys, tokens and passwords in texts and replace them by `[redacted:<label>]`."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from msgspec.structs import fields, replace

from eventstore.events import Event, Origin

E = TypeVar("E", bound=Event)

SECRETS: dict[str, str] = {
    "private-key": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[\s\S]*?"
    r"(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    "age-key": r"AGE-SECRET-KEY-1[A-Z0-9]{50,}",
    "aws-key-id": r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b",
    "aws-secret": r"(?i:aws_?secret_?(?:access_?)?key)[\"'\s:=]{1,8}\K[A-Za-z0-9/+=]{40}",
    "azure-key": r"(?i:AccountKey)=\K[A-Za-z0-9+/=]{40,}",
    "google-key": r"\bAIza[0-9A-Za-z_-]{35}",
    "google-token": r"\bya29\.[0-9A-Za-z_-]{20,}",
    "github-token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})",
    "gitlab-token": r"\bgl(?:pat|dt|rt|ptt|cbt)-[A-Za-z0-9_-]{20,}",
    "slack-token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "slack-webhook": r"https://hooks\.slack\.com/services/\K[A-Za-z0-9/_+-]{20,}",
    "stripe-key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "anthropic-key": r"\bsk-ant-[A-Za-z0-9_-]{20,}",
    "openai-key": r"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,}",
    "huggingface-token": r"\bhf_[A-Za-z0-9]{30,}",
    "npm-token": r"\bnpm_[A-Za-z0-9]{36}",
    "pypi-token": r"\bpypi-AgEI[A-Za-z0-9_-]{50,}",
    "digitalocean-token": r"\bdo[oprt]_v1_[a-f0-9]{64}",
    "sendgrid-key": r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
    "telegram-token": r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}",
    "jwt": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    "authorization": r"(?i:authorization)[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?i:bearer|basic|token)\s{1,4}\K[A-Za-z0-9._~+/=-]{8,}",
    "url-password": r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s/:@\"'<>]{0,100}:\K[^\s/@\"'<>]{1,200}(?=@)",
}
"""Regular expression by label. Text before `\\K` must match but stays; the secret begins after it."""


_HINTS: dict[str, tuple[str, ...]] = {
    "private-key": ("-----BEGIN",),
    "age-key": ("AGE-SECRET-KEY-1",),
    "aws-key-id": ("AKIA", "ASIA", "ABIA", "ACCA"),
    "aws-secret": ("aws",),
    "azure-key": ("accountkey=",),
    "google-key": ("AIza",),
    "google-token": ("ya29.",),
    "github-token": ("gh", "github_pat_"),
    "gitlab-token": ("gl",),
    "slack-token": ("xox",),
    "slack-webhook": ("hooks.slack.com",),
    "stripe-key": ("k_live_", "k_test_"),
    "anthropic-key": ("sk-ant-",),
    "openai-key": ("sk-",),
    "huggingface-token": ("hf_",),
    "npm-token": ("npm_",),
    "pypi-token": ("pypi-AgEI",),
    "digitalocean-token": ("_v1_",),
    "sendgrid-key": ("SG.",),
    "telegram-token": (":AA",),
    "jwt": ("eyJ",),
    "authorization": ("authorization",),
    "url-password": ("://",),
}
"""Substrings by label, compared without case. A pattern is tried only if one is in the text: the test is 100 times faster."""


class Patterns:
    """Labelled patterns, such as `SECRETS`, searched in one pass. Raises re.error for an invalid pattern."""

    def __init__(self, patterns: Mapping[str, str] = SECRETS) -> None:
        self._patterns = dict(patterns)
        self._hints = [
            (hint.lower(), label)
            for label, pattern in patterns.items()
            for hint in (_HINTS[label] if SECRETS.get(label) == pattern else ("",))
        ]
        self._compiled: dict[frozenset[str], Callable[[str], Iterator[re.Match[str]]]] = {}
        self._labels = {f"p{number}": label for number, label in enumerate(patterns)}
        self._finder(
            frozenset(patterns)
        )  # compile now, so that an invalid pattern fails here and not at the first search

    def _finder(self, labels: frozenset[str]) -> Callable[[str], Iterator[re.Match[str]]]:
        found = self._compiled.get(labels)
        if found is None:
            parts = []
            for name, label in self._labels.items():
                if label in labels:
                    front, cut, secret = self._patterns[label].rpartition(r"\K")
                    parts.append(f"{front if cut else ''}(?P<{name}>{secret})")
            found = self._compiled[labels] = re.compile("|".join(parts)).finditer
        return found

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Stream (start, end, label) of each secret in a text, in characters, in order, without overlaps."""
        lower = text.lower()
        labels = frozenset(label for hint, label in self._hints if hint in lower)
        for found in self._finder(labels)(text) if labels else ():
            group = found.lastgroup
            if group is not None and found.end(group) > found.start(group):
                yield found.start(group), found.end(group), self._labels[group]

    def replace(self, text: str) -> str:
        """Return the text with each secret replaced by `[redacted:<label>]`."""
        done, parts = 0, list[str]()
        for start, end, label in self.find(text):
            parts += [text[done:start], f"[redacted:{label}]"]
            done = end
        return "".join([*parts, text[done:]]) if parts else text

    def clean(self, event: E) -> E:
        """Return the event without secrets, or the same object if it has none."""
        changed = {}
        for field in fields(event):
            if field.name in _NEVER_CLEANED:
                continue
            value = getattr(event, field.name)
            new = cleaned(value, self.replace)
            if new is not value:
                changed[field.name] = new
        return replace(event, **changed) if changed else event


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
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            if keys:
                yield from texts(key)
            yield from texts(item, keys=keys)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts(item, keys=keys)
    elif isinstance(value, Origin):
        yield from texts([value.line, value.line_base64])
    elif isinstance(value, Event):
        yield from texts(_own(value), keys=keys)


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
    return [getattr(event, field.name) for field in fields(event) if field.name not in _ENVELOPE]


_ENVELOPE = frozenset(["seq", "at", "v", "batch", "salt", "hash", "occurred_at"])
