"""Analytics: figures over many sessions, as tables with small bars, CSV or Parquet."""

from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from eventstore.cli import when
from eventstore.cli.output import check_output, force_option, say_written, write_whole
from eventstore.cli.place import no_sessions
from eventstore.cli.store import exit_for, open_manager, store_option
from eventstore.cli.terminal import (
    Cell,
    Column,
    clean,
    cost,
    duration,
    is_terminal,
    print_json,
    print_table,
    progress,
    some,
)
from eventstore.derived.analytics import By, Figures
from eventstore.derived.prices import price_table
from eventstore.errors import LogDamaged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstore.exporters.sheet import Column as SheetColumn
    from eventstore.exporters.sheet import Kind

_BARS = " ▏▎▍▌▋▊▉█"
_WIDTH = 16  # cells of a bar
_COLUMNS = (
    Column("SESSIONS", number=True, name="sessions", drop=2),
    Column("MESSAGES", number=True, name="messages", drop=3),
    Column("CALLS", number=True, name="calls", drop=4),
    Column("ERRORS", number=True, name="errors", drop=5),
    Column("IN TOOLS", number=True, name="duration_ms", drop=6),
    Column("TOKENS", number=True, name="tokens"),
    Column("COST", number=True, name="cost"),
)
_NONE = {"user": "(no user)", "tag": "(no tag)", "tool": "(no tool)", "model": "(no model)", "project": "(no project)"}


@click.command("analytics", short_help="Show figures over many sessions.")
@click.option("--by", type=click.Choice(get_args(By)), default="day", show_default=True, help="The key to sum by.")
@click.option("--user", help="Only sessions of this user.")
@click.option("--tag", help="Only sessions with this tag.")
@click.option("--since", metavar="DAY", help="Only from this day on, such as 2026-01-31, 7d or 2025-10.")
@click.option("--until", metavar="DAY", help="Only up to this day.")
@click.option(
    "--timezone", default="local", show_default=True, help="The time zone of days: an IANA name, UTC, or local."
)
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the table as CSV.")
@click.option(
    "--parquet", type=click.Path(dir_okay=False, path_type=Path), help="Write it as Parquet (extra `parquet`)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one row per line.")
@force_option
@store_option
def analytics_command(
    store: str | None,
    by: By,
    user: str | None,
    tag: str | None,
    since: str | None,
    until: str | None,
    timezone: str,
    csv_file: Path | None,
    parquet: Path | None,
    as_json: bool,
    force: bool,
) -> None:
    """Show sessions, messages, tool calls, errors, tokens and cost by day, week, month, project, user, tag, tool or model.

    The bar shows the share of the cost, of the tokens if there is no cost, else of the messages. A session with two tags counts
    under both, and once in the total. A week is named by its Monday. Where no cost was
    recorded, it is estimated (~) by the price table of the extra `prices`.
    """
    for path in (csv_file, parquet):
        check_output(path, force=force, is_file=path is parquet)
    damaged: list[LogDamaged] = []
    first, last = _day("--since", since), _day("--until", until, last=True)
    with open_manager(store) as manager, progress("counting"):
        asked = partial(manager.analytics, user_id=user, tag=tag, since=first, until=last, timezone=timezone)
        rows = asked(by, on_damage=damaged.append)
        total = asked("total", on_damage=lambda damage: None)
        known = 0 if user or tag or since or until else sum(1 for _ in manager.storage.log.ids())
    if csv_file is not None:
        _write_csv(csv_file, by, rows)
    if parquet is not None:
        from eventstore.exporters.sheet import write_parquet

        write_parquet(parquet, _table(by), rows)
        say_written(parquet)
    if as_json:
        for row in rows:
            print_json({by: row.key, **{name: value for name, value in row._asdict().items() if name != "key"}})
    elif csv_file is None and parquet is None:
        _print(by, rows, _sum(total), store, timezone)
        if (left := known - sum(row.sessions for row in total) - len(damaged)) > 0 and is_terminal():
            click.echo(f"{some(left, 'session')} without a message, a call or usage: not counted", err=True)
    exit_for(damaged)


