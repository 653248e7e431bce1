"""The READMEs are true: their programs run, and what they name is there."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import run

import eventstore
from eventstore.cli import _COMMANDS

ROOT = Path(eventstore.__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted(
    page
    for top in ("eventstore", "projections", "tests", "tools")
    for page in (ROOT / top).rglob("README.md")
    if "node_modules" not in page.parts
)
PAGES.append(ROOT / "README.md")
WITH_PROGRAMS = [
    "README.md",
    *(f"eventstore/{package}/README.md" for package in ("integrations", "sessions", "subscriptions")),
    "projections/README.md",
]
PROGRAMS = [
    (page, program)
    for page in WITH_PROGRAMS
    for program in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
]
PACKAGES = sorted(
    folder
    for top in ("eventstore", "projections")
    for folder in [ROOT / top, *(ROOT / top).iterdir()]
    if (folder / "__init__.py").exists() and (folder / "README.md").exists()
)
names = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.mark.parametrize(("page", "program"), PROGRAMS, ids=[page for page, _ in PROGRAMS])
def test_a_program_of_a_readme_runs(page: str, program: str, tmp_path: Path) -> None:
    assert {name for name, _ in PROGRAMS} == set(WITH_PROGRAMS)
    subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=tmp_path, check=True, timeout=60)


def test_the_readme_is_one_page() -> None:
    assert len(README.encode()) <= 8_000


def test_the_demo_prints_what_the_readme_shows(tmp_path: Path) -> None:
    shown = re.findall(r"^  \+.*$", README, re.MULTILINE)
    assert shown
    assert set(shown) <= set(run("demo", cwd=tmp_path).stdout.splitlines())


@names
def test_no_line_of_a_readme_is_too_long_to_quote(page: Path) -> None:
    assert max(map(len, page.read_text("utf-8").splitlines())) < 400


@names
def test_the_links_of_a_readme_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        found = page.parent / path
        assert found.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors_of(found), f"{page}: {target}"


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@names
def test_the_commands_of_a_readme_are_there(page: Path) -> None:
    for block in re.findall(r"```bash\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        for command in re.findall(r"^eventstore ([a-z]+)", block, re.MULTILINE):
            assert command in _COMMANDS, f"{page}: eventstore {command}"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_the_readme_of_a_package_names_its_modules(package: Path) -> None:
    text = (package / "README.md").read_text("utf-8")
    missing = [name for name in modules_of(package) if f"`{name}`" not in text and f"({name}/README.md)" not in text]
    assert not missing, f"{package / 'README.md'} does not name {missing}"


def modules_of(package: Path) -> Iterator[str]:
    """Name the modules of a package as its README does, those of folders without an own README below it too."""
    for path in sorted(package.glob("*.py")):
        if path.name != "__init__.py":
            yield path.name
    for inner in sorted(path.parent for path in package.glob("*/__init__.py")):
        if package.parent != ROOT and inner.name != "contract":
            yield from (f"{inner.name}/{name}" for name in modules_of(inner))


@names
def test_files_that_a_readme_names_are_there(page: Path) -> None:
    """A name with a folder is looked for from the README, from the root, and from `eventstore`."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for name in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:py|md))`", text):
        places = (page.parent, ROOT, ROOT / "eventstore")
        assert any((place / name).exists() for place in places), f"{page}: {name}"


def test_the_settings_that_are_read_are_in_the_table_of_settings() -> None:
    text = (ROOT / "eventstore" / "cli" / "README.md").read_text("utf-8")
    table = text.partition("## Settings")[2].partition("\n## ")[0]
    source = (ROOT / "eventstore" / "settings.py").read_text("utf-8")
    read = set(re.findall(r'"((?:SESSION|TOOL)_[A-Z_]+)"', source))
    assert read
    assert set(re.findall(r"`([A-Z_]+)`", table)) == read
