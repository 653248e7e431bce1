"""The catalogue: what is known of every session, in SQLite, so that lists cost what changed and not what there is.

A table of sessions and one of tags, made of `SessionMetadata.to_dict`, never of anything else: delete it and it comes back the
same. Who appends to a session first leaves a mark, one line in a file, once a minute and session; a list looks at the sessions
that were marked, and at those that came and went. Nothing here needs more than the standard library: a list is quick to start.
"""

import errno
import json
import os
import sqlite3
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from eventstore.errors import InvalidSessionId
from eventstore.ids import check_session_id

Sort: TypeAlias = Literal["updated", "created", "cost"]

CatalogLost: TypeAlias = sqlite3.DatabaseError
"""What a call raises where the catalogue could not be used; calling again may find it rebuilt."""
FOLDER = "_catalog"
EPOCH_SECONDS = 60.0
ALWAYS_LOOKED_AT = 2_000
"""In stores of up to so many sessions a list looks at the size of every log, and sees what others than we did to it."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    session_id TEXT PRIMARY KEY, size INTEGER, updated TEXT, created TEXT, cost REAL, status TEXT, user TEXT, purpose TEXT,
    shown TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_updated ON sessions (updated DESC, session_id);
CREATE INDEX IF NOT EXISTS by_created ON sessions (created DESC, session_id);
CREATE INDEX IF NOT EXISTS by_cost ON sessions (cost DESC, session_id);
CREATE INDEX IF NOT EXISTS by_user ON sessions (user, status, updated DESC, session_id);
CREATE INDEX IF NOT EXISTS by_status ON sessions (status, updated DESC, session_id);
CREATE TABLE IF NOT EXISTS tags (
    tag TEXT, updated TEXT, session_id TEXT, PRIMARY KEY (tag, updated DESC, session_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tags_of ON tags (session_id);
CREATE TABLE IF NOT EXISTS marked (session_id TEXT, pid INTEGER, epoch INTEGER, PRIMARY KEY (session_id, pid)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""


class Filter(NamedTuple):
    """Which sessions, in which order. `tags` match any, `purpose` a part of it in any case, times the last update (ISO, UTC)."""

    user_id: str | None = None
    status: str | None = None
    tags: Sequence[str] | None = None
    purpose: str | None = None
    since: str | None = None
    until: str | None = None
    sort: Sort = "updated"
    limit: int | None = 100
    cursor: str | None = None


class Catalog:
    """A catalogue in a folder, or in memory where there is none. Safe for threads and processes."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._mutex, self._marking = threading.RLock(), threading.Lock()
        self._base: sqlite3.Connection | None = None
        self._schemas: set[str] = set()
        self._epoch, self._epoch_ends = 0, 0.0
        self._marked: set[str] = set()
        self._marks = -1
        self._is_waiting = False  # for the first session: a list makes no folder

    # --- marks, by who appends

    def mark(self, session_id: str) -> None:
        """Leave word that a session is about to change; once a minute is enough."""
        if session_id in self._marked and time.monotonic() < self._epoch_ends:
            return
        check_session_id(session_id)
        with self._marking:
            now = time.monotonic()
            if now >= self._epoch_ends:
                self._epoch, self._epoch_ends = time.time_ns(), now + EPOCH_SECONDS
                self._marked = set()
            if self._folder is not None:
                with suppress(OSError):  # the log is the truth; a list that cannot be told looks at what it can see
                    self._write_mark(f"{os.getpid()} {self._epoch} {session_id}\n")
            self._marked.add(session_id)

    def _write_mark(self, line: str) -> None:
        assert self._folder is not None  # noqa: S101 - asked before
        if self._marks < 0:
            make_private(self._folder)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._marks = os.open(self._folder / "marks", flags, 0o600)
        os.write(self._marks, line.encode("ascii"))

    # --- catching up

    def stale(self, sizes: "Sizes") -> list[str]:
        """Name the sessions whose rows may not be what their logs give; forget those that are gone."""
        with self.using() as base:
            self._take_marks(base)
            here = sizes.state()
            known = self._get(base, "state")
            rows = dict(base.execute("SELECT session_id, size FROM sessions")) if known != here else None
            if rows is None:
                count = base.execute("SELECT count(*) FROM sessions").fetchone()[0]
                if count > ALWAYS_LOOKED_AT:
                    return self._stale_of_marked(base, sizes)
                rows = dict(base.execute("SELECT session_id, size FROM sessions"))
            there = sizes.all()
            gone = rows.keys() - there.keys()
            new = there.keys() - rows.keys()
            self._remove(base, gone)
            if len(there) <= ALWAYS_LOOKED_AT or self._get(base, "boot") != sizes.boot():
                found = [one for one, size in sorted(there.items()) if rows.get(one) != size]
                self._set(base, "boot", sizes.boot())
            else:
                found = sorted({*new, *self._stale_of_marked(base, sizes)})
            self._set(base, "state", here)
            return found

    def _stale_of_marked(self, base: sqlite3.Connection, sizes: "Sizes") -> list[str]:
        """Look at the sessions that were marked; forget marks that nobody can append under any more."""
        rows = base.execute(
            "SELECT marked.session_id, pid, epoch, size FROM marked LEFT JOIN sessions USING (session_id)"
        ).fetchall()
        newest: dict[int, list[int]] = {}
        for _, pid, epoch, _ in rows:
            newest.setdefault(pid, []).append(epoch)
        final = {pid: sorted(set(epochs))[-2:][0] if _is_alive(pid) else 1 << 63 for pid, epochs in newest.items()}
        found = []
        for session_id, pid, epoch, size in rows:
            if sizes.size(session_id) != size:
                found.append(session_id)
            elif epoch < final[pid]:
                base.execute("DELETE FROM marked WHERE session_id = ? AND pid = ?", (session_id, pid))
        return sorted(set(found))

    def _take_marks(self, base: sqlite3.Connection) -> None:
        """Read the marks that came since the last look."""
        if self._folder is None:
            return
        try:
            with (self._folder / "marks").open("rb") as file:
                found = os.fstat(file.fileno())
                inode, offset = json.loads(self._get(base, "marks") or "[0, 0]")
                file.seek(offset if inode == found.st_ino and offset <= found.st_size else 0)
                start = file.tell()
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        if not whole:
            return
        marks = [line.split(" ") for line in whole.decode("ascii", "replace").splitlines()]
        base.executemany(
            "INSERT OR REPLACE INTO marked VALUES (?, ?, ?)",
            [(mark[2], int(mark[0]), int(mark[1])) for mark in marks if len(mark) == 3 and mark[1].isdigit()],
        )
        self._set(base, "marks", json.dumps([found.st_ino, start + len(whole)]))

    def put(self, rows: Iterable[tuple[Mapping[str, Any], int]]) -> None:
        """Take in what is known of sessions, as `SessionMetadata.to_dict` gives it, each with the size of its log in bytes."""
        with self.using() as base:
            for known, size in rows:
                session_id, updated = known["session_id"], known["updated_at"]
                base.execute(
                    "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        session_id,
                        size,
                        updated,
                        known["created_at"],
                        known["estimated_cost"] or 0.0,
                        known["status"],
                        known["user_id"],
                        known["purpose"],
                        json.dumps(known, ensure_ascii=False),
                    ),
                )
                base.execute("DELETE FROM tags WHERE session_id = ?", (session_id,))
                base.executemany(
                    "INSERT OR IGNORE INTO tags VALUES (?, ?, ?)",
                    [(tag, updated, session_id) for tag in known["tags"]],
                )

    def remove(self, session_id: str) -> None:
        """Forget a session."""
        with self.using() as base:
            self._remove(base, [session_id])

    def _remove(self, base: sqlite3.Connection, gone: Iterable[str]) -> None:
        for session_id in gone:
            for table in ("sessions", "tags", "marked"):
                base.execute(f"DELETE FROM {table} WHERE session_id = ?", (session_id,))  # noqa: S608 - names of ours

    # --- asking

    def find(self, wanted: Filter) -> tuple[list[dict[str, Any]], str | None]:
        """List what is known of the sessions that fit, and the cursor of the next page; None behind the last one.

        Raises ValueError for a cursor that is none, or of another order.
        """
        text, values = _query(wanted)
        with self.using() as base:
            found = base.execute(text, values).fetchall()
        more = None
        if wanted.limit is not None and len(found) > max(wanted.limit, 0):
            found = found[: max(wanted.limit, 0)]
            more = _cursor(wanted.sort, found[-1][1], found[-1][2]) if found else None
        return [json.loads(shown) for shown, _, _ in found], more

    # --- the base

    @contextmanager
    def using(self, schema: str = "") -> Iterator[sqlite3.Connection]:
        """Lend the base in a transaction, with tables of others in it; one that cannot be read is thrown away."""
        with self._mutex:
            if (
                self._is_waiting
                and self._base is not None
                and self._folder is not None
                and self._folder.parent.is_dir()
            ):
                self._base.close()
                self._base = None
            base = self._base or self._open()
            try:
                if schema and schema not in self._schemas:
                    base.executescript(schema)
                    self._schemas.add(schema)
                with base:
                    yield base
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                    raise
                self.clear()
                raise

    def _open(self) -> sqlite3.Connection:
        self._schemas = set()
        self._is_waiting = self._folder is not None and not self._folder.parent.is_dir()
        try:
            self._base = self._connect(None if self._is_waiting else self._folder)
        except (sqlite3.Error, OSError):
            try:
                self.clear()
                self._base = self._connect(self._folder)
            except (sqlite3.Error, OSError):
                self._base = self._connect(
                    None
                )  # a folder that cannot be written: what is there is looked at each time
        return self._base

    @staticmethod
    def _connect(folder: Path | None) -> sqlite3.Connection:
        if folder is None:
            base = sqlite3.connect(":memory:", check_same_thread=False)
        else:
            make_private(folder)
            path = folder / "catalog.db"
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            base = sqlite3.connect(path, timeout=10, check_same_thread=False)
            base.execute("PRAGMA journal_mode=WAL")
            base.execute("PRAGMA synchronous=OFF")
        base.executescript(_SCHEMA)
        base.execute("SELECT count(*) FROM known").fetchone()
        return base

    def scrub(self) -> None:
        """Write the base anew, so that nothing is left in its files of what was dropped; one that is in use is thrown away.

        Takes as much memory as the base is large: a temporary file would lie outside the store.
        """
        with self._mutex:
            base = self._base or self._open()
            try:
                base.execute("PRAGMA temp_store=MEMORY")
                base.execute("VACUUM")
                (busy, *_) = base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.Error:
                busy = 1
        if busy:
            self.clear()

    def clear(self) -> None:
        """Throw everything away; the next list makes it anew."""
        with self._mutex:
            if self._base is not None:
                self._base.close()
                self._base = None
            if self._folder is not None:
                for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
                    with suppress(FileNotFoundError):
                        (self._folder / name).unlink()

    def close(self) -> None:
        """Let go of files."""
        with self._mutex:
            if self._base is not None and self._folder is not None:
                self._base.close()
                self._base = None
        with self._marking:
            if self._marks >= 0:
                os.close(self._marks)
                self._marks = -1
            self._epoch_ends = 0.0

    def begin_in_child(self) -> None:
        """Open everything anew after a fork of the process: a connection must not be shared with a parent."""
        self._mutex, self._marking = threading.RLock(), threading.Lock()
        self._base, self._marks, self._epoch_ends, self._marked = None, -1, 0.0, set()

    @staticmethod
    def _get(base: sqlite3.Connection, name: str) -> str | None:
        found = base.execute("SELECT value FROM known WHERE name = ?", (name,)).fetchone()
        return found[0] if found else None

    @staticmethod
    def _set(base: sqlite3.Connection, name: str, value: str) -> None:
        base.execute("INSERT OR REPLACE INTO known VALUES (?, ?)", (name, value))


