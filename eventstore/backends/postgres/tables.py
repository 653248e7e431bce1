"""Tables that are made from logs and can be thrown away. What is in them, and the SQL that asks them, come from above."""

from collections.abc import Sequence
from typing import Any

from eventstore.backends.postgres.connections import Connection
from eventstore.backends.postgres.database import Database, Row
from eventstore.backends.postgres.feed import read_token, write_token
from eventstore.backends.postgres.statements import NOW
from eventstore.log.port import Missing, Refused, Seen, Tables

# A snapshot is compared as a constant, so that the server plans for how few lines are behind it.
_LOOK = """
with present (name, text) as not materialized (
  select name, concat_ws('.', stream, version, rewrites, encode(substr(hash, 1, 8), 'hex')) from {s}.logs
  where not (name >= '_trash/' and name < '_trash0')
), changes (name, text) as materialized (%CHANGES%), answer as (%QUERY%)
select %NOW%, derived.edition, answer.*
from answer left join {s}.derived on derived.name = %s""".replace("%NOW%", NOW)
_ALL = "select name, text from present"
_SINCE = """
  select named.name, present.text from (
    select logs.name from {s}.lines join {s}.logs on logs.stream = lines.stream
    where lines.xid >= pg_snapshot_xmin(%s::pg_snapshot) and not pg_visible_in_snapshot(lines.xid, %s::pg_snapshot)
    union select name from {s}.changes
    where xid >= pg_snapshot_xmin(%s::pg_snapshot) and not pg_visible_in_snapshot(xid, %s::pg_snapshot)
  ) as named left join present on present.name = named.name
  where not (named.name >= '_trash/' and named.name < '_trash0')"""
_WRITE = """
with mine as (
  update {s}.derived set edition = edition + 1, settled = coalesce(%s, settled)
  where name = %s and edition = coalesce(%s, edition) returning edition
) %PARTS% select edition, set_config('synchronous_commit', 'off', true) from mine"""
_DEFINE = """
insert into {s}.derived (name, edition) values (%s, 0)
on conflict (name) do update set edition = derived.edition + 1, settled = null"""
_SETTLED = "select settled from {s}.derived where name = %s"
_NO_TABLE = "SQLSTATE 42P01"


class DerivedTables(Tables):
    """The derived tables of one store. A commit of theirs is not waited for: what a crash takes is made again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def define(self, name: str, script: str) -> None:
        lock = self._database.number_of(f"derived/{name}")

        def do(connection: Connection) -> None:
            with connection.transaction():
                connection.execute("select pg_advisory_xact_lock(%s)", [lock])
                connection.execute(self._sql(script), prepare=False)
                connection.execute(self._sql(_DEFINE), [name])

        self._database.write("", do, patient=True)

    def settled(self, name: str) -> str | None:
        rows = self._ask(name, _SETTLED, [name])
        if not rows:
            raise Missing(name)
        found: str | None = rows[0][0]
        return found

    def look(self, name: str, since: str | None, query: str, args: Sequence[object]) -> Seen:
        store = self._database.facts().store
        place = read_token(since, store)
        text = _LOOK.replace("%CHANGES%", _ALL if place is None else _SINCE).replace("%QUERY%", query)
        given = [*([] if place is None else [place[1]] * 4), *args, name]
        text = text.replace("{complete}", str(place is None).lower())
        snapshot, run, edition, *row = self._ask(name, text, given)[0]
        if edition is None:
            raise Missing(name)
        if place is not None and run != place[0]:
            return self.look(name, None, query, args)
        return Seen(tuple(row), write_token(store, run, snapshot), edition)

    def ask(self, name: str, query: str, args: Sequence[object]) -> list[tuple[Any, ...]]:
        return self._ask(name, query, args)

    def _ask(self, name: str, query: str, args: Sequence[object]) -> list[Row]:
        try:
            return self._database.ask("", self._sql(query), args, prepare=False)
        except Refused as error:
            if error.cause == _NO_TABLE:
                raise Missing(name) from None
            raise

    def write(self, name: str, edition: int | None, settled: str | None, parts: str, args: Sequence[object]) -> bool:
        text = self._sql(_WRITE.replace("%PARTS%", parts))
        given = [settled, name, edition, *args]
        return bool(self._database.write("", lambda one: one.execute(text, given, prepare=False).fetchall()))

    def _sql(self, text: str) -> bytes:
        return text.replace("{s}", self._database.address.schema).encode()
