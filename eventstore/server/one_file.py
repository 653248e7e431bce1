"""One session as one HTML file: the page of `eventstore serve`, with all that it asks of the server in it.

The file shows the session as of any of its events, without a server and without a request. `tools/page/src/recorded.ts` answers
from what is written here. It needs nothing but the built page, which is in the package.
"""

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

import msgspec

from eventstore.server.proven import proof_of
from eventstore.server.shown import ShownRow, show_event, show_row
from eventstore.sessions.manager import SessionManager
from projections import invocations as invocations_fold
from projections import statistics
from projections.moments import Moments
from projections.session import State

_BUCKETS, _MARKERS = 600, 500
_AT_ONCE = 500
_KEYFRAME = 500
"""Events between two complete moments: a moment is the one before it, and its changes since then."""

_POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types dompurify"
)


class _Moment(msgspec.Struct, omit_defaults=True):
    """What changed with one event, or all of it in a keyframe: fields of the metadata and of the figures."""

    session: dict[str, Any] = {}
    figures: dict[str, Any] = {}


class _Life(msgspec.Struct):
    """A tool call: the event that began it, the one that took it back or 0, and what was known of it after which event."""

    seq: int
    died: int
    states: list[tuple[int, Any]]


def export_page(manager: SessionManager, session_id: str) -> Iterator[bytes]:
    """Stream a session as one HTML file, in UTF-8. Raises SessionNotFound, LogDamaged.

    It is some five times as large as the log, and holds all events without what they were imported from. Nothing recorded is
    markup or script in it, and its policy forbids every request.
    """
    folder = files("eventstore.server") / "static"
    script = folder.joinpath("app.js").read_text("utf-8").replace("</script", "<\\/script")
    style = folder.joinpath("app.css").read_text("utf-8")
    icon = "data:image/svg+xml;base64," + b64encode(folder.joinpath("icon.svg").read_bytes()).decode()
    policy = _POLICY.format(script=_source_of(script), style=_source_of(style))
    title = escape(manager.moments.metadata(session_id).purpose or session_id)
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        f'<title>{title}</title>\n<link rel="icon" href="{icon}">\n<style>{style}</style>\n</head>\n<body>\n'
        '<div id="app"></div>\n'
        "<noscript>This file needs JavaScript. `eventstore export html --plain` writes one that does not.</noscript>\n"
        '<script type="application/json" id="recorded">'
    ).encode()
    for part in _parts(manager, session_id):
        yield part.replace(b"<", b"\\u003c")  # "</script" in a text must not end the element
    yield f'</script>\n<script type="module">{script}</script>\n</body>\n</html>\n'.encode()


def _source_of(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


def _parts(manager: SessionManager, session_id: str) -> Iterator[bytes]:
    """Write the JSON of a session in parts; the parts together are one object."""
    moments, index = manager.moments, manager.storage.moments.get(session_id)
    head = index.version
    markers, more = moments.markers(session_id, head, _MARKERS)
    postings = {"types": index.types, "tools": index.tools, "roles": index.roles, "kinds": index.kinds}
    whole = {
        "session_id": session_id,
        "version": head,
        "density": {
            "version": head,
            "buckets": moments.density(session_id, _BUCKETS, at=head),
            "markers": markers,
            "more": more,
        },
        "postings": {name: {key: list(seqs) for key, seqs in one.lists.items()} for name, one in postings.items()},
        "spoken": _spoken(index),
        "calls": _calls(manager, session_id, index),
        "data": _data(manager, session_id, index),
        "ancestors": [(one.session_id, one.version) for one in moments.ancestors(session_id)],
        "proof": proof_of(manager, session_id),
        "empty": State().metadata.to_model(session_id).to_dict(),
    }
    yield msgspec.json.encode(whole)[:-1]
    yield b',"moments":['
    yield from _separated(map(msgspec.json.encode, _moments(manager, session_id, index)))
    yield b'],"rows":['
    yield from _separated(map(msgspec.json.encode, _rows(manager, session_id, head)))
    yield b'],"events":['
    yield from _separated(msgspec.json.encode(show_event(one)) for one in manager.events(session_id, 0, head))
    yield b"]}"


def _separated(parts: Iterator[bytes]) -> Iterator[bytes]:
    yield next(parts, b"")
    for part in parts:
        yield b"," + part


def _rows(manager: SessionManager, session_id: str, head: int) -> Iterator[ShownRow]:
    for after in range(0, head, _AT_ONCE):
        yield from map(show_row, manager.moments.timeline(session_id, after, _AT_ONCE, at=head))


def _moments(manager: SessionManager, session_id: str, index: Moments) -> Iterator[_Moment]:
    """Stream a moment for each event: what is different from the moment before."""
    last = _Moment()
    for seq in range(1, index.version + 1):
        known = manager.moments.metadata(session_id, seq)
        here = _Moment(known.to_dict(), statistics.show(known, index.conversation.count(seq)))
        before = _Moment() if seq % _KEYFRAME == 1 else last
        yield _Moment(_changed(before.session, here.session), _changed(before.figures, here.figures))
        last = here


def _changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in after.items() if key not in before or before[key] != value}


def _spoken(index: Moments) -> list[tuple[int, int]]:
    """List the messages, each with the event that took it out of the conversation, or 0."""
    taken: dict[int, int] = {}
    for cut in index.kinds.lists.get("cut", ()):
        before = index.conversation.window(cut - 1, 0, index.conversation.count(cut - 1))
        after = set(index.conversation.window(cut, 0, index.conversation.count(cut)))
        taken.update((seq, cut) for seq in before if seq not in after)
    return [(seq, taken.get(seq, 0)) for seq in sorted(set(index.conversation.numbers[1:]))]


def _calls(manager: SessionManager, session_id: str, index: Moments) -> list[_Life]:
    lives = index.calls
    events = {one.seq: one for one in manager.storage.moments.events(session_id, sorted(lives.event))}
    found: list[_Life] = []
    for life, born in enumerate(lives.born):
        states: list[tuple[int, Any]] = []
        own = [events[seq] for seq in lives.events(life, index.version)]
        for number, event in enumerate(own, 1):
            known = invocations_fold.projection.fold(own[:number])
            states += [(event.seq, call) for call in known.values()]
        found.append(_Life(born, lives.died[life], states))
    return found


def _data(manager: SessionManager, session_id: str, index: Moments) -> dict[str, list[tuple[int, list[Any]]]]:
    """Return each key of the session's data with its values: after which event, and the value in a list, or none."""
    found: dict[str, list[tuple[int, list[Any]]]] = {}
    for key, values in index.data.keys.items():
        found[key] = [
            (seq, [] if kept is None else [manager.storage.moments.values(session_id, [(key, kept)])[key]])
            for seq, kept in values.changes()
        ]
    return found
