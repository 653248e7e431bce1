"""The project of a session: the folder in which its agent worked."""

import re
from collections.abc import Mapping
from typing import Any

_SEPARATORS = re.compile(r"[/\\]+")


def project_of(custom_metadata: Mapping[str, Any]) -> str | None:
    """Return the folder of a session, as its agent recorded it, or None."""
    found = custom_metadata.get("cwd")
    return found if isinstance(found, str) and found else None


def is_in_project(project: str | None, wanted: str) -> bool:
    """Return whether a folder is the wanted project or is inside it.

    `wanted` is a path from the root, or the name of a folder (`app`, `work/app`) at any depth, in any case.
    """
    if project is None:
        return False
    here, there = _parts(project), _parts(wanted)
    if not there:
        return True
    if wanted[0] in "/\\" or wanted[1:2] == ":":
        return here[: len(there)] == there
    return any(here[start : start + len(there)] == there for start in range(len(here) - len(there) + 1))


def _parts(path: str) -> list[str]:
    return [part for part in _SEPARATORS.split(path.casefold()) if part]
