"""Write the table of commands in `eventstore/cli/README.md`, and `options.json`, from the code: `command_table.py [--check]`."""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from eventstore.cli import _COMMANDS

README = Path(__file__).parents[1] / "eventstore" / "cli" / "README.md"
OPTIONS = README.with_name("options.json")
HELP = {"--help": {"text": "Show this message and exit.", "value": None, "many": False}}
BEGIN, END = "<!-- commands: written by tools/command_table.py -->\n", "<!-- end of commands -->\n"


def table() -> str:
    """Return the table: how each command is called, its options, and what it does."""
    rows = [row for name, (module, _) in sorted(_COMMANDS.items()) for row in rows_of(name, module)]
    return "\n".join(["| command | options | does |", "|---|---|---|", *rows]) + "\n"


def rows_of(name: str, module: str) -> Iterator[str]:
    """Return the rows of one command; for a group, those of its commands."""
    command = getattr(import_module(f"eventstore.cli.{module}"), f"{name}_command")
    if isinstance(command, click.Group):
        for inner, each in sorted(command.commands.items()):
            yield row_of(f"{name} {inner}", each)
    else:
        yield row_of(name, command)


def row_of(name: str, command: click.Command) -> str:
    """Return the row of a command."""
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


def options() -> str:
    """Return what completion knows of all commands, as JSON."""
    found = {}
    for name, (module, _) in sorted(_COMMANDS.items()):
        command = getattr(import_module(f"eventstore.cli.{module}"), f"{name}_command")
        if isinstance(command, click.Group):
            found[name] = {"commands": {inner: options_of(each) for inner, each in sorted(command.commands.items())}}
        else:
            found[name] = options_of(command)
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def options_of(command: click.Command) -> dict[str, Any]:
    """Return the options and arguments of a command: what they mean, and which values they have."""
    shown = {}
    for one in command.params:
        if isinstance(one, click.Option) and not one.hidden:
            value = None if one.is_flag else _kind(one)
            for name in [*one.opts, *one.secondary_opts]:
                if name.startswith("--"):
                    shown[name] = {"text": (one.help or "").split(". ")[0], "value": value, "many": one.multiple}
    arguments = [_kind(one) for one in command.params if isinstance(one, click.Argument)]
    if "format" in arguments:
        arguments[0] = formats(command.name or "")
    return {"text": command.get_short_help_str(120), "options": shown | HELP, "arguments": arguments}


def formats(command: str) -> list[str]:
    """Return the formats that import or export take."""
    module = import_module("eventstore.cli.transcript")
    others = () if command == "import" else ("events", *module.FORMS, *module._TRACES, *module._TABLES)
    return [*module._FORMATS, *others]


def _kind(one: click.Parameter) -> list[str] | str:
    if isinstance(one.type, click.Choice):
        return [str(choice) for choice in one.type.choices]
    if one.name in ("session_id", "session_ids", "sessions", "a", "b") and one.metavar not in ("FROM", "[TO]"):
        return "session"
    if one.name == "form":
        return "format"
    if isinstance(one.type, click.Path | click.File) or one.name == "store":
        return "file"
    return str(one.metavar or one.name or "")


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
        is_new = new == text and options() == OPTIONS.read_text("utf-8")
        sys.exit(0 if is_new else "eventstore/cli is not up to date: python tools/command_table.py")
    README.write_text(new, "utf-8")
    OPTIONS.write_text(options(), "utf-8")


if __name__ == "__main__":
    main()
