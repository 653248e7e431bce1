"""Markdown in a terminal. This module loads rich, so it is imported where something is rendered."""

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Heading, Markdown

from eventstore.cli.terminal import console, width


class _Heading(Heading):
    """A heading at the left, where the eye looks for it."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        yield self.text


class _Markdown(Markdown):
    elements = {**Markdown.elements, "heading_open": _Heading}  # noqa: RUF012 - the base class has it so


def print_markdown(text: str) -> None:
    """Print escaped Markdown. Links show their address and open nothing: what is here was written by others."""
    shown = _Markdown(text, code_theme="ansi_dark", hyperlinks=False)
    console().print(shown, width=width())
