"""The pages of the tools name every program, in the words of the program."""

from pathlib import Path

import faults
import golden_store
import pytest
from bench import trip

TOOLS = golden_store.ROOT / "tools"


@pytest.mark.parametrize("name", faults.PROGRAMS)
def test_the_page_of_the_faults_describes_each_program_as_its_docstring_does(name: str) -> None:
    page = (TOOLS / "breaking" / "README.md").read_text("utf-8")
    said = (faults.PROGRAMS[name].__doc__ or "").splitlines()[0].rstrip(".")
    assert f"| `{name}` | {said} | " in page


def test_the_page_of_the_examples_names_each_program() -> None:
    page = (TOOLS / "examples" / "README.md").read_text("utf-8")
    for path in (TOOLS / "examples").glob("*.py"):
        assert f"| `{path.name}` | " in page


def test_the_page_of_the_tools_names_each_program_and_folder() -> None:
    page = (TOOLS / "README.md").read_text("utf-8")
    for path in [*TOOLS.glob("*.py"), *(path.parent for path in TOOLS.glob("*/README.md"))]:
        assert f"`tools/{path.name}`" in page or f"[{path.name}/]" in page


def test_the_pages_of_the_tools_lead_to_files_that_are_there() -> None:
    for page in TOOLS.rglob("README.md"):
        for word in page.read_text("utf-8").replace("(", " ").replace(")", " ").replace("`", " ").split():
            if word.startswith("tools/") and Path(word).suffix:
                assert (TOOLS.parent / word).exists(), f"{page}: {word}"


def test_each_trip_says_what_it_does() -> None:
    assert all(function.__doc__ for function in trip.TRIPS.values())
