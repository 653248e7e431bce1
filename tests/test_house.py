"""The house: floors, doors and names."""

import ast
import importlib
import inspect
import subprocess
import sys
from contextlib import suppress
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import eventstore
from eventstore.errors import ExtraMissing

ROOT = Path(eventstore.__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("eventstore", "projections")
    for path in (ROOT / package).rglob("*.py")
)
FLOORS = [
    ["the ground"],
    ["record"],
    ["projections"],
    ["log"],
    ["backends"],
    ["derived"],
    ["subscriptions"],
    ["store"],
    ["integrity"],
    ["sessions"],
    ["importers"],
    ["exporters"],
    ["integrations", "server"],
    ["the door"],
    ["cli"],
]
"""The packages, from the ground up: a file imports its own package and what is further down, and nothing else."""
GROUND = {
    "custom_events",
    "door",
    "errors",
    "events",
    "ids",
    "settings",
    "secret_patterns",
    "secret_shapes",
    "escape",
    "release",
}
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def package_of(module: str) -> str:
    """Name the package that a module is in."""
    first, _, rest = module.partition(".")
    if first == "projections":
        return first
    name = rest.partition(".")[0]
    return "the ground" if name in GROUND else {"": "the door", "__main__": "cli"}.get(name, name)


def path_of(module: str) -> Path:
    path = ROOT / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports_of(module: str) -> set[str]:
    """List the modules of the house that a module imports, wherever in its text; its door's lazy names included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path_of(module).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert node.module is not None
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update((inner & set(MODULES)) or {node.module})
    return {name for name in found if name.split(".")[0] in ("eventstore", "projections")}


def test_every_package_is_on_a_floor() -> None:
    assert {package_of(module) for module in MODULES} <= set(FLOOR)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    own = package_of(module)
    above = {name for name in imports_of(module) if package_of(name) != own and FLOOR[package_of(name)] >= FLOOR[own]}
    assert not above, f"{module} imports from its own floor or above: {sorted(above)}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter({module: imports_of(module) - {module} for module in MODULES}).prepare()


IMPORT_EACH = """
import importlib, os, sys
import asyncio, click, logging, msgspec, rich.table, sqlite3, watchfiles, zipfile  # once, for all; nothing of ours

for module in sys.argv[1:]:
    assert not {"eventstore", "projections"} & set(sys.modules)
    child = os.fork()
    if not child:
        try:
            importlib.import_module(module)
        except BaseException as error:
            if type(error).__name__ != "ExtraMissing":  # the package of another, which tests need not have
                print(module, repr(error), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.long
@pytest.mark.parametrize("package", sorted(set(map(package_of, MODULES))))
def test_each_module_can_be_imported_first(package: str) -> None:
    modules = [name for name in MODULES if package_of(name) == package and not name.endswith("__main__")]
    command = [sys.executable, "-W", "error", "-c", IMPORT_EACH, *modules]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("", "")


def test_projections_know_no_clock_no_files_and_no_environment() -> None:
    for path in (ROOT / "projections").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            for name in [*names, module]:
                assert name.split(".")[0] not in {"os", "time", "pathlib", "random", "secrets", "io", "sys"}, path


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = "import sys, eventstore; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    names = set(loaded.stdout.split())
    assert not names & {
        "rich",
        "click",
        "watchfiles",
        "dotenv",
        "asyncio",
        "eventstore.sessions.manager",
        "projections.session",
    }


def test_public_names_are_sorted_and_all_there() -> None:
    assert eventstore.__all__ == sorted(eventstore.__all__)
    for name in eventstore.__all__:
        assert getattr(eventstore, name) is not None
    assert set(eventstore.__all__) <= set(dir(eventstore))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        eventstore.nonsense  # noqa: B018


DOORS = [
    "eventstore",
    *(f"eventstore.{name}" for name in ("exporters", "importers", "integrity", "log", "record", "sessions", "store")),
]


@pytest.mark.parametrize("package", DOORS)
def test_a_door_gives_what_it_shows_to_type_checkers(package: str) -> None:
    """Names stand twice in a door: once for the program, once for type checkers."""
    shown = {
        (node.module, alias.name)
        for block in ast.parse(path_of(package).read_text("utf-8")).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == alias.asname
    }
    found = importlib.import_module(package)
    assert {name for _, name in shown} == set(found.__all__)
    for module, name in shown:
        assert module is not None
        assert getattr(found, name) == getattr(importlib.import_module(module), name)
    assert set(found.__all__) <= set(dir(found))


def test_the_front_door_has_the_names_of_everyday_use_only() -> None:
    assert len(eventstore.__all__) <= 45


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_documented(module: str) -> None:
    if module == "eventstore.__main__":
        return
    try:
        found = importlib.import_module(module)
    except ExtraMissing:  # a framework of others, which tests need not have: look at its text
        check_documented(ast.parse(path_of(module).read_text("utf-8")), module)
        return
    assert found.__doc__
    for name, thing in vars(found).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module:
            continue
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"{module}.{name} has no docstring"
        if inspect.isclass(thing):
            for method, inner in vars(thing).items():
                if not method.startswith("_") and (
                    inspect.isfunction(inner) or isinstance(inner, property | classmethod)
                ):
                    assert inspect.getdoc(getattr(thing, method)), f"{module}.{name}.{method} has no docstring"


def check_documented(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, where: str) -> None:
    assert ast.get_docstring(node), f"{where} has no docstring"
    for inner in node.body if isinstance(node, ast.Module | ast.ClassDef) else ():
        if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not inner.name.startswith("_"):
            check_documented(inner, f"{where}.{inner.name}")


def test_no_module_has_the_name_of_a_thing_it_exports() -> None:
    for module in MODULES:
        if module != "eventstore.__main__":
            with suppress(ExtraMissing):
                assert module.rpartition(".")[2] not in vars(importlib.import_module(module)).get("__all__", [])


MOST_LINES_OF_A_FILE, MOST_LINES_OF_A_CLASS = 500, 300


@pytest.mark.parametrize("module", MODULES)
def test_no_file_and_no_class_has_too_many_lines(module: str) -> None:
    text = path_of(module).read_text("utf-8")
    if module != "eventstore.exporters.verify":  # one file on purpose: auditors copy it
        assert text.count("\n") <= MOST_LINES_OF_A_FILE
    lengths = {
        one.name: (one.end_lineno or 0) - one.lineno + 1
        for one in ast.walk(ast.parse(text))
        if isinstance(one, ast.ClassDef)
    }
    assert {name: count for name, count in lengths.items() if count > MOST_LINES_OF_A_CLASS} == {}
