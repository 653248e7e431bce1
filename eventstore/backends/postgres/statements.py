"""The statements, each with the schema before every name: a pooler drops a search path without an error."""


class Statements:
    """The SQL for one schema. Each `%s` is an argument, in the order that the backend passes them.

    Without `sets_level` the statements take None for the commit level, and keep that of the server: setting it takes about a
    tenth of the time of an append.
    """

    def __init__(self, schema: str, *, sets_level: bool = True) -> None:
        for name, text in _TEXTS.items():
            made = text if sets_level else text.replace(_COMMITS, "%s::text")
            setattr(self, name, made.replace("{s}", schema).encode())

    commit_level: bytes
    append: bytes
    append_one: bytes
    try_one: bytes
    try_some: bytes
    append_many: bytes
    create: bytes
    swap: bytes
    take_stream: bytes
    begin_whole: bytes
    replace_whole: bytes
    add_keys: bytes
    copy_lines: bytes
    number_anew: bytes
    tip: bytes
    stay: bytes
    life: bytes
    read: bytes
    page: bytes
    find_key: bytes
    trashed: bytes
    changed: bytes
    all_logs: bytes
    overwrite: bytes
    hold: bytes
    cut_lines: bytes
    cut_log: bytes
    move: bytes
    delete: bytes
    note: bytes
    blob_names: bytes
    blob: bytes
    insert_blob: bytes
    delete_blob: bytes
    move_blobs: bytes
    drop_stream: bytes
    flush: bytes
    line: bytes
    lines_behind: bytes


# The swap: the row of the log is updated if it ends as expected, with the same name and in the same incarnation. The shared
# lock lets appends run in parallel and waits for the holder of `log/NAME`. After waiting for a row, PostgreSQL checks its newest
# version again, so of two swaps from the same place one finds nothing.
_AS_EXPECTED = "stream = %s and name = %s and version = %s and hash = %b"
_SWAP = f"""
  update {{s}}.logs set version = %s, at = %s, hash = %b, size = size + %s
  where {_AS_EXPECTED}
    and (select case when %s::bigint is null then true else pg_advisory_xact_lock_shared(%s) is not null end)
  returning stream, size
"""
_KEYS = """
  insert into {s}.keys (stream, key, first, last)
  select moved.stream, given.* from moved, unnest(%s::bytea[], %s::bigint[], %s::bigint[]) as given
  on conflict do nothing
"""
_LINES = """
  insert into {s}.lines (stream, seq, ends, line)
  select moved.stream, given.seq, moved.size - given.behind, given.line
  from moved, unnest(%s::bigint[], %s::bigint[], %s::bytea[]) as given (seq, behind, line)
"""
# The same without waiting: the lock of the log is taken only if it is free.
_TRY = f"""
lock as materialized (select pg_try_advisory_xact_lock_shared(%s) as got), moved as (
  update {{s}}.logs set version = %s, at = %s, hash = %b, size = size + %s from lock
  where lock.got and {_AS_EXPECTED}
  returning stream, size
)"""
_COMMITS = "set_config('synchronous_commit', coalesce(%s::text, current_setting('synchronous_commit')), true)"

# A snapshot, and since when its server runs. A standby that is promoted, and a server after a crash, may lack the last commits
# and give their numbers again: snapshots of another run say nothing about this one.
NOW = "pg_current_snapshot()::text, (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text"

