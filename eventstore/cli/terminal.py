"""Output for people: escaped text, JSON, numbers. Everything that prints imports its names from here."""

import sys
from codecs import getincrementaldecoder
from collections.abc import Iterable, Sequence
from itertools import chain
from math import isfinite
from typing import TYPE_CHECKING, Any

import click

from eventstore.cli.progress import progress as progress
from eventstore.cli.screen import cells as cells
from eventstore.cli.screen import cut as cut
from eventstore.cli.screen import is_terminal as is_terminal
from eventstore.cli.screen import pad as pad
from eventstore.cli.screen import width as width
from eventstore.cli.table import Cell as Cell
from eventstore.cli.table import Column as Column
from eventstore.cli.table import print_pairs as print_pairs
from eventstore.cli.table import print_table as print_table
from eventstore.cli.when import moment as moment
from eventstore.cli.when import relative as relative
from eventstore.escape import VERY_LARGE, clean_json
from eventstore.escape import clean as clean

_MOST_LEFT = 20

if TYPE_CHECKING:
    from rich.console import Console


class Finite(click.FloatRange):
    """A finite number in a range. click's own FloatRange accepts NaN and infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the number. Raises BadParameter."""
        found = super().convert(value, param, ctx)
        if not isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return found


def one_line(text: str, limit: int | None = None) -> str:
    """Return a text on one line, escaped, and cut at `limit` cells."""
    head = text if limit is None else text[: 4 * limit]
    line = clean(" ".join(head.split()))
    return line if limit is None else cut(line if len(head) == len(text) else line + " " * limit, limit)


def plain(value: Any) -> str:
    """Return a value as people write it: text as it is, all else as JSON, numbers with 12 digits."""
    if isinstance(value, str):
        return value
    from msgspec import json

    return json.encode(_rounded(value), enc_hook=str).decode()


def _rounded(value: Any) -> Any:
    """Return a value without the last digits of its numbers, which are those of their binary form: 0.1 + 0.2 is 0.3."""
    if isinstance(value, float) and isfinite(value):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


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
    for number, chunk in enumerate(chain(chunks, [b""])):
        text = decoder.decode(chunk, final=not chunk).replace("\r", "")
        text = text if number else text.removeprefix("\ufeff")  # of CSV, for spreadsheets
        click.echo(clean_json(text) if is_json else clean(text, keep_lf=True), nl=False)


def heading(text: str) -> None:
    """Print a heading."""
    click.echo(click.style(text, bold=True))


def duration(milliseconds: float | None) -> str:
    """Format a duration: 12 ms, 3.4 s, 2 min 05 s, 1 h 02 min."""
    if milliseconds is None:
        return ""
    seconds = milliseconds / 1000
    if not seconds:
        return "0 ms"
    if seconds < 1:
        return f"{milliseconds:.0f} ms" if milliseconds >= 1 else f"{milliseconds:.2f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds > VERY_LARGE:
        return f"{seconds / 3600:.3g} h"
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


def tokens(counts: dict[str, int] | None) -> str:
    """Format tokens by kind: 1,200 input, 80 output."""
    return ", ".join(f"{count:,} {clean(kind)}" for kind, count in (counts or {}).items())


def count(number: int) -> str:
    """Format a count in four characters or so: 950, 12k, 3.4M."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size * 0.9995:
            found = number / size
            return f"{found:.1f}{letter}" if found < 9.95 else f"{found:.0f}{letter}"
    return str(number)


def cost(value: float | None) -> str:
    """Format a cost: two digits from 1 on, four below; of a very large one, three in all."""
    if value is not None and abs(value) > VERY_LARGE:
        return f"{value:.3g}"
    return "" if value is None else f"{value:,.2f}" if value >= 1 else f"{value:.4f}"


def print_left(places: Sequence[str], advice: str = "") -> None:
    """Print the files that have removed text and were not changed: at most 20, and how many there are besides."""
    for place in places[:_MOST_LEFT]:
        click.echo(f"eventstore: not changed, inspect it yourself: {clean(place)}", err=True)
    if len(places) > _MOST_LEFT:
        more = some(len(places) - _MOST_LEFT, "more file")
        click.echo(f"eventstore: not changed, inspect them yourself: {more}{advice}", err=True)


def some(number: int, what: str, many: str = "") -> str:
    """Format a number of things: 1 event, 2,000 events."""
    return f"{number:,} {what if number == 1 else many or what + 's'}"
