"""Output for people: escaped text, tables and progress bars in a terminal, tab-separated columns in a pipe."""

import sys
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from eventstore.escape import clean as clean
from eventstore.escape import clean_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class Column(NamedTuple):
    """A column of a table: title, colour in a terminal, and True for numbers."""

    title: str
    colour: str | None = None
    number: bool = False


class Finite(click.FloatRange):
    """A finite number in a range. click's own FloatRange accepts NaN and infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the number. Raises BadParameter."""
        found = super().convert(value, param, ctx)
        if not isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return found


def one_line(text: str, limit: int | None = None) -> str:
    """Return a text on one line, escaped, and cut at `limit` characters."""
    head = text if limit is None else text[: 4 * limit]
    line = clean(" ".join(head.split()))
    return line if limit is None or (len(line) <= limit and len(head) == len(text)) else line[: limit - 1] + "…"


def is_terminal() -> bool:
    """Return True if standard output is a terminal."""
    return sys.stdout.isatty()


def console(*, stderr: bool = False) -> "Console":
    """Create a rich console. rich is loaded here, because only terminals need it."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, emoji=False, markup=False)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON, in a terminal with harmful characters escaped."""
    from msgspec import json  # imported here: most commands print no JSON

    text = json.encode(value, enc_hook=str).decode()
    click.echo(clean_json(text) if is_terminal() else text)


def write_out(chunks: Iterable[bytes], *, is_json: bool) -> None:
    """Write bytes to standard output: unchanged to a pipe or a file, with harmful characters escaped to a terminal."""
    if not is_terminal():
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return
    decoder = getincrementaldecoder("utf-8")("backslashreplace")
    for chunk in chain(chunks, [b""]):
        text = decoder.decode(chunk, final=not chunk).replace("\r", "")
        click.echo(clean_json(text) if is_json else clean(text, keep_lf=True), nl=False)


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print rows: tab-separated in a pipe, as a table in a terminal. Cells must be escaped.

    The table omits empty columns, and cuts the last column to fit the line.
    """
    if not is_terminal():
        click.echo("\t".join(column.title for column in columns))
        for row in rows:
            click.echo("\t".join(row))
        return
    found = list(rows)
    shown = [place for place in range(len(columns)) if any(row[place] for row in found)]
    _print_grid([columns[place] for place in shown], [[row[place] for place in shown] for row in found])


def _print_grid(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    import shutil

    from rich.cells import cell_len, set_cell_size

    widths = [max(map(cell_len, cells)) for cells in zip([column.title for column in columns], *rows, strict=True)]
    room = shutil.get_terminal_size((100, 24)).columns - sum(widths[:-1]) - 2 * len(widths[:-1]) - 1
    widths[-1] = min(widths[-1], max(room, 10))
    click.echo(
        "  ".join(
            click.style(column.title.rjust(width) if column.number else column.title.ljust(width), bold=True)
            for column, width in zip(columns, widths, strict=True)
        )
    )
    for row in rows:
        cells = []
        for column, width, text in zip(columns, widths, row, strict=True):
            pad = " " * (width - cell_len(text))
            cut = text if cell_len(text) <= width else set_cell_size(text, width - 1) + "\N{HORIZONTAL ELLIPSIS}"
            cells.append(click.style(pad + cut if column.number else cut + pad, fg=column.colour))
        click.echo("  ".join(cells).rstrip())


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair per line. Values must be escaped."""
    found = [(name, value) for name, value in pairs if value != ""]
    width = max((len(name) for name, _ in found), default=0)
    for name, value in found:
        click.echo(f"{click.style(name.ljust(width), fg='cyan')}  {value}")


def heading(text: str) -> None:
    """Print a heading."""
    click.echo(click.style(text, bold=True))


@contextmanager
def progress(title: str, total: int | None) -> Iterator["Progress | None"]:
    """Show a progress bar on standard error while the block runs; yields None if that is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
    )
    with bar:
        bar.add_task(title, total=total)
        yield bar


def duration(milliseconds: float | None) -> str:
    """Format a duration: 12 ms, 3.4 s, 2 min 05 s, 1 h 02 min."""
    if milliseconds is None:
        return ""
    seconds = milliseconds / 1000
    if seconds < 1:
        return f"{milliseconds:.0f} ms" if milliseconds >= 1 else f"{milliseconds:.2f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def since_start(seconds: float) -> str:
    """Format the time since the start: +00:01.234, +1:02:03.456."""
    minutes, rest = divmod(max(seconds, 0.0), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"+{hours}:{minutes:02d}:{rest:06.3f}" if hours else f"+{minutes:02d}:{rest:06.3f}"


def moment(when: datetime) -> str:
    """Format a time in the local zone, to the second; in UTC if the zone would leave the years 1 to 9999."""
    try:
        return when.astimezone().isoformat(" ", "seconds")[:19]
    except (OverflowError, OSError, ValueError):
        return when.astimezone(UTC).isoformat(" ", "seconds")[:19] + " UTC"


def tokens(counts: dict[str, int] | None) -> str:
    """Format tokens by kind: 1,200 input, 80 output."""
    return ", ".join(f"{count:,} {clean(kind)}" for kind, count in (counts or {}).items())
