"""CustomEvent: the base class of event types that programs define, and the registry of those types."""

import re
import threading
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, dataclass_transform

import msgspec

from eventstore.events import EVENT_TYPES, AnyEvent, Event, UnknownEvent

OWN_NOUNS = frozenset(tag.partition(".")[0] for tag in EVENT_TYPES) | {
    "agent",
    "blob",
    "content",
    "eventstore",
    "record",
}
"""First parts of tags that belong to this package, now or later."""
_TAG = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+", re.ASCII)
_MOST_TAG = 128
_TAKEN = frozenset(Event.__struct_fields__) | {"type", "time", "redacted"}
_registered: dict[str, type["CustomEvent"]] = {}
_changes = 0
_mutex = threading.Lock()

if TYPE_CHECKING:
    from msgspec import StructMeta
else:
    StructMeta = type(Event)


class CustomEventMeta(StructMeta):
    """Checks a class of custom events when it is defined, and registers it by its tag."""

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any
    ) -> "CustomEventMeta":
        """Create the class. Its fields are keyword arguments, like those of all events."""
        config.setdefault("kw_only", True)
        if bases != (Event,):
            _check_names(name, namespace)
        made = super().__new__(mcls, name, bases, namespace, **config)
        if bases != (Event,):
            _check_config(made)
            if "tag" in config:
                _register(made, config["tag"])
        return made


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class CustomEvent(Event, frozen=True, kw_only=True, metaclass=CustomEventMeta):
    """The base class of event types that programs define: `class Deployed(CustomEvent, tag="acme.deployed")`.

    The tag is stored in every event and never changes. It has at least two parts of letters, digits, `_` and `-`, with dots
    between them; the first part is not one of ours, such as `session`. Fields are annotated like those of a dataclass, with types
    that have a JSON form: text, numbers, lists, dicts, dates, enums, msgspec Structs. A new field needs a default, so that events
    which are stored already can still be read. Fields cannot have the names of the envelope (`seq`, `at`, `id`, ...).

    Where the class is not defined, or a stored event does not fit it, the event is read as an `UnknownEvent`.

    To change the meaning of a field, raise `schema_version` in the class and define `upcast`.
    """

    schema_version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Raise TypeError for an event of a class without a tag, which no log could hold."""
        if "." not in str(self.__struct_config__.tag):
            raise TypeError(f"tag is missing: define class {type(self).__name__}(CustomEvent, tag='acme.name')")

    @classmethod
    def upcast(cls, raw: dict[str, Any], v: int) -> dict[str, Any]:
        """Return the JSON object of an event of schema version `v` as it would be in version `v + 1`. Changes no other keys."""
        raise NotImplementedError(
            f"{cls.__name__}.upcast does not convert version {v}: define it for each older version"
        )


ReadEvent: TypeAlias = AnyEvent | CustomEvent | UnknownEvent
"""Every event that can be read from a log."""


def find(tag: str) -> type[CustomEvent] | None:
    """Return the class of a custom event type, or None if none is defined."""
    return _registered.get(tag)


def registered() -> dict[str, type[CustomEvent]]:
    """Return the class by tag of every custom event type that is defined now."""
    with _mutex:
        return dict(_registered)


def changes() -> int:
    """Return a number that grows whenever a type is registered."""
    return _changes


def _check_names(name: str, namespace: dict[str, Any]) -> None:
    taken = sorted(_TAKEN.intersection([*namespace.get("__annotations__", {}), *namespace]))
    if taken:
        raise TypeError(f"{name} defines {', '.join(taken)}, which every event has: use another name")


def _check_config(kind: CustomEventMeta) -> None:
    config = kind.__struct_config__
    if config.array_like or config.tag_field != "type" or not (config.frozen and config.omit_defaults):
        raise TypeError(f"{kind.__name__} sets array_like, tag_field, frozen or omit_defaults: leave them as they are")
    if kind.__struct_encode_fields__[: len(Event.__struct_fields__)] != Event.__struct_encode_fields__:
        raise TypeError(f"{kind.__name__} renames the fields of the envelope: do not use `rename`")


def _register(kind: Any, tag: object) -> None:
    global _changes
    if not isinstance(tag, str) or not _TAG.fullmatch(tag) or len(tag) > _MOST_TAG:
        raise TypeError(
            f"the tag of {kind.__name__} is not a text such as 'acme.deployed': two or more parts of letters, digits, _ and -, "
            f"with dots between them, at most {_MOST_TAG} characters"
        )
    if tag.partition(".")[0].lower() in OWN_NOUNS:
        raise TypeError(
            f"the tag {tag!r} of {kind.__name__} begins with a noun of eventstore: put your own name in front"
        )
    with _mutex:
        known = _registered.get(tag)
        # The same definition again, as when a module is reloaded, replaces the first.
        if known is not None and (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
            raise TypeError(f"the tag {tag!r} of {kind.__name__} is that of {known.__module__}.{known.__qualname__}")
        _registered[tag] = kind
        _changes += 1
