"""The table of commands is that of the code."""

import command_table

from eventstore.cli import _COMMANDS


def test_the_page_has_the_commands_of_the_code() -> None:
    text = command_table.README.read_text("utf-8")
    assert command_table.with_table(text) == text, "run python tools/command_table.py"
    for name in _COMMANDS:
        assert f"| `eventstore {name}" in text


def test_each_command_says_the_same_in_the_list_and_in_its_help() -> None:
    for name, (module, told) in _COMMANDS.items():
        rows = list(command_table.rows_of(name, module))
        if len(rows) == 1:
            assert rows[0].endswith(f"| {told} |"), name
