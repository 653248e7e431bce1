"""Measure the server with many clients that wait for events, and with many sessions, by the CPU time of its process.

    python tools/server_load.py --clients 1000 --sessions 10000

Prints what the server spends while nobody writes, in percent of one core; how long until each client has each of 100 events once;
how long a page of the list takes; and how long the server takes to end while all are connected.
"""

import argparse
import asyncio
import http.client
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from eventstore import FileSystemSessionStorage, SessionManager

TOKEN = "t" * 40
EVENTS = 100
ADDRESS = "127.0.0.1"


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def follow(port: int, got: list[int], is_open: asyncio.Event) -> None:
    """Follow one session by server-sent events, and note the numbers of the events."""
    reader, writer = await asyncio.open_connection(ADDRESS, port)
    head = f"GET /api/v1/sessions/s/stream?after=now HTTP/1.1\r\nHost: {ADDRESS}:{port}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    writer.write(head.encode())
    try:
        async for line in reader:
            if line.startswith((b"data:", b":", b"event:", b"retry")):
                is_open.set()
            if line.startswith(b'data: {"type"'):
                got.append(json.loads(line[6:])["seq"])
    finally:
        writer.close()


def page_milliseconds(port: int, query: str) -> float:
    """Return how long one page of the list takes."""
    connection = http.client.HTTPConnection(ADDRESS, port)
    began = time.perf_counter()
    connection.request("GET", f"/api/v1/sessions?{query}", headers={"Authorization": f"Bearer {TOKEN}"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()
    return 1000 * (time.perf_counter() - began)


async def with_clients(manager: SessionManager, process: "subprocess.Popen[bytes]", port: int, clients: int) -> None:
    """Connect clients, let them wait, write, and end the server."""
    got: list[list[int]] = [[] for _ in range(clients)]
    opened = [asyncio.Event() for _ in range(clients)]
    tasks = [asyncio.create_task(follow(port, one, is_open)) for one, is_open in zip(got, opened, strict=True)]
    await asyncio.wait_for(asyncio.gather(*(one.wait() for one in opened)), 120)
    before, began = cpu_seconds(process.pid), time.monotonic()
    await asyncio.sleep(30)  # each client has one heartbeat in it
    spent = (cpu_seconds(process.pid) - before) / (time.monotonic() - began)
    print(f"{clients:,} clients that wait: {100 * spent:.1f} % of a core")
    first = manager.head("s").version
    began, before = time.monotonic(), cpu_seconds(process.pid)
    for number in range(EVENTS):
        await asyncio.to_thread(manager.add_conversation_message, "s", "user", f"event {number}")
    while any(len(one) < EVENTS for one in got) and time.monotonic() < began + 120:
        await asyncio.sleep(0.05)
    wanted = list(range(first + 1, first + EVENTS + 1))
    right = sum(one == wanted for one in got)
    seconds = time.monotonic() - began
    print(
        f"{EVENTS} events to {clients:,} clients in {seconds:.1f} s, {cpu_seconds(process.pid) - before:.1f} s of CPU; "
        f"{right:,} have each once and in order"
    )
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    errors = await asyncio.to_thread(lambda: process.communicate(timeout=60)[1])
    print(
        f"ended in {time.monotonic() - began:.2f} s with status {process.returncode}; {len(errors.splitlines())} lines of errors"
    )
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert right == clients


def main() -> None:
    """Make a store, serve it in a process of its own, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=1000)
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        token = folder / "token"
        token.touch(0o600)
        token.write_text(TOKEN)
        storage = FileSystemSessionStorage(folder / ".sessions", folder / ".history", fsync="no")
        with SessionManager(storage) as manager:
            for number in range(given.sessions):
                manager.create_session(
                    f"s{number:06d}", f"purpose {number}", f"user{number % 50}", [f"tag{number % 7}"]
                )
            manager.create_session("s")
            command = [sys.executable, "-m", "eventstore", "--store", place, "serve", "--port", "0", "--json"]
            command += ["--token-file", str(token)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert process.stdout is not None
            port = int(json.loads(process.stdout.readline())["url"].rpartition(":")[2])
            print(f"first page of {given.sessions:,} sessions: {page_milliseconds(port, 'limit=50'):.0f} ms")
            for query in ("limit=50", "limit=50&user=user7", "limit=50&sort=created", "limit=50&purpose=77"):
                found = sorted(page_milliseconds(port, query) for _ in range(21))
                print(f"page with {query:24} median {found[10]:.0f} ms, greatest {found[-1]:.0f} ms")
            asyncio.run(with_clients(manager, process, port, given.clients))


if __name__ == "__main__":
    main()
