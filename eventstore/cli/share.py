"""Export of a conversation as Markdown or HTML, and of a copy to share, with the plan of what is replaced in it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import click

from eventstore.cli.terminal import Column, one_line, print_json, print_table

if TYPE_CHECKING:
    from eventstore import SessionManager
    from eventstore.exporters import Sharing

FORMS = ("markdown", "html")
_COLUMNS = (
    Column("EVENT", number=True),
    Column("KIND", "yellow"),
    Column("BEGINS"),
    Column("LENGTH", number=True),
    Column("TEXT"),
)


def sharing_of(share: bool, keep: Sequence[str], masked: Sequence[str]) -> "Sharing | None":
    """Return what --share, --keep and --mask ask for. Raises UsageError."""
    if not share:
        if keep or masked:
            raise click.UsageError("--keep and --mask need --share.")
        return None
    from eventstore.exporters import Sharing
    from eventstore.secret_patterns import SHARED

    unknown = sorted(set(keep) - set(SHARED))
    if unknown:
        raise click.UsageError(f"--keep {unknown[0]} is not one of {', '.join(SHARED)}.")
    own = {f"mask-{number}": pattern for number, pattern in enumerate(masked, 1)}
    try:
        return Sharing({**own, **SHARED}, frozenset(keep))
    except ValueError as error:
        raise click.UsageError(f"--mask: {error}") from None


def conversation_chunks(
    manager: "SessionManager", form: str, session_id: str, sharing: "Sharing | None", *, plain: bool
) -> Iterator[bytes]:
    """Stream a conversation; as HTML the page with the complete session in it, unless it is shared or `plain`."""
    if form == "html" and sharing is None and not plain:
        from eventstore.server.one_file import export_page

        return export_page(manager, session_id)
    from eventstore.exporters import export_conversation

    name: Literal["markdown", "html"] = "html" if form == "html" else "markdown"
    return export_conversation(manager, session_id, name, sharing)


def show_plan(manager: "SessionManager", session_id: str, sharing: "Sharing", *, as_json: bool) -> None:
    """Print every replacement that a copy to share would have."""
    from eventstore.exporters import plan_sharing

    plan = plan_sharing(manager, session_id, sharing)
    if as_json:
        for one in plan:
            print_json(one._asdict())
        return
    if plan:
        print_table(
            _COLUMNS,
            (
                [str(one.seq or ""), one.label, one_line(one.begins), str(one.length), one_line(one.around)]
                for one in plan
            ),
        )
    kinds = ", ".join(dict.fromkeys(one.label for one in plan))
    click.echo(
        f"{len(plan):,} replacements; keep a kind with --keep ({kinds}), or add one with --mask REGEX; nothing was written"
        if plan
        else "nothing would be replaced; nothing was written",
        err=True,
    )
