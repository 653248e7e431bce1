"""What the translators of most formats share: calls, names, titles, usage, and branches of a tree of lines.

A format whose lines are one JSON object each needs its own `read` and little else (README.md, "How to add a format").
"""

from typing import Any

from eventstore import events as e
from eventstore.importers.identity import NO_KEYS, Keys
from eventstore.importers.meaning import (
    ACTIVE,
    COMPLETED,
    Ending,
    Meaning,
    OpenCalls,
    ToolAnswer,
    ToolCall,
    Translator,
    between_ms,
    first_line,
    text_of,
)

_REMEMBERED = 100_000  # lines whose places are kept: bounds memory


class PlainIdentity:
    """Lines whose copies in other sessions are not recognised."""

    needs_family = False
    between = False

    def __init__(self, session_id: str) -> None:
        self.family = {session_id}

    def read(self, line: dict[str, Any]) -> Keys:
        """Return no keys."""
        return NO_KEYS


class PlainTranslator(Translator):
    """The base of a translator. `read` of a subclass calls these methods and returns what they made."""

    is_copy = False

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self.time: str | None = None
        self._open = OpenCalls()
        self._known: dict[str, Any] = {}
        self._title_rank = 0
        self._last = 0
        self._leaf: str | None = None
        self._here: str | None = None
        self._places: dict[str, int] = {}

    def ending(self) -> Ending:
        """Return that it is completed, unless a call has no result: these formats do not say how a session ended."""
        return ACTIVE if len(self._open) else COMPLETED

    def unanswered(self) -> int:
        return len(self._open)

    # --- calls

    def call(
        self, found: Meaning, invocation_id: Any, tool_name: Any, arguments: Any, *, is_silent: bool = False
    ) -> None:
        """Add the events of a call that begins. A silent one has no message, since another line has it."""
        call = self._open.begin(ToolCall(need_text(invocation_id), need_text(tool_name), arguments, self.time))
        found.calls.append(call)
        if not is_silent:
            found.events.append(
                e.MessageAdded(
                    role="assistant",
                    content=text_of(arguments),
                    tool_name=call.tool_name,
                    invocation_id=call.invocation_id,
                )
            )
        found.events.append(e.InvocationLinked(invocation_id=call.invocation_id, tool_name=call.tool_name))

    def answer(
        self,
        found: Meaning,
        invocation_id: Any,
        text: str,
        *,
        success: bool | None,
        error: str | None = None,
        duration_ms: float | None = None,
    ) -> None:
        """Add the events of a call's result. `duration_ms` is measured from the call where it is not recorded."""
        call = self._open.end(need_text(invocation_id))
        known = call.invocation_id if call is not None else invocation_id
        if call is None:
            found.odd = "is the result of a tool call that is not in the file"
        if duration_ms is None and call is not None:
            duration_ms = between_ms(call.time, self.time)
        if success is False:
            error = first_line(error or text, 500)
        found.answers.append(ToolAnswer(known, text, duration_ms, success, error if success is False else None))
        found.events += [
            e.MessageAdded(role="tool", content=text, tool_name=call.tool_name if call else None, invocation_id=known),
            e.InvocationLinked(
                invocation_id=known, duration_ms=duration_ms, success=success, error=error if success is False else None
            ),
        ]

    # --- names and figures

    def updated(self, metadata: dict[str, Any]) -> list[e.Event]:
        """Return the event that records metadata which is new or differs."""
        new = {
            name: value
            for name, value in metadata.items()
            if isinstance(value, str) and value and self._known.get(name) != value
        }
        self._known |= new
        return [e.SessionUpdated(custom_metadata=new)] if new else []

    def titled(self, title: Any, rank: int = 1) -> list[e.Event]:
        """Return the event that sets the title: the first of its rank, or one of a higher rank. 1 is a prompt, 2 a name."""
        if not isinstance(title, str) or not title.strip() or rank < self._title_rank:
            return []
        if rank == self._title_rank and (rank == 1 or self._known.get("") == title):
            return []
        self._title_rank, self._known[""] = rank, title
        return [e.SessionUpdated(purpose=first_line(title))]

    # --- a tree of lines

    def at_node(self, node: Any, parent: Any) -> list[e.Event]:
        """Begin a line that has an id and a parent. Return the rewind where the parent is not the line before it."""
        rewound: list[e.Event] = []
        if isinstance(parent, str) and self._leaf is not None and parent != self._leaf and parent in self._places:
            rewound = [e.ConversationRewound(to=self._places[parent])]
        if isinstance(node, str):
            self._leaf = self._here = node
        return rewound

    def placed(self, seq: int) -> None:
        if self._here is not None:
            self._places[self._here] = seq
            if len(self._places) > _REMEMBERED:
                self._places.pop(next(iter(self._places)))
        self._last, self._here = seq, None


def need_text(value: object) -> str:
    """Return a text. Raises TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError("a name or id is not text")
    return value


def parts_text(content: Any) -> str:
    """Return a text, or the texts of a list of parts; what is no text is named in brackets."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return "" if content is None else text_of(content)
    return "\n".join(_part_text(part) for part in content)


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return str(part["text"])
    if isinstance(part, dict):
        inline = part.get("inlineData") or part.get("fileData")
        media = inline.get("mimeType") if isinstance(inline, dict) else part.get("mimeType") or part.get("type")
        return f"[{media}]" if isinstance(media, str) else text_of(part)
    return text_of(part)
