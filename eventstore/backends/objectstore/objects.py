"""Requests to an object store: this module repeats them, not the client, and checks every answer.

A client that repeats a conditional write by itself reports a conflict if its own first attempt succeeded. So its
retries are off, and after each failed write, also a conflict, the object is read: if it has exactly these bytes, the
write was made. Kinds of errors are distinguished by their class, never by their text, which may contain addresses and
signatures.
"""

import errno
import os
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, cast

from eventstore.log.port import PortError, Refused, Unclear

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import ObjectStore

    Mode: TypeAlias = UpdateVersion | Literal["create", "overwrite"]

Version: TypeAlias = dict[str, str]
"""A store's name for one state of an object: its entity tag, its generation, or both."""

_FIRST_PAUSE, _MOST_PAUSE = 0.02, 1.0
_UNREACHED_SECONDS = 5.0  # a store that has not answered yet is probably the wrong address


class Found(NamedTuple):
    """An object, and the version to swap it by."""

    data: bytes
    version: Version


class Listed(NamedTuple):
    """A key, the size of its object, and a text that differs whenever its content differs."""

    key: str
    size: int
    tag: str


class Lost(PortError):
    """The object does not have the expected version: `found` is the present object; `unclear`: an answer was lost."""

    def __init__(self, key: str, found: Found | None, *, unclear: bool) -> None:
        super().__init__(key)
        self.key, self.found, self.unclear = key, found, unclear


class Gone(PortError):
    """There is no such object."""


class Objects:
    """The objects below a prefix of one bucket or container.

    Safe for threads, but not in a process that was forked afterwards.
    """

    def __init__(self, store: "ObjectStore", prefix: str, url: str, settle_seconds: float) -> None:
        self._store, self._prefix, self.url = store, prefix, url
        self._settle_seconds = settle_seconds
        self._pid = os.getpid()
        self._answered = False

    def where(self, key: str) -> str:
        """Return the place of an object, without any secret."""
        return f"{self.url}/{key}"

    def get(self, key: str) -> Found | None:
        """Read an object; None if there is none. Raises Refused."""
        import obstore

        for tries in self._tries(key):
            try:
                found = obstore.get(self._store, self._prefix + key)
                return Found(bytes(found.bytes()), _version(found.meta.get("e_tag"), found.meta.get("version")))
            except FileNotFoundError:
                return None
            except Exception as error:
                tries.failed(error)
        raise AssertionError("a try returns or raises")

    def get_new(self, key: str, known: Version) -> Found | None | Literal[True]:
        """Read an object; True if it has the known version, None if there is none. Raises Refused."""
        import obstore
        from obstore.exceptions import NotModifiedError

        if "e_tag" not in known:
            return self.get(key)
        for tries in self._tries(key):
            try:
                found = obstore.get(self._store, self._prefix + key, options={"if_none_match": known["e_tag"]})
                return Found(bytes(found.bytes()), _version(found.meta.get("e_tag"), found.meta.get("version")))
            except NotModifiedError:
                return True
            except FileNotFoundError:
                return None
            except Exception as error:
                tries.failed(error)
        raise AssertionError("a try returns or raises")

    def swap(self, key: str, data: bytes, expect: Version | None) -> Version:
        """Replace the expected version of an object (None: no object), and return the new version.

        No two calls may write the same bytes. Raises Lost, Refused, Unclear.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        # A version may have only the fields that the store returns, whatever its type allows.
        mode = cast("Mode", "create" if expect is None else expect)
        unclear = False
        for tries in self._tries(key):
            try:
                made = obstore.put(self._store, self._prefix + key, data, mode=mode, use_multipart=False)
                return _version(made["e_tag"], made["version"])
            except (AlreadyExistsError, PreconditionError) as error:
                tries.note(error)
            except FileNotFoundError as error:  # the object, or the bucket
                if expect is None:
                    raise tries.refused(error) from None
            except Exception as error:
                if tries.is_sure(error) and not unclear:
                    raise tries.refused(error) from None
                tries.note(error)
                unclear = True
            try:
                found = self.get(key)
            except Refused:
                raise Unclear(self.where(key), tries.errno, tries.cause) from None
            if found is not None and found.data == data:
                return found.version
            if not is_same(None if found is None else found.version, expect):
                raise Lost(key, found, unclear=unclear)
            tries.pause(Unclear if unclear else Refused)
        raise AssertionError("a try returns or raises")

    def put(self, key: str, data: bytes) -> None:
        """Write an object whose name or content is unique. Raises Refused."""
        import obstore

        for tries in self._tries(key):
            try:
                obstore.put(self._store, self._prefix + key, data)
            except Exception as error:
                tries.failed(error)
            else:
                return

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; missing ones are no error. Raises Refused."""
        import obstore

        if not keys:
            return
        paths = [self._prefix + key for key in keys]
        for tries in self._tries(keys[0]):
            try:
                obstore.delete(self._store, paths)
            except FileNotFoundError:  # some stores cannot: then each object is deleted alone
                self._delete_each(keys)
                return
            except Exception as error:
                tries.failed(error)
            else:
                return

    def _delete_each(self, keys: Iterable[str]) -> None:
        import obstore

        for key in keys:
            for tries in self._tries(key):
                try:
                    obstore.delete(self._store, self._prefix + key)
                except FileNotFoundError:
                    break
                except Exception as error:
                    tries.failed(error)
                else:
                    break

    def listing(self, prefix: str) -> list[Listed]:
        """List the objects whose keys begin with a prefix that ends in `/`, in the order of their keys. Raises Refused."""
        import obstore

        for tries in self._tries(prefix):
            try:
                return sorted(self._listed(obstore.list(self._store, self._prefix + prefix)))
            except Exception as error:
                tries.failed(error)
        raise AssertionError("a try returns or raises")

    def _listed(self, pages: Iterable[Sequence[object]]) -> Iterator[Listed]:
        for page in pages:
            for one in page:
                assert isinstance(one, dict)  # noqa: S101 - obstore guarantees it
                tag = one["e_tag"] or f"{one['last_modified']} {one['size']}"
                yield Listed(one["path"][len(self._prefix) :], one["size"], f"{tag} {one['version'] or ''}".strip())

    def _tries(self, key: str) -> Iterator["_Tries"]:
        """Yield attempts until the time is up; the caller's attempt returns or raises."""
        if os.getpid() != self._pid:
            raise Refused(self.where(key), errno.ECHILD, "opened before this process was forked")
        most = self._settle_seconds if self._answered else min(self._settle_seconds, _UNREACHED_SECONDS)
        tries = _Tries(self.where(key), most)
        try:
            while True:
                tries.count += 1
                yield tries
        finally:  # the caller has an answer, or gave up
            self._answered = self._answered or not tries.is_up


