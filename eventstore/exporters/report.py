"""A session as a report for people: one self-contained HTML file, or Markdown.

All text of a session is hostile: it is escaped, and control, reordering and invisible characters are shown as escapes.
"""

from collections.abc import Iterator, Sequence
from html import escape
from itertools import islice
from typing import Protocol

import msgspec
from msgspec import json

from eventstore.escape import clean, is_plain
from eventstore.exporters.questions import (
    Audited,
    answers,
    describe_removal,
    duration,
    entries,
    figures,
    moment,
    money,
    numbers_of,
    origin_of,
    tokens_of,
)
from eventstore.record import clock
from eventstore.release import version
from projections.audit import Entry

_INLINE, _HTML_TEXT, _MARKDOWN_TEXT = 120, 20_000, 400  # characters
_CHUNK = 200  # rows per table: the browser lays out visible tables only


class Writer(Protocol):
    """A binary output stream."""

    def write(self, data: bytes, /) -> object:
        """Write bytes."""


def write_html(stream: Writer, sessions: Sequence[Audited], *, made_at: str | None = None) -> None:
    """Write one HTML file: for each session the five questions of an auditor, the figures, and the timeline.

    It has no scripts and loads nothing. `made_at` is RFC 3339 (default: now). Texts over 20,000 characters are cut and marked.
    The file is streamed: memory does not grow with the session.
    """
    for piece in _html(sessions, made_at or clock.now()):
        stream.write(piece.encode())


def write_markdown(stream: Writer, sessions: Sequence[Audited], *, made_at: str | None = None) -> None:
    """Write the same report as Markdown with GFM tables. Texts over 400 characters are cut and marked."""
    for piece in _markdown(sessions, made_at or clock.now()):
        stream.write(piece.encode())


# --- HTML

