"""Import and export of transcripts, archives, tables and traces."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventstore.cli.store import naming_the_others, open_manager, store_option
from eventstore.cli.terminal import clean, print_json, progress, write_out
from eventstore.errors import EventStoreError

if TYPE_CHECKING:
    from eventstore import SessionManager
    from eventstore.exporters.tables import TableName
    from eventstore.importers import Imported
    from eventstore.importers.transcript import Format

_FORMATS = ("claude-code", "codex")
_TRACES = ("otlp", "cloudevents")
_TABLES = ("csv", "json", "parquet")
_MOST_ODD = 10
_ARCHIVE = click.Path(path_type=Path, dir_okay=False)


@click.command("import", short_help="Import transcripts of Claude Code or Codex, or an archive of sessions.")
@click.argument("form", metavar="FORMAT", required=False)
@click.argument("paths", metavar="PATH...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--archive", type=_ARCHIVE, help="Import a file that `export --archive` wrote.")
@click.option("--dry-run", is_flag=True, help="Only verify the archive; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per transcript.")
@store_option
def import_command(
    store: str | None, form: str | None, paths: Sequence[Path], archive: Path | None, dry_run: bool, as_json: bool
) -> None:
    """Import transcripts, each as one session. FORMAT is claude-code or codex, PATH a file or a folder.

    The default PATH is the folder of the tool: ~/.claude/projects or ~/.codex/sessions. Every line is stored byte for byte.
    Importing a transcript again adds only its new lines.

    With --archive, sessions of another store are imported unchanged. The archive is verified completely before anything is
    written. Existing sessions are skipped; the import is refused if the archive has a different session of that id, or one
    with more events.
    """
    if archive is not None:
        if form is not None:
            raise click.UsageError("--archive cannot be used with FORMAT or PATH.")
        _import_archive(store, archive, dry_run=dry_run, as_json=as_json)
        return
    if dry_run:
        raise click.UsageError("--dry-run needs --archive.")
    form = _choice(form, _FORMATS)
    from eventstore.importers.formats import FORMATS

    found = FORMATS[form]
    files = [file for path in (paths or [found.home.expanduser()]) for file in _files(found, path)]
    done: list[Imported] = []
    refused = 0
    with open_manager(store) as manager, progress("importing", len(files)) as bar:
        for file in files:
            try:
                one = _import_file(manager, found, file)
            except (EventStoreError, OSError) as error:
                refused += 1
                click.echo(f"eventstore: {clean(str(error))}", err=True)
            else:
                done.append(one)
                _print_one(one, as_json)
            if bar:
                bar.advance(bar.task_ids[0])
    if not as_json:
        _summarize(done, refused)
    if refused or not files:
        sys.exit(1)


def _choice(form: str | None, forms: Sequence[str]) -> str:
    """Parse FORMAT, which is required without --archive."""
    context = click.get_current_context()
    (parameter,) = (one for one in context.command.params if one.name == "form")
    choice = click.Choice(forms)
    if form is None:
        raise click.MissingParameter(ctx=context, param=parameter, message=f"Choose from: {', '.join(forms)}.")
    return str(choice.convert(form, parameter, context))


def _import_archive(store: str | None, archive: Path, *, dry_run: bool, as_json: bool) -> None:
    from eventstore.importers.archive import import_archive

    with open_manager(store) as manager:
        done = import_archive(manager, archive, dry_run=dry_run)
    if as_json:
        print_json(done.to_dict())
        return
    for session_id in done.sessions:
        click.echo(click.style(session_id, bold=True))
    for session_id in done.skipped:
        click.echo(f"{click.style(session_id, bold=True)}  is in the store already")
    counts = [
        f"{len(done.sessions):,} session{'' if len(done.sessions) == 1 else 's'}",
        f"{done.events:,} event{'' if done.events == 1 else 's'}",
        f"{done.history:,} folder{'' if done.history == 1 else 's'} of tool calls",
    ]
    how = "verified, nothing written" if dry_run else "imported"
    skipped = f", {len(done.skipped):,} in the store already" if done.skipped else ""
    click.echo(f"{', '.join(counts)} {how}{skipped}")


def _files(form: "Format", path: Path) -> list[Path]:
    if not path.exists():
        raise click.ClickException(f"{path} does not exist; nothing was imported")
    found = form.files(path)
    if not found:
        click.echo(f"eventstore: {clean(str(path))} has no {form.pattern}", err=True)
    return found


def _import_file(manager: "SessionManager", form: "Format", file: Path) -> "Imported":
    from eventstore.importers.transcript import import_transcript

    return import_transcript(manager.storage, form, file)


def _print_one(one: "Imported", as_json: bool) -> None:
    if as_json:
        print_json(one.to_dict())
        return
    added = f"{one.events:,} events" if one.events else "nothing new"
    click.echo(f"{click.style(one.session_id, bold=True)}  {one.lines:,} lines, {added}")
    for text in one.odd[:_MOST_ODD]:
        click.echo(click.style(f"    {clean(text)}", fg="yellow"))
    if len(one.odd) > _MOST_ODD:
        click.echo(click.style(f"    and more: --json lists {len(one.odd)}", fg="yellow"))


def _summarize(done: "Sequence[Imported]", refused: int) -> None:
    lines, events, odd = (
        sum(one.lines for one in done),
        sum(one.events for one in done),
        sum(1 for one in done if one.odd),
    )
    files = "1 transcript" if len(done) == 1 else f"{len(done):,} transcripts"
    total = f"{files}, {lines:,} lines read, {events:,} events added"
    more = [f"{odd} with notes" if odd else "", f"{refused} refused" if refused else ""]
    click.echo(", ".join([total, *(part for part in more if part)]))


@click.command("export", short_help="Export sessions: as imported, as events, traces, tables or an archive.")
@click.argument("form", metavar="FORMAT", required=False)
@click.argument("session_ids", metavar="SESSION...", nargs=-1)
@click.option("--archive", type=_ARCHIVE, help="Write sessions, by default all of the store, to this .zip file.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file, atomically.")
@click.option(
    "--table",
    type=click.Choice(["events", "calls", "usage"]),
    help="The table for csv, json and parquet [default: events].",
)
@click.option("--content", is_flag=True, help="Include content in otlp.")
@click.option("--json", "as_json", is_flag=True, help="With --archive: print the result as JSON.")
@store_option
def export_command(
    store: str | None,
    form: str | None,
    session_ids: Sequence[str],
    output: Path | None,
    table: "TableName | None",
    content: bool,
    archive: Path | None,
    as_json: bool,
) -> None:
    """Write sessions to standard output or to a file.

    FORMAT claude-code or codex writes the transcript that a session was imported from, byte for byte; events writes the lines of
    its log. These accept one SESSION, the others several.

    \b
    otlp         OpenTelemetry traces (OTLP/JSON), one line per session; names,
                 numbers and times only, without --content
    cloudevents  CloudEvents 1.0, one line per event
    csv, json    a table of events, tool calls or token usage
    parquet      the same, into a file (extra `parquet`)

    With --archive there is no FORMAT: logs, checkpoints and folders of tool calls are written to one file, for `import --archive`
    in another store. Templates are named _template.NAME.
    """
    if archive is not None:
        if output is not None or table is not None or content:
            raise click.UsageError("--archive cannot be used with --output, --table or --content.")
        _write_archive(store, archive, [*([form] if form else []), *session_ids], as_json=as_json)
        return
    if as_json:
        raise click.UsageError("--json needs --archive; as a FORMAT, json writes a table.")
    form = _choice(form, [*_FORMATS, "events", *_TRACES, *_TABLES])
    if not session_ids:
        raise click.UsageError("Missing argument 'SESSION...'.")
    _check(form, session_ids, output, table, content=content)
    with open_manager(store) as manager:
        if form == "parquet":
            from eventstore.exporters.tables import write_table

            assert output is not None  # noqa: S101 - checked above
            write_table(manager, session_ids, output, table or "events")
            return
        chunks = _chunks(manager, form, session_ids, table or "events", content=content)
        if output is None:
            write_out(chunks, is_json=form != "csv")
        else:
            _write_whole(output, chunks)


def _write_archive(store: str | None, archive: Path, session_ids: Sequence[str], *, as_json: bool) -> None:
    from eventstore.exporters.archive import export_archive

    with open_manager(store) as manager, naming_the_others(every=not session_ids):
        done = export_archive(manager, archive, session_ids or None)
    if as_json:
        print_json(done.to_dict())
        return
    for text in done.left_out:
        click.echo(click.style(f"left out: {clean(text)}", fg="yellow"), err=True)
    count = len(done.sessions)
    click.echo(
        f"{clean(str(done.path))}: {count:,} session{'' if count == 1 else 's'}, {done.files:,} files, {done.size_bytes:,} bytes"
    )
    click.echo(f"{done.manifest_sha256}  manifest.json")


def _check(form: str, session_ids: Sequence[str], output: Path | None, table: str | None, *, content: bool) -> None:
    """Refuse options that do not fit the format."""
    if form not in (*_TRACES, *_TABLES) and len(session_ids) > 1:
        raise click.UsageError(f"{form} accepts one SESSION, not {len(session_ids)}.")
    if table is not None and form not in _TABLES:
        raise click.UsageError(f"--table needs one of {', '.join(_TABLES)}, not {form}.")
    if content and form != "otlp":
        raise click.UsageError(f"--content needs otlp, not {form}.")
    if form == "parquet" and output is None:
        raise click.UsageError("parquet needs an output file: -o FILE.")


def _chunks(
    manager: "SessionManager", form: str, session_ids: Sequence[str], table: "TableName", *, content: bool
) -> Iterator[bytes]:
    from eventstore.exporters.cloudevents import export_cloudevents
    from eventstore.exporters.otlp import export_otlp
    from eventstore.exporters.tables import export_table
    from eventstore.exporters.transcript import export_transcript

    match form:
        case "events":
            return manager.storage.log.chunks(session_ids[0])
        case "otlp":
            return export_otlp(manager, session_ids, content=content)
        case "cloudevents":
            return export_cloudevents(manager, session_ids)
        case "csv" | "json":
            return export_table(manager, session_ids, table, form)
        case _:
            return export_transcript(manager.storage, session_ids[0], form)


def _write_whole(output: Path, chunks: Iterator[bytes]) -> None:
    temporary = output.with_name(f".{output.name}.new")
    try:
        with temporary.open("wb") as stream:
            stream.writelines(chunks)
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
