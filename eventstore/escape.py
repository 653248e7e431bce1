"""What a reader sees of a text: characters that would act, reorder or hide are shown as escapes."""

import unicodedata

_HARMFUL = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])
_BLANK = frozenset([0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0xE0100, 0xE01F0)])
"""Letters and marks that are drawn as nothing, so that text can hide in them."""


def clean(text: str, *, keep_lf: bool = False) -> str:
    r"""Show what a terminal or page acts on, or would hide, as `\\x1b`, `\\u202e`, ...; a line feed stays where asked for."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_clean_one(one, keep_lf) for one in text)


def is_plain(text: str) -> bool:
    """Tell quickly whether `clean` with `keep_lf` gives a text back as it is; False where that takes a closer look."""
    return text.isascii() and text.replace("\n", "").isprintable()


def _clean_one(one: str, keep_lf: bool) -> str:
    if one == "\n" and keep_lf:
        return one
    if unicodedata.category(one) not in _HARMFUL and ord(one) not in _BLANK:
        return one
    return "    " if one == "\t" and keep_lf else one.encode("unicode_escape").decode("ascii")
