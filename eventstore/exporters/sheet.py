"""Tables as files: CSV without spreadsheet formulas, JSON, and Parquet."""

import csv
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from eventstore.errors import ExtraMissing

Cell: TypeAlias = str | int | float | bool | None
Kind: TypeAlias = Literal["text", "integer", "number", "boolean", "time"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {0x7F: 0x2421}
_TYPES: dict[Kind, str] = {
    "text": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "time": "TIMESTAMP",
}
_ROWS_AT_ONCE = 4096  # a Parquet row group is held in memory until it is full


class Column(NamedTuple):
    """A column: name and type. A time is RFC 3339 in UTC, with `Z`."""

    name: str
    kind: Kind = "text"


def harmless(text: str) -> str:
    r"""Prefix a text with an apostrophe if a spreadsheet would read it as a formula.

    Such a text begins, after blanks, with = + - @ or their full-width forms, or it begins with TAB, CR or LF. Control characters,
    which no spreadsheet can store, become control pictures: NUL becomes `\u2400`.
    """
    shown = text if text.isprintable() else text.translate(_PICTURES)
    return f"'{shown}" if shown.startswith(_FORMULA) or shown.lstrip().startswith(_FORMULA) else shown


def to_csv(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, bom: bool = False) -> Iterator[bytes]:
    """Stream a table as CSV (RFC 4180, UTF-8) with a header row. No cell is a formula; numbers stay numbers.

    `bom` adds a byte order mark, without which Excel does not read the file as UTF-8.
    """
    buffer = _Buffer()
    writer = csv.writer(buffer)
    writer.writerow([harmless(column.name) for column in columns])
    yield (b"\xef\xbb\xbf" if bom else b"") + buffer.take()
    for row in rows:
        writer.writerow([_shown(cell) for cell in row])
        yield buffer.take()


class _Buffer:
    """The last output of a csv writer."""

    def __init__(self) -> None:
        self._text: list[str] = []

    def write(self, text: str) -> None:
        self._text.append(text)

    def take(self) -> bytes:
        text = "".join(self._text)
        self._text.clear()
        return text.encode()


def _shown(cell: Cell) -> str | int | float | None:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return harmless(cell) if isinstance(cell, str) else cell


def to_json(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, lines: bool = False) -> Iterator[bytes]:
    """Stream a table as a JSON array of objects, one row per line; with `lines` as JSON lines."""
    names = [column.name for column in columns]
    before = b"" if lines else b"[\n"
    for row in rows:
        yield before + msgspec.json.encode(dict(zip(names, row, strict=True))) + (b"\n" if lines else b"")
        before = b"" if lines else b",\n"
    if not lines:
        yield b"[]\n" if before == b"[\n" else b"\n]\n"


def write_parquet(path: Path, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a table as Parquet, atomically, with times as TIMESTAMP in UTC. Raises ExtraMissing without duckdb.

    Rows go through a temporary file in the same folder, so memory does not grow with the table. An integer beyond 64 bits
    becomes an empty cell.
    """
    try:
        import duckdb
    except ImportError:
        raise ExtraMissing("parquet", "Parquet") from None
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        spool, made = Path(folder, "rows.jsonl"), Path(folder, "made")
        longest = _spool(spool, columns, rows)
        kinds = ", ".join(f"{_quoted(column.name, chr(34))}: '{_TYPES[column.kind]}'" for column in columns)
        names = ", ".join(_quoted(column.name, '"') for column in columns)
        with duckdb.connect(config={"threads": 1, "temp_directory": folder}) as base:
            base.execute(
                f"COPY (SELECT {names} FROM read_json({_quoted(str(spool))}, format = 'newline_delimited', "  # noqa: S608
                f"columns = {{{kinds}}}, maximum_object_size = {max(longest + 1, 1 << 20)})) TO {_quoted(str(made))} "
                f"(FORMAT PARQUET, COMPRESSION ZSTD, ROW_GROUP_SIZE {_ROWS_AT_ONCE})"
            )
        made.chmod(0o600)
        made.replace(path)


def _spool(spool: Path, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> int:
    """Write rows as JSON lines; return the length of the longest in bytes."""
    longest = 0
    with os.fdopen(os.open(spool, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for row in rows:
            cells = {
                column.name: _fit(column.kind, cell)
                for column, cell in zip(columns, row, strict=True)
                if cell is not None
            }
            line = msgspec.json.encode(cells) + b"\n"
            longest = max(longest, len(line))
            file.write(line)
    return longest


def _fit(kind: Kind, cell: Cell) -> Cell:
    if kind == "time" and isinstance(cell, str):
        return cell.removesuffix("Z")
    if kind == "integer" and isinstance(cell, int) and not -(2**63) <= cell < 2**63:
        return None
    return cell


def _quoted(text: str, mark: str = "'") -> str:
    return mark + text.replace(mark, mark * 2) + mark
