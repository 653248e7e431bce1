"""Words in texts: what a query asks for, how texts of all scripts are split into words, and snippets around matches.

Chinese, Japanese, Korean, Thai and the like are written without spaces, so each of their characters is a word of the index,
and a query of several is a phrase. No SQL belongs here.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

MOST_WORDS = 200
_MOST_CHARACTERS = 20_000
_SNIPPET = 220  # characters; about the 24 words that fit on two lines of a terminal
_FOLDED = 400_000  # characters of a text with accents that are searched for the snippet; folding them takes 0.1 s
_UNSPACED = (
    "["
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u0fff"  # Tibetan
    "\u1000-\u109f"  # Myanmar
    "\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff"  # Hangul, parts
    "\u1780-\u17ff"  # Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3105-\u312f\u3131-\u318e\u31f0-\u31ff"  # radicals, kana, bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\uac00-\ud7a3"  # Hangul syllables
    "\U00020000-\U0003ffff"  # Han, further planes
    "]"
)
_ACCENT = re.compile("[\u00c0-\u024f\u0300-\u036f\u1e00-\u1eff]")
_WORD = re.compile(r"[^\W_]+")


@lru_cache(maxsize=1)
def _unspaced() -> re.Pattern[str]:
    """Return a pattern of one character of these scripts. It takes 5 ms to compile, which most commands need not wait for."""
    return re.compile(_UNSPACED)


class Part(NamedTuple):
    """One word or quoted phrase of a query: the text, and whether it may continue after its end or start inside a word."""

    text: str
    is_open_at_end: bool = False
    is_open_at_start: bool = False


def parse(query: str) -> tuple[Part, ...]:
    """Split a query into its words and `"quoted phrases"`; `word*` is a beginning, `*word*` the inside of a word.

    Raises ValueError for a query that is not text or too long.
    """
    if not isinstance(query, str):
        raise ValueError(f"{str(query)[:40]!a} is not a text to search for")
    parts: list[Part] = []
    plain = query.replace("\0", " ").encode("utf-8", "replace").decode()
    for place, piece in enumerate(plain.split('"')):
        for word in [piece] if place % 2 else piece.split():
            bare = word if place % 2 else word.strip("*")
            if any(one.isalnum() for one in bare):
                is_long = not place % 2 and len(bare) > 1
                parts.append(Part(bare, is_long and word.endswith("*"), is_long and word.startswith("*")))
    if len(parts) > MOST_WORDS or sum(len(part.text) for part in parts) > _MOST_CHARACTERS:
        raise ValueError(
            f"{len(parts):,} words are too many or too long to search for:"
            f" {MOST_WORDS} words and {_MOST_CHARACTERS:,} characters are allowed"
        )
    return tuple(parts)


def may_be_inside(part: Part) -> bool:
    """Return whether a part could be a piece of longer words. Characters of scripts without spaces are words themselves."""
    return not (_unspaced().match(part.text) and _unspaced().match(part.text[-1]))


def as_match(parts: Iterable[Part], joined_by: str = " ") -> str:
    """Return the parts as an FTS5 query, every one quoted, so that no word is an operator."""
    quoted = (f'"{segmented(part.text) or part.text}"' + ("*" if part.is_open_at_end else "") for part in parts)
    return f"{{text tool}} : ({joined_by.join(quoted)})"


def segmented(text: str) -> str | None:
    """Return a text in composed form with spaces around each character of a script that is written without them.

    None if that is the text itself.
    """
    if text.isascii():
        return None
    found = _unspaced().sub(r" \g<0> ", unicodedata.normalize("NFKC", text))
    return None if found == text else found


def contains(text: str | None, needle: str) -> bool:
    """Return whether a text has a needle in it, whatever its case and accents."""
    if text is None:
        return False
    if needle.lower() in text.lower():
        return True
    return _ACCENT.search(text) is not None and fold(needle) in fold(text)


def fold(text: str) -> str:
    """Return a text without case and accents."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", text)
    return "".join(one for one in plain if not unicodedata.combining(one)).casefold()


