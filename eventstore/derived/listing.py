"""What a list asks for, and the SQL of it: filters, orders and cursors, in the words of SQLite and of PostgreSQL.

This module imports only the standard library, so that a list starts fast.
"""

import binascii
import json
import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, get_args
from zlib import crc32

__all__ = [
    "COLUMNS",
    "POSTGRES",
    "SQLITE",
    "Dialect",
    "Filter",
    "Listed",
    "Query",
    "Sort",
    "columns_of",
    "parent_of",
]

Sort: TypeAlias = Literal["updated", "created", "cost"]
R = TypeVar("R")

COLUMNS = "updated, created, cost, status, user, purpose, external, parent"
_MOST_ROWS = 2**31
_MOST_CURSOR = 2_000
_NO_SUB_AGENTS = (
    "(sessions.parent IS NULL OR NOT EXISTS (SELECT 1 FROM {table} AS above"
    " WHERE above.session_id = sessions.parent AND above.session_id <> sessions.session_id))"
)


class Filter(NamedTuple):
    """Which sessions to list, in which order.

    `tags` match any, `purpose` a part of it in any case, times the last update (ISO, UTC). `external_prefix` is the beginning of
    the external key. `limit` is how many at most. `cursor` is one that a page gave, for the page after it or before it.
    `parent` asks for the sub-agents of a session; without `sub_agents`, those whose parent is there too are left out.
    """

    user_id: str | None = None
    status: str | None = None
    tags: Sequence[str] | None = None
    purpose: str | None = None
    since: str | None = None
    until: str | None = None
    sort: Sort = "updated"
    limit: int | None = 100
    cursor: str | None = None
    external_key: str | None = None
    external_prefix: str | None = None
    parent: str | None = None
    sub_agents: bool = True


class Dialect(NamedTuple):
    """How one kind of SQL says it: `mark` stands for a value, `free` and `name` are how texts are given, free ones and ids.

    `listed` holds for the rows of sessions: a shared table also has rows of logs that could not be read. `one_tag` are the tables
    and the order of a list by one tag, where there is a table for that.
    """

    table: str
    mark: str
    user: str
    purpose: str
    any_tag: str
    tags: Callable[[list[str]], object]
    free: Callable[[str], object]
    name: Callable[[str], object]
    listed: str
    one_tag: tuple[str, str] | None = None


class Listed(NamedTuple):
    """The metadata on a page, the cursor of the page after it, and of the page before it; None where there is none.

    `total` is how many match on all pages, if that was asked for.
    """

    rows: list[dict[str, Any]]
    cursor: str | None
    previous: str | None
    total: int | None = None


class _Place(NamedTuple):
    """Where a page begins: at rows with this relation to a row, which need not be there any more."""

    relation: str
    value: str | float
    session_id: str

    @property
    def is_backwards(self) -> bool:
        """Whether the page ends there instead."""
        return self.relation[0] == "<"

    def opposite(self) -> "_Place":
        """Return the place at which the rows are that are not on this side."""
        return self._replace(relation={">": "<=", ">=": "<", "<": ">=", "<=": ">"}[self.relation])


class Query(NamedTuple):
    """The tables, the condition and its values, the order, how many rows at most (None for all), and where they begin."""

    source: str
    where: str
    values: list[Any]
    order: str
    limit: int | None
    sort: Sort
    place: _Place | None

    @classmethod
    def of(cls, wanted: Filter, dialect: Dialect) -> "Query":
        """Say a filter in SQL. Raises ValueError for an invalid cursor, one of another order, and an invalid filter or limit."""
        limit = check_limit(wanted.limit)
        if wanted.sort not in get_args(Sort):
            raise ValueError(f"sort {wanted.sort!r} is not one of {', '.join(get_args(Sort))}")
        tags = [check_text("a tag", tag) for tag in wanted.tags or ()]
        source, order = f"{dialect.table} AS sessions", f"sessions.{wanted.sort}"
        conditions, values = [dialect.listed], list[Any]()
        if len(tags) == 1 and wanted.sort == "updated" and dialect.one_tag is not None:
            source, order = dialect.one_tag
            conditions.append(f"tags.tag = {dialect.mark}")
            values.append(tags[0])
        elif tags:
            conditions.append(dialect.any_tag)
            values.append(dialect.tags(tags))
        for condition, value in _compared(wanted, dialect):
            conditions.append(condition)
            values.append(value)
        if not wanted.sub_agents:
            conditions.append(_NO_SUB_AGENTS.format(table=dialect.table))
        place = None if wanted.cursor is None else _read_cursor(wanted.sort, wanted.cursor)
        if place is not None:
            mark, than = dialect.mark, ">" if place.is_backwards else "<"
            same = f"sessions.session_id {place.relation} {mark}"
            conditions.append(f"{order} {than}= {mark} AND ({order} {than} {mark} OR {same})")
            values += [place.value, place.value, dialect.name(place.session_id)]
        return cls(source, f" WHERE {' AND '.join(conditions)}", values, order, limit, wanted.sort, place)

    def page(self, columns: str) -> str:
        """Return the statement of one page, for `ends`: with one row more than the limit where there is another page."""
        most = "" if self.limit is None else f" LIMIT {self.limit + 1}"
        is_backwards = self.place is not None and self.place.is_backwards
        order = f"{self.order}, sessions.session_id DESC" if is_backwards else f"{self.order} DESC, sessions.session_id"
        return f"SELECT {columns} FROM {self.source}{self.where} ORDER BY {order}{most}"  # noqa: S608 - names of ours

    def ends(self, found: list[R], place_of: Callable[[R], tuple[Any, str]]) -> tuple[list[R], str | None, str | None]:
        """Return the rows of a page in order, of what its statement found, and the cursors of the pages after and before it.

        `place_of` returns the value of a row in the order of the list, and its id.
        """
        here, rows = self.place, found[: self.limit]
        is_backwards = here is not None and here.is_backwards
        far = near = None  # the pages behind the last row found, and on the other side of where the statement began
        if is_backwards:
            rows.reverse()
        if rows:
            after, before = _Place(">", *place_of(rows[-1])), _Place("<", *place_of(rows[0]))
            far = None if len(found) == len(rows) else before if is_backwards else after
            near = None if here is None else after if is_backwards else before
        elif here is not None and not found:
            near = here.opposite()
        cursors = [None if one is None else self._cursor(one) for one in (far, near)]
        return rows, *(reversed(cursors) if is_backwards else cursors)

    def _cursor(self, place: _Place) -> str:
        relation = () if place.relation == ">" else (place.relation,)
        text = json.dumps([self.sort, place.value, place.session_id, *relation])
        return urlsafe_b64encode(text.encode()).decode("ascii").rstrip("=")

    def counting(self) -> str:
        """Return the statement that counts what matches."""
        return f"SELECT count(*) FROM {self.source}{self.where}"  # noqa: S608 - names of ours


