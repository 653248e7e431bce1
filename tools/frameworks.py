"""Run the vendors' own tests of agent frameworks with the stores of `eventstore.integrations`: see tools/frameworks/README.md."""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from breaking.postgres_server import PostgresServer

ROOT = Path(__file__).parents[1]
SUITES = Path(__file__).parent / "frameworks"
STORES = ("memory", "files", "postgres")
KILLED = ("langgraph", "openai_agents", "pydantic_ai", "adk", "strands", "claude_agent", "fastmcp")
"""Those that have a program to kill."""


class File(NamedTuple):
    """A file of a vendor's repository at a commit, by its SHA-256. Without a network it is left out, and the suite names it."""

    repository: str
    commit: str
    path: str
    sha256: str


def at_commit(repository: str, commit: str, files: dict[str, str]) -> tuple[File, ...]:
    """Name files of a repository at a commit: SHA-256 by path."""
    return tuple(File(repository, commit, path, sha256) for path, sha256 in files.items())


class Suite(NamedTuple):
    """What a suite installs: the packages of a vendor, source distributions and files that hold its tests."""

    packages: tuple[str, ...]
    sources: tuple[str, ...] = ()
    files: tuple[File, ...] = ()


FRAMEWORKS = {
    "claude_agent": Suite(
        ("claude-agent-sdk==0.2.189", "anyio", "pytest", "pytest-asyncio"), ("claude-agent-sdk==0.2.189",)
    ),
    "langgraph": Suite(
        (
            "langgraph==1.2.24",
            "langgraph-checkpoint==4.3.2",
            "langgraph-checkpoint-conformance==0.0.2",
            "langgraph-checkpoint-sqlite==3.1.2",
            "langchain-core>=1",
            "pytest",
            "pytest-asyncio",
            "pytest-mock",
        ),
        ("langgraph-checkpoint==4.3.2", "langgraph-checkpoint-sqlite==3.1.2"),
        files=at_commit(
            "langchain-ai/langgraph",
            "f09cfe8ffc1eeffd68f4b628ed69c30f7cad229f",
            {
                "libs/checkpoint-conformance/langgraph/checkpoint/conformance/spec/_delta_fixtures.py": (
                    "088e9ab60051c1fb78b92f00d2e33725005d6de20980f7943333ea44e4f40e04"
                ),
                "libs/checkpoint-conformance/langgraph/checkpoint/conformance/spec/test_delta_channel_history.py": (
                    "c422a6f4474a7e39e0a35843c8f63acb71fef11888e9c5c6b750e4e0f1549189"
                ),
            },
        ),
    ),
    "adk": Suite(
        ("google-adk==2.13.0", "sqlalchemy", "aiosqlite", "pytest", "pytest-asyncio"),
        files=at_commit(
            "google/adk-python",
            "4006fe408c583bffd95c23455f00184baa4fad6d",
            {
                "tests/unittests/sessions/test_session_service.py": (
                    "3013a7c02d96261b242db9fdb63f83a3ccc0ebd5350a60af4cea71bcb33ce9d8"
                ),
            },
        ),
    ),
    "strands": Suite(
        ("strands-agents==1.62.0", "pytest", "pytest-asyncio", "moto", "boto3"), ("strands-agents==1.62.0",)
    ),
    "pydantic_ai": Suite(("pydantic-ai-slim==2.68.0",)),
    "openai_agents": Suite(
        ("openai-agents==0.24.0", "pytest", "pytest-asyncio"),
        files=at_commit(
            "openai/openai-agents-python",
            "7f7a44f8dc0650296bd5ab6c745c9bcbaa6ac3b7",
            {
                "tests/__init__.py": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "tests/test_responses.py": "3376d66c7f61564681958091924d59a8beb2ea45e518be5fba0ff9701e4cd7de",
                "tests/memory/test_session.py": "6f3e4aeca137b3462421f21f7ebab41b47802677da55960514f24c351f7f5c88",
                "tests/memory/test_session_limit.py": "1156bb16f20ebcb65137f39b40ca4635eb1d1bd37b81ab485fc19010fc722342",
            },
        ),
    ),
    "keyvalue": Suite(("py-key-value-aio[memory]==0.5.0",)),
    "fastmcp": Suite(
        (
            "fastmcp[apps]==4.1.1",
            "opentelemetry-sdk",
            "dirty-equals",
            "inline-snapshot",
            "pytest",
            "pytest-asyncio",
            "pytest-env",
            "pytest-httpx",
        ),
        ("fastmcp==4.1.1",),
    ),
}


