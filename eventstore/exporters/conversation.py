"""A conversation for people: messages, reasoning and tool calls in order, as Markdown or as one HTML file.

`Sharing` replaces secrets inside of the texts, and lists each replacement before anything is written.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from re import Match
from re import compile as re_compile
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from msgspec import UNSET, DecodeError, json

from eventstore import events as e
from eventstore.exporters.questions import duration
from eventstore.secret_patterns import SHARED, Patterns
from eventstore.store.replaced_lines import is_kept, kept_event_of
from projections.calls import Call, begin, call_of, text_of

if TYPE_CHECKING:
    from eventstore.sessions import SessionManager

Form = Literal["markdown", "html"]
_FOLDED = 1_200  # characters; longer results are folded in HTML
_FENCE = re_compile(r"^(```+|~~~+)[^\n]*\n(.*?)(?:^\1[ \t]*$|\Z)", 0x18)  # MULTILINE | DOTALL
_CODE_SPAN = re_compile(r"(`+)(?:(?!`).|\n)+?\1(?!`)")
_BACKTICKS = re_compile(r"`{3,}")


class Replacement(NamedTuple):
    """A text that is replaced in a copy for others: its event, its kind, its first characters, and the text around it."""

    seq: int
    label: str
    begins: str
    length: int
    around: str


@dataclass
class Sharing:
    """Replaces what looks like a secret or names a person. `keep` are labels that are not replaced."""

    patterns: Mapping[str, str] = field(default_factory=lambda: dict(SHARED))
    keep: frozenset[str] = frozenset()
    found: list[Replacement] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._patterns = Patterns({label: one for label, one in self.patterns.items() if label not in self.keep})

    def mask(self, text: str, seq: int) -> str:
        """Return the text with each finding replaced by `[redacted:<label>]`, and note what was replaced."""
        parts, done = list[str](), 0
        for start, end, label in self._patterns.find(text):
            secret = text[start:end]
            around = " ".join("".join([*parts[-1:], text[done:start]])[-40:].split())
            self.found.append(
                Replacement(seq, label, secret[: min(6, len(secret) // 3)], len(secret), f"{around}[{label}]")
            )
            parts += [text[done:start], f"[redacted:{label}]"]
            done = end
        return "".join([*parts, text[done:]]) if parts else text

    def mask_named(self, name: str, text: str, seq: int) -> str:
        """Return the text of a named field, such as `password`, with each finding replaced."""
        if not self._patterns.is_named(name, text):
            return self.mask(text, seq)
        label = "assigned-secret"
        self.found.append(Replacement(seq, label, text[: min(6, len(text) // 3)], len(text), f"{name}: [{label}]"))
        return f"[redacted:{label}]"


class _Turn(NamedTuple):
    """One piece of a conversation. `kind` is a role, `reasoning`, `call` or `note`."""

    seq: int
    kind: str
    time: str
    text: str
    call: Call | None = None


def export_conversation(
    manager: "SessionManager", session_id: str, form: Form = "markdown", sharing: Sharing | None = None
) -> Iterator[bytes]:
    """Stream a session as Markdown or HTML, in UTF-8. With `sharing`, secrets in it are replaced.

    The HTML is one file without scripts; nothing of the content is markup. Raises SessionNotFound, LogDamaged.
    """
    session = manager.storage.metadata(session_id)
    mask = sharing.mask if sharing is not None else lambda text, seq: text
    title = mask(session.purpose or session.external_key or session_id, 0)
    about = [
        ("session", session_id),
        ("folder", mask(str(session.custom_metadata.get("cwd") or ""), 0)),
        ("begun", session.created_at.isoformat(" ", "seconds")),
        ("times", "UTC"),
        ("status", session.status.value),
        ("model", str(session.custom_metadata.get("model") or "")),
        ("tool calls", f"{session.total_invocations:,}"),
    ]
    about = [(name, " ".join(value.split())) for name, value in about if value]
    turns = _masked(_turns(manager, session_id), sharing)
    yield from (_html(title, about, turns) if form == "html" else _markdown(title, about, turns))


def plan_sharing(manager: "SessionManager", session_id: str, sharing: Sharing) -> list[Replacement]:
    """Return every replacement that `export_conversation` makes with `sharing`, in order. Writes nothing."""
    sharing.found.clear()
    for _ in export_conversation(manager, session_id, "markdown", sharing):
        pass
    found = list(sharing.found)
    sharing.found.clear()
    return found


def _turns(manager: "SessionManager", session_id: str) -> Iterator[_Turn]:
    """Stream the turns of a session. A call is placed where it began, with its result."""
    log = manager.storage.log
    calls: dict[str, Call] = {}
    kept: dict[int, e.Event] = {}
    for event in log.with_values(session_id, log.read(session_id), strict=False):
        target = kept_event_of(event)
        if target is not None:
            kept[target] = event  # it takes the place of the redacted one
        invocation_id = call_of(event)
        if invocation_id is not None:
            known = calls.get(invocation_id)
            if known is None:
                calls[invocation_id] = begin(event)
            else:
                known.add(event)
    shown = set[str]()
    for read in log.read(session_id):
        if is_kept(read):
            continue
        here: e.Event = kept.get(read.seq, read)
        invocation_id = call_of(here)
        if invocation_id is not None:
            if invocation_id not in shown:
                shown.add(invocation_id)
                yield _Turn(here.seq, "call", here.time, "", calls[invocation_id])
        elif isinstance(here, e.MessageAdded):
            if here.content.strip():
                yield _Turn(here.seq, here.role, here.time, here.content)
        elif isinstance(here, e.ReasoningRecorded):
            yield _Turn(here.seq, "reasoning", here.time, here.content)
        elif isinstance(here, e.ConversationCleared):
            yield _Turn(here.seq, "note", here.time, "The conversation was cleared here.")
        elif isinstance(here, e.ConversationRewound):
            yield _Turn(here.seq, "note", here.time, f"The conversation went back to event {here.to} here.")
        elif isinstance(here, e.RedactedEvent):
            yield _Turn(here.seq, "note", here.time, "Something was removed here.")


class _Shown(NamedTuple):
    """A turn as text. Of a call: its tool, how it ended, its input and its result."""

    seq: int
    kind: str
    time: str
    text: str
    outcome: str = ""
    result: str = ""


def _masked(turns: Iterator[_Turn], sharing: Sharing | None) -> Iterator[_Shown]:
    """Stream the turns as texts, with secrets replaced."""
    mask = sharing.mask if sharing is not None else lambda text, seq: text
    for turn in turns:
        if turn.call is None:
            yield _Shown(turn.seq, turn.kind, turn.time, mask(turn.text, turn.seq))
            continue
        known = turn.call.known
        outcome = "failed" if known.success is False else "" if turn.call.end or known.success else "no result"
        if known.duration_ms is not None:
            outcome = f"{outcome} {duration(known.duration_ms)}".strip()
        result = turn.call.result.text or ""
        if known.error and known.error not in result:
            result = f"{known.error}\n{result}".strip()
        text = _input_text(turn.call, turn.seq, sharing)
        yield _Shown(turn.seq, turn.call.tool_name or "tool", turn.time, text, outcome, mask(result, turn.seq))


def _input_text(call: Call, seq: int, sharing: Sharing | None) -> str:
    """Return the input of a call: a single text as it is, several as `name: value` lines."""
    value = call.input.value
    if value is UNSET and (call.input.text or "").startswith("{"):
        value = _object(call.input.text or "")
    if not isinstance(value, dict):
        text = (call.input.text or "") if value is UNSET else text_of(value)
        return text if sharing is None else sharing.mask(text, seq)
    return "\n".join(
        f"{name}: {text_of(one) if sharing is None else sharing.mask_named(name, text_of(one), seq)}"
        for name, one in value.items()
    )


def _object(text: str) -> Any:
    """Return the object that a text holds as JSON, else UNSET."""
    try:
        return json.decode(text)
    except DecodeError:
        return UNSET


# --- Markdown


def _markdown(title: str, about: list[tuple[str, str]], turns: Iterator[_Shown]) -> Iterator[bytes]:
    head = [f"# {_plain(' '.join(title.split()))}", "", *(f"- {name}: `{value}`" for name, value in about), ""]
    yield "\n".join(head).encode()
    for turn in turns:
        if turn.kind in ("user", "assistant", "system", "tool"):
            part = f"\n## {turn.kind.capitalize()} · {_time(turn.time)}\n\n{_plain(turn.text.strip())}\n"
        elif turn.kind == "note":
            part = f"\n*{turn.text}*\n"
        elif turn.kind == "reasoning":
            part = "\n" + "\n".join(f"> {line}" for line in _plain(turn.text.strip()).split("\n")) + "\n"
        else:
            how = f" · {turn.outcome}" if turn.outcome else ""
            part = f"\n**{_plain(turn.kind)}**{how}\n\n{_fenced(turn.text)}"
            part += f"\n{_fenced(turn.result)}" if turn.result.strip() else ""
        yield part.encode("utf-8", "replace")


def _plain(text: str) -> str:
    """Return Markdown in which nothing outside of code is HTML."""
    parts, done = list[str](), 0
    for code in _code(text):
        parts += [text[done : code.start()].replace("<", "&lt;"), code[0]]
        done = code.end()
    return "".join([*parts, text[done:].replace("<", "&lt;")])


def _code(text: str) -> Iterator[Match[str]]:
    """Stream the fenced blocks and code spans of a text."""
    here = 0
    while True:
        found = [one for one in (_FENCE.search(text, here), _CODE_SPAN.search(text, here)) if one is not None]
        if not found:
            return
        first = min(found, key=lambda one: one.start())
        yield first
        here = max(first.end(), here + 1)


def _fenced(text: str) -> str:
    longest = max((len(one[0]) for one in _BACKTICKS.finditer(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}\n{text.rstrip()}\n{fence}\n"


def _time(text: str) -> str:
    return text[:19].replace("T", " ")


# --- HTML

_STYLE = """
:root { color-scheme: light dark; --line: #d8dee4; --dim: #59636e; --user: #0969da; --tool: #8250df; --fail: #cf222e;
  --soft: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3d444d; --dim: #9198a1; --user: #4493f8; --tool: #ab7df8; --fail: #f85149; --soft: #151b23; }
  body { background: #0d1117; color: #e6edf3; }
}
body { font: 16px/1.55 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 1.5rem 1rem 5rem; }
h1 { font-size: 1.45rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; color: var(--dim); font-size: .9rem; }
dd { margin: 0; overflow-wrap: anywhere; }
section { border-left: 3px solid var(--line); margin: 1.4rem 0; padding-left: 1rem; }
section.user { border-color: var(--user); }
section.call { border-color: var(--tool); }
h2 { font-size: .85rem; color: var(--dim); margin: 0 0 .3rem; font-weight: 600; }
h2 a { color: inherit; text-decoration: none; }
p, pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .4rem 0; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem;
  font: 13px/1.45 ui-monospace, monospace; }