def _compared(wanted: Filter, dialect: Dialect) -> "list[tuple[str, object]]":
    """Return the conditions that compare one column with one text, and that text."""
    mark, free, name = dialect.mark, dialect.free, dialect.name
    found = list[tuple[str, object]]()
    for what, condition, value, given in (
        ("user_id", f"sessions.{dialect.user} = {mark}", wanted.user_id, free),
        ("status", f"sessions.status = {mark}", wanted.status, name),
        ("purpose", dialect.purpose, wanted.purpose, lambda text: free(text.casefold())),
        ("since", f"sessions.updated >= {mark}", wanted.since, name),
        ("until", f"sessions.updated <= {mark}", wanted.until, name),
        ("external_key", f"sessions.external = {mark}", wanted.external_key, free),
        ("external_prefix", f"sessions.external >= {mark}", wanted.external_prefix, free),
        (
            "external_prefix",
            f"sessions.external <= {mark}",
            wanted.external_prefix,
            lambda text: free(text + "\U0010ffff" * 4),
        ),
        ("parent", f"sessions.parent = {mark}", wanted.parent, name),
    ):
        if value is not None:
            found.append((condition, given(check_text(what, value))))
    return found


def _same(text: str) -> str:
    return text


def without_nul(text: str) -> str:
    """Return a text as PostgreSQL takes it. No id, status or time has a NUL, so what stands for it matches none."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def as_bytes(text: str) -> bytes:
    """Return a text as the bytes that PostgreSQL holds it in, which may have a NUL; they sort as the text does."""
    return text.encode("utf-8", "replace")


SQLITE = Dialect(
    "sessions",
    "?",
    "user",
    "instr(sessions.purpose, ?) > 0",
    "sessions.session_id IN (SELECT session_id FROM tags WHERE tag IN (SELECT value FROM json_each(?)))",
    json.dumps,
    _same,
    _same,
    "TRUE",
    ("tags JOIN sessions USING (session_id)", "tags.updated"),
)
POSTGRES = Dialect(
    "{s}.catalog_1",
    "%s",
    '"user"',
    "position(%s::bytea in sessions.purpose) > 0",
    "sessions.tags && %s::bytea[]",
    lambda tags: [as_bytes(tag) for tag in tags],
    as_bytes,
    without_nul,
    "sessions.shown IS NOT NULL",
)


def columns_of(known: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what a row has in `COLUMNS`, of the metadata of a session."""
    purpose = known["purpose"]
    return (
        known["updated_at"],
        known["created_at"],
        known["estimated_cost"] or 0.0,
        known["status"],
        known["user_id"],
        None if purpose is None else purpose.casefold(),
        known.get("external_key"),
        parent_of(known["custom_metadata"]),
    )


def parent_of(custom_metadata: Mapping[str, Any]) -> str | None:
    """Return the id of the session whose sub-agent a session is, according to its metadata, or None."""
    found = custom_metadata.get("parent_session")
    return found if isinstance(found, str) else None


def row_sum(session_id: object, shown: object) -> int:
    """Return the checksum of a row."""
    return crc32(f"{session_id} {shown}".encode("utf-8", "replace"))


def check_limit(limit: object) -> int | None:
    """Return the greatest number of rows; None for all. Raises ValueError."""
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise ValueError(f"limit {str(limit)[:40]!a} is not a whole number")
    return min(max(limit, 0), _MOST_ROWS)


def check_text(name: str, value: object) -> str:
    """Return the value if it is valid text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{name} {str(value)[:40]!a} is not text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{name} {value[:40]!a} is not valid Unicode") from None
    return value


def _read_cursor(sort: Sort, text: object) -> _Place:
    """Decode a cursor. Raises ValueError for one that no list of this order gave."""
    try:
        order, value, session_id, *given = _decoded(text)
        relation = given[0] if given else ">"
        if order == sort and len(given) < 2 and relation in (">", ">=", "<", "<="):
            return _Place(relation, _check_value(sort, value), check_text("an id", session_id))
    except (ValueError, TypeError, RecursionError, OverflowError, binascii.Error):
        pass
    raise ValueError(
        f"cursor {str(text)[:40]!a} is not one that a list sorted by {sort} gave; nothing was listed: begin without a cursor"
    )


def _decoded(text: object) -> list[Any]:
    if not isinstance(text, str) or len(text) > _MOST_CURSOR:
        raise ValueError
    found = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    if not isinstance(found, list):
        raise TypeError
    return found


def _check_value(sort: Sort, value: object) -> str | float:
    if sort != "cost":
        return without_nul(check_text("a time", value))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)
