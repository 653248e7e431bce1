"""The terminal itself: whether there is one, its width, colour, and how many cells a text takes. Text is escaped elsewhere."""

import os
import sys
import unicodedata
from contextlib import suppress

_JOINER, _WIDE_PICTURE = "\u200d", "\ufe0f"
_SKIN = ("\U0001f3fb", "\U0001f3ff")
_FLAG = ("\U0001f1e6", "\U0001f1ff")
_HANGUL = ("\u1160", "\u11ff")  # vowels and ends, which are drawn into the letter before
_WIDTH = 100  # if the width is not known
_LEAST = 20


def is_forced() -> bool | None:
    """Return True if the user wants colour everywhere, False for nowhere, None if standard output decides."""
    if os.environ.get("NO_COLOR"):
        return False
    if any(os.environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return None


def is_terminal() -> bool:
    """Return True if people read the output: standard output is a terminal, or FORCE_COLOR is set, as for `| less -R`."""
    return sys.stdout.isatty() or is_forced() is True


def width() -> int:
    """Return the number of cells in a line."""
    return max(_size(0, "COLUMNS", _WIDTH), _LEAST)


def height() -> int:
    """Return the number of lines."""
    return _size(1, "LINES", 24)


def _size(side: int, variable: str, otherwise: int) -> int:
    """Return what an environment variable says, else the terminal, as `shutil` does: loading that loads three compressors."""
    with suppress(KeyError, ValueError):
        if (given := int(os.environ[variable])) > 0:
            return given
    try:
        return os.get_terminal_size(sys.__stdout__.fileno())[side] or otherwise  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):  # closed, or no terminal
        return otherwise


def cells(text: str) -> int:
    """Return how many cells a text takes, as `wcwidth` counts them: loading that takes longer than a list does."""
    return len(text) if text.isascii() else sum(size for _, size in _clusters(text))


def cut(text: str, most: int) -> str:
    """Return a text cut to `most` cells at most, with an ellipsis where something is missing."""
    if cells(text) <= most:
        return text
    if most <= 0:
        return ""
    if text.isascii():
        return text[: most - 1] + "…"
    kept, used = list[str](), 0
    for cluster, size in _clusters(text):
        used += size
        if used > most - 1:
            break
        kept.append(cluster)
    return "".join(kept) + "…"


def head(text: str, most: int) -> str:
    """Return as much of a text as fits into `most` cells, and at least what is drawn first."""
    size, used = 0, 0
    for cluster, width in _clusters(text):
        used += width
        if size and used > most:
            break
        size += len(cluster)
    return text[:size]


def _clusters(text: str) -> list[tuple[str, int]]:
    """Split a text into what is drawn as one, each with its cells: a letter with its accents, a family, a flag."""
    found = list[tuple[str, int]]()
    is_joined = False
    for one in text:
        size = _cells_of(one)
        last, width = found[-1] if found else ("", 0)
        if one == _WIDE_PICTURE and width == 1 and unicodedata.category(last[-1]) in ("So", "Sm", "Po", "Nd"):
            found[-1] = (last + one, 2)
        elif last and (is_joined or size == 0 or (_SKIN[0] <= one <= _SKIN[1] and width == 2)):
            found[-1] = (last + one, width)
        elif _FLAG[0] <= one <= _FLAG[1] and len(last) == 1 and _FLAG[0] <= last <= _FLAG[1]:
            found[-1] = (last + one, 2)
        else:
            found.append((one, size))
        is_joined = one == _JOINER
    return found


def _cells_of(one: str) -> int:
    if one.isascii():
        return 1
    if _HANGUL[0] <= one <= _HANGUL[1] or unicodedata.category(one) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(one) in "WF" or _FLAG[0] <= one <= _FLAG[1] else 1


def pad(text: str, most: int, *, right: bool = False) -> str:
    """Return a text cut and filled to exactly `most` cells; `right` puts it to the right."""
    text = cut(text, most)
    blank = " " * (most - cells(text))
    return blank + text if right else text + blank
