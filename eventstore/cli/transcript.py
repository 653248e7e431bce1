"""Import and export: foreign transcripts in, and the same bytes out again."""

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
@click.option("--archive", type=_ARCHIVE, help="Take in what `export --archive` wrote, instead.")
@click.option("--dry-run", is_flag=True, help="Verify the archive, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a transcript.")
@store_option
def import_command(
    store: str | None, form: str | None, paths: Sequence[Path], archive: Path | None, dry_run: bool, as_json: bool
) -> None:
    """Take in transcripts, each as one session; FORMAT is claude-code or codex, PATH a file or a folder.

    Without a PATH they are taken from where the tool keeps them: ~/.claude/projects or ~/.codex/sessions. Every line is kept byte
    for byte. Taking a transcript in again adds only what is new in it.

    With --archive, sessions come in as they were in the store they come from. All of the archive is verified before anything is
    written; sessions that are here already are skipped, and refused where the archive has others or more of them.
    """
    if archive is not None:
        if form is not None:
            raise click.UsageError("--archive takes no FORMAT and no PATH.")
        _take_in_archive(store, archive, dry_run=dry_run, as_json=as_json)
        return
    if dry_run:
        raise click.UsageError("--dry-run goes with --archive.")
    form = _choice(form, _FORMATS)
    from eventstore.importers.formats import FORMATS

    found = FORMATS[form]
    files = [file for path in (paths or [found.home.expanduser()]) for file in _files(found, path)]
    done: list[Imported] = []
    refused = 0
    with open_manager(store) as manager, progress("importing", len(files)) as bar:
        for file in files:
            try:
                one = _take_in(manager, found, file)
            except (EventStoreError, OSError) as error:
                refused += 1
                click.echo(f"eventstore: {clean(str(error))}", err=True)
            else:
                done.append(one)
                _tell(one, as_json)
            if bar:
                bar.advance(bar.task_ids[0])
    if not as_json:
        _summarize(done, refused)
    if refused or not files:
        sys.exit(1)


def _choice(form: str | None, forms: Sequence[str]) -> str:
    """Read the FORMAT, which must be there where no archive is named."""
    context = click.get_current_context()
    (parameter,) = (one for one in context.command.params if one.name == "form")
    choice = click.Choice(forms)
    if form is None:
        raise click.MissingParameter(ctx=context, param=parameter, message=f"Choose from: {', '.join(forms)}.")
    return str(choice.convert(form, parameter, context))


def _take_in_archive(store: str | None, archive: Path, *, dry_run: bool, as_json: bool) -> None:
    from eventstore.importers.archive import import_archive

    with open_manager(store) as manager:
        done = import_archive(manager, archive, dry_run=dry_run)
    if as_json:
        print_json(done.to_dict())
        return
    for session_id in done.sessions:
        click.echo(click.style(session_id, bold=True))
    for session_id in done.skipped:
        click.echo(f"{click.style(session_id, bold=True)}  is here already")
    told = [
        f"{len(done.sessions):,} session{'' if len(done.sessions) == 1 else 's'}",
        f"{done.events:,} event{'' if done.events == 1 else 's'}",
        f"{done.history:,} folder{'' if done.history == 1 else 's'} of tool calls",
    ]
    how = "verified, nothing written" if dry_run else "taken in"
    click.echo(f"{', '.join(told)} {how}" + (f", {len(done.skipped):,} here already" if done.skipped else ""))


def _files(form: "Format", path: Path) -> list[Path]:
    if not path.exists():
        raise click.ClickException(f"{path} is not there; nothing was imported")
    found = form.files(path)
    if not found:
        click.echo(f"eventstore: {clean(str(path))} holds no {form.pattern}", err=True)
    return found


def _take_in(manager: "SessionManager", form: "Format", file: Path) -> "Imported":
    from eventstore.importers.transcript import import_transcript

    return import_transcript(manager.storage, form, file)


def _tell(one: "Imported", as_json: bool) -> None:
    if as_json:
        print_json(one.to_dict())
        return
    added = f"{one.events:,} events" if one.events else "nothing new"
    click.echo(f"{click.style(one.session_id, bold=True)}  {one.lines:,} lines, {added}")
    for text in one.odd[:_MOST_ODD]:
        click.echo(click.style(f"    {clean(text)}", fg="yellow"))
    if len(one.odd) > _MOST_ODD:
        click.echo(click.style(f"    and more: --json tells of {len(one.odd)}", fg="yellow"))


def _summarize(done: "Sequence[Imported]", refused: int) -> None:
    lines, events, odd = (
        sum(one.lines for one in done),
        sum(one.events for one in done),
        sum(1 for one in done if one.odd),
    )
    files = "1 transcript" if len(done) == 1 else f"{len(done):,} transcripts"
    told = f"{files}, {lines:,} lines read, {events:,} events added"
    more = [f"{odd} with something odd" if odd else "", f"{refused} refused" if refused else ""]
    click.echo(", ".join([told, *(part for part in more if part)]))


@click.command("export", short_help="Export sessions: as imported, as events, traces, tables or an archive.")
@click.argument("form", metavar="FORMAT", required=False)
@click.argument("session_ids", metavar="SESSION...", nargs=-1)
@click.option(
    "--archive", type=_ARCHIVE, help="Write sessions, or without any named the whole store, to this .zip file, instead."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file, whole or not at all."
)
@click.option(
    "--table",
    type=click.Choice(["events", "calls", "usage"]),
    help="The table that csv, json and parquet give: events if not said.",
)
@click.option("--content", is_flag=True, help="Let otlp hold what was said, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON of what is in the archive.")
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

    FORMAT claude-code or codex gives back the transcript that a session was imported from, identical to the byte; events gives
    the lines of its log as they are. These take one SESSION, the others take several.

    \b
    otlp         OpenTelemetry traces (OTLP/JSON), one line a session; names,
                 numbers and times only, unless --content is given
    cloudevents  CloudEvents 1.0, one line an event
    csv, json    a table of events, of tool calls or of token usage
    parquet      the same, into a file (extra `parquet`)

    With --archive there is no FORMAT: all that belongs to the sessions goes into one file, logs to the byte, with checkpoints and
    the folders of tool calls, for `import --archive` in another store. Templates are named _template.NAME.
    """
    if archive is not None:
        if output is not None or table is not None or content:
            raise click.UsageError("--archive goes with none of --output, --table and --content.")
        _write_archive(store, archive, [*([form] if form else []), *session_ids], as_json=as_json)
        return
    if as_json:
        raise click.UsageError("--json goes with --archive; as a FORMAT, json gives a table.")
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
    """Refuse what does not go together."""
    if form not in (*_TRACES, *_TABLES) and len(session_ids) > 1:
        raise click.UsageError(f"{form} takes one SESSION, not {len(session_ids)}.")
    if table is not None and form not in _TABLES:
        raise click.UsageError(f"--table goes with {', '.join(_TABLES)}, not with {form}.")
    if content and form != "otlp":
        raise click.UsageError(f"--content goes with otlp, not with {form}.")
    if form == "parquet" and output is None:
        raise click.UsageError("parquet needs a file to go to: -o FILE.")


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