summary { cursor: pointer; color: var(--dim); font-size: .9rem; overflow-wrap: anywhere; }
.failed { color: var(--fail); }
.note, .reasoning { color: var(--dim); font-style: italic; }
@media print { details { display: block; } section { break-inside: avoid; } }
"""


def _html(title: str, about: list[tuple[str, str]], turns: Iterator[_Shown]) -> Iterator[bytes]:
    digest = b64encode(sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    named = _safe(" ".join(title.split()))
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{named}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{named}</h1>\n<dl>"
        + "".join(f"<dt>{_safe(name)}</dt><dd>{_safe(value)}</dd>" for name, value in about)
        + "</dl>\n"
    ).encode("utf-8", "replace")
    for turn in turns:
        yield _section(turn).encode("utf-8", "replace")
    yield b"</body>\n</html>\n"


def _section(turn: _Shown) -> str:
    anchor = f'<a href="#e{turn.seq}">{_time(turn.time)}</a>'
    if turn.kind == "note":
        return f'<p class="note" id="e{turn.seq}">{_safe(turn.text)}</p>\n'
    if turn.kind == "reasoning":
        inner = f"<details><summary>reasoning</summary>{_blocks(turn.text)}</details>"
        return f'<section class="reasoning" id="e{turn.seq}">{inner}</section>\n'
    if turn.kind in ("user", "assistant", "system", "tool"):
        inner = _blocks(turn.text)
        if turn.kind == "system" and len(turn.text) > _FOLDED:
            inner = f"<details><summary>{len(turn.text):,} characters</summary>{inner}</details>"
        return f'<section class="{turn.kind}" id="e{turn.seq}"><h2>{turn.kind} · {anchor}</h2>{inner}</section>\n'
    failed = ' class="failed"' if turn.outcome.startswith("failed") else ""
    first = next((line for line in turn.text.split("\n") if line.strip()), "")
    head = f"<span{failed}>{_safe(turn.kind)}{' · ' + _safe(turn.outcome) if turn.outcome else ''}</span>"
    result = f"<pre>{_safe(turn.result)}</pre>" if turn.result.strip() else ""
    if len(turn.result) > _FOLDED:
        result = f"<details><summary>result, {len(turn.result):,} characters</summary>{result}</details>"
    inner = f"<details><summary>{head} · {_safe(first[:120])}</summary><pre>{_safe(turn.text)}</pre>{result}</details>"
    return f'<section class="call" id="e{turn.seq}"><h2>{anchor}</h2>{inner}</section>\n'


def _blocks(text: str) -> str:
    """Return a text as paragraphs, and its fenced code as code; nothing of it is markup."""
    parts, done = list[str](), 0
    for code in _FENCE.finditer(text):
        parts += [_paragraph(text[done : code.start()]), f"<pre>{_safe(code[2].rstrip())}</pre>"]
        done = code.end()
    return "".join([*parts, _paragraph(text[done:])])


def _paragraph(text: str) -> str:
    return f"<p>{_safe(text.strip())}</p>" if text.strip() else ""


def _safe(text: str) -> str:
    """Return a text as HTML text; control characters that HTML does not allow become `\N{REPLACEMENT CHARACTER}`."""
    return escape("".join(one if one >= " " or one in "\t\n" else "\N{REPLACEMENT CHARACTER}" for one in text))
