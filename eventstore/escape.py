"""How values are shown to people: characters that would control a terminal, reorder text or be invisible become escapes.

Of numbers only the border of the very large ones is here.
"""

import unicodedata

_HARMFUL = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])
_BLANK = frozenset([0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0xE0100, 0xE01F0)])
"""Letters and marks that are drawn as blank, so that text could hide in them."""
_JOINER = "\u200d"
VERY_LARGE = 1e15
"""Of more seconds, or a higher cost, a reader wants three digits and not three hundred."""


def clean(text: str, *, keep_lf: bool = False) -> str:
    r"""Escape control, reordering and invisible characters as `\\x1b`, `\\u202e`, ...; `keep_lf` keeps line feeds."""
    if text.isascii() and text.isprintable():
        return text
    shown = [_clean_one(one, keep_lf) for one in text]
    if _JOINER in text:
        for place in range(1, len(text) - 1):
            if text[place] == _JOINER and _joins(text[place - 1], text[place + 1]):
                shown[place] = _JOINER
    return "".join(shown)


def clean_json(text: str) -> str:
    r"""Escape the same characters in lines of JSON as `\\u001b`, `\\u202e`, ...; the decoded values stay the same."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(one if one in "\n\t" or not _is_harmful(one) else _as_json_escape(one) for one in text)


def is_plain(text: str) -> bool:
    """Return True if `clean` with `keep_lf` surely changes nothing. Fast: False only means that `clean` must decide."""
    return text.isascii() and text.replace("\n", "").isprintable()


def _clean_one(one: str, keep_lf: bool) -> str:
    if one == "\n" and keep_lf:
        return one
    if not _is_harmful(one):
        return one
    # a tab is harmless, but escaped it would be unreadable in code, and raw it would break the alignment of columns
    return "    " if one == "\t" and keep_lf else one.encode("unicode_escape").decode("ascii")


def _joins(before: str, after: str) -> bool:
    """Return True between two pictures: the joiner makes one of them, such as a family, and hides nothing."""
    is_picture = unicodedata.category(before) == "So" or before == "\ufe0f" or "\U0001f3fb" <= before <= "\U0001f3ff"
    return is_picture and unicodedata.category(after) == "So"


def _is_harmful(one: str) -> bool:
    return unicodedata.category(one) in _HARMFUL or ord(one) in _BLANK


def _as_json_escape(one: str) -> str:
    units = one.encode("utf-16-be", "surrogatepass").hex()  # JSON writes characters above U+FFFF as two \u escapes
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))
