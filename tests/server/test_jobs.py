"""Jobs: which of them a server keeps."""

import threading
from collections.abc import Iterator

import pytest

from eventstore.server.jobs import Job, Jobs
from eventstore.server.problems import Refusal


def test_a_job_that_runs_is_kept_however_many_others_ended() -> None:
    jobs, go_on = Jobs(), threading.Event()

    def long(job: Job) -> Iterator[None]:
        yield
        assert go_on.wait(60)
        yield

    def run_short() -> str:
        ended = threading.Event()
        job = jobs.start("short", lambda job: iter(()), ended.set)
        assert ended.wait(60)
        return job.id

    try:
        running = jobs.start("long", long, lambda: None)
        first, *_ = [run_short() for _ in range(110)]
        assert jobs.cancel(running.id) is running
        with pytest.raises(Refusal, match="no such job"):
            jobs.get(first)
    finally:
        go_on.set()
        jobs.close()
