"""Tables: tab-separated in a pipe, aligned in a terminal. Lines never wrap: columns are cut, then dropped."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import click

from eventstore.cli.screen import cells, head, is_terminal, pad, width

_GAP = 2
_LEAST = 6  # cells: a narrower column is not readable


class Column(NamedTuple):
    """A column of a table: title, colour in a terminal, and True for numbers.

    `name` is the title in a pipe, the key that `--json` uses. `least` is to how many cells it may be cut; 0 means that it is not,
    which holds for all columns but the last. Columns with a greater `drop` are left out first where there is no room; 0: never.
    """

    title: str
    colour: str | None = None
    number: bool = False
    name: str = ""
    least: int = 0
    drop: int = 0


class Cell(NamedTuple):
    """A cell that is shown in another way in a terminal than in a pipe."""

    shown: str
    plain: str
    colour: str | None = None


def print_table(columns: Sequence[Column], rows: Iterable[Sequence["str | Cell"]], total: Sequence[str] = ()) -> None:
    """Print rows. Cells must be escaped. A terminal shows no empty columns, `total` as a last line, and what had no room.

    A pipe gets all columns and no total, so that programs can add up what they read.
    """
    if not is_terminal():
        click.echo("\t".join(column.name or column.title for column in columns))
        for row in rows:
            click.echo("\t".join(cell.plain if isinstance(cell, Cell) else cell for cell in row))
        return
    found = [[cell if isinstance(cell, Cell) else Cell(cell, cell) for cell in row] for row in rows]
    shown = [place for place in range(len(columns)) if any(row[place].shown for row in found)]
    last = [[Cell(text, text) for text in total]] if total else []
    _print_grid(
        [columns[place] for place in shown],
        [[row[place] for place in shown] for row in [*found, *last]],
        has_total=bool(total),
    )


def _print_grid(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, has_total: bool) -> None:
    titles = [Cell(column.title, column.title) for column in columns]
    natural = [max(cells(cell.shown) for cell in column) for column in zip(titles, *rows, strict=True)]
    places, widths = _fit(columns, natural, width())
    if not places:
        return
    click.echo(_line(columns, titles, places, widths, bold=True))
    for number, row in enumerate(rows, 1):
        click.echo(_line(columns, row, places, widths, bold=has_total and number == len(rows)))
    left_out = [column.title for place, column in enumerate(columns) if column.name and place not in places]
    for line in wrap(f"no room for {', '.join(left_out)}: --json shows all", width()) if left_out else ():
        click.echo(click.style(line, dim=True), err=True)


def _fit(columns: Sequence[Column], natural: Sequence[int], room: int) -> tuple[list[int], dict[int, int]]:
    """Return which columns are shown, and the width of each."""
    places = list(range(len(columns)))
    least = {place: _least(columns, natural, place) for place in places}
    while sum(least[place] for place in places) + _GAP * (len(places) - 1) > room:
        droppable = [place for place in places if columns[place].drop]
        if not droppable:
            break
        places.remove(max(droppable, key=lambda place: (columns[place].drop, place)))
    widths = {place: natural[place] for place in places}
    over = sum(widths.values()) + _GAP * (len(places) - 1) - room
    for floor in (least, dict.fromkeys(places, 1)):  # the second is for a line that has no room for what must be there
        while over > 0:
            place = max(places, key=lambda one: widths[one] - floor[one] if widths[one] > floor[one] else -1)
            if widths[place] <= floor[place]:
                break
            step = min(over, max(1, (widths[place] - floor[place]) // 2))
            widths[place] -= step
            over -= step
    return places, widths


def _least(columns: Sequence[Column], natural: Sequence[int], place: int) -> int:
    column = columns[place]
    if column.least:
        return min(column.least, natural[place])
    is_last = place == len(columns) - 1 and not column.number
    return min(natural[place], max(_LEAST, cells(column.title))) if is_last else natural[place]


def _line(
    columns: Sequence[Column], row: Sequence[Cell], places: Sequence[int], widths: dict[int, int], *, bold: bool
) -> str:
    parts = []
    for place in places:
        column, is_last = columns[place], place == places[-1]
        text = pad(row[place].shown, widths[place], right=column.number)
        text = text.rstrip() if is_last else text
        colour = row[place].colour or column.colour
        parts.append(click.style(text, bold=True) if bold else click.style(text, fg=colour) if colour else text)
    return (" " * _GAP).join(parts)


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair per line; in a terminal, long values wrap in their column. Values must be escaped."""
    found = [(name, value) for name, value in pairs if value != ""]
    front = max((cells(name) for name, _ in found), default=0)
    room = width() - front - _GAP
    for name, value in found:
        lines = wrap(value, room) if is_terminal() and room >= _LEAST else [value]
        for number, line in enumerate(lines):
            click.echo(f"{click.style(pad('' if number else name, front), fg='cyan')}{' ' * _GAP}{line}")


def wrap(text: str, room: int) -> list[str]:
    """Break a line into lines of `room` cells at most: between words, and inside of those that are longer."""
    lines, line, used = list[str](), "", 0
    for word in text.split(" "):
        size = cells(word)
        if line and used + 1 + size <= room:
            line, used = f"{line} {word}", used + 1 + size
            continue
        if line:
            lines.append(line)
        while size > room:
            beginning = head(word, room)
            lines.append(beginning)
            word = word[len(beginning) :]
            size = cells(word)
        line, used = word, size
    return [*lines, line] if line or not lines else lines
