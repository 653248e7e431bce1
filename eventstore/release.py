"""Which release this is."""

VERSION = "0.1.0"
"""The version of the package, as its metadata has it."""
