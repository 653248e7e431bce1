"""Analytics: figures over many sessions, as tables with small bars, CSV or Parquet."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from eventstore.cli.store import exit_for, open_manager, store_option
from eventstore.cli.terminal import Column, clean, duration, is_terminal, print_json, print_table
from eventstore.derived.analytics import By, Figures
from eventstore.errors import LogDamaged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstore.exporters.sheet import Column as SheetColumn
    from eventstore.exporters.sheet import Kind

_BARS = " ▏▎▍▌▋▊▉█"
_WIDTH, _WIDE = 16, 100  # of a bar, and of the narrowest terminal that has room for bars
_COLUMNS = (
    Column("SESSIONS", number=True),
    Column("MESSAGES", number=True),
    Column("CALLS", number=True),
    Column("ERRORS", "red", number=True),
    Column("IN TOOLS", number=True),
    Column("TOKENS", number=True),
    Column("COST", number=True),
)


@click.command("analytics", short_help="Show figures over many sessions.")
@click.option("--by", type=click.Choice(get_args(By)), default="day", show_default=True, help="The key to sum by.")
@click.option("--user", help="Only sessions of this user.")
@click.option("--tag", help="Only sessions with this tag.")
@click.option("--since", metavar="DAY", help="Only from this day on (UTC, 2026-01-31).")
@click.option("--until", metavar="DAY", help="Only up to this day.")
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the table as CSV.")
@click.option(
    "--parquet", type=click.Path(dir_okay=False, path_type=Path), help="Write it as Parquet (extra `parquet`)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one row per line.")
@store_option
def analytics_command(
    store: str | None,
    by: By,
    user: str | None,
    tag: str | None,
    since: str | None,
    until: str | None,
    csv_file: Path | None,
    parquet: Path | None,
    as_json: bool,
) -> None:
    """Show sessions, messages, tool calls, errors, tokens and cost by day, user, tag, tool or model.

    The bar shows the cost, or the messages if there is no cost. A session with two tags counts under both.
    """
    damaged: list[LogDamaged] = []
    with open_manager(store) as manager:
        rows = manager.analytics(by, user_id=user, tag=tag, since=since, until=until, on_damage=damaged.append)
    if csv_file is not None:
        _write_csv(csv_file, by, rows)
    if parquet is not None:
        from eventstore.exporters.sheet import write_parquet

        write_parquet(parquet, _table(by), rows)
    if as_json:
        for row in rows:
            print_json({by: row.key, **{name: value for name, value in row._asdict().items() if name != "key"}})
    elif csv_file is None and parquet is None:
        _print(by, rows)
    exit_for(damaged)


def _print(by: By, rows: "Sequence[Figures]") -> None:
    measure = [row.cost for row in rows] if any(row.cost for row in rows) else [float(row.messages) for row in rows]
    most = max(measure, default=0.0)
    columns = [Column(by.upper(), "cyan"), *_COLUMNS]
    cells = [[clean(row.key or "-"), *_shown(row)] for row in rows]
    if is_terminal() and shutil.get_terminal_size((100, 24)).columns >= _WIDE:
        columns.append(Column("", "green"))
        for cell, value in zip(cells, measure, strict=True):
            cell.append(_bar(value / most if most else 0.0))
    print_table(columns, cells)


def _shown(row: Figures) -> list[str]:
    return [
        f"{row.sessions:,}",
        f"{row.messages:,}",
        f"{row.calls:,}",
        f"{row.errors:,}",
        duration(row.duration_ms) if row.duration_ms else "",
        f"{row.tokens:,}" if row.tokens else "",
        f"{row.cost:.4f}" if row.cost else "",
    ]


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

    with path.open("wb") as file:
        file.writelines(to_csv(_table(by), rows))