class _Tries:
    """The attempts of one request: how many, the last failure, and how long to continue."""

    def __init__(self, where: str, seconds: float) -> None:
        self._where, self._began, self._pause = where, time.monotonic(), _FIRST_PAUSE
        self._seconds, self.count, self.is_up = seconds, 0, False
        self.errno, self.cause = errno.ETIMEDOUT, ""

    def note(self, error: Exception) -> None:
        """Record why an attempt failed: the kind of error, never its text."""
        self.cause = type(error).__name__
        self.errno = _errno_of(error)

    def refused(self, error: Exception) -> Refused:
        """Return the error for a request that was certainly not carried out."""
        self.note(error)
        return Refused(self._where, self.errno, self.cause)

    def is_sure(self, error: Exception) -> bool:
        """Return whether an error means that nothing was done and a retry would fail in the same way."""
        return _errno_of(error) != errno.ETIMEDOUT

    def failed(self, error: Exception) -> None:
        """Pause before an idempotent request is repeated. Raises Refused."""
        self.note(error)
        if self.is_sure(error):
            raise Refused(self._where, self.errno, self.cause) from None
        self.pause(Refused)

    def pause(self, kind: type[Refused]) -> None:
        """Wait a moment. Raises an error of that kind if the time is up."""
        passed = time.monotonic() - self._began
        if passed + self._pause > self._seconds:
            self.is_up = True
            raise kind(self._failed(passed), self.errno, self.cause) from None
        time.sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311 - so that many callers do not retry at the same time
        self._pause = min(2 * self._pause, _MOST_PAUSE)

    def _failed(self, seconds: float) -> str:
        """Return where the attempts failed, and how many: the client does not say whether anything answered."""
        some = "1 request" if self.count == 1 else f"each of {self.count} requests"
        return f"{self._where}: {some} in {seconds:.1f} s had no answer, or an error of the server"


def is_same(one: Version | None, other: Version | None) -> bool:
    """Return whether two versions are the same; None means no object. Answers may name different parts of one version."""
    if one is None or other is None:
        return one is other
    shared = one.keys() & other.keys()
    return bool(shared) and all(one[name] == other[name] for name in shared)


def _errno_of(error: Exception) -> int:
    from obstore import exceptions

    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return errno.EACCES
    if isinstance(error, exceptions.NotSupportedError | exceptions.UnknownConfigurationKeyError):
        return errno.ENOTSUP
    if isinstance(error, FileNotFoundError):
        return errno.ENOENT
    if isinstance(error, exceptions.InvalidPathError | ValueError | TypeError):
        return errno.EINVAL
    return errno.ETIMEDOUT


def _version(e_tag: str | None, version: str | None) -> Version:
    found = {"e_tag": e_tag, "version": version}
    return {name: value for name, value in found.items() if value is not None}