def _folded_with_places(text: str) -> tuple[str, Sequence[int]]:
    """Return a folded text, and for each of its characters the place in the text that it comes from."""
    if text.isascii():
        return text.lower(), range(len(text) + 1)
    folded, places = list[str](), list[int]()
    for place, one in enumerate(text[:_FOLDED]):
        new = _fold_one(one)
        folded.append(new)
        places += [place] * len(new)
    places.append(min(len(text), _FOLDED))
    return "".join(folded), places


@lru_cache(maxsize=4096)
def _fold_one(character: str) -> str:
    return fold(character) if character != "\u00df" else "ss"


def _finder(parts: Iterable[Part]) -> re.Pattern[str] | None:
    """Return a pattern that finds the parts in a folded text, the words of a part with anything between them."""
    patterns = list[str]()
    for part in parts:
        folded = fold(part.text)
        words = [_unspaced().sub(r" \g<0> ", word).split() for word in _WORD.findall(folded)]
        flat = [re.escape(one) for word in words for one in word]
        if not flat:
            continue
        starts = not part.is_open_at_start and not _unspaced().match(folded)
        ends = not part.is_open_at_end and not _unspaced().match(folded[-1])
        before, after = r"(?<![^\W_])" if starts else "", r"(?![^\W_])" if ends else ""
        # a letter of a script without spaces ends the word next to it
        if starts:
            before = f"(?:{before}|(?<={_UNSPACED}))"
        if ends:
            after = f"(?:{after}|(?={_UNSPACED}))"
        if part.is_open_at_end and not part.is_open_at_start and not _unspaced().match(folded[-1]):
            after = f"(?:(?!{_UNSPACED})[^\\W_])*"  # the word to its end
        patterns.append(before + r"[\W_]*".join(flat) + after)
    return re.compile("|".join(patterns)) if patterns else None


def snippet(text: str, parts: Sequence[Part]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return the text around the best matches on one line, matches in `[` and `]`, and where these matches are in it.

    The places are (start, end) in characters, without the brackets.
    """
    finder = _finder(parts)
    folded, places = _folded_with_places(text)
    found = list[tuple[int, int]]()
    for match in finder.finditer(folded) if finder else ():
        found.append((places[match.start()], max(places[match.end() - 1] + 1, places[match.start()] + 1)))
        if len(found) == 500:
            break
    first, last = _window(text, found)
    shown = [(start, end) for start, end in found if first <= start and end <= last]
    pieces, marks, length, done = list[str](), list[tuple[int, int]](), 0, first
    for start, end in [*_merged(shown, text), (last, last)]:
        before = _line(text[done:start])
        if not pieces:
            before = ("\N{HORIZONTAL ELLIPSIS}" if first else "") + before.lstrip()
        pieces.append(before)
        length += len(before)
        if start < end:
            word = _line(text[start:end])
            pieces.append(f"[{word}]")
            marks.append((length + 1, length + 1 + len(word)))
            length += len(word) + 2
        done = end
    whole = "".join(pieces)
    return (whole.rstrip() + "\N{HORIZONTAL ELLIPSIS}" if last < len(text) else whole.rstrip()), tuple(marks)


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def _merged(found: Sequence[tuple[int, int]], text: str) -> Iterator[tuple[int, int]]:
    """Join matches that touch."""
    here: tuple[int, int] | None = None
    for start, end in found:
        if here is not None and start <= here[1]:
            here = here[0], max(end, here[1])
            continue
        if here is not None:
            yield here
        here = start, end
    if here is not None:
        yield here


def _window(text: str, found: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the start and end of the part to show: where most different words are."""
    if len(text) <= _SNIPPET:
        return 0, len(text)
    best, most = 0, 0
    for start, _ in found:
        words = {text[one:end].lower() for one, end in found if start <= one and end <= start + _SNIPPET - 60}
        if len(words) > most:
            best, most = start, len(words)
    first = max(0, min(best - 40, len(text) - _SNIPPET))
    last = min(len(text), first + _SNIPPET)
    while first and first < best and not text[first - 1].isspace():  # complete words at both ends, if there are spaces
        first += 1
    if first == best:
        first = max(0, best - 40)
    cut = last
    while cut < len(text) and cut > last - 30 and not text[cut].isspace():
        cut -= 1
    return first, max([cut if cut > last - 30 else last, *(end for start, end in found if start < last < end)])