_CSS = """
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1d2327;--soft:#5c6770;--line:#dfe3e6;--faint:#f1f3f4;
--good:#17703a;--goodbg:#e3f4e9;--warn:#875300;--warnbg:#fdf0d8;--bad:#a81c1c;--badbg:#fde4e2;--link:#0b5cad;
--user:#0b5cad;--assistant:#6a3fb0;--tool:#0c6f6b;--other:#5c6770}
@media (prefers-color-scheme:dark){:root{--bg:#14181b;--card:#1b2024;--ink:#e4e8ea;--soft:#9aa5ad;--line:#323a40;--faint:#232a2f;
--good:#6fd495;--goodbg:#16351f;--warn:#f0bd62;--warnbg:#3a2a0c;--bad:#ff938a;--badbg:#471a18;--link:#7db8f5;
--user:#7db8f5;--assistant:#c3a6f5;--tool:#63cfc9;--other:#9aa5ad}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,
"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main,header,footer{max-width:1500px;margin:0 auto;padding:0 24px}
header{padding-top:28px}
h1{font-size:25px;line-height:1.25;margin:0 0 2px}
h2{font-size:20px;margin:36px 0 12px;overflow-wrap:anywhere}
h3{font-size:16px;margin:28px 0 10px}
p{margin:4px 0}
a{color:var(--link)}
.soft,footer{color:var(--soft)}
footer{margin-top:40px;padding-bottom:40px;font-size:13px}
code,pre,.code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.86em}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:8px;background:var(--card)}
table{border-collapse:collapse;width:100%;background:var(--card)}
th,td{text-align:start;vertical-align:top;padding:8px 12px;overflow-wrap:anywhere;border-bottom:1px solid var(--line)}
tr:last-child>th,tr:last-child>td{border-bottom:0}
.ask>tbody>tr>th{width:16em;font-weight:600}
dl{margin:0;display:grid;grid-template-columns:minmax(8.5em,max-content) 1fr;gap:3px 14px}
dt{color:var(--soft)}
dd{margin:0;min-width:0;white-space:pre-line}
dd.code{align-self:center}
.good,.warn,.bad{padding:0 6px;border-radius:4px;box-decoration-break:clone;-webkit-box-decoration-break:clone}
.good{color:var(--good);background:var(--goodbg)}
.warn{color:var(--warn);background:var(--warnbg)}
.bad{color:var(--bad);background:var(--badbg);font-weight:600}
.figures{display:flex;flex-wrap:wrap;gap:8px;margin:16px 0 0;padding:0;list-style:none}
.figures li{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:6px 14px}
.figures b{display:block;font-size:18px;line-height:1.35;font-variant-numeric:tabular-nums}
.figures span{font-size:12.5px;color:var(--soft)}
.list{border:1px solid var(--line);border-radius:8px;background:var(--card)}
.chunk{content-visibility:auto;contain-intrinsic-size:auto 10000px}
.t{table-layout:fixed;font-size:13.5px;background:none}
.t th{position:sticky;top:0;z-index:1;background:var(--faint);font-size:12.5px;color:var(--soft);font-weight:600;padding:6px 10px}
.t td{padding:7px 10px;border-bottom:1px solid var(--line)!important}
.t tr:target td{background:var(--warnbg)}
.t .n{width:74px}.t .w{width:108px}.t .o{width:13%}.t .d{width:11%}.t .l{width:9%}.t .m{width:86px}.t .k{width:11%}
.t .w{white-space:nowrap}td.o small.by{white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
td.n,td.w,td.m,td.k{font-variant-numeric:tabular-nums;color:var(--soft)}
td.m{white-space:nowrap}
td.m,td.k,th.m,th.k{text-align:end}
td.o b{color:var(--other)}
td.o.user b{color:var(--user)}td.o.assistant b{color:var(--assistant)}td.o.tool b{color:var(--tool)}
td small{display:block;color:var(--soft);font-size:12px}
td.i,td.r{unicode-bidi:isolate}
pre{margin:6px 0 2px;padding:10px 12px;background:var(--faint);border-radius:6px;white-space:pre-wrap;overflow-wrap:anywhere;
max-height:60vh;overflow:auto;unicode-bidi:plaintext}
.x{color:var(--bad);border-bottom:1px dotted var(--bad)}
.none{color:var(--soft);font-style:italic}
summary{cursor:pointer}
summary small{display:inline}

tr.sub td.n{border-inline-start:3px solid var(--line);overflow-wrap:anywhere}
tr.redacted td{background:var(--warnbg)}
tr.unexplained td{background:var(--badbg)}
@media (max-width:860px){
main,header,footer{padding-left:14px;padding-right:14px}
.ask>tbody>tr>th,.ask>tbody>tr>td{display:block;width:auto;border:0}
.ask>tbody>tr>th{padding-bottom:0}.ask>tbody>tr>td{padding-top:3px;border-bottom:1px solid var(--line)}
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:6px}dd.code{align-self:auto}
.t,.t tbody{display:block}.t thead,.t colgroup{display:none}
.t tr{display:block;position:relative;padding:10px 12px;border-bottom:1px solid var(--line)}
.t td{display:inline;width:auto!important;padding:0;border:0!important;background:none!important}
.t td.w{white-space:normal}.t td.w small{display:inline;margin-left:6px}
.t td.n,.t td.w{font-size:12px}.t td.n{float:right}
.t td.o{display:block;float:none}.t td.o b,.t td.o small{display:inline;margin-right:8px}
.t td.d{margin-right:8px}.t td.l{font-weight:600}
.t td.i,.t td.r{display:block;margin-top:4px}
.t td.i[data-l]::before,.t td.r[data-l]::before{content:attr(data-l);display:block;font-size:12px;color:var(--soft)}
.t td.m,.t td.k{text-align:start;font-size:12px;margin-right:10px}
.t td.o small.by,.t td.m{white-space:normal}.t td:empty{display:none}
.t tr.usage td.i{display:none}.t td.k small{display:inline;margin-left:8px}
tr.redacted{background:var(--warnbg)}tr.unexplained{background:var(--badbg)}
}
@media print{
:root{color-scheme:light}
body{background:#fff;color:#000;font-size:10pt}main,header,footer{max-width:none;padding:0}
.chunk{content-visibility:visible}.list,.scroll{border-radius:0;overflow:visible}
.t th{position:static}.t{font-size:8pt}.t tr,.ask tr{break-inside:avoid}pre{max-height:none}
details::details-content{content-visibility:visible}
td.o small.by{white-space:normal}thead{display:table-header-group}h2,h3{break-after:avoid}
}
"""

