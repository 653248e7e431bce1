"""Files that commands write: private, written atomically, and never over an existing file without a request."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from eventstore.cli.terminal import clean
from eventstore.exporters.target import naming_output

F = TypeVar("F", bound=Callable[..., Any])


def force_option(command: F) -> F:
    """Add the option --force to a command that writes a file."""
    return click.option("--force", is_flag=True, help="Replace an existing file.")(command)


def is_stream(path: Path) -> bool:
    """Return whether a path leads to a pipe or a device: what is there cannot be replaced."""
    if path.parts[:2] == ("/", "dev"):
        return path.exists() and not path.is_dir()
    return path.is_fifo() or path.is_char_device() or path.is_block_device() or path.is_socket()


def check_output(path: Path | None, *, force: bool, is_file: bool = False) -> None:
    """Refuse a file that exists, before any work is done. Raises ClickException.

    A pipe or a device, such as `/dev/stdout`, is written to and never replaced; with `is_file`, for a format that needs a file,
    it is refused.
    """
    if path is not None and is_stream(path):
        if is_file:
            raise click.ClickException(f"{clean(str(path))} is a pipe or a device; nothing was written: name a file")
        return
    if path is None or force or path.is_dir():  # for a folder, the writer itself reports the error
        return
    if os.path.lexists(path):
        raise click.ClickException(
            f"{clean(str(path))} exists already; nothing was written: choose another name, or use --force"
        )


@contextmanager
def private_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that only this user can read. It appears when it is complete. A pipe or a device is written to as it is."""
    if is_stream(path):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_NOCTTY), "wb") as stream:
            yield stream
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    with naming_output(path, temporary):
        opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with naming_output(path, temporary), os.fdopen(opened, "wb") as stream:
            yield stream
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_whole(path: Path, chunks: Iterable[bytes]) -> None:
    """Write chunks to a private file, atomically, and report it."""
    with private_file(path) as stream:
        stream.writelines(chunks)
    say_written(path)


def say_written(path: Path) -> None:
    """Report on standard error what was written: commands that print data print nothing if it is in a file."""
    if not is_stream(path):
        click.echo(f"{clean(str(path))}: {path.stat().st_size:,} bytes written", err=True)
