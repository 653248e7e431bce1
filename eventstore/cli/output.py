"""Files that commands write: private, written atomically, and never over an existing file without a request."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from eventstore.cli.terminal import clean

F = TypeVar("F", bound=Callable[..., Any])


def force_option(command: F) -> F:
    """Add the option --force to a command that writes a file."""
    return click.option("--force", is_flag=True, help="Replace an existing file.")(command)


def check_output(path: Path | None, *, force: bool) -> None:
    """Refuse a file that exists, before any work is done. Raises ClickException."""
    if path is None or force or path.is_dir():  # for a folder, the writer itself reports the error
        return
    if os.path.lexists(path):
        raise click.ClickException(
            f"{clean(str(path))} exists already; nothing was written: choose another name, or use --force"
        )


@contextmanager
def private_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that only this user can read. It appears when it is complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
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
    click.echo(f"{clean(str(path))}: {path.stat().st_size:,} bytes written", err=True)
