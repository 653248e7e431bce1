"""Wrong arguments: an error of ours names the argument, and says what is true of the operation."""

from collections.abc import Callable

import pytest

from eventstore import (
    CustomEvent,
    FileSystemSessionStorage,
    MemorySessionStorage,
    Patterns,
    Projection,
    SessionExists,
    SessionManager,
    SessionNotFound,
    open_store,
)
from eventstore import events as e
from eventstore.ids import session_id_for

Ask = Callable[[SessionManager], object]


class Text(str):
    """A subclass of `str`, which has no JSON of its own."""

    __slots__ = ()


@pytest.fixture
def manager() -> SessionManager:
    manager = SessionManager(MemorySessionStorage())
    manager.create_session("s", "p")
    return manager


@pytest.mark.parametrize(
    ("ask", "names"),
    [
        (lambda m: open_store(None), "url is a NoneType"),  # type: ignore[arg-type]
        (lambda m: open_store(""), "url is empty"),
        (lambda m: open_store("ftp://x"), "'ftp://x' is not a URL that begins with .*; nothing was opened$"),
        (lambda m: session_id_for(None), "external_key is a NoneType"),  # type: ignore[arg-type]
        (lambda m: m.list_sessions(status="bogus"), "status 'bogus' is not one of active"),
        (lambda m: m.storage.list_metadata(status="bogus"), "status 'bogus' is not one of active"),
        (lambda m: m.page_sessions(status="bogus"), "status 'bogus' is not one of active"),
        (lambda m: m.complete_session("s", "bogus"), "status 'bogus' is not one of completed, failed, abandoned;"),
        (lambda m: m.complete_session("s", "active"), "cannot be completed as active.*use reopen_session"),
        (lambda m: m.page_sessions(since="foo"), "since 'foo' is not a time"),
        (lambda m: m.search("x", until="foo"), "until 'foo' is not a time"),
        (lambda m: m.create_session("t", tags=[" "]), "tags holds an empty text"),
        (lambda m: m.update_session_metadata("s", tags=[""]), "tags holds an empty text"),
        (lambda m: m.append("s", [e.RecordPut(stream="", value=1)]), "stream ''"),
        (lambda m: m.append("s", [e.RecordPut(stream="a", value=1, once=True)]), "once .* needs a key"),
        (lambda m: m.append("s", [e.RecordRemoved(stream="")]), "stream ''"),
        *(
            (lambda m, zone=zone: m.analytics(timezone=zone), "timezone .* is not known: give `local` or an IANA name")
            for zone in ("../x", "/etc/passwd", "", "\0", "No/Such", "Europe")
        ),
        *(
            (
                lambda m, path=path: m.link_invocation("s", "i", "t", path),
                f"invocation_dir contains a {what}.*nothing was written",
            )
            for path, what in (("\0", "NUL"), ("a/\ud800", "lone surrogate"))
        ),
        (lambda m: m.start_invocation("s", "i", "t", 1, "a\0"), "invocation_dir contains a NUL"),
        (
            lambda m: m.append("s", [e.InvocationStarted(invocation_id="i", invocation_dir="a\0")]),
            r"\$.invocation_dir is not a path: it contains a NUL character; nothing was written",
        ),
        (lambda m: m.records.list("s", []), "stream is a list, not text"),
        (lambda m: m.records.get("s", [], "k"), "stream is a list, not text"),
        (lambda m: m.records.get("s", "a", {}), "key is a dict, not text"),
        (lambda m: m.records.pop("s", []), "stream is a list, not text"),
        (lambda m: m.records.streams("s", 5), "prefix is a int, not text"),
        (lambda m: m.records.append_new("s", None), "events is a NoneType, not a list of events"),
        (lambda m: m.records.append_new("s", [5]), "events holds a int"),
        *(
            (
                lambda m, value=value: m.append("s", [e.RecordPut(stream="s", value=value, base64=True)]),
                "value of a record.put event is neither bytes nor their base64; nothing was written",
            )
            for value in ("abc", "YQ", "YQ==\n", "YR==", "é", 5, None)
        ),
        (
            lambda m: m.set_data("s", "k", 1, id=Text("x")),
            r"data.set event refused: \$.id is of type Text.*nothing was written",
        ),
        (lambda m: FileSystemSessionStorage("a", "b", fsync="maybe"), "fsync 'maybe' is not one of"),  # type: ignore[arg-type]
        (lambda m: m.follow("s", after="x"), "cursor 'x' is no cursor"),
        (
            lambda m: m.subscribe("a b", print),
            "name of a position 'a b' is invalid: .*; nothing was read",
        ),
        (lambda m: m.templates.save("a b", "s"), "invalid template name 'a b'"),
        (lambda m: m.templates.get("a b"), "invalid template name 'a b'"),
        (lambda m: m.create_session("t", template="a b"), "invalid template name 'a b'"),
    ],
)
def test_an_error_names_the_argument(manager: SessionManager, ask: Ask, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        ask(manager)
    assert manager.head("s").version == 1


def test_classes_that_could_not_work_are_refused_where_they_are_made() -> None:
    class Untagged(CustomEvent):
        service: str

    with pytest.raises(TypeError, match=r"tag is missing: define class Untagged\(CustomEvent, tag='acme.name'\)"):
        Untagged(service="api")
    with pytest.raises(TypeError, match="evolve is a int, not a function"):
        Projection({}, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="patterns is a list, not a mapping"):
        Patterns(["x"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "ask",
    [
        lambda m: m.head("no"),
        lambda m: list(m.events("no")),
        lambda m: m.conversation("no"),
        lambda m: m.fork_session("no"),
        lambda m: m.diff("no", 0),
        lambda m: m.redactions.redact("no", [1], "why"),
    ],
)
def test_a_missing_session_is_only_to_be_created_by_who_would_append(manager: SessionManager, ask: Ask) -> None:
    with pytest.raises(SessionNotFound, match="session 'no' not found; nothing was done: check the id and the store"):
        ask(manager)
    with pytest.raises(SessionNotFound, match="nothing was written: create it first"):
        manager.set_data("no", "k", 1)


def test_what_is_missing_or_taken_is_called_what_it_is(manager: SessionManager) -> None:
    asks: list[Ask] = [lambda m: m.templates.get("no"), lambda m: m.create_session("t", template="no")]
    for ask in asks:
        with pytest.raises(SessionNotFound, match="template 'no' not found; nothing was done: check the name"):
            ask(manager)
    with pytest.raises(SessionNotFound, match="session in the trash 'no' not found"):
        manager.trash.restore("no")
    with pytest.raises(SessionExists, match="session 's' already exists; nothing was restored"):
        manager.trash.restore("s")
    manager.templates.save("a", "s")
    with pytest.raises(SessionExists, match="template 'a' already exists; nothing was written: choose another name"):
        manager.templates.save("a", "s")