def _day(option: str, text: str | None, *, last: bool = False) -> str | None:
    """Parse where a period of days begins or ends. Raises BadParameter."""
    found = when.as_day(text, last=last)
    try:
        return None if found is None else date.fromisoformat(found[:10]).isoformat()
    except ValueError:
        raise click.BadParameter(
            f"{clean(str(text))!r} is not a day: {when.HOW_DAY}", param_hint=f"'{option}'"
        ) from None


def _sum(rows: "Sequence[Figures]") -> Figures:
    numbers = list(zip(*(row[1:] for row in rows), strict=True)) or [(0,)] * (len(Figures._fields) - 1)
    return Figures("TOTAL", *map(sum, numbers))


def _print(by: By, rows: "Sequence[Figures]", total: Figures, store: str | None, timezone: str) -> None:
    if not rows:
        click.echo(no_sessions(store), err=True)
        return
    figures = {"cost": _whole_cost, "tokens": _tokens, "messages": _messages, "calls": _calls}
    what = next((name for name, figure in figures.items() if any(map(figure, rows))), "calls")
    measure = [float(figures[what](row)) for row in rows]
    most, every = max(measure), sum(measure)
    title = f"{by.upper()} ({timezone})" if by in ("day", "week", "month") and timezone != "local" else by.upper()
    columns = [Column(title, "cyan", name=by, least=20), *_COLUMNS]
    cells: list[list[str | Cell]] = [[Cell(_key(by, row.key), clean(row.key)), *_shown(row)] for row in rows]
    if is_terminal():
        columns.append(Column(f"SHARE OF {what.upper()}", "green", drop=7, least=99))
        for cell, value in zip(cells, measure, strict=True):
            share = value / every if every else 0.0
            cell.append(f"{share:4.0%} {_bar(value / most if most else 0.0)}")
    summed = ["TOTAL", *(one.shown if isinstance(one, Cell) else one for one in _shown(total)), ""]
    print_table(columns, cells, total=summed if len(rows) > 1 else ())
    table = price_table() if total.estimated_cost else None
    if table is not None:
        click.echo(f"~ estimated in USD by genai-prices {table.version} of {table.day}", err=True)


def _whole_cost(row: Figures) -> float:
    return row.cost + row.estimated_cost


def _tokens(row: Figures) -> float:
    return row.tokens


def _messages(row: Figures) -> float:
    return row.messages


def _calls(row: Figures) -> float:
    return row.calls


def _key(by: By, key: str) -> str:
    """Return how a row is called: a project by the name of its folder."""
    name = key.replace("\\", "/").rstrip("/").rpartition("/")[2] if by == "project" else key
    return clean(name) or _NONE.get(by, "-")


def _shown(row: Figures) -> list[str | Cell]:
    return [
        Cell(f"{row.sessions:,}", str(row.sessions)),
        Cell(f"{row.messages:,}", str(row.messages)),
        Cell(f"{row.calls:,}", str(row.calls)),
        Cell(f"{row.errors:,}" if row.errors else "", str(row.errors), "red"),
        Cell(duration(row.duration_ms) if row.duration_ms else "", f"{row.duration_ms:g}"),
        Cell(f"{row.tokens:,}" if row.tokens else "", str(row.tokens)),
        Cell(_cost(row), f"{_whole_cost(row):g}"),
    ]


def _cost(row: Figures) -> str:
    """Return the cost; with a tilde if a part of it is estimated."""
    whole = _whole_cost(row)
    return f"{'~' if row.estimated_cost else ''}{cost(whole)}" if whole else ""


def _bar(share: float) -> str:
    eighths = round(share * _WIDTH * 8)
    return "█" * (eighths // 8) + _BARS[eighths % 8].strip()


def _table(by: By) -> list["SheetColumn"]:
    """Return the columns of the table in a file."""
    from eventstore.exporters.sheet import Column as SheetColumn

    kinds: dict[Any, Kind] = {int: "integer", float: "number"}
    return [
        SheetColumn(by),
        *(SheetColumn(name, kinds[Figures.__annotations__[name]]) for name in Figures._fields[1:]),
    ]


def _write_csv(path: Path, by: By, rows: "Sequence[Figures]") -> None:
    from eventstore.exporters.sheet import to_csv

    write_whole(path, to_csv(_table(by), rows))
