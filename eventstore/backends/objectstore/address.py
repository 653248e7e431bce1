"""The address of an object store: a URL, parsed into what `obstore` opens. It has no keys: they come from the environment."""

from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from eventstore.backends.objectstore.backend import ObjectsBackend
from eventstore.backends.objectstore.options import ObjectOptions
from eventstore.errors import InvalidSetting

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_URL = "the URL of a store"
_ALLOWED = {
    "s3": {"endpoint": "endpoint", "region": "region", "virtual_hosted": "virtual_hosted_style_request"},
    "az": {"endpoint": "endpoint", "account": "account_name", "emulator": "use_emulator"},
    "gs": {"endpoint": "base_url"},
}
_OPTIONS = {one.name: one.type for one in fields(ObjectOptions)}
_MAY_BE_NOTHING, _MOST = ("tail_bytes", "write_seconds", "cache_bytes"), 2**40
_REQUEST_SECONDS, _CONNECT_SECONDS = 30, 5
_GOOGLE_WRITE_SECONDS = 1.0  # Google allows one write a second to one object


def open_objects(url: str) -> ObjectsBackend:
    """Open the backend that a URL names, such as `s3://bucket/prefix?endpoint=http://127.0.0.1:8333&region=us-east-1`.

    Schemes are `s3`, `az` (`?account=`) and `gs`. The query may also have the fields of `ObjectOptions`. Keys come from
    the environment, from the variables that the vendors' tools read. No connection is made yet. Raises InvalidSetting;
    ImportError without `obstore`.
    """
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise InvalidSetting(_URL, "a URL that cannot be read", _form("s3")) from None
    scheme, bucket, prefix = parts.scheme.lower(), parts.netloc, unquote(parts.path).strip("/")
    known = _ALLOWED.get(scheme)
    if known is None:
        raise InvalidSetting(_URL, f"{scheme}:", "a URL that begins with s3:, az: or gs:")
    if "@" in bucket or not bucket:
        raise InvalidSetting(
            _URL, f"{scheme}://...", f"{_form(scheme)}, without keys: they are read from the environment"
        )
    unknown = sorted(query.keys() - known.keys() - _OPTIONS.keys())
    if unknown or parts.fragment:
        raise InvalidSetting(
            _URL, f"{scheme}://{bucket}?{'&'.join(unknown)}", f"{_form(scheme)}, with these names only"
        )
    if any(part in ("", ".", "..") for part in prefix.split("/") if prefix):
        raise InvalidSetting(_URL, f"{scheme}://{bucket}/{prefix}", "a URL whose path is a plain prefix")
    options = _options(scheme, {name: query[name] for name in query.keys() & _OPTIONS.keys()})
    config: dict[str, Any] = {known[name]: query[name] for name in query.keys() & known.keys()}
    shown = f"{scheme}://{bucket}/{prefix}".rstrip("/")
    if "endpoint" in query:
        if "@" in query["endpoint"] or not query["endpoint"].startswith(("http://", "https://")):
            raise InvalidSetting("endpoint", "...", "the address of a server, http:// or https://, without keys")
        shown += f" at {query['endpoint']}"
    return ObjectsBackend(_open(scheme, bucket, config, query.get("endpoint", "")), prefix, url=shown, options=options)


def _form(scheme: str) -> str:
    names = "&".join(f"{name}=" for name in (*_ALLOWED[scheme], *_OPTIONS))
    return f"{scheme}://bucket/prefix?{names}"


def _options(scheme: str, given: dict[str, str]) -> ObjectOptions:
    values: dict[str, Any] = {"write_seconds": _GOOGLE_WRITE_SECONDS if scheme == "gs" else 0.0}
    for name, text in given.items():
        try:
            values[name] = int(text) if _OPTIONS[name] is int else float(text)
        except ValueError:
            values[name] = -1
        least = 0 if name in _MAY_BE_NOTHING else 2 if name == "merge" else 1e-3
        if not least <= values[name] < _MOST:
            raise InvalidSetting(name, text, "a number that is large enough")
    return ObjectOptions(**values)


def _open(scheme: str, bucket: str, config: dict[str, Any], endpoint: str) -> "ObjectStore":
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore, S3Store

    client: Any = {
        "allow_http": endpoint.startswith("http://") or "use_emulator" in config,
        "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
        "timeout": timedelta(seconds=_REQUEST_SECONDS),
    }
    made: Any = {"s3": S3Store, "az": AzureStore, "gs": GCSStore}[scheme]
    try:
        opened: ObjectStore = made(bucket, client_options=client, retry_config={"max_retries": 0}, **config)
        return opened
    except (BaseError, ValueError, TypeError):  # its text may contain secrets of the environment
        if scheme == "az" and not config.keys() & {"account_name", "use_emulator"}:
            wanted = "az://container/prefix?account=NAME; or set AZURE_STORAGE_ACCOUNT_NAME"
            raise InvalidSetting(_URL, f"{scheme}://{bucket}", wanted) from None
        raise InvalidSetting(_URL, f"{scheme}://{bucket}", _form(scheme) + ", with keys in the environment") from None
