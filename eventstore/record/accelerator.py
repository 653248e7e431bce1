"""The optional accelerator `_chain.c`: chain checks and sealing. `python -m eventstore.record.accelerator` builds it.

Nothing needs it. Without it, or where it stops, Python checks the same lines; a test compares the two on damaged lines.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

_SOURCE = Path(__file__).with_name("_chain.c")
_FORM = 2


class Chain(Protocol):
    """What the built module holds."""

    def count_fitting(self, lines: bytes, digest: bytes, /) -> int:
        """As `hash_chain.count_fitting` does."""

    def seal(
        self,
        head: bytes,
        seq: int,
        at: bytes,
        optional: bytes,
        batch: tuple[int, int] | None,
        tail: bytes,
        previous: bytes,
        /,
    ) -> tuple[bytes, bytes]:
        """As `codec.seal` does, of a piece's fields."""


def load() -> Chain | None:
    """Return the module that was built for this Python; None where there is none, or one of another release."""
    try:
        found = import_module("eventstore.record._chain")
    except ImportError:
        return None
    return cast("Chain", found) if getattr(found, "FORM", 0) == _FORM else None


def build(folder: Path) -> Path:
    """Compile the accelerator into a folder with the compiler that Python was made with; return its path.

    Raises OSError and subprocess.CalledProcessError where that is not possible.
    """
    import shlex
    import subprocess
    import sysconfig
    from ctypes.util import find_library

    built = folder / f"_chain{sysconfig.get_config_var('EXT_SUFFIX') or '.so'}"
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
    link = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared", "-fPIC", "-ldl"]
    library = find_library("crypto") or "libcrypto.so.3"
    command = [compiler, "-O2", f"-I{sysconfig.get_path('include')}", f'-DLIBCRYPTO="{library}"', str(_SOURCE)]
    subprocess.run([*command, "-o", str(built), *link], check=True, capture_output=True, text=True)  # noqa: S603 - Python's own compiler
    return built


def main() -> int:
    """Build the accelerator beside this module, try it, and say what came of it."""
    from subprocess import CalledProcessError

    try:
        built = build(_SOURCE.parent)
        import_module("eventstore.record._chain")
    except (OSError, CalledProcessError, ImportError) as error:
        why = getattr(error, "stderr", "") or str(error)
        sys.stderr.write(f"the accelerator could not be built, and Python does its work: {why.strip()}\n")
        return 1
    sys.stdout.write(f"built {built}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
