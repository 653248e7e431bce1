"""Which version of the package is installed. The number itself stands in pyproject.toml only."""

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
    """Return the command that installs what `extra` needs, as it is written in errors.

    Where the package is installed, from a wheel or a checkout, pip only adds the packages of the extra.
    """
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def __getattr__(name: str) -> str:
    """Look the version up when `__version__` is asked for, and not before."""
    if name == "__version__":
        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
