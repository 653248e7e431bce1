"""Sessions for an auditor: entries, reports, bundles, and the commands that write them."""

import json
import re
import stat
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from commands import clean_environment, run
from histories import HISTORIES
from hypothesis import given
from markdown_it import MarkdownIt
from markdown_it.token import Token
from msgspec.structs import replace

from eventstore import EventLog, FileSystemSessionStorage, InvalidSessionId, LogDamaged, SessionManager, SessionNotFound
from eventstore import events as e
from eventstore.errors import ExportRefused
from eventstore.exporters import Audited, audit_session, bundle, export_audit, write_html, write_markdown
from projections import audit
from projections.audit import Entry

CHROMIUM = Path("/usr/bin/chromium")
MADE = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "]]></style></pre></details></table>",
    "\u202egnp.exe\u202c",
    "a\u200bb\u2028c\U000e0041",
    "nul \x00 escape \x1b[31m",
    "`tick` ``two`` | pipe \\| \\\\| [link](javascript:alert(1)) ![i](http://x.example/i.png)",
    "line\n\n# heading\n\n| a | b |\n| - | - |\n\n<b>bold</b>\n```\nfence",
    "<http://auto.example> http://bare.example www.bare.example me@bare.example",
    '" onclick="alert(1)" x=\'',
    "&lt;b&gt; &amp; &#60;b&#62;",
    "{{ secrets }} {% include x %} ~~struck~~ *a* _b_ $x$",
]


def entries(events: Sequence[e.Event]) -> list[Entry]:
    return list(audit.entries(iter(events), audit.projection.fold(events)))


def numbered(*events: e.Event) -> list[e.Event]:
    return [replace(one, seq=seq, at=f"2026-01-01T00:00:{seq:02d}.000000Z") for seq, one in enumerate(events, 1)]


def call(seq_id: str, text: str = "{}") -> e.MessageAdded:
    return e.MessageAdded(role="assistant", content=text, invocation_id=seq_id)


def result(seq_id: str, text: str = "done") -> e.MessageAdded:
    return e.MessageAdded(role="tool", content=text, invocation_id=seq_id)


def said(text: str) -> e.MessageAdded:
    return e.MessageAdded(role="user", content=text)


def stub(seq: int, leaf: bytes, kind: str = "message.added") -> e.RedactedEvent:
    claimed = urlsafe_b64encode(leaf).rstrip(b"=").decode()
    at = f"2026-01-01T00:00:{seq:02d}.000000Z"
    raw = f'{{"type":"{kind}","seq":{seq},"at":"{at}","redacted":"{claimed}"   ,"hash":"{"0" * 64}"}}'
    return e.RedactedEvent(known_as=kind, raw=raw.encode(), seq=seq, at=at, leaf=leaf.hex())


def audited(events: Sequence[e.Event], session_id: str = "s") -> Audited:
    index = audit.projection.fold(events)
    return Audited(session_id, session_id, len(events), "0" * 64, index, lambda: iter(events))


def html(*sessions: Audited) -> str:
    stream = BytesIO()
    write_html(stream, sessions, made_at="2026-01-31T12:00:00.000000Z")
    return stream.getvalue().decode()


def markdown(*sessions: Audited) -> str:
    stream = BytesIO()
    write_markdown(stream, sessions, made_at="2026-01-31T12:00:00.000000Z")
    return stream.getvalue().decode()


