"""The installed version of the package. The number itself is only in pyproject.toml."""

DISTRIBUTION = "agent-eventstore"
"""The name to install the package by; on PyPI, `eventstore` is another project."""
UNKNOWN = "unknown"


def version() -> str:
    """Return the version of the installed distribution, or UNKNOWN where the source is run without being installed."""
    from importlib import metadata  # loading it takes as long as all of `import eventstore`

    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def install_hint(extra: str) -> str:
    """Return how to install what `extra` needs, as errors say it: from a checkout or a wheel, as the project itself."""
    return f"run pip install '.[{extra}]' in a checkout of {DISTRIBUTION}, or pip install 'FILE.whl[{extra}]' with its wheel"


def __getattr__(name: str) -> str:
    """Look the version up when `__version__` is first read."""
    if name == "__version__":
        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