_TEXTS = {
    "append_one": f"""
with moved as ({_SWAP}), lines as (
  insert into {{s}}.lines (stream, seq, ends, line) select moved.stream, %s, moved.size, %b from moved
)
select stream, {_COMMITS} from moved""",
    "append": f"with moved as ({_SWAP}), lines as ({_LINES}), keys as ({_KEYS}) select stream, {_COMMITS} from moved",
    "try_one": f"""
with {_TRY}, lines as (
  insert into {{s}}.lines (stream, seq, ends, line) select moved.stream, %s, moved.size, %b from moved
)
select (select stream from moved), lock.got, {_COMMITS} from lock""",
    "try_some": f"""
with {_TRY}, lines as ({_LINES}), keys as ({_KEYS})
select (select stream from moved), lock.got, {_COMMITS} from lock""",
    # Several logs in one statement. A log that another transaction holds is skipped, so that no one waits for two logs at once.
    "append_many": f"""
with given as materialized (
  select * from unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bytea[], %s::bigint[], %s::text[], %s::bytea[],
    %s::bigint[], %s::bigint[]) as one (stream, name, seq, hash, version, at, digest, added, lock)
), held as materialized (
  select logs.stream from {{s}}.logs join given on logs.stream = given.stream
  where logs.name = given.name and logs.version = given.seq and logs.hash = given.hash
    and pg_try_advisory_xact_lock_shared(given.lock)
  for no key update of logs skip locked
), moved as (
  update {{s}}.logs set version = given.version, at = given.at, hash = given.digest, size = logs.size + given.added
  from held join given on given.stream = held.stream
  where logs.stream = held.stream and logs.name = given.name and logs.version = given.seq and logs.hash = given.hash
  returning logs.stream, logs.size
), lines as (
  insert into {{s}}.lines (stream, seq, ends, line)
  select moved.stream, one.seq, moved.size - one.behind, one.line
  from moved join unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bytea[]) as one (stream, seq, behind, line)
    on one.stream = moved.stream
), keys as (
  insert into {{s}}.keys (stream, key, first, last)
  select moved.stream, one.key, one.first, one.last
  from moved join unnest(%s::bigint[], %s::bytea[], %s::bigint[], %s::bigint[]) as one (stream, key, first, last)
    on one.stream = moved.stream
  on conflict do nothing
)
select stream, {_COMMITS} from moved""",
    "create": f"""
with moved as (
  insert into {{s}}.logs (name, first, version, at, hash, size) values (%s, %s, %s, %s, %s, %s)
  on conflict (name) do nothing returning stream, size
), lines as ({_LINES}), keys as ({_KEYS})
select stream, {_COMMITS} from moved""",
    "swap": f"with moved as ({_SWAP}) select stream, size, {_COMMITS} from moved",
    "add_keys": """
insert into {s}.keys (stream, key, first, last)
select %s, given.* from unnest(%s::bytea[], %s::bigint[], %s::bigint[]) as given on conflict do nothing""",
    "copy_lines": "copy {s}.lines (stream, seq, ends, line) from stdin (format binary)",
    "tip": "select stream, rewrites, first, version, at, hash, size from {s}.logs where name = %s",
    "life": "select stream from {s}.logs where name = %s",
    # The log, the end of the line to read after, and a first page: at most so many lines and bytes, but at least one line.
    "read": """
select logs.stream, logs.rewrites, logs.first, logs.version, logs.hash, logs.size,
  before.ends, before.end_of_line, page.data, page.last
from {s}.logs
left join lateral (
  select ends, substr(line, greatest(octet_length(line) - 75, 1)) as end_of_line
  from {s}.lines where lines.stream = logs.stream and lines.seq = %s::bigint and %s::bigint < logs.version
) as before on true
cross join lateral (
  select string_agg(line, ''::bytea order by seq) as data, max(seq) as last
  from {s}.lines
  where lines.stream = logs.stream and lines.seq > %s::bigint and lines.seq <= least(%s::bigint, logs.version)
    and (lines.ends <= coalesce(before.ends, 0) + %s or lines.seq = greatest(%s::bigint + 1, logs.first))
) as page
where logs.name = %s""",
    "page": """
select string_agg(line, ''::bytea order by seq), max(seq)
from {s}.lines where stream = %s and seq > %s and seq <= %s and (ends <= %s or seq = %s)""",
    "find_key": """
select keys.first, keys.last from {s}.logs join {s}.keys on keys.stream = logs.stream where logs.name = %s and keys.key = %s""",
    "trashed": "select substr(name, 8) from {s}.logs where name >= '_trash/' and name < '_trash0' order by name",
    "all_logs": f"""
select name, stream, version, rewrites, encode(substr(hash, 1, 8), 'hex'), {NOW}
from (values (1)) as one (row) left join {{s}}.logs on not (name >= '_trash/' and name < '_trash0')""",
    # Rows written by transactions that the snapshot of the last token did not see, whenever they are committed.
    "changed": f"""
with named as (
  select logs.name from {{s}}.lines join {{s}}.logs on logs.stream = lines.stream
  where lines.xid >= pg_snapshot_xmin(%s::pg_snapshot) and not pg_visible_in_snapshot(lines.xid, %s::pg_snapshot)
  union select name from {{s}}.changes
  where xid >= pg_snapshot_xmin(%s::pg_snapshot) and not pg_visible_in_snapshot(xid, %s::pg_snapshot)
)
select named.name, logs.stream, logs.version, logs.rewrites, encode(substr(logs.hash, 1, 8), 'hex'), {NOW}
from (values (1)) as one (row) left join named on not (named.name >= '_trash/' and named.name < '_trash0')
left join {{s}}.logs on logs.name = named.name""",
    "commit_level": f"select {_COMMITS}",
    # --- complete logs
    "take_stream": "select nextval(pg_get_serial_sequence('{s}.logs', 'stream'))",
    "begin_whole": """
insert into {s}.logs (stream, name, first, version, at, hash, size) values (%s, %s, %s, %s, %s, %b, %s)
on conflict (name) do nothing returning stream""",
    "replace_whole": """
update {s}.logs set stream = %s, first = %s, version = %s, at = %s, hash = %b, size = %s, rewrites = 0
where name = %s and stream = %s and version = %s and hash = %b returning stream""",
    "number_anew": "update {s}.lines set seq = -(seq + %s) where stream = %s",
    "drop_stream": """
with lines as (delete from {s}.lines where stream = %s) delete from {s}.keys where stream = %s""",
    # --- changed lines
    "hold": "select stream, rewrites, first, version, hash, size from {s}.logs where name = %s for update",
    "overwrite": """
with log as (
  select stream from {s}.logs where name = %s for no key update
), line as (
  update {s}.lines set line = %b, xid = pg_current_xact_id() from log
  where lines.stream = log.stream and lines.seq = %s and lines.ends = %s and octet_length(lines.line) = %s
  returning lines.stream
)
update {s}.logs set rewrites = rewrites + 1 from line where logs.stream = line.stream returning logs.stream""",
    "line": "select line from {s}.lines where stream = %s and seq = %s",
    "lines_behind": "select line from {s}.lines where stream = %s and seq > %s order by seq",
    "cut_lines": "delete from {s}.lines where stream = %s and seq > %s",
    "cut_log": """
with keys as (delete from {s}.keys where stream = %s and first > %s)
update {s}.logs set version = %s, at = %s, hash = %b, size = %s, rewrites = rewrites + 1 where stream = %s""",
    # --- names
    "note": """
insert into {s}.changes (name, xid) select unnest(%s::text[]), pg_current_xact_id()
on conflict (name) do update set xid = excluded.xid""",
    "move": "update {s}.logs set name = %s where stream = %s",
    "delete": "delete from {s}.logs where stream = %s",
    # --- blobs
    "stay": "select stream from {s}.logs where name = %s for key share",
    "blob_names": "select name from {s}.blobs where home = %s and piece = 0 order by name",
    "blob": "select data from {s}.blobs where home = %s and name = %s order by piece",
    "insert_blob": "insert into {s}.blobs (home, name, piece, data) values (%s, %s, %s, %b)",
    "delete_blob": "delete from {s}.blobs where home = %s and (%s::text is null or name = %s)",
    "move_blobs": "update {s}.blobs set home = %s where home = %s",
    "flush": "select set_config('synchronous_commit', 'on', true), pg_logical_emit_message(true, 'eventstore', '')",
}
