"""Backends: where the bytes of logs are stored."""
