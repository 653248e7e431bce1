"""Following while readers and writers are killed: every committed event comes exactly once, whatever is killed."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from breaking.case import Counts, folder, opened, said
from eventstore import EventLog, EventStoreError, FileSystemSessionStorage, SessionManager
from eventstore.errors import LogRolledBack

_SESSIONS, _WRITERS, _MOST_SESSIONS = 20, 4, 120
_FOLLOWED = (None, None, "s0", "s1", "s2")  # by each follower: all, or one
_BURSTS = 8
_PATIENCE_SECONDS = 25

Key = tuple[str, int, str]
Role = tuple[Callable[[Path, int], None], int]
Roles = dict[int, Role]


def follow(full: bool) -> Counts:
    """Kill followers and writers at random: each event comes once, of one session or of all; none comes of a log rolled back."""
    kills = 500 if full else 12
    counts = {"kills": 0, "delivered": 0, "resumed": 0, "sessions": 0, "forks": 0, "rolled_back": 0}
    rng = random.Random(29)
    with folder() as root:
        with _manager(root) as manager:
            for n in range(_SESSIONS):
                manager.create_session(f"s{n}")
        roles: Roles = {}
        begun: list[Role] = [(_write, n) for n in range(_WRITERS)]
        begun += [(_follow, place) for place in range(len(_FOLLOWED))]
        for role in begun:
            _start(roles, root, role)
        try:
            while counts["kills"] < kills:
                time.sleep(rng.random() * 0.12)
                child = rng.choice(list(roles))
                role = roles.pop(child)
                _kill(child)
                _start(roles, root, role)
                counts["kills"] += 1
            _bursts(root, roles)
        finally:
            for child in roles:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        counts["resumed"] = sum(_output(root, place).with_suffix(".resumed").stat().st_size for place in range(5))
        with _manager(root) as manager:
            every = _everything(manager.storage.log)
            for place in range(len(_FOLLOWED)):
                counts["delivered"] += _came_once(every, root, place)
            counts["sessions"] = len({name for name, _, _ in every})
            counts["forks"] = _forks(manager)
            _made_whole(manager, root)
            counts["rolled_back"] = _rolled_back(manager, root)
    return counts


def _manager(root: Path) -> SessionManager:
    return SessionManager(FileSystemSessionStorage(root / ".sessions", root / ".history", fsync="no"))


def _output(root: Path, place: int) -> Path:
    return root / f"follower{place}.jsonl"


def _start(roles: Roles, root: Path, role: Role) -> None:
    child = os.fork()
    if child:
        roles[child] = role
        return
    try:
        role[0](root, role[1])
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(1)


def _kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "a child had failed before it was killed"


def _write(root: Path, writer: int) -> None:
    """Append for ever: to sessions there are, now and then to a new one or a fork; and have views replaced."""
    rng = random.Random()
    manager = _manager(root)
    names = sorted(manager.storage.log.ids())
    for n in range(10**9):
        name, dice = rng.choice(names), rng.random()
        with suppress(EventStoreError):  # one that another writer was killed in the middle of making
            if dice < 0.02 and len(names) < _MOST_SESSIONS:
                names.append(manager.create_session().metadata.session_id)
            elif dice < 0.04 and len(names) < _MOST_SESSIONS:
                names.append(manager.fork_session(name))
            elif dice < 0.1:
                manager.storage.flush_views(name)
            else:
                pad = "x" * rng.choice((10, 10, 10, 3000))
                manager.storage.append(name, [said(f"{writer}.{n} {pad}") for _ in range(rng.randrange(1, 4))])
        time.sleep(0.003)


def _follow(root: Path, place: int) -> None:
    """Write down each event with its cursor; continue after the last complete line."""
    path = _output(root, place)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    os.ftruncate(file, whole)
    resumed = os.open(path.with_suffix(".resumed"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    cursor = None
    if whole:
        cursor = json.loads(data[data.rfind(b"\n", 0, whole - 1) + 1 : whole])[3]
        os.write(resumed, b".")
    with _manager(root).follow(_FOLLOWED[place], cursor) as follower:
        for one in follower:
            line = json.dumps([one.session_id, one.event.seq, one.event.hash, one.cursor]) + "\n"
            os.write(file, line.encode())


def _bursts(root: Path, roles: Roles) -> None:
    """Stop the writers; then start followers anew while last events come, which nothing comes behind, and await them."""
    for child, (work, _) in list(roles.items()):
        if work is _write:
            roles.pop(child)
            _kill(child)
    with opened(root / ".sessions") as log:  # no threads, of which a child could keep the locks
        for burst in range(_BURSTS):
            for child, role in list(roles.items()):
                roles.pop(child)
                _kill(child)
                _start(roles, root, role)
            for n in range(_SESSIONS):
                log.append(f"s{n}", [said(f"burst {burst}")])
                time.sleep(0.004)
            _await_all(log, root)


def _await_all(log: EventLog, root: Path) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    every = _everything(log)
    for place, name in enumerate(_FOLLOWED):
        wanted = len(_wanted(every, name))
        while _output(root, place).read_bytes().count(b"\n") < wanted:
            assert time.monotonic() < until, f"the follower of {name or 'all'} misses events"
            time.sleep(0.02)


def _everything(log: EventLog) -> list[Key]:
    """List all events that are committed, each with the session that it is the own of."""
    found: list[Key] = []
    for name in log.ids():
        with suppress(EventStoreError):  # one that somebody was killed in the middle of making
            found += [(name, event.seq, event.hash) for event in log.read(name, log.inherited(name))]
    return found


def _wanted(every: list[Key], name: str | None) -> list[Key]:
    return every if name is None else [one for one in every if one[0] == name]


def _delivered(root: Path, place: int) -> list[tuple[Key, str]]:
    lines = map(json.loads, _output(root, place).read_bytes().splitlines())
    return [((name, seq, digest), cursor) for name, seq, digest, cursor in lines]


def _came_once(every: list[Key], root: Path, place: int) -> int:
    """Check that a follower wrote down each event that it should, once and in the order of its session."""
    name = _FOLLOWED[place]
    found = [one for one, _ in _delivered(root, place)]
    wanted = _wanted(every, name)
    assert len(set(found)) == len(found), f"the follower of {name or 'all'} was given events twice"
    assert set(found) == set(wanted), f"the follower of {name or 'all'} was given other events"
    last: dict[str, int] = {}
    for one, seq, _ in found:
        assert seq > last.get(one, 0), f"session {one} out of order"
        last[one] = seq
    return len(found)


def _forks(manager: SessionManager) -> int:
    count = 0
    for name in manager.storage.log.ids():
        with suppress(EventStoreError):
            count += manager.storage.log.inherited(name) > 0
    return count


def _made_whole(manager: SessionManager, root: Path) -> None:
    """Copy to a fork what it has of its parent: all its bytes move, and followers go on all the same."""
    log = manager.storage.log
    fork = manager.fork_session("s3")
    one = list(manager.follow(fork, live=False))[-1].cursor
    every = list(manager.follow(None, _delivered(root, 0)[-1][1], live=False))
    assert [each.session_id for each in every] == [fork], "the fork did not come"
    log.make_whole(fork)
    manager.storage.append(fork, [said("whole")])
    for name, cursor in ((fork, one), (None, every[-1].cursor)):
        found = [each.event.seq for each in manager.follow(name, cursor, live=False)]
        assert found == [log.head(fork).version], f"after {fork} was made whole came {found}"


def _rolled_back(manager: SessionManager, root: Path) -> int:
    """Restore an older copy of a log: no follower continues or begins again."""
    path = root / ".sessions" / "s0" / "events.jsonl"
    data = path.read_bytes()
    (root / "older").write_bytes(data[: data.index(b"\n") + 1])
    (root / "older").replace(path)
    count = 0
    for place in (0, 2):
        try:
            found = list(manager.follow(_FOLLOWED[place], _delivered(root, place)[-1][1], live=False))
        except LogRolledBack:
            count += 1
        else:
            raise AssertionError(f"a log that was rolled back was read on: {len(found)} events")
    return count
