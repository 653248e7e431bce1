"""The catalogue as a table in the store, where the backend keeps tables: who lists brings it up to date, for all programs.

A list is one statement where nothing changed, in a program that has just begun too. Where the table cannot be written, because
the server does not let this program or is away, the answer is that of the local catalogue.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from eventstore.derived.catalog import Catalog
from eventstore.derived.database import is_session
from eventstore.derived.listing import (
    POSTGRES,
    Filter,
    Listed,
    Query,
    Sort,
    as_bytes,
    columns_of,
    row_sum,
    without_nul,
)
from eventstore.errors import LogDamaged, SessionNotFound
from eventstore.log.port import Missing, PortError, Seen, Tables, Unclear

if TYPE_CHECKING:
    from eventstore.log.engine import EventLog

__all__ = ["SharedCatalog"]

Describe = Callable[[str], Mapping[str, Any]]

_NAME = "catalog_1"
"""What the tables are called. Another layout has another number, so that programs of two versions do not disturb each other."""
_SCRIPT = """
create table if not exists {s}.catalog_1 (
  session_id text collate "C" primary key, text text not null, updated text collate "C", created text collate "C",
  cost double precision, status text collate "C", "user" bytea, purpose bytea, external bytea, parent text collate "C",
  tags bytea[], shown text
);
create index if not exists catalog_1_updated on {s}.catalog_1 (updated desc, session_id);
create index if not exists catalog_1_created on {s}.catalog_1 (created desc, session_id);
create index if not exists catalog_1_cost on {s}.catalog_1 (cost desc, session_id);
create index if not exists catalog_1_user on {s}.catalog_1 ("user", updated desc, session_id);
create index if not exists catalog_1_status on {s}.catalog_1 (status, updated desc, session_id);
create index if not exists catalog_1_external on {s}.catalog_1 (external) where external is not null;
create index if not exists catalog_1_parent on {s}.catalog_1 (parent, created desc, session_id) where parent is not null;
create index if not exists catalog_1_tags on {s}.catalog_1 using gin (tags);
create index if not exists catalog_1_unread on {s}.catalog_1 (session_id) where text = '';
"""
# Which sessions are to be read, and the text of each; no text where the log is gone. A row without a text could not be read.
_STALE = """
select changes.name, changes.text
from changes left join {s}.catalog_1 as known on known.session_id = changes.name
where changes.name !~ '^_' and known.text is distinct from changes.text
union
select unread.session_id, present.text
from {s}.catalog_1 as unread left join present on present.name = unread.session_id where unread.text = ''
union
select known.session_id, null from {s}.catalog_1 as known
where {complete} and not exists (select from present where present.name = known.session_id)
"""
_LOOK = """
select (select array_agg(array[stale.name, stale.text]) from (%STALE%) as stale (name, text)),
  array(select page.row from (%PAGE%) as page (row))
