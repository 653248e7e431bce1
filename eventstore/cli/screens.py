"""The full screen of `eventstore browse`. Needs the extra `tui` (Textual); nothing else imports this module."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static

from eventstore.cli import naming
from eventstore.cli.terminal import clean, cost, count, duration, moment, one_line, relative, since_start, some, tokens
from eventstore.errors import EventStoreError
from projections.timeline import Row

if TYPE_CHECKING:
    from eventstore import SessionManager

_MOST_SESSIONS = 2_000
_MOST_HITS = 200
_EVERY_SECONDS = 1.0
_COLOURS = {"user": "green", "assistant": "blue", "tool": "magenta", "model": "cyan", "session": "yellow", "log": "red"}
_BAR, _BESIDE_BAR = 40, 36
"""Columns: of the scrubber's bar at most, and of what stands beside it."""
_TWO_PANES = 100
"""Columns from which on the list of sessions stands beside the session."""


class Help(ModalScreen[None]):
    """All keys."""

    CSS = """
    Help { align: center middle; }
    #keys { width: 64; height: auto; border: round $accent; padding: 1 2; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "dismiss", "Close")]
    KEYS = (
        ("up down j k", "move"),
        ("Enter, right, l", "open a session; show a row whole"),
        ("Escape, left, h", "back to the sessions"),
        ("/", "filter sessions by title, project or id"),
        ("s", "search all sessions; Enter opens a hit"),
        ("[ and ]", "one moment back and on"),
        ("{ and }", "ten moments back and on"),
        ("0 and $", "the first moment, and now"),
        ("f", "follow: show new events as they come"),
        ("t", "only what was said, or all rows"),
        ("q", "quit"),
    )

    def compose(self) -> ComposeResult:
        """Lay out the widgets."""
        yield Static("\n".join(f"{keys:<18} {text}" for keys, text in self.KEYS), id="keys", markup=False)


class Browser(App[None]):
    """Sessions at the left, the timeline of one with its figures at any moment below; in a narrow terminal only one of them."""

    CSS = """
    #left { width: 45%; border-right: solid $panel; }
    #right { width: 1fr; }
    .narrow #left { width: 1fr; border-right: none; }
    .narrow #right, .narrow.reading #left { display: none; }
    .narrow.reading #right { display: block; }
    DataTable { height: 1fr; scrollbar-size-horizontal: 0; }
    #text { height: auto; max-height: 40%; padding: 0 1; border-top: solid $panel; }
    #scrubber { height: 3; padding: 0 1; border-top: solid $panel; }
    Input { display: none; }
    Input.asked { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("question_mark", "help", "Keys"),
        Binding("slash", "ask('filter')", "Filter"),
        Binding("s", "ask('search')", "Search"),
        Binding("f", "follow", "Follow"),
        Binding("t", "talk", "Talk only"),
        Binding("left_square_bracket", "go(-1)", "Back"),
        Binding("right_square_bracket", "go(1)", "On"),
        Binding("left_curly_bracket", "go(-10)", show=False),
        Binding("right_curly_bracket", "go(10)", show=False),
        Binding("0", "go(-1000000000)", show=False),
        Binding("dollar_sign", "go(1000000000)", show=False),
        Binding("escape,left,h", "leave", "Sessions", priority=False),
        Binding("right,l", "enter", show=False),
        Binding("j", "move(1)", show=False),
        Binding("k", "move(-1)", show=False),
    ]
    ENABLE_COMMAND_PALETTE = False
    TITLE = "eventstore"

    def __init__(self, manager: "SessionManager", session_id: str | None = None) -> None:
        super().__init__()
        self._manager, self._first = manager, session_id
        self._known: list[dict[str, Any]] = []
        self._shown: list[str] = []
        self._rows: list[Row] = []
        self._session = ""
        self._at = 0
        self._seen: list[int] = []
        self._is_following, self._is_talk = False, False
        self._mode = "sessions"

    def compose(self) -> ComposeResult:
        """Lay out the widgets."""
        with Horizontal(id="panes"):
            with Vertical(id="left"):
                yield Input(placeholder="title, project or id", id="filter")
                yield Input(placeholder="search in all sessions", id="search")
                yield DataTable(id="sessions", cursor_type="row", show_header=True)
            with Vertical(id="right"):
                yield DataTable(id="rows", cursor_type="row", show_header=False)
                with VerticalScroll(id="text"):
                    yield Static(id="whole", markup=False)
                yield Static(id="scrubber", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Fill the screen."""
        sessions = self.query_one("#sessions", DataTable)
        sessions.add_columns("UPDATED", "PROJECT", "TITLE", "TOKENS")
        self.query_one("#rows", DataTable).add_columns("at", "who", "what", "text")
        self.load()
        self.set_interval(_EVERY_SECONDS, self._look)
        if self._first is not None:
            self.open_session(self._first)
        else:
            self._read("sessions")

    def on_resize(self, event: Resize) -> None:
        """Fit the panes to the width."""
        self.query_one("#panes").set_class(event.size.width < _TWO_PANES, "narrow")
        self._show_moment()

    def _read(self, name: str) -> None:
        """Go to the sessions or to the rows of one."""
        self.query_one("#panes").set_class(name == "rows", "reading")
        self.query_one(f"#{name}").focus()

    # --- sessions

    def load(self) -> None:
        """Read the list of sessions again."""
        page = self._manager.page_sessions(limit=_MOST_SESSIONS)
        self._known = [one.to_dict() for one in page.sessions]
        self._list(self._known)

    def _list(self, sessions: Sequence[dict[str, Any]]) -> None:
        table = self.query_one("#sessions", DataTable)
        table.clear()
        now, self._shown, self._mode = datetime.now(UTC), [], "sessions"
        for one in sessions:
            used = sum((one["token_usage"] or {}).values())
            table.add_row(
                relative(datetime.fromisoformat(one["updated_at"]), now),
                Text(one_line(naming.project_of(one["custom_metadata"]), 14), style="magenta"),
                Text(one_line(one["purpose"] or one["session_id"], 80)),
                Text(count(used) if used else "", justify="right"),
            )
            self._shown.append(one["session_id"])
        if not sessions:
            self.query_one("#whole", Static).update(
                "no sessions that fit" if self._known else "no sessions in this store"
            )

    def action_ask(self, what: str) -> None:
        """Ask for a filter, or for what to search for."""
        for name in ("filter", "search"):
            self.query_one(f"#{name}", Input).set_class(name == what, "asked")
        self._read("sessions")
        self.query_one(f"#{what}", Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter the sessions as one types."""
        if event.input.id == "filter":
            wanted = event.value.casefold()
            self._list([one for one in self._known if wanted in _described(one)])

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Search, or leave the filter."""
        if event.input.id == "search" and event.value.strip():
            self.search(event.value)
        event.input.remove_class("asked")
        self._read("sessions")

    @work(thread=True, exclusive=True)
    def search(self, text: str) -> None:
        """Search, and show the hits in the place of the sessions."""
        try:
            hits = self._manager.search(text, limit=_MOST_HITS, on_damage=lambda damage: None)
        except (EventStoreError, ValueError) as error:
            self.call_from_thread(self.notify, clean(str(error)), severity="error")
            return
        self.call_from_thread(self._show_hits, list(hits))

    def _show_hits(self, hits: Sequence[Any]) -> None:
        table = self.query_one("#sessions", DataTable)
        table.clear()
        self._mode, self._shown = "hits", [f"{hit.session_id}:{hit.seq}" for hit in hits]
        for hit in hits:
            when = relative(datetime.fromisoformat(hit.time))
            table.add_row(when, Text(one_line(hit.role, 14), style="cyan"), Text(one_line(hit.snippet, 100)), "")
        self.notify(f"{len(hits)} found; Escape shows the sessions" if hits else "nothing found")

    # --- one session

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open a session or a hit."""
        if event.data_table.id == "sessions" and event.cursor_row < len(self._shown):
            name, seq = naming.split(self._shown[event.cursor_row])
            self.open_session(name, seq)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Show the row under the cursor completely."""
        if event.data_table.id == "rows" and event.cursor_row < len(self._seen):
            self._show_whole(self._rows[self._seen[event.cursor_row]])

    def open_session(self, session_id: str, seq: int | None = None) -> None:
        """Show the timeline of a session, at an event or at its end."""
        try:
            self._rows = list(self._manager.timeline(session_id))
        except EventStoreError as error:
            self.notify(clean(str(error)), severity="error")
            return
        self._session, self._is_following = session_id, False
        self._at = (
            len(self._rows) if seq is None else next((n for n, row in enumerate(self._rows, 1) if row.seq >= seq), 1)
        )
        self.sub_title = session_id
        naming.remember(self._manager, session_id)
        self._read("rows")
        self._fill()

    def _fill(self) -> None:
        """Show the rows up to the moment."""
        table = self.query_one("#rows", DataTable)
        table.clear()
        self._seen = [
            place for place, row in enumerate(self._rows[: self._at]) if not self._is_talk or row.what in _TALK
        ]
        for place in self._seen:
            table.add_row(*_cells(self._rows[place]))
        if self._seen:
            table.move_cursor(row=len(self._seen) - 1)
        self._show_moment()

    def _show_whole(self, row: Row) -> None:
        facts = [row.tool_name or "", duration(row.duration_ms) if row.duration_ms else "", tokens(row.tokens)]
        head = f"{row.who} {row.what}  :{row.seq}  {moment(datetime.fromisoformat(row.time))}"
        about = "  ".join(clean(fact) for fact in facts if fact)
        self.query_one("#whole", Static).update(f"{clean(head)}  {about}\n{clean(row.text, keep_lf=True)[:20_000]}")

    def _show_moment(self) -> None:
        """Show where the moment is, and the figures of the session then."""
        total = len(self._rows)
        if not total or not self._at:
            self.query_one("#scrubber", Static).update("")
            return
        row = self._rows[self._at - 1]
        room = self.size.width if self.size.width < _TWO_PANES else self.size.width * 55 // 100
        most = max(min(_BAR, room - _BESIDE_BAR), 4)
        full = round(self._at / total * most)
        bar = f"{'━' * full}●{'─' * (most - full)}"
        line = f"{bar}  event {row.seq:,} of {self._rows[-1].seq:,}  {since_start(row.since_start_seconds)}"
        try:
            found = self._manager.get_session_statistics(self._session, row.seq) or {}
        except EventStoreError:
            found = {}  # inside of a batch: there are no figures of half an append
        figures = [
            some(found.get("message_count", 0), "message"),
            some(found.get("total_invocations", 0), "call"),
            f"{count(sum((found.get('token_usage') or {}).values()))} tokens",
            f"cost {cost(found.get('estimated_cost'))}" if found.get("estimated_cost") else "",
            str(found.get("status", "")),
            "following" if self._is_following else "",
        ]
        self.query_one("#scrubber", Static).update(f"{line}\n{'  ·  '.join(one for one in figures if one)}")

    def _look(self) -> None:
        """Follow: read what is new in the session that is shown."""
        if not self._is_following or not self._session:
            return
        try:
            rows = list(self._manager.timeline(self._session))
        except EventStoreError as error:
            self._is_following = False
            self.notify(clean(str(error)), severity="error")
            return
        if len(rows) != len(self._rows):
            self._rows, self._at = rows, len(rows)
            self._fill()

    # --- keys

    def action_go(self, steps: int) -> None:
        """Go to another moment of the session."""
        if self._rows:
            self._at = min(max(self._at + steps, 1), len(self._rows))
            self._fill()

    def action_follow(self) -> None:
        """Show new events as they come, or stop."""
        self._is_following = not self._is_following and bool(self._session)
        if self._is_following:
            self.action_go(len(self._rows))
        self._show_moment()

    def action_talk(self) -> None:
        """Show only messages, or all rows."""
        self._is_talk = not self._is_talk
        self._fill()

    def action_move(self, step: int) -> None:
        """Move the cursor."""
        table = self.focused if isinstance(self.focused, DataTable) else self.query_one("#sessions", DataTable)
        table.move_cursor(row=max(table.cursor_row + step, 0))

    def action_enter(self) -> None:
        """Open what the cursor is on."""
        if isinstance(self.focused, DataTable) and self.focused.id == "sessions":
            self.focused.action_select_cursor()

    def action_leave(self) -> None:
        """Go back to the sessions."""
        for one in self.query(Input):
            one.remove_class("asked")
        sessions = self.query_one("#sessions", DataTable)
        if sessions.has_focus and self._mode == "hits":
            self._list(self._known)
        self._read("sessions")

    def action_help(self) -> None:
        """Show all keys."""
        self.push_screen(Help())


_TALK = frozenset(["says", "calls", "thinks", "failed", "redacted"])


def _described(one: dict[str, Any]) -> str:
    parts = (one["purpose"] or "", naming.project_of(one["custom_metadata"]), one["session_id"])
    return " ".join(parts).casefold()


def _cells(row: Row) -> Iterator[Text]:
    yield Text(since_start(row.since_start_seconds).rjust(12), style="dim")
    yield Text(one_line(row.who, 10), style=_COLOURS.get(row.who, ""))
    yield Text(row.what, style="bold red" if row.what == "failed" else "bold")
    tool = f"[{one_line(row.tool_name, 20)}] " if row.tool_name else ""
    yield Text.assemble((tool, "cyan"), one_line(row.text or tokens(row.tokens), 200))
