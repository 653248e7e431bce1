"""Import and export of transcripts, archives, tables and traces."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING

import click

from eventstore.cli import naming
from eventstore.cli.output import check_output, force_option, say_written, write_whole
from eventstore.cli.place import count_sessions, locate, no_sessions
from eventstore.cli.share import FORMS, conversation_chunks, sharing_of, show_plan
from eventstore.cli.store import naming_the_others, open_manager, store_option, warn_lost
from eventstore.cli.terminal import clean, print_json, print_left, progress, some, write_out
from eventstore.errors import EventStoreError

if TYPE_CHECKING:
    from eventstore import SessionManager
    from eventstore.exporters.tables import TableName
    from eventstore.importers import Imported
    from eventstore.importers.sources import Sources

_FORMATS = ("claude-code", "codex", "copilot", "gemini", "opencode", "pi", "qwen")
_TRACES = ("otlp", "cloudevents")
_TABLES = ("csv", "json", "parquet")
_MOST_ODD = 10
_ARCHIVE = click.Path(path_type=Path, dir_okay=False)


@click.command("import", short_help="Import transcripts of agents, or an archive of sessions.")
@click.argument("form", metavar="[FORMAT]", required=False)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--archive", type=_ARCHIVE, help="Import a file that `export --archive` wrote.")
@click.option("--dry-run", is_flag=True, help="Only say what would be imported; write nothing.")
@click.option(
    "--again",
    is_flag=True,
    help="Also import sessions that were deleted or are in the trash, and lines that were redacted.",
)
@click.option("--as", "session_id", metavar="ID", help="Import one file as a session with this id.")
@click.option(
    "--replace", is_flag=True, help="Move the session of a rewritten file to the trash, then import the file."
)
@click.option("--records", is_flag=True, help="Also give each tool call a folder in the history folder.")
@click.option("--watch", is_flag=True, help="Go on: import what is written until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per transcript.")
@store_option
def import_command(
    store: str | None,
    form: str | None,
    paths: Sequence[Path],
    archive: Path | None,
    dry_run: bool,
    again: bool,
    session_id: str | None,
    replace: bool,
    records: bool,
    watch: bool,
    as_json: bool,
) -> None:
    """Import transcripts, each as one session. FORMAT is the agent that wrote them, PATH a file or a folder.

    FORMAT is claude-code, codex, copilot, gemini, opencode, pi or qwen. Without FORMAT the formats are known by content; without
    PATH the folders of all agents are looked at: those that CLAUDE_CONFIG_DIR and CODEX_HOME name, else the usual ones. Every
    line is stored byte for byte. Importing a transcript again adds only its new lines; a response that is in several files
    counts once. A file of another agent is refused, and named.

    With --archive, sessions of another store are imported unchanged. The archive is verified completely before anything is
    written. A session that is here already is skipped, or gets the events that it does not have; so is one whose transcript was
    imported here by itself. The import is refused if the archive has a different session of that id.
    """
    if watch and dry_run:
        raise click.UsageError("--watch writes what it imports, and --dry-run writes nothing: use one of them.")
    if archive is not None:
        _refuse_beside_archive(
            {
                "FORMAT or PATH": form is not None,
                "--watch": watch,
                "--again": again,
                "--as": session_id is not None,
                "--replace": replace,
                "--records": records,
            }
        )
        _import_archive(store, archive, dry_run=dry_run, as_json=as_json)
        return
    form, paths = _named(form, paths, waiting=watch)
    from eventstore.importers.many import Options, import_all, watch_homes
    from eventstore.importers.sources import find_sources

    began_ns = time_ns()
    found = find_sources(form, paths, waiting=watch)
    if session_id is not None and len(found.files) != 1:
        raise click.UsageError(f"--as needs one file, not {len(found.files)}.")
    _show_sources(found, files=dry_run, homes=not as_json)
    if dry_run:
        return
    done: list[Imported] = []
    refused = 0
    options = Options(again=again, session_id=session_id, replace=replace, records=records)
    with open_manager(store) as manager:
        with progress("importing", len(found.files)) as bar:
            for result in import_all(manager.storage, found.files, options):
                refused += _report(result, done, as_json)
                if bar:
                    bar.advance(bar.task_ids[0])
        if not as_json and (done or refused):
            _summarize(done, refused)
            place = locate(store)
            if done and place.is_default:
                click.echo(f"they are in {place.name}, your own store: `eventstore where` explains why", err=True)
        if watch:
            _say_watching(form, paths)
            for result in watch_homes(manager.storage, form, paths, options, since_ns=began_ns):
                _report(result, done, as_json)
    if not found.files and not watch:
        _say_none(form, paths)
    if refused or not (found.files or watch):
        sys.exit(1)


def _refuse_beside_archive(used: dict[str, bool]) -> None:
    """Refuse the first option that is used although it means nothing beside `--archive`."""
    for name in used:
        if used[name]:
            raise click.UsageError(f"--archive cannot be used with {name}.")


def _named(form: str | None, paths: Sequence[Path], *, waiting: bool) -> tuple[str | None, Sequence[Path]]:
    """Return the format and the paths that were named; a first word that is no format is a path, or will be one."""
    if form is None or form in _FORMATS:
        return form, paths
    if Path(form).exists():
        return None, [Path(form), *paths]
    if waiting and not paths:
        return None, [Path(form)]
    raise _no_source(form, paths)


def _show_sources(found: "Sources", *, files: bool, homes: bool) -> None:
    """Print which files would be imported, and how many each folder of an agent has."""
    for one, home, count in found.homes if homes else ():
        click.echo(f"{one.name}: {count:,} transcript{'' if count == 1 else 's'} in {clean(str(home))}", err=True)
    for one, path in found.files if files else ():
        click.echo(f"{one.name}  {clean(str(path))}")


def _say_none(form: str | None, paths: Sequence[Path]) -> None:
    """Print where no transcript was found."""
    from eventstore.importers.sources import places

    looked = ", ".join(clean(str(one)) for one in places(form, paths))
    click.echo(f"eventstore: no transcript was found in {looked}: name a file or a folder", err=True)


def _say_watching(form: str | None, paths: Sequence[Path]) -> None:
    """Print what the command waits for."""
    from eventstore.importers.sources import places

    looked = places(form, paths)
    there = [one for one in looked if one.is_dir()]
    waits = (
        f", waiting for {some(len(looked) - len(there), 'more', 'more')} to appear" if len(there) < len(looked) else ""
    )
    click.echo(f"watching {some(len(there), 'folder')}{waits}: Ctrl-C ends", err=True)


def _no_source(text: str, paths: Sequence[Path]) -> click.ClickException:
    """Return the error for a first argument that is neither a format nor a file."""
    from difflib import get_close_matches

    meant = get_close_matches(text, _FORMATS, 1)
    hint = f"did you mean {meant[0]}? " if meant else ""
    where = "" if Path(text).is_absolute() else f" in {Path.cwd()}"
    return click.UsageError(
        f"{text!r} is no FORMAT, and there is no such file or folder{where}; nothing was imported: {hint}"
        f"FORMAT is one of {', '.join(_FORMATS)}"
    )


def _report(result: "Imported | EventStoreError | OSError", done: "list[Imported]", as_json: bool) -> int:
    """Print what became of one file; return 1 if it was refused."""
    if isinstance(result, Exception):
        click.echo(f"eventstore: {clean(str(result))}", err=True)
        return 1
    done.append(result)
    _print_one(result, as_json)
    return 0


def _choice(store: str | None, form: str | None, forms: Sequence[str]) -> str:
    """Parse FORMAT of `export`, which is required without --archive."""
    if form in forms:
        return str(form)
    from difflib import get_close_matches

    meant = get_close_matches(form or "", forms, 1)
    if form is None or meant:
        what = "FORMAT is missing" if form is None else f"{form!r} is no FORMAT: did you mean {meant[0]}?"
    else:
        what = f"{form!r} is no FORMAT, which comes before SESSION, as in `eventstore export markdown {form}`"
        place = locate(store)
        if place.sessions is not None and not count_sessions(place.sessions):
            what += f"; besides, there are {no_sessions(store)}"
    raise click.UsageError(f"{what}; nothing was exported. FORMAT is one of {', '.join(forms)}.")


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
    for session_id in done.same:
        said = "its transcript was imported here by itself; it stays as it is"
        click.echo(f"{click.style(session_id, bold=True)}  {said}")
    counts = [
        f"{len(done.sessions):,} session{'' if len(done.sessions) == 1 else 's'}",
        f"{done.events:,} event{'' if done.events == 1 else 's'}",
        f"{done.history:,} folder{'' if done.history == 1 else 's'} of tool calls",
    ]
    how = "verified, nothing written" if dry_run else "imported"
    kept = len(done.skipped) + len(done.same)
    skipped = f", {kept:,} in the store already" if kept else ""
    click.echo(f"{', '.join(counts)} {how}{skipped}")
    if done.redacted:
        what = "event of sessions that are here" if done.redacted == 1 else "events of sessions that are here"
        verb = "would be redacted" if dry_run else "redacted"
        click.echo(f"{done.redacted:,} {what} {verb}, as in the archive")
    print_left(done.left)


def _print_one(one: "Imported", as_json: bool) -> None:
    if as_json:
        print_json(one.to_dict())
        return
    added = some(one.events, "event") if one.events else "nothing new"
    click.echo(f"{click.style(one.session_id, bold=True)}  {some(one.lines, 'line')}, {added}")
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
    total = f"{some(len(done), 'transcript')}, {some(lines, 'line')} read, {some(events, 'event')} added"
    more = [f"{odd} with notes" if odd else "", f"{refused} refused" if refused else ""]
    click.echo(", ".join([total, *(part for part in more if part)]))


@click.command("export", short_help="Export sessions: as imported, as events, traces, tables or an archive.")
@click.argument("form", metavar="[FORMAT]", required=False)
@click.argument("session_ids", metavar="[SESSION]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All sessions of the store, in the formats that accept several.")
@click.option("--archive", type=_ARCHIVE, help="Write sessions, by default all of the store, to this .zip file.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file, atomically.")
@click.option(
    "--table",
    type=click.Choice(["events", "calls", "usage"]),
    help="The table for csv, json and parquet [default: events].",
)
@click.option("--content", is_flag=True, help="Include content in otlp.")
@click.option("--plain", is_flag=True, help="In html: the conversation only, without scripts; --share implies it.")
@click.option("--share", is_flag=True, help="In markdown and html: replace secrets, e-mail addresses and user names.")
@click.option("--plan", is_flag=True, help="With --share: list what would be replaced, and write nothing.")
@click.option("--keep", metavar="KIND", multiple=True, help="With --share: do not replace this kind; may be repeated.")
@click.option("--mask", metavar="REGEX", multiple=True, help="With --share: replace this too; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="With --archive or --plan: print the result as JSON.")
@force_option
@store_option
def export_command(
    store: str | None,
    form: str | None,
    session_ids: Sequence[str],
    every: bool,
    output: Path | None,
    table: "TableName | None",
    content: bool,
    archive: Path | None,
    plain: bool,
    share: bool,
    plan: bool,
    keep: Sequence[str],
    mask: Sequence[str],
    as_json: bool,
    force: bool,
) -> None:
    """Write sessions to standard output or to a file: `export FORMAT SESSION...`, or `export --archive FILE [SESSION...]`.

    FORMAT claude-code, codex, copilot, gemini, opencode, pi or qwen writes the transcript that a session was imported from, byte
    for byte (of opencode the rows of its database); events writes the lines of its log; markdown writes the conversation for
    people, and html the page of `serve` with this session in it, as of any moment. These accept one SESSION, the others several.

    \b
    otlp         OpenTelemetry traces (OTLP/JSON), one line per session; names,
                 numbers and times only, without --content
    cloudevents  CloudEvents 1.0, one line per event
    csv, json    a table of events, tool calls or token usage
    parquet      the same, into a file (extra `parquet`)

    With --archive there is no FORMAT: logs, checkpoints and folders of tool calls are written to one file, for `import --archive`
    in another store. Templates are named _template.NAME. Files are readable by you only, and appear when they are complete.
    """
    if archive is not None:
        if every and (form is not None or session_ids):
            raise click.UsageError("--all cannot be used with SESSION")
        if output is not None or table is not None or content or share or plan or plain:
            raise click.UsageError("--archive cannot be used with --output, --table, --content, --plain or --share.")
        check_output(archive, force=force, is_file=True)
        _write_archive(store, archive, [*([form] if form else []), *session_ids], as_json=as_json)
        return
    if as_json and not plan:
        raise click.UsageError("--json needs --archive or --plan; as a FORMAT, json writes a table.")
    form = _choice(store, form, [*_FORMATS, "events", *FORMS, *_TRACES, *_TABLES])
    if not session_ids and not every:
        raise click.UsageError("Missing argument 'SESSION...': name sessions, or use --all")
    if session_ids and every:
        raise click.UsageError("name sessions, or use --all")
    _check(form, session_ids, output, table, content=content, every=every)
    if (plan and not share) or (share and form not in FORMS):
        raise click.UsageError("--plan needs --share, and --share needs markdown or html.")
    if plain and form != "html":
        raise click.UsageError("--plain needs html.")
    sharing = sharing_of(share, keep, mask)
    check_output(output, force=force, is_file=form == "parquet")
    with open_manager(store) as manager, naming_the_others(every=every):
        session_ids = sorted(manager.storage.log.ids()) if every else naming.sessions(manager, session_ids)
        if not session_ids:
            raise click.ClickException(f"{no_sessions(store)}; nothing was exported")
        if every:
            warn_lost(manager)
        if plan and sharing is not None:
            show_plan(manager, session_ids[0], sharing, as_json=as_json)
            return
        if form == "parquet":
            from eventstore.exporters.tables import write_table

            assert output is not None  # noqa: S101 - checked above
            write_table(manager, session_ids, output, table or "events")
            say_written(output)
            return
        if form in FORMS:
            chunks = conversation_chunks(manager, form, session_ids[0], sharing, plain=plain)
        else:
            chunks = _chunks(manager, form, session_ids, table or "events", content=content)
        _write(chunks, form, output)


def _write(chunks: Iterator[bytes], form: str, output: Path | None) -> None:
    if output is None:
        write_out(chunks, is_json=form not in ("csv", *FORMS))
    else:
        write_whole(output, chunks)


def _write_archive(store: str | None, archive: Path, session_ids: Sequence[str], *, as_json: bool) -> None:
    from eventstore.exporters.archive import export_archive

    with open_manager(store) as manager, naming_the_others(every=not session_ids):
        session_ids = naming.sessions(manager, session_ids, logs=True)
        done = export_archive(manager, archive, session_ids or None)
        if not session_ids:
            warn_lost(manager)
    if as_json:
        print_json(done.to_dict())
        return
    for text in done.left_out:
        click.echo(click.style(f"left out: {clean(text)}", fg="yellow"), err=True)
    count = len(done.sessions)
    click.echo(
        f"{clean(str(done.path))}: {some(count, 'session')}, {some(done.files, 'file')}, {some(done.size_bytes, 'byte')}"
    )
    click.echo(f"{done.manifest_sha256}  manifest.json")


def _check(
    form: str, session_ids: Sequence[str], output: Path | None, table: str | None, *, content: bool, every: bool
) -> None:
    """Refuse options that do not fit the format."""
    if form not in (*_TRACES, *_TABLES) and (every or len(session_ids) > 1):
        raise click.UsageError(f"{form} accepts one SESSION, not {'--all' if every else len(session_ids)}.")
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
