"""The keys of objects. Names are spread by two hex digits, because stores divide their work by prefixes."""

from hashlib import sha256

from eventstore.ids import TEMPLATE, TRASH

HEADS, TRASHED, LIVES, STORE_BLOBS, LOCKS = "h/", "t/", "l/", "b/", "k/"


def head_key(log: str) -> str:
    """Return the key of a log's head: `h/XX/NAME`, in the trash `t/XX/NAME`."""
    name = log.removeprefix(TRASH)
    spread = sha256(name.encode()).hexdigest()[:2]
    return f"{TRASHED if log.startswith(TRASH) else HEADS}{spread}/{name}"


def log_of(key: str) -> str:
    """Return the name of the log whose head a key is."""
    name = key.rpartition("/")[2]
    return TRASH + name if key.startswith(TRASHED) else name


def life_prefix(life: str) -> str:
    """Return the key prefix of everything of one incarnation of a log, except its head."""
    return f"{LIVES}{life[:2]}/{life}/"


def segment_key(life: str, name: str) -> str:
    """Return the key of a sealed segment."""
    return f"{life_prefix(life)}s/{name}"


def blob_prefix(life: str) -> str:
    """Return the key prefix of the blobs of a log."""
    return f"{life_prefix(life)}b/"


def store_blob_prefix(log: str) -> str | None:
    """Return the key prefix of blobs that belong to the store and to no log; None for the name of a session or template."""
    if log.startswith("_") and not log.startswith((TRASH, TEMPLATE)):
        return f"{STORE_BLOBS}{log}/"
    return None


def lock_key(name: str) -> str:
    """Return the key of a lock."""
    return LOCKS + name
