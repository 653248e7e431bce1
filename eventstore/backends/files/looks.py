"""Which logs there are and which changed, learned by looking at all of them: a scan of the folder and a stat for each log."""

import os
import stat
import threading
from collections import OrderedDict

from eventstore.backends.files.folders import LOG
from eventstore.errors import InvalidSessionId
from eventstore.ids import check_log_id
from eventstore.log.port import Changes

_KEPT = 8


class CompleteLooks:
    """Compares a look with the one that a token stands for. The last few are kept, so that logs that are gone are named too."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Start anew, after a fork of the process."""
        self._mutex = threading.Lock()
        self._looks: OrderedDict[str, dict[str, str]] = OrderedDict()

    def before(self, log: str) -> None:
        """Do nothing: a look finds out."""

    def after(self, log: str) -> None:
        """Do nothing: a look finds out."""

    def gone(self, log: str) -> None:
        """Do nothing: a look finds out."""

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def changed(self, since: str | None) -> Changes:
        """Name the logs that differ from the look that a token stands for; all where it is not known."""
        now = self._look()
        token = os.urandom(16).hex()
        with self._mutex:
            before = self._looks.get(since) if since is not None else None
            self._looks[token] = now
            while len(self._looks) > _KEPT:
                self._looks.popitem(last=False)
        if before is None:
            return Changes(list(now.items()), token)
        logs: list[tuple[str, str | None]] = [(log, text) for log, text in now.items() if before.get(log) != text]
        logs += [(log, None) for log in before.keys() - now.keys()]
        return Changes(logs, token)

    def _look(self) -> dict[str, str]:
        try:
            with os.scandir(self._root) as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return {}
        found = ((name, self._text(name)) for name in names if _is_log(name))
        return {name: text for name, text in found if text is not None}

    def _text(self, log: str) -> str | None:
        """Describe a log by its inode, size and time; what is no plain file is named too, so that somebody looks at it."""
        try:
            found = os.stat(f"{self._root}/{log}/{LOG}", follow_symlinks=False)
        except OSError:
            return None
        if stat.S_ISREG(found.st_mode) and not found.st_size:
            return None
        return f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def _is_log(name: str) -> bool:
    try:
        check_log_id(name)
    except InvalidSessionId:
        return False
    return True