class Sizes:
    """The logs below a sessions folder, as far as a list has to look: ids, sizes in bytes, what tells that one came or went."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)

    def state(self) -> str:
        """Return a text that is another one after a session came or went, and after the system was started again."""
        try:
            return f"{os.stat(self._root).st_mtime_ns} {self.boot()}"
        except FileNotFoundError:
            return ""

    def boot(self) -> str:
        """Name this run of the system: what was not forced to the disk may be gone in the next one."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        except OSError:
            return ""

    def all(self) -> dict[str, int]:
        """Tell the sizes of all sessions by their ids."""
        try:
            names = os.listdir(self._root)
        except FileNotFoundError:
            return {}
        found = {}
        for name in names:
            size = self.size(name)
            if size is not None:
                with suppress(InvalidSessionId):
                    found[check_session_id(name)] = size
        return found

    def size(self, session_id: str) -> int | None:
        """Return the size of a session's log; None where there is none."""
        try:
            return os.stat(f"{self._root}/{session_id}/events.jsonl", follow_symlinks=False).st_size
        except OSError:
            return None


def make_private(folder: Path) -> None:
    """Make a folder inside the sessions folder, both for their owner only. Raises NotADirectoryError for a link, OSError."""
    folder.parent.mkdir(0o700, parents=True, exist_ok=True)
    folder.mkdir(0o700, exist_ok=True)
    if folder.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "a link leads out of the sessions folder", str(folder))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _query(wanted: Filter) -> tuple[str, list[Any]]:
    if wanted.sort not in get_args(Sort):
        raise ValueError(f"sort {wanted.sort!r} is not one of {', '.join(get_args(Sort))}")
    tags = list(wanted.tags or ())
    source, order, conditions, values = "sessions", f"sessions.{wanted.sort}", [], []
    if len(tags) == 1 and wanted.sort == "updated":
        source, order = "tags JOIN sessions USING (session_id)", "tags.updated"
        conditions.append("tags.tag = ?")
        values.append(tags[0])
    elif tags:
        some = ", ".join("?" * len(tags))
        conditions.append(f"session_id IN (SELECT session_id FROM tags WHERE tag IN ({some}))")  # noqa: S608 - question marks
        values += tags
    for column, value in (("user", wanted.user_id), ("status", wanted.status)):
        if value is not None:
            conditions.append(f"sessions.{column} = ?")
            values.append(value)
    if wanted.purpose is not None:
        conditions.append("instr(lower(sessions.purpose), lower(?)) > 0")
        values.append(wanted.purpose)
    for sign, value in ((">=", wanted.since), ("<=", wanted.until)):
        if value is not None:
            conditions.append(f"sessions.updated {sign} ?")
            values.append(value)
    if wanted.cursor is not None:
        last, session_id = _read_cursor(wanted.sort, wanted.cursor)
        conditions.append(f"({order} < ? OR ({order} = ? AND session_id > ?))")
        values += [last, last, session_id]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    limit = "" if wanted.limit is None else f" LIMIT {max(wanted.limit, 0) + 1}"
    text = f"SELECT shown, {order}, session_id FROM {source}{where} ORDER BY {order} DESC, session_id{limit}"  # noqa: S608 - ours
    return text, values


def _cursor(sort: Sort, value: object, session_id: str) -> str:
    return urlsafe_b64encode(json.dumps([sort, value, session_id]).encode()).decode("ascii").rstrip("=")


def _read_cursor(sort: Sort, text: str) -> tuple[Any, str]:
    try:
        found, value, session_id = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        found = None
    if found != sort:
        raise ValueError(f"cursor {text[:40]!a} is not one that a list sorted by {sort} gave")
    return value, session_id
