"""Bundles and reports for an auditor."""

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import click

from eventstore.cli.store import naming_the_others, open_manager, store_option
from eventstore.cli.terminal import clean, print_json, write_out

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
@store_option
def export_command(
    store: str | None, sessions: Sequence[str], output: Path | None, every: bool, store_log: bool, as_json: bool
) -> None:
    """Write the logs, checkpoints, reports and tables of sessions, the verifier, and a manifest of hashes.

    Without -o the file is SESSION.audit.zip, or eventstore.audit.zip for several. It is written atomically.
    Keep the printed hash of the manifest elsewhere: it identifies this bundle later.
    """
    if bool(sessions) == every:
        raise click.UsageError("name sessions, or use --all")
    from eventstore.exporters.bundle import export_audit

    path = output or Path(f"{sessions[0] if len(sessions) == 1 else 'eventstore'}.audit.zip")
    with open_manager(store) as manager:
        wanted = None if every else sessions
        with naming_the_others(every=every):
            done = export_audit(manager, wanted, path, include_store=store_log)
    if as_json:
        print_json(done.to_dict())
        return
    count = len(done.sessions)
    click.echo(
        f"{clean(str(done.path))}: {count} log{'s' if count > 1 else ''}, {done.files} files, {done.size_bytes:,} bytes"
    )
    click.echo(f"{done.manifest_sha256}  manifest.json")


@audit_command.command("report", short_help="Write a report for people.")
@click.argument("session_id", metavar="SESSION")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file that ends in .html or .md, written atomically.",
)
@store_option
def report_command(store: str | None, session_id: str, output: Path | None) -> None:
    """Write a report: who did what, when, with which tool, input and result, and what was redacted.

    The name of the file decides between HTML and Markdown. Without -o, Markdown is written to standard output.
    """
    if output is not None and output.suffix not in _ENDINGS:
        raise click.UsageError(f"{output.name} ends in neither .html nor .md")
    from eventstore.exporters import questions, report

    with open_manager(store) as manager:
        found = [questions.audit_session(manager.storage, session_id)]
        if output is None:
            text = BytesIO()
            report.write_markdown(text, found)
            write_out([text.getvalue()], is_json=False)
            return
        write = report.write_html if output.suffix.startswith(".htm") else report.write_markdown
        temporary = output.with_name(f".{output.name}.new")
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
                write(stream, found)
            temporary.replace(output)
        finally:
            temporary.unlink(missing_ok=True)
