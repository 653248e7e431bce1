"""Doors: a package that imports its public names when they are first used (PEP 562), so that importing it stays fast."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def open_door(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` for a package.

    `homes` gives the names of each module, with spaces between them. For type checkers the package imports the same names under
    `if TYPE_CHECKING`; a test compares the two.
    """
    home_of = {name: module for module, names in homes.items() for name in names.split()}
    exported = sorted(home_of)

    def get(name: str) -> Any:
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(home), name)
        setattr(sys.modules[package], name, found)
        return found

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *exported})

    return get, names, exported
