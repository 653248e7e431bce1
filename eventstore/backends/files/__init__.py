"""Logs in folders of one POSIX machine."""