class Page(HTMLParser):
    """What a browser sees of a page: tags, attributes, text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._hidden = False
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._hidden = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._hidden else data


# --- entries


def test_a_call_its_links_and_its_result_are_one_entry() -> None:
    linked = e.InvocationLinked(invocation_id="i", tool_name="grep", invocation_dir="2026/i")
    ended = e.InvocationLinked(invocation_id="i", duration_ms=12.5, success=False, error="no such file")
    asked = replace(call("i", '{"x":1}'), by={"actor": "bot", "trace_id": "t"})
    (one,) = entries(numbered(asked, linked, result("i", "oops"), ended))
    assert (one.seqs, one.kind, one.tool_name, one.input, one.result) == (
        (1, 2, 3, 4),
        "call",
        "grep",
        '{"x":1}',
        "oops",
    )
    assert (one.success, one.error, one.duration_ms, one.folder) == (False, "no such file", 12.5, "2026/i")
    assert (one.actor, one.who, one.time[-10:], one.ended[-10:]) == ("bot", "assistant", "01.000000Z", "04.000000Z")


def test_calls_side_by_side_come_in_the_order_they_began() -> None:
    found = entries(numbered(call("a"), call("b"), said("?"), result("b", "B"), result("a", "A")))
    assert [(one.seqs, one.result) for one in found] == [((1, 5), "A"), ((2, 4), "B"), ((3,), None)]


def test_a_call_without_a_message_or_a_result_says_so() -> None:
    found = entries(numbered(e.InvocationLinked(invocation_id="i", tool_name="t"), call("j")))
    assert [(one.input, one.result, one.success) for one in found] == [(None, None, None), ("{}", None, None)]


def test_a_call_that_is_open_for_long_holds_up_nobody() -> None:
    begun = e.InvocationLinked(invocation_id="i", tool_name="t")
    many = [replace(said(str(number)), seq=number + 2, at="2026-01-01T00:01:00.000000Z") for number in range(3000)]
    ended = e.InvocationLinked(seq=4000, at="2026-01-01T00:02:00.000000Z", invocation_id="i", success=True)
    events = [*numbered(begun), *many, ended]
    index = audit.projection.fold(events)
    read = 0

    def reading() -> Iterator[e.Event]:
        nonlocal read
        for read, event in enumerate(events, 1):  # noqa: B007 - how far it has been read
            yield event

    rows = audit.entries(reading(), index)
    assert next(rows).text == "0"
    assert read < 1100
    rest = list(rows)
    assert [one.text for one in rest[:-1]] == [str(number) for number in range(1, 3000)]
    assert (rest[-1].seqs, rest[-1].success) == ((1, 4000), True)


def test_large_texts_behind_an_open_call_are_not_held_either() -> None:
    large = [replace(said("x" * 1_000_000), seq=number + 2, at="2026-01-01T00:01:00.000000Z") for number in range(8)]
    calls = [replace(one, seq=20 + seq) for seq, one in enumerate([call("b"), said("!"), result("b")])]
    events = [*numbered(call("a")), *large, *calls, replace(result("a"), seq=40)]
    reading = iter(events)
    rows = audit.entries(reading, audit.projection.fold(events))
    next(rows)
    assert len(list(reading)) >= 6
    rows = audit.entries(events, audit.projection.fold(events))
    assert [one.seqs for one in rows][-3:] == [(20, 22), (21,), (1, 40)]


@given(HISTORIES)
def test_every_event_is_told_once_and_the_tokens_add_up(events: list[e.Event]) -> None:
    found = entries(events)
    assert sorted(seq for one in found for seq in one.seqs) == [event.seq for event in events]
    usage = [event for event in events if not isinstance(event, e.SessionAdjusted)]
    totals: dict[str, int] = {}
    for one in entries(usage):
        for kind, count in one.tokens.items():
            totals[kind] = totals.get(kind, 0) + count
    known = audit.projection.fold(usage).summary.metadata.token_usage or {}
    assert totals == {kind: count for kind, count in known.items() if count}


@given(HISTORIES, HISTORIES)
def test_the_index_goes_on_from_where_it_was(first: list[e.Event], more: list[e.Event]) -> None:
    before = audit.projection.fold(first)
    assert audit.projection.fold(more, before) == audit.projection.fold([*first, *more])
    assert before == audit.projection.fold(first)


def test_a_use_told_twice_adds_what_is_new_of_it() -> None:
    once = e.UsageRecorded(tokens={"input": 10, "output": 1}, cost=0.1, key="k", model="m")
    again = e.UsageRecorded(tokens={"input": 10, "output": 5}, cost=0.3, key="k", model="m")
    found = entries(numbered(once, again, again))
    assert [one.tokens for one in found] == [{"input": 10, "output": 1}, {"output": 4}, {}]
    assert [one.cost for one in found] == [0.1, pytest.approx(0.2), 0.0]
    assert found[2].what == "repeats earlier usage: adds nothing"


def test_a_redaction_is_done_unfinished_or_unexplained() -> None:
    why = e.EventRedacted(target=2, leaf=(b"a" * 32).hex(), reason="a key", by={"actor": "eve"})
    other = e.EventRedacted(target=3, leaf=(b"x" * 32).hex(), reason="not this one")
    begun = e.EventRedacted(target=1, leaf=(b"c" * 32).hex(), reason="soon")
    events = numbered(said("a"), said("b"), said("c"), why, other, begun)
    events[1], events[2] = stub(2, b"a" * 32), stub(3, b"b" * 32)
    found = {one.target: one for one in audit.projection.fold(events).removals()}
    assert {target: one.state for target, one in found.items()} == {1: "unfinished", 2: "done", 3: "unexplained"}
    assert (found[2].by, found[2].reason, found[2].recorded_in, found[2].type) == ("eve", "a key", 4, "message.added")
    shown = {one.seqs: one.removal.state for one in entries(events) if one.removal}
    assert shown == {(2,): "done", (3,): "unexplained"}
    page = Page(html(audited(events))).text
    assert "redacted by eve" in page
    assert "a key" in page
    assert page.count("TAMPERING") == 2
    assert "recorded, but the content is still there" in page
    assert "redacted by eve" in markdown(audited(events))
    assert "TAMPERING" in markdown(audited(events))


def test_a_redaction_told_before_its_line_explains_nothing() -> None:
    early = e.EventRedacted(target=2, leaf=(b"a" * 32).hex(), reason="early")
    events = [*numbered(early), stub(2, b"a" * 32)]
    assert [one.state for one in audit.projection.fold(events).removals()] == ["unexplained"]


def test_an_unknown_event_that_only_speaks_of_redacted_is_no_redaction() -> None:
    raw = b'{"type":"new.thing","seq":1,"at":"x","inner":{"redacted":"abc"},"hash":"y"}'
    (one,) = entries([e.UnknownEvent(known_as="new.thing", raw=raw, seq=1, at="2026-01-01T00:00:00.000000Z")])
    assert (one.kind, one.removal, one.text) == ("unknown", None, raw.decode())


# --- reports


def hostile_session() -> Audited:
    events: list[e.Event] = [e.SessionCreated(purpose=HOSTILE[0], user_id=HOSTILE[1], tags=tuple(HOSTILE))]
    for text in HOSTILE:
        by = {"actor": text, text: text}
        events += [
            e.MessageAdded(role="user", content=text, by=by),
            e.MessageAdded(role="assistant", content=text * 20, by=by, invocation_id=text),
            e.InvocationLinked(
                invocation_id=text, tool_name=text, invocation_dir=text, success=False, error=text, by=by
            ),
            e.MessageAdded(role="tool", content=text, tool_name=text, invocation_id=text),
            e.UsageRecorded(tokens={text: 1}, model=text),
            e.DataSet(key=text, value=text),
            e.EventRedacted(target=1, leaf=text, reason=text, by=by),
            e.CheckpointSigned(size=1, root=text, note=f"{text}\n\n\u2014 {text} sig\n"),
            e.LogRepaired(offset_bytes=0, removed_bytes=1, quarantine=text, reason=text),
            e.ForeignRecorded(origin=e.Origin(format=text, line=text)),
            e.UnknownEvent(known_as=text, raw=text.encode()),
        ]
    made = [
        replace(event, seq=seq, at="2026-01-01T00:00:00.000000Z") if event.seq == 0 else event
        for seq, event in enumerate(events, 1)
    ]
    return audited(made)


def test_hostile_content_is_only_text_in_the_html() -> None:
    page, tame = Page(html(hostile_session())), Page(html(audited(numbered(e.SessionCreated(), said("x" * 500)))))
    assert set(page.tags) <= {*tame.tags, *["a", "small", "span", "i"], "div"}
    assert not {"script", "img", "b", "iframe", "link"} & (set(page.tags) - {"b"})
    assert {name for name, _ in page.attributes} <= {
        *(
            "lang",
            "charset",
            "http-equiv",
            "content",
            "name",
            "class",
            "id",
            "scope",
            "href",
            "colspan",
            "data-l",
            "title",
        )
    }
    assert all((value or "").startswith("#") for name, value in page.attributes if name == "href")
    for text in (
        "<script>alert(1)</script>",
        "]]></style></pre>",
        "\\u202egnp.exe\\u202c",
        "nul \\x00 escape \\x1b[31m",
    ):
        assert text in page.text
    source = html(hostile_session())
    assert not re.search("[\\x00-\\x08\\x0b-\\x1f\\x7f\u200b\u202a-\u202e\u2028\U000e0041]", source)


def tokens(source: str) -> Iterator[Token]:
    for one in MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough").parse(source):
        yield one
        yield from one.children or ()


def test_hostile_content_is_only_text_in_the_markdown() -> None:
    source = markdown(hostile_session())
    kinds = {one.type for one in tokens(source)}
    assert kinds <= {
        *(f"{part}_{side}" for part in ("heading", "paragraph", "table", "thead", "tbody", "tr", "th", "td", "strong")
          for side in ("open", "close")),
        *("inline", "text", "text_special"),
    }  # fmt: skip
    assert not re.search(r"://|www\.|\{\{|\{%|@", source)
    rows = [line for line in source.splitlines() if line.startswith("|")]
    widths = {row.count("|") for row in rows}
    assert widths == {3, 11}
    for line in source.splitlines():
        assert not line or line.startswith(("|", "#", "Made ", "Texts ")), line
    texts = "".join(one.content for one in tokens(source) if one.type in ("text", "text_special"))
    assert "<script>alert(1)</script>" in texts
    assert "pipe \\| \\\\| [link](javascript:alert(1))" in texts


def test_long_texts_are_folded_away_and_very_long_ones_cut_with_a_word() -> None:
    page = html(audited(numbered(said("begin " + "x" * 30_000))))
    assert "<details><summary>begin x" in page
    assert "10,006 more characters are in events.jsonl of s, event 1" in page
    assert "(30,006 characters)" in markdown(audited(numbered(said("begin " + "x" * 30_000))))


def test_the_page_forbids_scripts_and_anything_from_outside() -> None:
    page = html(audited(numbered(said("x"))))
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert not re.search(r"url\(|@import|src=|<script|https?://", page)


def test_reports_show_the_same_figures_as_the_statistics(manager: SessionManager) -> None:
    live(manager)
    one = audit_session(manager.storage, "s")
    known = manager.get_session_statistics("s") or {}
    assert one.index.summary.metadata.total_invocations == known["total_invocations"] == 1
    page = Page(html(one)).text
    for kind, count in known["token_usage"].items():
        assert f"{count:,}Tokens {kind}" in page
    assert f"{known['message_count']}Messages" in page
    assert f"{known['estimated_cost']:.6f}".rstrip("0") + "Cost" in page
    assert one.hash == manager.head("s").hash
    assert one.hash in page
    assert one.hash in markdown(one)


def test_a_report_on_several_sessions_begins_with_a_list_of_them() -> None:
    one, two = audited(numbered(e.SessionCreated()), "one"), audited(numbered(e.SessionCreated()), "two")
    assert Page(html(one, two)).text.index("Sessions") < Page(html(one, two)).text.index("Session one")
    assert "## Session two" in markdown(one, two)


def test_a_row_names_its_events_in_short() -> None:
    events = numbered(call("a"), result("a"), e.InvocationLinked(invocation_id="a"), said("?"), call("a"))
    assert "| 1-3, 5 |" in markdown(audited(events))
    assert "| 4 |" in markdown(audited(events))


def test_without_a_checkpoint_the_report_claims_no_proof() -> None:
    assert "none in this log: anyone who can write the files" in Page(html(audited(numbered(e.SessionCreated())))).text
    note = "eventstore/s\n1\nroot\n\n\u2014 notary.example/k AAAA\n"
    signed = numbered(e.SessionCreated(), e.CheckpointSigned(size=1, root="root", note=note))
    assert "over events 1 to 1 by notary.example/k" in Page(html(audited(signed))).text


def live(manager: SessionManager, session_id: str = "s") -> None:
    manager.create_session(session_id, "Find out", "ana")
    manager.add_conversation_message(session_id, "user", "What changed?")
    manager.add_conversation_message(session_id, "assistant", "{}", "grep", "inv_1")
    manager.link_invocation(session_id, "inv_1", "grep", None, 12.0, success=True)
    manager.add_conversation_message(session_id, "tool", "nothing", "grep", "inv_1")
    manager.record_usage(session_id, {"input": 1200, "output": 7}, 0.0125, "model-1", "turn")
    manager.record_usage(session_id, {"input": 1200, "output": 9}, 0.0125, "model-1", "turn")


# --- bundles


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_bundle_holds_the_logs_as_they_are_and_a_manifest_of_hashes(manager: SessionManager, tmp_path: Path) -> None:
    live(manager)
    fork = manager.fork_session("s", None, "f")
    manager.add_conversation_message(fork, "user", "And now?")
    done = export_audit(manager, ["s", "f"], tmp_path / "a.zip", include_store=True, made_at=MADE)
    files = contents(done.path)
    manifest = json.loads(files.pop("manifest.json"))
    assert manifest["format"] == "eventstore-audit/1"
    assert manifest["made_at"] == "2026-01-31T12:00:00.000000Z"
    told = {one["session_id"]: one for one in manifest["sessions"]}
    assert [told[name]["root"] for name in ("s", "f", "_store")] == ["s", "s", "_store"]
    assert manifest["files"] == {
        name: {"sha256": sha256(data).hexdigest(), "size_bytes": len(data)} for name, data in files.items()
    }
    for name, one in told.items():
        log = manager.storage.log
        assert files[one["log"]] == b"".join(log.chunks(name))
        assert (one["events"], one["head_hash"]) == (log.head(name).version, log.head(name).hash)
        assert f"sessions/{name}/session.json" in files
    assert {"report.html", "report.md"} <= set(files)
    assert (done.sessions, done.files) == (("s", "f", "_store"), len(files) + 1)


def test_the_same_sessions_give_the_same_bundle_to_the_byte(manager: SessionManager, tmp_path: Path) -> None:
    live(manager)
    first = export_audit(manager, ["s"], tmp_path / "a.zip", made_at=MADE)
    second = export_audit(manager.storage, ["s", "s"], tmp_path / "b.zip", made_at=MADE)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.manifest_sha256 == second.manifest_sha256
    with zipfile.ZipFile(first.path) as archive:
        assert {one.date_time for one in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert first.manifest_sha256 == sha256(contents(first.path)["manifest.json"]).hexdigest()
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
    assert first.size_bytes == first.path.stat().st_size


def test_a_folder_holds_the_same_files_as_a_zip(manager: SessionManager, tmp_path: Path) -> None:
    live(manager)
    files = contents(export_audit(manager, ["s"], tmp_path / "a.zip", made_at=MADE).path)
    done = export_audit(manager, ["s"], tmp_path / "a", made_at=MADE)
    found = {str(one.relative_to(done.path)): one.read_bytes() for one in done.path.rglob("*") if one.is_file()}
    assert found == files
    assert {stat.S_IMODE(one.stat().st_mode) for one in done.path.rglob("*")} == {0o600, 0o700}
    with pytest.raises(ExportRefused, match="already exists"):
        export_audit(manager, ["s"], tmp_path / "a")


def test_checkpoints_beside_the_log_come_along_in_order(files: FileSystemSessionStorage, tmp_path: Path) -> None:
    live(SessionManager(files))
    folder = tmp_path / ".sessions" / "s" / "checkpoints"
    folder.mkdir()
    names = [f"{size:012d}-0badcafe.note" for size in (2, 5)]
    for name in [*reversed(names), "000000000099-0badcafe.note", "other.txt"]:
        (folder / name).write_text(name)
    found = contents(export_audit(files, ["s"], tmp_path / "a.zip").path)
    paths = [f"sessions/s/checkpoints/{name}" for name in names]
    assert [name for name in found if "checkpoints" in name] == paths
    assert json.loads(found["manifest.json"])["sessions"][0]["checkpoints"] == paths
    assert found[paths[0]].decode() == names[0]


def test_a_damaged_or_unknown_session_is_named_and_nothing_is_written(
    files: FileSystemSessionStorage, tmp_path: Path
) -> None:
    manager = SessionManager(files)
    live(manager, "good")
    live(manager, "bad")
    log = tmp_path / ".sessions" / "bad" / "events.jsonl"
    log.write_bytes(log.read_bytes().replace(b"What changed?", b"What changes?"))
    out = tmp_path / "out"
    out.mkdir()
    for name, error in (("bad", LogDamaged), ("nope", SessionNotFound), ("a/b", InvalidSessionId)):
        for target in ("a.zip", "a"):
            with pytest.raises(error, match=name):
                export_audit(files, ["good", name], out / target)
    assert not list(out.iterdir())
    with pytest.raises(ExportRefused, match="no session was named"):
        export_audit(files, [], out / "a.zip")
    assert not list(out.iterdir())


@pytest.mark.parametrize("target", ["a.zip", "a"])
def test_a_bundle_cut_short_leaves_what_was_there(
    files: FileSystemSessionStorage, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(SessionManager(files))
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.zip").write_bytes(b"the last one")

    def fail(stream: Any, log: EventLog, sessions: Sequence[Audited]) -> None:
        raise OSError("disk full")

    monkeypatch.setitem(bundle.TABLES, "broken.csv", fail)
    with pytest.raises(OSError, match="disk full"):
        export_audit(files, ["s"], out / target)
    assert [one.read_bytes() for one in out.iterdir()] == [b"the last one"]


def test_tables_are_called_for_and_listed(
    manager: SessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(manager)
    monkeypatch.setitem(
        bundle.TABLES, "ids.csv", lambda stream, log, found: stream.write(f"id\n{found[0].session_id}\n".encode())
    )
    found = contents(export_audit(manager, ["s"], tmp_path / "a.zip").path)
    assert found["ids.csv"] == b"id\ns\n"
    assert "ids.csv" in json.loads(found["manifest.json"])["files"]


@pytest.mark.long
@pytest.mark.patient
def test_a_hundred_thousand_events_are_exported_in_little_memory(
    files: FileSystemSessionStorage, tmp_path: Path
) -> None:
    text = "word " * 60
    batches: list[list[e.Event]] = [[e.SessionCreated()]]
    for number in range(20_000):
        one = f"inv_{number}"
        batches.append(
            [
                e.MessageAdded(role="user", content=text),
                e.MessageAdded(role="assistant", content=text, tool_name="t", invocation_id=one),
                e.InvocationLinked(invocation_id=one, tool_name="t", duration_ms=1.0, success=True),
                e.MessageAdded(role="tool", content=text, tool_name="t", invocation_id=one),
                e.UsageRecorded(tokens={"input": 1}, key=one),
            ]
        )
    files.extend("s", batches, expected_version=0)
    files.close()
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from eventstore import FileSystemSessionStorage\nfrom eventstore.exporters import export_audit\n"
        "with FileSystemSessionStorage(sys.argv[1], sys.argv[2]) as storage:\n"
        "    export_audit(storage, ['s'], Path(sys.argv[3]))\n"
        "print(*(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
    )
    arguments = [tmp_path / ".sessions", tmp_path / ".history", tmp_path / "a.zip"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) / 1024 < 150  # MiB


# --- commands


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with FileSystemSessionStorage(tmp_path / ".sessions", tmp_path / ".history", fsync="no") as storage:
        live(SessionManager(storage))
        live(SessionManager(storage), "other")
    return tmp_path


def test_audit_export_writes_a_bundle_and_prints_the_hash_of_its_manifest(store: Path) -> None:
    done = run("audit", "export", "s", cwd=store)
    digest = sha256(contents(store / "s.audit.zip")["manifest.json"]).hexdigest()
    assert f"{digest}  manifest.json" in done.stdout
    told = json.loads(run("audit", "export", "--all", "--store-log", "-o", "all.zip", "--json", cwd=store).stdout)
    assert told["sessions"] == ["other", "s", "_store"]
    run("audit", "export", "s", "-o", "folder", cwd=store)
    assert (store / "folder" / "manifest.json").is_file()


def test_audit_report_writes_html_and_markdown(store: Path) -> None:
    run("audit", "report", "s", "-o", "r.html", cwd=store)
    run("audit", "report", "s", "-o", "r.md", cwd=store)
    assert (store / "r.html").read_text("utf-8").startswith("<!doctype html>")
    assert (store / "r.md").read_text("utf-8").startswith("# Audit of session s\n")
    assert run("audit", "report", "s", cwd=store).stdout.startswith("# Audit of session s\n")
    assert stat.S_IMODE((store / "r.html").stat().st_mode) == 0o600


def test_audit_says_what_is_wrong(store: Path) -> None:
    assert "name sessions, or use --all" in run("audit", "export", cwd=store, check=2).stderr
    assert "ends in neither" in run("audit", "report", "s", "-o", "r.pdf", cwd=store, check=2).stderr
    assert "'nope' not found" in run("audit", "report", "nope", "-o", "r2.md", cwd=store, check=1).stderr
    assert not (store / "r.md").exists()
    assert "export" in run("audit", "--help", cwd=store).stdout


# --- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser, where there is one: tests without it are counted as skipped, with the reason."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there: apt-get install chromium")
    with playwright.sync_playwright() as running:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        found = running.chromium.launch(executable_path=str(CHROMIUM), args=options)
        yield found
        found.close()


@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_a_hostile_report_and_runs_nothing_of_it(
    browser: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    (tmp_path / "r.html").write_text(html(hostile_session()), "utf-8")
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    seen: list[str] = []
    page.on("dialog", lambda dialog: seen.append(dialog.message))
    page.on("console", lambda message: seen.append(message.text))
    page.on("request", lambda request: seen.append(request.url))
    page.goto(f"file://{tmp_path / 'r.html'}")
    assert seen == [f"file://{tmp_path / 'r.html'}"]
    assert page.evaluate("document.scripts.length + document.images.length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("tr.message").count() == len(HOSTILE)
    page.locator("summary").first.click()
    assert page.locator("details[open] pre").first.is_visible()
    assert "<script>alert(1)</script>" in page.locator("tr.message td.i").first.inner_text()
