"""The tests of Strands' repository session manager, of its source distribution, with our repository in the place of the mock."""

import json
import os
import sys
import tarfile
from importlib import import_module
from pathlib import Path
from typing import Any

from counted import run
from stores import FOLDER, makers

from eventstore.integrations.strands import EventStoreRepository

TESTS = ("tests/strands/session/test_repository_session_manager.py",)


class Ours(EventStoreRepository):
    """Made without arguments, as the mock is."""

    make: Any = None

    def __init__(self) -> None:
        super().__init__(type(self).make())


(source,) = FOLDER.glob("strands_agents-*.tar.gz")
with tarfile.open(source) as archive:
    archive.extractall(FOLDER, filter="data")
os.chdir(source.with_name(source.name.removesuffix(".tar.gz")))
sys.path.insert(0, str(Path.cwd()))
import_module("tests.fixtures.mock_session_repository").MockedSessionRepository = Ours  # type: ignore[attr-defined]
passed, failures = 0, list[str]()
for name, make in makers().items():
    Ours.make = staticmethod(make)
    counted = run(TESTS)
    passed += counted.passed
    failures += [f"{name}: {one}" for one in counted.failures]
print(json.dumps({"passed": passed, "failed": len(failures), "failures": failures, "tests": TESTS}))
sys.exit(1 if failures else 0)
