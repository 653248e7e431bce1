"""Write the table of commands in `eventstore/cli/README.md` from the code: `python tools/command_table.py [--check]`."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click

from eventstore.cli import _COMMANDS

README = Path(__file__).parents[1] / "eventstore" / "cli" / "README.md"
BEGIN, END = "<!-- commands: written by tools/command_table.py -->\n", "<!-- end of commands -->\n"


def table() -> str:
    """Return the table: how each command is called, its options, and what it does."""
    rows = [row for name, (module, _) in sorted(_COMMANDS.items()) for row in rows_of(name, module)]
    return "\n".join(["| command | options | does |", "|---|---|---|", *rows]) + "\n"


def rows_of(name: str, module: str) -> Iterator[str]:
    """Give the rows of one command, of a group those of its commands."""
    command = getattr(import_module(f"eventstore.cli.{module}"), f"{name}_command")
    if isinstance(command, click.Group):
        for inner, each in sorted(command.commands.items()):
            yield row_of(f"{name} {inner}", each)
    else:
        yield row_of(name, command)


def row_of(name: str, command: click.Command) -> str:
    """Give the row of a command."""
    with click.Context(command, info_name=name) as context:
        arguments = [
            piece
            for one in command.params
            if isinstance(one, click.Argument)
            for piece in one.get_usage_pieces(context)
        ]
    options = [
        max(one.opts, key=len) for one in command.params if isinstance(one, click.Option) and one.name != "store"
    ]
    cells = [" ".join(["eventstore", name, *arguments]), " ".join(options)]
    shown = [f"`{cell.replace('|', chr(92) + '|')}`" if cell else "" for cell in cells]
    return f"| {shown[0]} | {shown[1]} | {command.get_short_help_str(120)} |"


def with_table(text: str) -> str:
    """Return the README with the table of the present code."""
    front, _, rest = text.partition(BEGIN)
    _, _, behind = rest.partition(END)
    return front + BEGIN + table() + END + behind


def main() -> None:
    """Write the table, or with --check end with status 1 where the README holds another."""
    text = README.read_text("utf-8")
    new = with_table(text)
    if "--check" in sys.argv[1:]:
        sys.exit(0 if new == text else "eventstore/cli/README.md is not up to date: python tools/command_table.py")
    README.write_text(new, "utf-8")


if __name__ == "__main__":
    main()
