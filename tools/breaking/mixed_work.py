"""The worker of `mixed`: does random operations on one store for ever, and reports each of them on a pipe.

A report is a line of JSON. `do` comes before an operation that removes something, `done` after one that was acknowledged, `bad`
for an error that no caller may see.
"""

import json
import os
import random
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventstore import EventStoreError, FileSystemSessionStorage, SessionManager
from eventstore import events as e
from eventstore.integrity import verify_session

SESSIONS, MOST_FORKS = 50, 30
WORDS = [f"word{n:02d}" for n in range(20)]
TOOLS = ["read", "write", "search"]
MODELS = ["large", "small"]
USERS = [None, "ann", "ben"]
Report = Callable[[dict[str, Any]], None]


def storage_of(root: Path) -> FileSystemSessionStorage:
    """Open the store as a new program does."""
    return FileSystemSessionStorage(root / "sessions", root / "history", fsync="no")


def work_for_ever(root: Path, name: str, seed: str, writing: int) -> None:
    """Do operations until this process is killed."""

    def report(what: dict[str, Any]) -> None:
        data = json.dumps(what).encode() + b"\n"
        while data:
            data = data[os.write(writing, data) :]

    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_, **__: report({"warned": str(message)})
    try:
        worker = Worker(SessionManager(storage_of(root)), name, random.Random(seed), report)
        while True:
            worker.step()
    except BaseException:
        report({"bad": traceback.format_exc()})
    finally:
        os._exit(1)


