"""What a search asks for, and the best rows of the index for it: by rank, by beginnings of words, by parts of words.

`Search` keeps the index; here it is only read.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from eventstore.derived.listing import check_limit, check_text
from eventstore.derived.search_text import Part, as_match, may_be_inside, snippet

SEARCH_WAIT_S = 2.0
"""How long a search updates its index before it answers from what is there: about 50 MB of new texts."""
TYPED = frozenset(["user", "purpose"])
"""The roles of what people typed."""
_RANKED = 5_000  # ranking so many takes 15 ms
_SCANNED_AT_ONCE = 20_000  # messages; between two such steps the clock is looked at
SCAN_SECONDS = 5.0
"""How long a search for parts of words may read texts; the newest are read first."""
_WEIGHT = "CASE said.role WHEN 'user' THEN 3.0 WHEN 'purpose' THEN 3.0 WHEN 'assistant' THEN 1.5 ELSE 1.0 END"
"""A tool's output repeats a word without limit, which bm25 rewards at most 2.2 times: what a person typed still comes first."""
Found = Literal["words", "beginnings", "parts", "some words"]


class Hit(NamedTuple):
    """A place where a text was found: cite it by `session_id` and `seq`.

    `role` is the role of the message, `purpose` for a session's purpose, `call` for a tool call; `time` is when it happened.
    `snippet` is the text around the matching words, which are between `[` and `]`; `marks` are the places of these words in it,
    (start, end) in characters. A better hit has a greater `score`. `title` is the session's purpose, `project` its folder.
    """

    session_id: str
    seq: int
    role: str
    tool_name: str | None
    time: str
    snippet: str
    score: float
    title: str | None = None
    project: str | None = None
    marks: tuple[tuple[int, int], ...] = ()


class Indexing(NamedTuple):
    """How much of the store the index has: sessions `done` of `total`."""

    done: int
    total: int


class Hits(list[Hit]):
    """The hits of a search, the best first.

    `indexing` is None if the index is complete; else hits may be missing. `found` says what matched: whole `words`; where no
    message has all of them, `beginnings` of words, then `parts` of words, then messages with only `some words`.
    """

    indexing: Indexing | None = None
    found: Found = "words"


class Asked(NamedTuple):
    """What to search for.

    All words must match; `"quoted words"` must be adjacent; `word*` is a beginning and `*word*` the inside of a word, of at least
    two letters. `project` is a folder, or its name. Times are RFC 3339, both included.
    """

    text: str
    user_id: str | None = None
    role: str | None = None
    tool: str | None = None
    since: str | None = None
    limit: int = 20
    project: str | None = None
    session_id: str | None = None
    until: str | None = None


def checked(asked: Asked) -> Asked:
    """Return a query with valid filters. Raises ValueError."""
    for name in ("user_id", "role", "tool", "since", "project", "session_id", "until"):
        if getattr(asked, name) is not None:
            check_text(name, getattr(asked, name))
    return asked._replace(limit=check_limit(asked.limit) or 0)


_COLUMNS = "said.session_id, said.seq, said.role, said.tool, said.time, said.id, sessions.title, sessions.project"
_OF_CALL = "named.session_id = said.session_id AND named.call = said.call AND named.tool IS NOT NULL"
# The end of a call has its result, its beginning the name of its tool.
_NAME = f"SELECT named.tool FROM said AS named WHERE {_OF_CALL}"  # noqa: S608 - ours
_OF_TOOL = f"(said.tool = ? OR (said.tool IS NULL AND ? IN ({_NAME})))"
_IsVisible = Callable[[str, int], bool]


def best(base: sqlite3.Connection, asked: Asked, parts: Sequence[Part], is_visible: _IsVisible) -> Hits:
    """Return the hits of the first of these that finds some: all words; as beginnings; as parts of words; any of the words."""
    opened = [part._replace(is_open_at_end=part.is_open_at_end or " " not in part.text) for part in parts]
    inside = [part._replace(is_open_at_start=True) for part in opened]
    some = as_match(parts, " OR ") if len(parts) > 1 else None
    words = None if any(part.is_open_at_start for part in parts) else as_match(parts)
    is_open = any(map(may_be_inside, parts))
    ways: list[tuple[Found, Sequence[Part], Callable[[], Iterable[tuple[Any, ...]]] | None]] = [
        ("words", parts, (lambda: _matching(base, asked, words)) if words else None),
        ("beginnings", opened, (lambda: _matching(base, asked, as_match(opened))) if words and is_open else None),
        ("parts", inside, (lambda: _scanned(base, asked, parts)) if is_open else None),
        ("some words", parts, (lambda: _matching(base, asked, some)) if some else None),
    ]
    for name, shown, rows in ways:
        hits = Hits()
        seen = set[tuple[str, int]]()
        for row in rows() if rows else ():
            if row[:2] in seen or not is_visible(row[0], row[1]):
                continue
            seen.add(row[:2])
            hits.append(_hit(base, row, shown))
            if len(hits) == asked.limit:
                break
        if hits:
            hits.found = name
            return hits
    return Hits()


