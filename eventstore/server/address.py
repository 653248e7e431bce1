"""Addresses to serve at: which of them are this machine, and a socket that listens."""

import ipaddress
import socket

from eventstore.errors import ServingRefused

_WAITING = 2048
"""How many connections may wait to be accepted."""


def is_local(host: str) -> bool:
    """Return whether only programs of this machine can reach a host name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(host: str, port: int) -> str:
    """Return a host and port as they are in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def local_names(host: str, port: int) -> frozenset[str]:
    """Return the values of `Host` by which a server at an address of this machine is meant."""
    return frozenset(shown(name, port) for name in (host, "127.0.0.1", "localhost", "::1"))


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one. Raises ServingRefused."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_WAITING)
    except OSError as error:
        raise ServingRefused(shown(host, port), f"{error.strerror}; port 0 takes a free one") from error
