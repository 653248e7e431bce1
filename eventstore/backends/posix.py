"""The Python modules that only POSIX systems have. On other systems the package can be imported, with sessions in memory."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

from eventstore.errors import NotSupported

if TYPE_CHECKING:
    import fcntl as fcntl
    import resource as resource
else:
    try:
        import fcntl
        import resource
    except ModuleNotFoundError:  # Windows
        fcntl = resource = SimpleNamespace()


def require_posix(where: str) -> None:
    """Raise NotSupported if files cannot be locked. `where` is the requested folder."""
    if not hasattr(fcntl, "flock"):
        raise NotSupported(
            "", where, "lock files: this system has no fcntl", "keep sessions in memory, or use Linux or macOS"
        )
