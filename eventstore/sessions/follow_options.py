"""The keyword arguments of `follow`, which `subscribe` has too."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import TypedDict

from eventstore.errors import LogDamaged


class SubscribeOptions(TypedDict, total=False):
    """The keyword arguments that `subscribe` passes on to `follow`, which describes them."""

    live: bool
    types: Collection[str] | None
    tools: Collection[str] | None
    user_id: str | None
    tags: Collection[str] | None
    since: datetime | str | None
    on_damage: Callable[[LogDamaged], None]


class FollowOptions(SubscribeOptions, total=False):
    """The keyword arguments of `follow`."""

    name: str | None


def check_names(method: str, options: Mapping[str, object], kind: type) -> None:
    """Raise TypeError for an unknown keyword argument; the error names the public method."""
    for name in options:
        if name not in kind.__annotations__:
            raise TypeError(f"SessionManager.{method}() got an unexpected keyword argument {name!r}")
