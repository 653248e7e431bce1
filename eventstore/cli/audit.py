"""Bundles and reports for an auditor."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import click

from eventstore.cli import naming
from eventstore.cli.output import check_output, force_option, private_file, say_written
from eventstore.cli.store import naming_the_others, open_manager, store_option, warn_lost
from eventstore.cli.terminal import clean, print_json, some, write_out

_ENDINGS = (".html", ".htm", ".md")


@click.group("audit", short_help="Write bundles and reports for an auditor.")
def audit_command() -> None:
    """Write bundles and reports for an auditor."""


@audit_command.command("export", short_help="Write a bundle that can be checked without this program.")
@click.argument("sessions", metavar="SESSION...", nargs=-1)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A file that ends in .zip, or a new folder.")
@click.option("--all", "every", is_flag=True, help="All sessions, templates and the registry.")
@click.option("--store-log", is_flag=True, help="Include the registry, which records deletions.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@force_option
@store_option
def export_command(
    store: str | None,
    sessions: Sequence[str],
    output: Path | None,
    every: bool,
    store_log: bool,
    as_json: bool,
    force: bool,
) -> None:
    """Write the logs, checkpoints, reports and tables of sessions, the verifier, and a manifest of hashes.

    Without -o the file is SESSION.audit.zip, or eventstore.audit.zip for several. It is written atomically.
    Keep the printed hash of the manifest elsewhere: it identifies this bundle later.
    """
    if bool(sessions) == every:
        raise click.UsageError("name sessions, or use --all")
    from eventstore.exporters.bundle import export_audit

    with open_manager(store) as manager:
        wanted = None if every else naming.sessions(manager, sessions, logs=True)
        path = output or Path(f"{wanted[0] if wanted and len(wanted) == 1 else 'eventstore'}.audit.zip")
        check_output(path, force=force, is_file=True)
        with naming_the_others(every=every):
            done = export_audit(manager, wanted, path, include_store=store_log)
        if every:
            warn_lost(manager)
    if as_json:
        print_json(done.to_dict())
        return
    count = len(done.sessions)
    click.echo(f"{clean(str(done.path))}: {some(count, 'log')}, {some(done.files, 'file')}, {done.size_bytes:,} bytes")
    click.echo(f"{done.manifest_sha256}  manifest.json")


@audit_command.command("report", short_help="Write a report for people.")
@click.argument("session_id", metavar="SESSION")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file that ends in .html or .md, written atomically.",
)
@force_option
@store_option
def report_command(store: str | None, session_id: str, output: Path | None, force: bool) -> None:
    """Write a report: who did what, when, with which tool, input and result, and what was redacted.

    The entries of sub-agents are below the calls that started them.

    The name of the file decides between HTML and Markdown. Without -o, Markdown is written to standard output.
    """
    if output is not None and output.suffix not in _ENDINGS:
        raise click.UsageError(f"{output.name} ends in neither .html nor .md")
    check_output(output, force=force)
    from eventstore.exporters import questions, report

    with open_manager(store) as manager:
        found = [questions.audit_with_sub_agents(manager.storage, naming.session(manager, session_id))]
        if output is None:
            text = BytesIO()
            report.write_markdown(text, found)
            write_out([text.getvalue()], is_json=False)
            return
        write = report.write_html if output.suffix.startswith(".htm") else report.write_markdown
        with private_file(output) as stream:
            write(stream, found)
        say_written(output)