class Worker:
    """One program among several: its manager, its dice, and where it reports to."""

    def __init__(self, manager: SessionManager, name: str, rng: random.Random, report: Report) -> None:
        self.manager, self.name, self._rng, self._report = manager, name, rng, report
        self._count = 0
        self._operations = {
            self.create: 6, self.message: 30, self.keyed: 6, self.call: 10, self.usage: 8, self.data: 8, self.many: 4,
            self.fork: 4, self.trash: 4, self.restore: 2, self.redact: 8, self.delete: 2, self.cleanup: 1,
            self.rebuild: 1, self.list: 3, self.search: 3, self.figures: 1, self.verify: 2,
        }  # fmt: skip

    def step(self) -> None:
        """Do one operation. Whatever it raises but EventStoreError and ValueError is reported as bad."""
        (operation,) = self._rng.choices(list(self._operations), list(self._operations.values()))
        began = time.time()
        try:
            done = operation()
        except (EventStoreError, ValueError) as error:
            if operation in (self.cleanup, self.rebuild, self.list, self.search, self.figures):
                self._report({"bad": f"{operation.__name__} was stopped by one session: {traceback.format_exc()}"})
            self._report({"refused": operation.__name__, "error": type(error).__name__})
        except Exception:
            self._report({"bad": f"{operation.__name__}: {traceback.format_exc()}"})
        else:
            self._report({"done": operation.__name__, "since": began, **(done or {})})

    def _token(self) -> str:
        self._count += 1
        return f"t{self.name}n{self._count}e"

    def _session(self) -> str:
        names = sorted(self.manager.storage.log.ids())
        return self._rng.choice(names) if names and self._rng.random() < 0.9 else self._slot()

    def _slot(self) -> str:
        return f"s{self._rng.randrange(SESSIONS)}"

    # --- operations that add: each returns what was acknowledged

    def create(self, name: str = "") -> dict[str, Any]:
        name, token = name or self._slot(), self._token()
        user, tags = self._rng.choice(USERS), self._rng.sample(["red", "green"], self._rng.randrange(3))
        self.manager.create_session(name, f"purpose {token}", user, tags)
        return {"session": name, "token": token, "seq": 1}

    def message(self) -> dict[str, Any]:
        name, token = self._session(), self._token()
        text = f"{token} {self._rng.choice(WORDS)}" + f" {token}" * self._rng.choice((1, 1, 1, 1, 500, 5_000))
        done = self.manager.add_conversation_message(name, self._rng.choice(["user", "assistant"]), text)
        return {"session": name, "token": token, "seq": done.last}

    def keyed(self) -> dict[str, Any]:
        name, token = self._session(), self._token()  # a key outlives the text: it does not say the token
        for _ in range(2):
            done = self.manager.add_conversation_message(
                name, "user", f"{token} again", id=f"{self._count} of {self.name}"
            )
        return {"session": name, "token": token, "seq": done.last}

    def many(self) -> dict[str, Any]:
        name, token = self._session(), self._token()
        batch = [e.MessageAdded(role="user", content=f"{token}b{n} {self._rng.choice(WORDS)}") for n in range(4)]
        done = self.manager.storage.append(name, batch)
        return {"session": name, "token": f"{token}b3", "seq": done.last}

    def call(self) -> dict[str, Any]:
        name, token = self._session(), self._token()
        fails = self._rng.random() < 0.2
        try:
            with self.manager.invocation(name, self._rng.choice(TOOLS), {"given": token}) as call:
                call.result = f"result {token}"
                if fails:
                    raise KeyError(token)
        except KeyError as error:
            if error.args != (token,) or getattr(error, "__notes__", None):
                raise EventStoreError("the call was not recorded") from error
        return {"session": name, "token": call.invocation_id, "folder": str(call.folder)}

    def usage(self) -> dict[str, Any]:
        name, token = self._session(), self._token()
        key = self._rng.choice([None, token, f"shared{self._rng.randrange(5)}"])
        tokens = {"input": self._rng.randrange(1000), "output": self._rng.randrange(1000)}
        cost, model = self._rng.randrange(100) / 64, self._rng.choice(MODELS)
        done = self.manager.record_usage(name, tokens, cost, model, key)
        return {"session": name, "token": token if key == token else "", "seq": done.last}

    def data(self) -> dict[str, Any]:
        name, token = self._session(), self._token()
        done = self.manager.set_data(name, f"key{self._rng.randrange(6)}", {"is": token})
        return {"session": name, "token": token, "seq": done.last}

    def fork(self) -> dict[str, Any]:
        parent, name = self._session(), f"f{self._token()}"
        if sum(one.startswith("f") for one in self.manager.storage.log.ids()) >= MOST_FORKS:
            raise ValueError("there are forks enough")
        version = self.manager.head(parent).version
        at = self._rng.choice([None, version, self._rng.randrange(1, version + 1)])
        self.manager.fork_session(parent, at, name, purpose=f"purpose {name}")
        return {"session": name, "token": f"purpose {name}"}

    # --- operations that move and remove: what is removed is reported first

    def trash(self) -> dict[str, Any]:
        name = self._session()
        return {"session": name, "is": self.manager.trash.put(name)}

    def restore(self) -> dict[str, Any]:
        trashed = self.manager.trash.list()
        name = self._rng.choice(trashed).session_id if trashed else self._slot()
        self.manager.trash.restore(name)
        return {"session": name}

    def redact(self) -> dict[str, Any]:
        name = self._session()
        seq = self._rng.randrange(1, self.manager.head(name).version + 1)
        (event,) = self.manager.events(name, seq - 1, seq)
        texts = [event.content] if isinstance(event, e.MessageAdded) else []
        self._report({"do": "redact", "session": name, "seq": seq})
        done = self.manager.redactions.redact(name, seq, "no longer wanted")
        tokens = [text.split()[0] for text in texts if text.split()]
        return {"session": name, "seqs": list(done.seqs), "tokens": [] if done.left else tokens, "left": done.left}

    def delete(self) -> dict[str, Any]:
        name = self._session()
        self._report({"do": "delete", "session": name})
        return {"session": name, "is": self.manager.delete_session(name)}

    def cleanup(self) -> dict[str, Any]:
        plan = self.manager.trash.plan_cleanup(0, 0)
        chosen = self._rng.sample(plan, min(3, len(plan)))
        for one in chosen:
            if one.action == "purge":
                self._report({"do": "delete", "session": one.session_id})
        return {"cleaned": len(self.manager.trash.clean_up(chosen))}

    # --- operations that read and derive

    def rebuild(self) -> None:
        for _ in self.manager.storage.rebuild():
            pass

    def list(self) -> None:
        self.manager.list_sessions(limit=self._rng.choice([5, None]))

    def search(self) -> None:
        self.manager.search(self._rng.choice(WORDS), limit=50)

    def figures(self) -> None:
        self.manager.analytics("day")

    def verify(self) -> None:
        name = self._session()
        verdict = verify_session(self.manager.storage, name)
        if verdict.outcome == "tampered":
            self._report({"bad": f"{name} is called tampered: {verdict.findings}"})