def _conditions(asked: Asked) -> tuple[list[str], list[Any]]:
    """Return the filters as SQL, with their values."""
    conditions, values = list[str](), list[Any]()
    for text, value in (
        ("said.role = ?", asked.role),
        (_OF_TOOL, asked.tool),
        ("sessions.user = ?", asked.user_id),
        ("in_project(sessions.project, ?)", asked.project),
        ("said.session_id = ?", asked.session_id),
        ("said.time >= ?", asked.since),
        ("said.time <= ?", asked.until),
    ):
        if value is not None:
            conditions.append(text)
            values += [value] * text.count("?")
    return conditions, values


def _matching(base: sqlite3.Connection, asked: Asked, words: str) -> Iterator[tuple[Any, ...]]:
    """Stream the rows with these words by rank; of very common words what people typed, each part the newest first."""
    (count,) = base.execute(
        "SELECT count(*) FROM (SELECT rowid FROM words WHERE words MATCH ? LIMIT ?)", (words, _RANKED + 1)
    ).fetchone()
    conditions, values = _conditions(asked)
    start = (
        f"SELECT {_COLUMNS}, %s FROM words JOIN said ON said.id = words.rowid"  # noqa: S608 - ours
        " JOIN sessions ON sessions.session_id = said.session_id"
        f" WHERE {' AND '.join(['words MATCH ?', *conditions])} ORDER BY "
    )
    if count <= _RANKED:
        score = f"-bm25(words, 1.0, 1.0, 0.0) * {_WEIGHT}"
        yield from base.execute(start % score + "9 DESC, said.session_id, said.seq", (words, *values))
        return
    for part in (f"({words}) AND kind : typed", f"({words}) NOT kind : typed"):
        yield from base.execute(start % "0.0" + "words.rowid DESC", (part, *values))


def _scanned(base: sqlite3.Connection, asked: Asked, parts: Sequence[Part]) -> Iterator[tuple[Any, ...]]:
    """Stream rows whose texts have all parts somewhere, what people typed first, then the newest; at most of the last _RANKED.

    No index has parts of words: a trigram index is five times as large as the text (see README.md). Reading takes 1.5 ms/MB.
    """
    conditions, values = _conditions(asked)
    for part in parts:
        if part.text.isascii():
            text = "".join("\\" + one if one in "%_\\" else one for one in part.text)
            conditions.append("(said.text LIKE ? ESCAPE '\\' OR said.tool LIKE ? ESCAPE '\\')")
            values += [f"%{text}%"] * 2
        else:
            conditions.append("(contains(said.text, ?) OR contains(said.tool, ?))")
            values += [part.text] * 2
    text = (
        f"SELECT {_COLUMNS}, 0.0 FROM said JOIN sessions ON sessions.session_id = said.session_id"  # noqa: S608 - ours
        f" WHERE {' AND '.join(['said.id > ?', 'said.id <= ?', *conditions])} ORDER BY said.id DESC"
    )
    (last,) = base.execute("SELECT max(id) FROM said").fetchone()
    until, found = time.monotonic() + SCAN_SECONDS, list[tuple[Any, ...]]()
    while last and len(found) < _RANKED and time.monotonic() < until:
        first = max(0, last - _SCANNED_AT_ONCE)
        found += base.execute(text, (first, last, *values)).fetchmany(_RANKED)
        last = first
    yield from sorted(found, key=lambda row: row[2] not in TYPED)


def _hit(base: sqlite3.Connection, row: tuple[Any, ...], parts: Sequence[Part]) -> Hit:
    ours = f"SELECT text, coalesce(tool, ({_NAME} LIMIT 1)) FROM said WHERE id = ?"  # noqa: S608 - ours
    whole, tool = base.execute(ours, (row[5],)).fetchone()
    text, marks = snippet(whole, parts)
    if not marks and row[3] is not None:
        in_tool, marks = snippet(row[3], parts)
        text = in_tool if marks else text
    return Hit(row[0], row[1], row[2], tool, row[4], text, row[8], row[6], row[7], marks)


def pack(hits: Iterable[tuple[Hit, str]], budget_tokens: int, count: Callable[[str], int]) -> str:
    """Return the best hits as one text for a prompt: each in full after its citation, as many as fit the budget."""
    packed: list[str] = []
    for hit, text in hits:
        who = f"{hit.role} ({hit.tool_name})" if hit.tool_name else hit.role
        part = f"[{hit.session_id}:{hit.seq}] {hit.time} {who}\n{text}"
        cost = count(part)
        if cost > budget_tokens:
            continue
        budget_tokens -= cost
        packed.append(part)
    return "\n\n".join(packed)


def count_tokens(text: str) -> int:
    """Estimate tokens: a quarter of the UTF-8 bytes, and two for the blank line."""
    return len(text.encode("utf-8", "replace")) // 4 + 2
