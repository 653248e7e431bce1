"""Settings from the environment and from `.env` in the working folder. The environment overrides `.env`.

| variable | default | meaning |
|---|---|---|
| `SESSION_STORAGE_ENABLED` | true | false keeps sessions in memory only |
| `SESSION_STORAGE_PATH` | `.sessions` | the sessions folder |
| `SESSION_STORAGE_BACKEND` | `filesystem` | `filesystem`, `memory`, `postgresql` or `objects`; the last two need the URL |
| `SESSION_STORAGE_URL` | | the store by URL, as `open_store` takes it, in place of path and backend |
| `SESSION_STORAGE_CACHE` | the user's cache folder | where caches of stores on other hosts are kept |
| `SESSION_STORAGE_RETENTION_DAYS` | 30 | age in days at which `cleanup` removes a session; `SESSION_RETENTION_DAYS` is read too |
| `SESSION_STORAGE_FSYNC` | `always` | `always`, `everysec` or `no` |
| `SESSION_STORAGE_REDACT_SECRETS` | false | true replaces what looks like a key, token or password before it is written |
| `TOOL_HISTORY_ENABLED` | true | false creates no folders for tool calls |
| `TOOL_HISTORY_PATH` | `.history` | the history folder |
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from eventstore.errors import InvalidSetting
from eventstore.ids import Fsync

Backend = Literal["filesystem", "memory", "postgresql", "objects"]
_SCHEMES = {
    "filesystem": ("file",),
    "memory": ("memory",),
    "postgresql": ("postgresql", "postgres"),
    "objects": ("s3", "az", "gs"),
}
_YES = frozenset(["1", "true", "yes", "on"])
_NO = frozenset(["0", "false", "no", "off"])
_MAX_DAYS = 365_000  # a thousand years: the cutoff date stays within what datetime can hold


@dataclass(frozen=True)
class Settings:
    """The validated values of the variables. `retention_days` is in days. `url` may hold a password: it is in no repr."""

    storage_enabled: bool = True
    storage_path: Path = Path(".sessions")
    backend: Backend = "filesystem"
    retention_days: int = 30
    fsync: Fsync = "always"
    redact_secrets: bool = False
    history_enabled: bool = True
    history_path: Path = Path(".history")
    url: str | None = field(default=None, repr=False)
    cache_path: Path | None = None


def load_settings(environ: Mapping[str, str] | None = None, dotenv: Path | None = None) -> Settings:
    """Read the settings. `environ` replaces the environment, `dotenv` replaces the file `.env` of the working folder.

    An empty value counts as not set. Raises InvalidSetting, which names the variable.
    """
    values = _Values({**_dotenv(dotenv or Path(".env")), **(os.environ if environ is None else environ)})
    url, backend = _url_and_backend(values)
    return Settings(
        storage_enabled=values.flag("SESSION_STORAGE_ENABLED", default=True),
        storage_path=values.path("SESSION_STORAGE_PATH", ".sessions"),
        backend=backend,
        retention_days=values.days("SESSION_STORAGE_RETENTION_DAYS", "SESSION_RETENTION_DAYS", default=30),
        fsync=cast("Fsync", values.choice("SESSION_STORAGE_FSYNC", "always", get_args(Fsync))),
        redact_secrets=values.flag("SESSION_STORAGE_REDACT_SECRETS", default=False),
        history_enabled=values.flag("TOOL_HISTORY_ENABLED", default=True),
        history_path=values.path("TOOL_HISTORY_PATH", ".history"),
        url=url,
        cache_path=values.path("SESSION_STORAGE_CACHE", "") if values.text("SESSION_STORAGE_CACHE", "") else None,
    )


def source_of(name: str, environ: Mapping[str, str] | None = None, dotenv: Path | None = None) -> str | None:
    """Return where a variable is set, `the environment` or `.env`; None if it is not, or empty."""
    values = os.environ if environ is None else environ
    if name in values:  # it overrides `.env` even where it is empty
        return "the environment" if values[name].strip() else None
    path = dotenv or Path(".env")
    return path.name if _dotenv(path).get(name, "").strip() else None


def _url_and_backend(values: "_Values") -> tuple[str | None, Backend]:
    """Read which store is meant: by URL, or by the kind of its backend; both must agree."""
    url, name = values.text("SESSION_STORAGE_URL", ""), "SESSION_STORAGE_BACKEND"
    backend = cast("Backend", values.choice(name, "filesystem", get_args(Backend)))
    if not url:
        if backend in ("postgresql", "objects"):
            raise InvalidSetting("SESSION_STORAGE_URL", "", f"the URL of a store, which {name}={backend} needs")
        return None, backend
    scheme = url.partition(":")[0].lower()
    if values.text(name, "") and scheme not in _SCHEMES[backend]:
        raise InvalidSetting(
            name, backend, f"the kind of store that SESSION_STORAGE_URL names, which begins with {scheme}:"
        )
    return url, next((kind for kind in get_args(Backend) if scheme in _SCHEMES[kind]), backend)


def _dotenv(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    from dotenv import dotenv_values  # slow: as long as Python's own start, and most folders have no such file

    try:
        found = dotenv_values(path, interpolate=False)
    except UnicodeDecodeError as error:
        raise InvalidSetting(".env", str(path), f"UTF-8 (byte {error.start})") from None
    return {name: value for name, value in found.items() if value is not None}


class _Values:
    """Parse named texts into typed values."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str, default: str) -> str:
        return self._values.get(name, "").strip() or default

    def flag(self, name: str, *, default: bool) -> bool:
        text = self.text(name, "yes" if default else "no").lower()
        if text not in _YES | _NO:
            raise InvalidSetting(name, text, "true or false")
        return text in _YES

    def path(self, name: str, default: str) -> Path:
        text = self.text(name, default)
        if "\0" in text:
            raise InvalidSetting(name, text, "a path")
        return Path(text).expanduser()

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        text = self.text(name, default).lower()
        if text not in allowed:
            raise InvalidSetting(name, text, f"one of {', '.join(allowed)}")
        return text

    def days(self, *names: str, default: int) -> int:
        name = next((name for name in names if self.text(name, "")), names[0])
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdigit() and int(text[:9]) <= _MAX_DAYS and len(text) < 10):
            raise InvalidSetting(name, text, f"a whole number of days from 0 to {_MAX_DAYS}")
        return int(text)


class EnvironmentManager:
    """The settings under the method names of the original API. Each call reads the environment again."""

    def get_session_storage_path(self) -> Path:
        """Return the sessions folder."""
        return load_settings().storage_path

    def get_session_retention_days(self) -> int:
        """Return the age in days at which `cleanup` removes sessions."""
        return load_settings().retention_days

    def get_session_storage_backend(self) -> str:
        """Return `filesystem`, `memory`, `postgresql` or `objects`."""
        return load_settings().backend

    def is_session_storage_enabled(self) -> bool:
        """Return True if sessions are stored on disk."""
        return load_settings().storage_enabled

    def get_tool_history_path(self) -> Path:
        """Return the history folder."""
        return load_settings().history_path

    def is_tool_history_enabled(self) -> bool:
        """Return True if tool calls get a folder."""
        return load_settings().history_enabled


env_manager = EnvironmentManager()
"""The shared instance, as in `env_manager.get_session_storage_path()`."""