"""
_PARTS = """, gone as (
  delete from {s}.catalog_1 using mine where session_id = any(%s::text[])
), unread as (
  insert into {s}.catalog_1 (session_id, text) select name, '' from mine, unnest(%s::text[]) as one (name)
  on conflict (session_id) do update set text = ''
), kept as (
  insert into {s}.catalog_1
  select one.session_id, one.text, one.updated, one.created, one.cost, one.status, one."user", one.purpose, one.external,
    one.parent, one.tags::bytea[], one.shown
  from mine, unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::text[], %s::bytea[], %s::bytea[],
    %s::bytea[], %s::text[], %s::text[], %s::text[]) as one (session_id, text, updated, created, cost, status, "user", purpose,
    external, parent, tags, shown)
  on conflict (session_id) do update set text = excluded.text, updated = excluded.updated, created = excluded.created,
    cost = excluded.cost, status = excluded.status, "user" = excluded."user", purpose = excluded.purpose,
    external = excluded.external, parent = excluded.parent, tags = excluded.tags, shown = excluded.shown
)"""
_FORGET = """, gone as (
  insert into {s}.catalog_1 (session_id, text) select %s, '' from mine
  on conflict (session_id) do update set text = '', updated = null, created = null, cost = null, status = null,
    "user" = null, purpose = null, external = null, parent = null, tags = null, shown = null
)"""
_CLEAR = ", gone as (update {s}.catalog_1 set text = '', shown = null from mine)"
_COLUMNS = 12
_AT_ONCE = 200
_MANY = 100
"""So many sessions to read, and one program reads them, while the others wait for it."""
_ROUNDS = 20
_LOCK = "catalogue"


class _Outdated(NamedTuple):
    """What a look found: the sessions to read with their texts, those that are gone, the rows of the page."""

    seen: Seen
    stale: dict[str, str]
    gone: list[str]
    rows: list[str]

    def untried(self, tried: set[str]) -> dict[str, str]:
        """Return the stale sessions but for those that could not be read at this text before."""
        return {name: text for name, text in self.stale.items() if f"{name} {text}" not in tried}


class SharedCatalog:
    """A catalogue in the tables of a store. Safe for threads, processes and hosts. `local` answers where it cannot be used."""

    def __init__(self, tables: Tables, local: Catalog) -> None:
        self._tables, self._local = tables, local
        self._since: str | None = None
        self._is_out = False

    # --- lists

    def page(
        self,
        wanted: Filter,
        log: "EventLog",
        describe: Describe,
        on_damage: Callable[[LogDamaged], None],
        track: Callable[[Sequence[str]], Iterable[str]] = iter,
        *,
        total: bool = False,
    ) -> Listed:
        """Update the catalogue and list the sessions that match, as `Catalog.page` does. Raises ValueError as that does."""
        query = Query.of(wanted, POSTGRES)
        try:
            found = self._up_to_date(query, log, describe, on_damage, track)
            self._is_out = False
        except PortError:
            self._is_out = True
            return self._local.page(wanted, log, describe, on_damage, track, total=total)
        column = get_args(Sort).index(wanted.sort)
        rows = [json.loads(row) for row in found]
        page = query.ends(rows, lambda row: (columns_of(row)[column], row["session_id"]))
        return Listed(*page, self.count(wanted) if total else None)

    def count(self, wanted: Filter) -> int:
        """Count the sessions that match, on all pages, as the last list found them. Raises ValueError as `page` does."""
        query = Query.of(wanted._replace(cursor=None), POSTGRES)
        with suppress(PortError):
            if self._is_out:
                return self._local.count(wanted)
            return int(self._tables.ask(_NAME, query.counting(), query.values)[0][0])
        return self._local.count(wanted)

    def _up_to_date(
        self,
        query: Query,
        log: "EventLog",
        describe: Describe,
        on_damage: Callable[[LogDamaged], None],
        track: Callable[[Sequence[str]], Iterable[str]],
    ) -> list[str]:
        """Return the rows of a page once the table has all changes."""
        tried: set[str] = set()
        for _ in range(_ROUNDS):
            found = self._look(query)
            waiting = found.untried(tried)
            if not waiting and not found.gone:
                return found.rows
            if len(waiting) < _MANY:
                self._take(found, waiting, describe, on_damage, track, tried)
            else:
                with log.backend.lock(_LOCK):
                    found = self._look(query)  # another program may have read them meanwhile
                    self._take(found, found.untried(tried), describe, on_damage, track, tried)
        return self._look(query).rows  # others append all the time: what was there at the call is in it

    def _look(self, query: Query) -> _Outdated:
        page = query.page("sessions.shown")
        text = _LOOK.replace("%STALE%", _STALE).replace("%PAGE%", page)
        try:
            since = self._since or self._tables.settled(_NAME)
            seen = self._tables.look(_NAME, since, text, query.values)
        except Missing:
            self._tables.define(_NAME, _SCRIPT)
            seen = self._tables.look(_NAME, None, text, query.values)
        pairs, rows = seen.row
        found = _Outdated(seen, {}, [], rows)
        for name, version in pairs or ():
            if version is None:
                found.gone.append(name)
            else:
                found.stale[name] = version
        if not pairs:
            self._since = seen.token
        return found

    def _take(
        self,
        found: _Outdated,
        waiting: Mapping[str, str],
        describe: Describe,
        on_damage: Callable[[LogDamaged], None],
        track: Callable[[Sequence[str]], Iterable[str]],
        tried: set[str],
    ) -> None:
        """Read what is stale and write it, some at a time; stop where another program wrote meanwhile."""
        edition, gone = found.seen.edition, found.gone
        rows, unread = list[tuple[Any, ...]](), list[str]()
        names = list(waiting)
        for place, session_id in enumerate(track(names), 1):
            try:
                rows.append(_row(describe(session_id), waiting[session_id]))
            except SessionNotFound:
                unread.append(session_id)
            except LogDamaged as damage:
                unread.append(session_id)
                on_damage(damage)
            tried.update(f"{one} {waiting[one]}" for one in unread)
            if len(rows) >= _AT_ONCE and place < len(names):
                if not self._write(edition, None, gone, unread, rows):
                    return
                edition, gone, rows, unread = edition + 1, [], [], []
        if self._write(edition, found.seen.token, gone, unread, rows):
            self._since = found.seen.token

    def _write(
        self, edition: int, settled: str | None, gone: list[str], unread: list[str], rows: list[tuple[Any, ...]]
    ) -> bool:
        columns = [list(column) for column in zip(*rows, strict=True)] or [[]] * _COLUMNS
        try:
            return self._tables.write(_NAME, edition, settled, _PARTS, [gone, unread, *columns])
        except Unclear:
            return False  # the next look says what came of it

    # --- rows

    def content(self, log: "EventLog", describe: Describe) -> dict[str, list[tuple[Any, ...]]] | None:
        """Update the catalogue and return all rows, by session, as `Catalog.content` does."""
        unread = set[str]()
        try:
            for _ in range(_ROUNDS):
                self.page(Filter(limit=0), log, describe, lambda damage: None)
                rows = self._tables.ask(_NAME, _CONTENT, [])
                before, unread = unread, {row[0] for row in rows if row[-1] is None}
                if unread == before:  # else others forgot rows after the update, or these sessions cannot be read
                    return _content(rows)
        except PortError:
            return self._local.content(log, describe)
        return None

    def forget(self, session_id: str) -> None:
        """Delete what a session's row holds. The next list reads its log again, and no other program writes an older row."""
        self._local.forget(session_id)
        if not is_session(session_id):
            return
        with suppress(PortError):
            self._tables.write(_NAME, None, None, _FORGET, [session_id])

    def scrub(self) -> None:
        """Remove deleted rows from the local file for good; what the server keeps of rows is its own matter."""
        self._local.scrub()

    def clear(self) -> None:
        """Delete everything. The next list rebuilds it."""
        self._local.clear()
        with suppress(PortError):
            self._tables.write(_NAME, None, None, _CLEAR, [])

    def close(self) -> None:
        """Close the local file."""
        self._local.close()


