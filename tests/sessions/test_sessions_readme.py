"""The page of the manager names its methods."""

import inspect
import re
from pathlib import Path

import eventstore
from eventstore import SessionManager
from eventstore.sessions import Moments, Proofs, Records, Redactions, Templates, Trash

PARTS: dict[str, type] = {
    "": SessionManager,
    "trash.": Trash,
    "templates.": Templates,
    "proofs.": Proofs,
    "records.": Records,
    "redactions.": Redactions,
    "moments.": Moments,
}


def test_each_method_is_in_the_table_of_tasks_and_nothing_else() -> None:
    text = Path(eventstore.__file__).with_name("sessions").joinpath("README.md").read_text("utf-8")
    table = text.partition("| task |")[2].partition("\n\n")[0]
    named = {name.partition("(")[0] for name in re.findall(r"`([^`]+)`", table)}
    methods = {
        part + name
        for part, kind in PARTS.items()
        for name, _ in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }
    assert named == methods
