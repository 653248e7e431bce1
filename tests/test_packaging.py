"""The distribution: its name, its number, and what its errors say to install."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import eventstore
from eventstore import release
from eventstore.errors import ExtraMissing

ROOT = Path(eventstore.__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def run(program: str, cwd: Path, *options: str) -> str:
    command = [sys.executable, *options, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd, timeout=60).stdout.strip()


def test_the_version_is_that_of_the_installed_distribution() -> None:
    assert eventstore.__version__ == metadata.version(PROJECT["name"]) == PROJECT["version"]


def test_importing_the_package_does_not_look_its_version_up(tmp_path: Path) -> None:
    program = "import sys, eventstore; print('importlib.metadata' in sys.modules, eventstore.__version__)"
    assert run(program, tmp_path, "-I") == f"False {PROJECT['version']}"


def test_source_that_is_not_installed_runs_and_does_not_know_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventstore.release.DISTRIBUTION", "not-installed-anywhere")
    assert release.__version__ == "unknown"


def test_the_extra_that_an_error_names_is_one_of_the_distribution() -> None:
    for extra in ("parquet", "postgres", "sign"):
        assert extra in PROJECT["optional-dependencies"]
        assert f"pip install '.[{extra}]' in a checkout of {PROJECT['name']}" in str(ExtraMissing(extra, "this"))


def test_long_tests_and_those_of_real_servers_are_left_out_unless_they_are_asked_for() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]
    assert "-m=not long and not engines and not seaweed" in options["addopts"]
    runs = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "long and not engines and not seaweed$left" in runs
    assert "-m engines" in runs