_CONTENT = """
select session_id, updated, created, cost, status, "user", purpose, external, parent, tags, shown
from {s}.catalog_1"""


def _content(rows: Iterable[tuple[Any, ...]]) -> dict[str, list[tuple[Any, ...]]]:
    """Return rows of the table in the form of those of `Catalog.content`, without the sessions that could not be read."""
    found = dict[str, list[tuple[Any, ...]]]()
    for session_id, updated, created, cost, status, user, purpose, external, parent, tags, shown in rows:
        if shown is not None:
            text = json.dumps(json.loads(shown), ensure_ascii=False)
            texts = [None if one is None else one.decode() for one in (user, purpose, external)]
            row = (session_id, text, updated, created, cost, status, *texts, parent, row_sum(session_id, text))
            found[session_id] = [row, *((session_id, tag.decode(), updated) for tag in sorted(set(tags)))]
    return found


def _row(known: Mapping[str, Any], text: str) -> tuple[Any, ...]:
    """Return the row of a session, as `_PARTS` takes it."""
    updated, created, cost, status, user, purpose, external, parent = columns_of(known)
    free = [None if one is None else as_bytes(one) for one in (user, purpose, external)]
    tags = "{" + ",".join(f'"\\\\x{as_bytes(tag).hex()}"' for tag in known["tags"]) + "}"
    above = None if parent is None else without_nul(parent)
    return known["session_id"], text, updated, created, cost, status, *free, above, tags, json.dumps(known)
