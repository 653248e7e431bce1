"""A client in another language, generated from the OpenAPI document, makes a tour of every route and checks each answer."""

import json
import subprocess
from pathlib import Path

import pytest
from server.serving import fill, serving

from eventstore import MemorySessionStorage, SessionManager

PAGE = Path(__file__).parents[2] / "tools" / "page"

pytestmark = pytest.mark.long


def test_a_generated_client_in_typescript_calls_every_operation(tmp_path: Path) -> None:
    if not (PAGE / "node_modules" / "@hey-api").is_dir():
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=PAGE, check=True)
    with SessionManager(MemorySessionStorage()) as manager:
        fill(manager, "s", 20)
        with serving(manager, write=True) as client:
            command = ["npm", "run", "--silent", "tour", "--", client.started.url, client.started.token, str(tmp_path)]
            ran = subprocess.run(command, cwd=PAGE, capture_output=True, text=True, timeout=240, check=False)
            assert ran.returncode == 0, ran.stdout + ran.stderr
            told = json.loads(ran.stdout)
            operations = [one for path in client.get("/openapi.json")["paths"].values() for one in path.values()]
        names = [one["operationId"].replace("_", "").lower() for one in operations]
        assert len(names) == len(set(names)), "an operation has the name of another"
        assert {one.replace("_", "").lower() for one in told["done"]} == set(names)
        assert told["found"] == list(manager.moments.find("s", "needle", limit=5).seqs)
        assert told["version"] == manager.head("of-the-tour").version