_HEAD = (
    "<tr><th class=n>Event<th class=w>Time (UTC)<th class=o>Who<th class=d>What<th class=l>Tool<th class=i>Input"
    "<th class=r>Result<th class=m>Took<th class=k>Tokens, cost</tr>"
)


def _html(sessions: Sequence[Audited], made_at: str) -> Iterator[str]:
    title = (
        f"Audit of session {sessions[0].session_id}" if len(sessions) == 1 else f"Audit of {len(sessions):,} sessions"
    )
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{_safe(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<header>\n<h1>{_safe(title)}</h1>\n"
        f'<p class="soft">Made {_safe(moment(made_at))} by eventstore {version()} from the append-only log. '
        "Marked text like <span class=x>\\u202e</span> replaces a control or invisible character.</p>\n</header>\n<main>\n"
    )
    if len(sessions) > 1:
        yield from _html_overview(sessions)
    for number, one in enumerate(sessions, 1):
        yield f'<section id="s{number}">\n'
        if len(sessions) > 1:
            yield f"<h2>Session {_safe(one.session_id)}</h2>\n"
        yield from _html_answers(one, number)
        yield from _html_timeline(one, number)
        yield "</section>\n"
    yield (
        "</main>\n<footer>This report is for reading. What proves something are the log, its checkpoints and a copy of verify.py "
        "that you did not get together with them.</footer>\n</body>\n</html>\n"
    )


def _html_overview(sessions: Sequence[Audited]) -> Iterator[str]:
    yield '<h3>Sessions</h3>\n<div class="scroll"><table><thead><tr><th>Session<th>Status<th>Events<th>Last event<th>Checkpoint'
    yield "<th>Redactions</tr></thead><tbody>\n"
    for number, one in enumerate(sessions, 1):
        index = one.index
        cells = _overview(one)
        bad = any(removal.state == "unexplained" for removal in index.removals())
        redactions = f'<span class="bad">{cells[-1]}</span>' if bad else cells[-1]
        rest = "".join(f"<td>{_safe(cell)}" for cell in cells[1:-1])
        yield f'<tr><td><a href="#s{number}">{_safe(one.session_id)}</a>{rest}<td>{redactions}</tr>\n'
    yield "</tbody></table></div>\n"


def _overview(one: Audited) -> list[str]:
    index, signed = one.index, one.index.checkpoint
    status = index.summary.metadata.status if index.kinds["session.created"] else ""
    covered = f"to event {signed.size:,}" if signed else "none"
    removed = len({*index.tombstones, *index.redactions})
    return [
        one.session_id,
        status,
        f"{one.version:,}",
        moment(index.last_at),
        covered,
        f"{removed:,}" if removed else "none",
    ]


def _html_answers(one: Audited, number: int) -> Iterator[str]:
    yield '<div class="scroll"><table class="ask"><tbody>\n'
    for question, facts in answers(one):
        yield f"<tr><th scope=row>{_safe(question)}<td><dl>"
        for fact in facts:
            shown = _safe(_cut(fact.value, 4000))
            if fact.mark:
                shown = f'<span class="{fact.mark}">{shown}</span>'
            name = _safe(fact.name)
            name = f'<a href="#s{number}e{fact.seq}">{name}</a>' if fact.seq else name
            yield f"<dt>{name}<dd{' class=code' if fact.code else ''}>{shown}"
        yield "</dl></tr>\n"
    yield '</tbody></table></div>\n<ul class="figures">'
    for name, value in figures(one):
        yield f"<li><b>{_safe(value)}</b><span>{_safe(name)}</span></li>"
    yield "</ul>\n"


def _html_timeline(one: Audited, number: int) -> Iterator[str]:
    yield '<h3>What happened</h3>\n<div class="list">\n'
    rows = entries(one)
    while chunk := list(islice(rows, _CHUNK)):
        lazily = (
            " class=chunk" if len(chunk) == _CHUNK else ""
        )  # lets the browser skip the layout of tables outside the view
        yield f'<div{lazily}><table class="t"><thead>{_HEAD}</thead><tbody>\n'
        for depth, whose, entry in chunk:
            yield _html_row(whose, entry, number, depth)
        yield "</tbody></table></div>\n"
    yield "</div>\n"


def _html_row(one: Audited, entry: Entry, number: int, depth: int) -> str:
    day, _, clock = moment(entry.time).removesuffix(" UTC").partition(" ")
    state = " unexplained" if entry.removal and entry.removal.state == "unexplained" else ""
    who = f"<b>{_safe(entry.actor or entry.who)}</b>" + _small(entry.who if entry.actor else "") + _html_by(entry)
    what = _safe(entry.what)
    what = f'<span class="bad">{what}</span>' if entry.success is False or state else what
    cost = _small(f"cost {money(entry.cost)}" if entry.cost else "")
    name = "" if depth else f' id="s{number}e{entry.seqs[0]}"'
    agent = _small(f"sub-agent {one.session_id}") if depth else ""
    return (
        f'<tr class="{entry.kind}{state}{" sub" if depth else ""}"{name}><td class=n>{"↳" * depth}{numbers_of(entry)}{agent}'
        f"<td class=w>{_safe(clock or day)}{_small(day if clock else '')}"
        f'<td class="o {entry.who if entry.who in _ROLES else ""}">{who}'
        f"<td class=d>{what}<td class=l>{_safe(entry.tool_name or '')}{_html_texts(one, entry)}"
        f"<td class=m>{_safe(duration(entry.duration_ms))}"
        f"<td class=k>{_safe(tokens_of(entry))}{_small(entry.model or '')}{cost}</tr>\n"
    )


_ROLES = frozenset(["user", "assistant", "tool", "system"])


def _small(text: str) -> str:
    return f"<small>{_safe(_cut(text, 200))}</small>" if text else ""


def _html_by(entry: Entry) -> str:
    text = _safe(_cut(origin_of(entry), 400))
    return f'<small class=by title="{text}">{text}</small>' if text and "<" not in text else _small(origin_of(entry))


def _where(one: Audited, seq: int) -> str:
    return f"events.jsonl of {one.session_id}, event {seq:,}"


def _html_texts(one: Audited, entry: Entry) -> str:
    where = _where(one, entry.seqs[0])
    if entry.kind != "call":
        text = _safe(describe_removal(entry.removal)) if entry.removal else _html_text(entry.text, where)
        return f"<td class=i colspan=2>{text}"
    asked = '<span class="none">not recorded</span>' if entry.input is None else _html_text(_pretty(entry.input), where)
    return f"<td class=i data-l=Input>{asked}<td class=r data-l=Result>{_html_result(entry, where)}"


def _html_result(entry: Entry, where: str) -> str:
    parts = []
    if entry.error and entry.error != entry.result:
        parts.append(f'<div><span class="bad">error</span> {_html_text(entry.error, where)}</div>')
    if entry.result is not None:
        parts.append(_html_text(entry.result, where))
    if entry.folder:
        parts.append(f"<small>files in {_safe(entry.folder)}</small>")
    return "".join(parts) or '<span class="none">not recorded</span>'


def _html_text(text: str, where: str) -> str:
    if len(text) <= _INLINE and "\n" not in text.rstrip("\n"):
        return _safe(text.rstrip("\n"))
    shown, more = text[:_HTML_TEXT], ""
    if len(text) > _HTML_TEXT:
        more = f"\n<i>… cut here: {len(text) - _HTML_TEXT:,} more characters are in {_safe(where)}</i>"
    lead = " ".join(text[: _INLINE * 2].split())
    lead = lead if len(lead) <= _INLINE and len(text) <= _INLINE * 2 else lead[: _INLINE - 20] + "…"
    summary = f"<summary>{_safe(lead)} <small>{len(text):,} characters</small></summary>"
    return f"<details>{summary}<pre>{_safe(shown)}{more}</pre></details>"


def _pretty(text: str) -> str:
    """Indent JSON; return any other text unchanged."""
    if len(text) <= _INLINE or not text.startswith(("{", "[")):
        return text
    try:
        return json.format(text, indent=2)
    except (msgspec.DecodeError, RecursionError):
        return text


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"


def _safe(text: str) -> str:
    """Escape a text for HTML; show and mark control, reordering and invisible characters."""
    if is_plain(text):
        return escape(text)
    return "".join(_safe_one(one) for one in text)


def _safe_one(one: str) -> str:
    shown = clean(one, keep_lf=True)
    return escape(one) if shown == one else shown if one == "\t" else f"<span class=x>{escape(shown)}</span>"


# --- Markdown

_MARKDOWN = {
    **{ord(one): f"\\{one}" for one in "*_[]~$"},
    **{ord(one): f"&#{ord(one)};" for one in "&<>|\\`@"},
    ord("\n"): " ↵ ",
}
_NO_LINKS = {"://": "&#58;//", "www.": "www&#46;", "{{": "{&#123;", "{%": "{&#37;"}
"""Text that some Markdown renderers turn into links or template code, and its replacement."""


def _markdown(sessions: Sequence[Audited], made_at: str) -> Iterator[str]:
    title = (
        f"Audit of session {sessions[0].session_id}" if len(sessions) == 1 else f"Audit of {len(sessions):,} sessions"
    )
    yield f"# {_plain(title)}\n\nMade {moment(made_at)} by eventstore {version()} from the append-only log.\n"
    if len(sessions) > 1:
        yield (
            "\n## Sessions\n\n"
            + _row("Session", "Status", "Events", "Last event", "Checkpoint", "Redactions")
            + _rule(6)
        )
        for one in sessions:
            yield _row(*map(_plain, _overview(one)))
    for one in sessions:
        yield f"\n## Session {_plain(one.session_id)}\n\n" + _row("Question", "Answer") + _rule(2)
        for question, facts in answers(one):
            for place, fact in enumerate(facts):
                mark = f"{_WORDS[fact.mark]} " if fact.mark else ""
                value = _plain(_cut(fact.value, 1000))
                yield _row(f"**{question}**" if place == 0 else "", f"{mark}{_plain(fact.name)}&#58; {value}")
        yield "\n### Figures\n\n" + _row("Figure", "Value") + _rule(2)
        for name, value in figures(one):
            yield _row(_plain(name), _plain(value))
        yield "\n### What happened\n\n" + _row(*_COLUMNS) + _rule(len(_COLUMNS))
        for depth, whose, entry in entries(one):
            yield _markdown_row(whose, entry, depth)
    yield "\nTexts over 400 characters are cut here. What proves something are the log, its checkpoints and your own verify.py.\n"


_WORDS = {"good": "✔", "warn": "⚠", "bad": "✘"}
_COLUMNS = ("Event", "Time", "Who", "What", "Tool", "Input", "Result", "Took", "Tokens", "Cost")


def _markdown_row(one: Audited, entry: Entry, depth: int) -> str:
    text = describe_removal(entry.removal) if entry.removal else entry.text
    results = [f"error: {entry.error}" if entry.error and entry.error != entry.result else "", entry.result or ""]
    results.append(f"files in {entry.folder}" if entry.folder else "")
    who = f"{entry.actor} ({entry.who})" if entry.actor and entry.who else entry.actor or entry.who
    model = f" ({entry.model})" if entry.model else ""
    cells = [
        f"{'↳' * depth}{numbers_of(entry)}",
        moment(entry.time),
        f"{who}, sub-agent {one.session_id}" if depth else who,
        entry.what,
        entry.tool_name or "",
        text if entry.kind != "call" else entry.input if entry.input is not None else "not recorded",
        "\n".join(one for one in results if one) or ("not recorded" if entry.kind == "call" else ""),
        duration(entry.duration_ms),
        tokens_of(entry) + model,
        money(entry.cost),
    ]
    return _row(*(_plain(_cut(cell, _MARKDOWN_TEXT)) for cell in cells))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _rule(columns: int) -> str:
    return "|" + " --- |" * columns + "\n"


def _plain(text: str) -> str:
    """Escape a text so that Markdown shows it unchanged, on one line."""
    shown = clean(text.strip(), keep_lf=True).translate(_MARKDOWN)
    for one, instead in _NO_LINKS.items():
        shown = shown.replace(one, instead)
    return shown
