"""What fits on a screen: cells, cuts, tables at any width, times as people write and read them, progress."""

import io
import re
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from eventstore.cli import when
from eventstore.cli.progress import progress
from eventstore.cli.screen import cells, cut, pad
from eventstore.cli.table import Cell, Column, print_table, wrap
from eventstore.cli.terminal import count, one_line

PIECES = [
    "a",
    " ",
    "é",
    "e\u0301",
    "日",
    "本語",
    "한국",
    "ｶﾅ",
    "👩‍👩‍👧",
    "👍🏽",
    "🇯🇵",
    "🎉",
    "❤️",
    "…",
    "—",
    "ไทย",
    "ת",
    "\u200b",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
NOW = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)  # a Wednesday


@given(TEXTS)
def test_cells_are_counted_as_wcwidth_counts_them(text: str) -> None:
    assert cells(text) == wcswidth(text)


@given(TEXTS, st.integers(0, 40))
def test_a_cut_text_fits_and_is_whole_where_it_has_room(text: str, most: int) -> None:
    assert cells(cut(text, most)) <= most
    assert cells(pad(text, most)) == most
    if cells(text) <= most:
        assert cut(text, most) == text


def test_a_family_is_shown_as_one_and_a_hidden_joiner_is_not() -> None:
    assert one_line("👩‍👩‍👧") == "👩‍👩‍👧"
    assert "\\u200d" in one_line("a\u200db")


@given(TEXTS, st.integers(2, 30))
def test_wrapped_lines_fit_and_lose_nothing(text: str, room: int) -> None:
    lines = wrap(text, room)
    assert all(cells(line) <= room for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


COLUMNS = (
    Column("ID"),
    Column("UPDATED"),
    Column("PROJECT", least=10, drop=2),
    Column("TITLE", least=24),
    Column("TOKENS", number=True, drop=1, name="tokens"),
    Column("TAGS", least=6, drop=3),
)


@given(st.lists(st.tuples(*[TEXTS] * 6), min_size=1, max_size=5), st.sampled_from([20, 40, 60, 80, 120, 200]))
def test_no_line_of_a_table_is_longer_than_the_terminal(rows: list[tuple[str, ...]], columns: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("FORCE_COLOR", "1")
        out = io.StringIO()
        patch.setattr(sys, "stdout", out)
        print_table(COLUMNS, rows)
    for line in out.getvalue().splitlines():
        assert cells(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= columns


def table(capsys: pytest.CaptureFixture[str], *rows: list[str | Cell]) -> list[str]:
    print_table(COLUMNS, rows, total=["", "", "", "all", "9", ""])
    return capsys.readouterr().out.splitlines()


def test_columns_are_dropped_before_titles_are_lost(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    row: list[str | Cell] = ["1af7fc5e", "2026-01-31", "a-project-of-mine", "x" * 80, Cell("12k", "12000"), "bug,auth"]
    header, line, total = table(capsys, row)
    assert header.split() == ["ID", "UPDATED", "TITLE", "TOKENS"]
    assert "x" * 23 + "…" in line
    assert total.split() == ["all", "9"]
    monkeypatch.setenv("COLUMNS", "200")
    assert "12k" in table(capsys, row)[1]


def test_a_pipe_gets_every_column_with_names_and_values_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert table(capsys, ["a", "b", "c", "d", Cell("12k", "12000"), ""]) == [
        "ID\tUPDATED\tPROJECT\tTITLE\ttokens\tTAGS",
        "a\tb\tc\td\t12000\t",
    ]


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("today", "2026-03-18 00:00", "2026-03-19 00:00"),
        ("yesterday", "2026-03-17 00:00", "2026-03-18 00:00"),
        ("Monday", "2026-03-16 00:00", "2026-03-17 00:00"),
        ("wed", "2026-03-18 00:00", "2026-03-19 00:00"),
        ("thu", "2026-03-12 00:00", "2026-03-13 00:00"),
        ("7d", "2026-03-11 15:30", "2026-03-11 15:30"),
        ("2 weeks ago", "2026-03-04 15:30", "2026-03-04 15:30"),
        ("90 min", "2026-03-18 14:00", "2026-03-18 14:00"),
        ("2025-10", "2025-10-01 00:00", "2025-11-01 00:00"),
        ("2025-12", "2025-12-01 00:00", "2026-01-01 00:00"),
        ("2025", "2025-01-01 00:00", "2026-01-01 00:00"),
        ("2026-01-31", "2026-01-31 00:00", "2026-02-01 00:00"),
        ("14:05", "2026-03-18 14:05", "2026-03-18 14:05"),
    ],
)
def test_times_are_read_as_people_write_them(text: str, start: str, end: str) -> None:
    found = when.parse(text, NOW)
    assert found is not None
    assert [f"{one:%Y-%m-%d %H:%M}" for one in found] == [start, end]


@pytest.mark.parametrize(
    "text", ["", "soon", "7 parsecs", "2025-13", "2026-02-30", "25:00", "9999999y", "2026-01-31T12:00"]
)
def test_what_is_no_time_of_people_is_left_to_the_parser_of_rfc_3339(text: str) -> None:
    assert when.parse(text, NOW) is None
    assert when.since(text) == text


def test_until_a_day_means_its_last_moment() -> None:
    assert (when.until("2026-01-31") or "").endswith(".999999Z")
    assert when.as_day("2025-10", last=True) == "2025-10-31"


@pytest.mark.parametrize(
    ("ago", "shown"),
    [
        (timedelta(seconds=5), "now"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(hours=3), "3 h ago"),
        (timedelta(hours=20), "Tue 19:30"),
        (timedelta(days=40), "2026-02-06"),
        (timedelta(days=-2), "2026-03-20"),
    ],
)
def test_times_are_shown_as_people_say_them(ago: timedelta, shown: str) -> None:
    assert when.relative(NOW - ago, NOW) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (12_345, "12k"), (999_999, "1.0M"), (3_840_000_000, "3.8G")],
)
def test_large_counts_are_short(number: int, shown: str) -> None:
    assert count(number) == shown


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_never_over_other_output(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Tty()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr("eventstore.cli.progress._AFTER_SECONDS", 0.0)
    monkeypatch.setattr("eventstore.cli.progress._EVERY_SECONDS", 0.0)
    with progress("importing", 2) as bar:
        bar.advance()
        print("one.jsonl  12 lines")  # noqa: T201
        bar.advance()
    text = screen.getvalue()
    assert "1 of 2" in text
    assert "\r\x1b[Kone.jsonl  12 lines\n" in text
    assert text.endswith("\r\x1b[K")
    assert sys.stdout is screen


def test_without_a_terminal_there_is_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("importing", 2) as bar:
        bar.advance()
    assert capsys.readouterr().err == ""
