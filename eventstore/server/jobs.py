"""Jobs: work that takes longer than a request may. At most two run at once; each can be queried and cancelled."""

import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from eventstore.server.problems import Problem, Refusal, problem_of

_AT_ONCE, _KEPT = 2, 100


class Cancelled(Exception):
    """The job was cancelled inside of a step."""


class Progress(msgspec.Struct, omit_defaults=True):
    """How far a job is: `done` of `total`. `result` comes when `state` is `done`, `problem` when it is `failed`."""

    id: str
    kind: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    done: int
    total: int
    result: Any = None
    problem: Problem | None = None


@dataclass
class Job:
    """One job: `done` of `total` sessions or events.

    `total` is 0 while it is not known; `result` is set when `state` is `done`, `problem` when it is `failed`.
    """

    id: str
    kind: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"] = "waiting"
    done: int = 0
    total: int = 0
    result: Any = None
    problem: Problem | None = None
    cancelled: bool = False

    def reached(self, done: int) -> None:
        """Note how far the job is. Raises Cancelled if it is to end here."""
        self.done = done
        if self.cancelled:
            raise Cancelled

    def shown(self) -> Progress:
        """Return how far it is."""
        result = self.result if self.state == "done" else None
        return Progress(self.id, self.kind, self.state, self.done, self.total, result, self.problem)


class Jobs:
    """The jobs of a server."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_AT_ONCE, "eventstore-job")
        self._jobs: dict[str, Job] = {}
        self._mutex = threading.Lock()

    def start(self, kind: str, steps: Callable[[Job], Iterator[None]], finish: Callable[[], Any]) -> Job:
        """Run the steps of a job in a thread, one after the other, and then ask for its result."""
        job = Job(secrets.token_hex(8), kind)
        with self._mutex:
            ended = [one.id for one in self._jobs.values() if one.state not in ("waiting", "running")]
            if len(self._jobs) - len(ended) >= _KEPT // 4:
                raise Refusal(429, "too many jobs wait; ask again when some are done", "Too many jobs")
            self._jobs[job.id] = job
            if len(self._jobs) > _KEPT:
                del self._jobs[ended[0]]
        self._pool.submit(self._run, job, steps, finish)
        return job

    def get(self, job_id: str) -> Job:
        """Return a job. Raises Refusal."""
        with self._mutex:
            job = self._jobs.get(job_id)
        if job is None:
            raise Refusal(
                404,
                "there is no such job; the server keeps 100, drops the oldest that has ended, and all at a redaction",
                "No such job",
            )
        return job

    def cancel(self, job_id: str) -> Job:
        """End a job at its next step, or at the next place in one where it says how far it is."""
        job = self.get(job_id)
        job.cancelled = True
        return job

    def drop(self) -> None:
        """Forget the results of all jobs, and end those that run: something that they may have read was removed."""
        with self._mutex:
            for job in self._jobs.values():
                job.cancelled = True
            self._jobs.clear()

    def close(self) -> None:
        """End all jobs at their next step."""
        with self._mutex:
            for job in self._jobs.values():
                job.cancelled = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: Job, steps: Callable[[Job], Iterator[None]], finish: Callable[[], Any]) -> None:
        job.state = "running"
        try:
            for _ in steps(job):
                if job.cancelled:
                    job.state = "cancelled"
                    return
            job.result = finish()
            job.state = "done"
        except Cancelled:
            job.state = "cancelled"
        except Exception as error:
            job.problem, job.state = problem_of(error), "failed"