def main() -> int:
    """Run the suites that are named, or all; return 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FRAMEWORKS)}; all without any")
    parser.add_argument(
        "--store",
        action="append",
        choices=STORES,
        help="a store to run on; memory and files without any, files for --kills",
    )
    parser.add_argument("--keep", type=Path, help="a folder for the environments, used again by the next run")
    parser.add_argument(
        "--kills", type=int, help="kill the programs of programs.py so often instead of running the suites"
    )
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - FRAMEWORKS.keys())
    if unknown:
        parser.error(f"no suite is called {', '.join(unknown)}")
    kinds = asked.store or (["files"] if asked.kills else ["memory", "files"])
    if asked.kills and "memory" in kinds:
        parser.error("what is in memory does not survive a kill")
    with tempfile.TemporaryDirectory() as made, ExitStack() as closing:
        folder = asked.keep or Path(made)
        urls = ["memory:" if one == "memory" else one for one in kinds if one != "postgres"]
        if "postgres" in kinds:
            server = PostgresServer()
            closing.callback(server.stop)
            urls.append(server.url("suite_NUMBER"))
        names = asked.names or (KILLED if asked.kills else list(FRAMEWORKS))
        results = [run(name, folder / name, urls, asked.kills) for name in names]
    return 0 if all(results) else 1


def run(name: str, folder: Path, stores: Sequence[str], kills: int | None = None) -> bool:
    """Run one suite in its environment on these stores; print its line of JSON."""
    began = time.monotonic()
    python, kinds = environment(name, folder), [one.partition(":")[0] for one in stores]
    command: list[str | Path] = [SUITES / f"suite_{name}.py", folder, *stores]
    if kills:
        command = [SUITES / "kills.py", name, folder, str(kills), *stores]
    done = subprocess.run(
        [python, *command],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=900,
        check=False,
    )
    last = done.stdout.strip().rpartition("\n")[2]
    try:
        found = json.loads(last)
    except ValueError:
        found = {"error": (done.stdout + done.stderr)[-2_000:]}
    is_good = done.returncode == 0 and found.get("passed", 0) > 0 and not found.get("failed")
    print(
        json.dumps(
            {"framework": name, "ok": is_good, "stores": kinds, **found, "seconds": round(time.monotonic() - began, 1)}
        ),
        flush=True,
    )
    if not is_good:
        print((done.stdout + done.stderr)[-4_000:], file=sys.stderr)
    return is_good


def environment(name: str, folder: Path) -> Path:
    """Make the environment of a suite, once; return its interpreter."""
    suite, python = FRAMEWORKS[name], folder / "venv/bin/python"
    if not (folder / "made").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        pip: list[str | Path] = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "-e", f"{ROOT}[postgres]", *suite.packages], check=True)
        for source in suite.sources:
            subprocess.run([*pip, "download", "--no-deps", "--no-binary", ":all:", "-d", folder, source], check=True)
        (folder / "made").touch()
    for file in suite.files:
        download(file, folder / file.path)
    return python


def download(file: File, target: Path) -> None:
    """Download a file, unless it is there or the network is not. Raises RuntimeError if it is another one."""
    if not target.exists():
        url = f"https://raw.githubusercontent.com/{file.repository}/{file.commit}/{file.path}"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                data = answer.read()
        except OSError:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    if hashlib.sha256(target.read_bytes()).hexdigest() != file.sha256:
        raise RuntimeError(f"{target} is not {file.path} of {file.repository} at {file.commit}")


if __name__ == "__main__":
    sys.exit(main())
