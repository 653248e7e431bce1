"""Counted steps: what got worse is named, and what did not is not."""

import json

from bench import steps, trip

BEFORE = {"append": {"Python calls": 34, "system calls": 8}, "redact": {"Python calls": 4_000, "system calls": 900}}


def test_what_takes_more_steps_is_named_with_both_numbers() -> None:
    now = {"append": {"Python calls": 35, "system calls": 8}, "redact": {"Python calls": 4_010, "system calls": 950}}
    assert steps.worse(BEFORE, now) == [
        "append: 35 Python calls, before 34",
        "redact: 950 system calls, before 900",
    ]
    assert steps.worse(BEFORE, now, calls=False) == ["redact: 950 system calls, before 900"]
    assert steps.worse(BEFORE, BEFORE) == steps.worse({}, now) == []
    assert "| append | 34 -> 35 | 8 |" in steps.table(BEFORE, now)


def test_each_trip_has_kept_counts() -> None:
    assert list(json.loads(steps.KEPT.read_text("utf-8"))["steps"]) == list(trip.TRIPS)


def test_a_trace_gives_calls_and_written_bytes_of_one_thread() -> None:
    trace = "\n".join(
        [
            '7 lstat("/the-trip-begins", 0x1) = -1 ENOENT',
            '7 write(4, "abc"..., 300) = 300',
            '8 write(4, "abc"..., 99) = 99',
            "7 fdatasync(4) = 0",
            '7 lstat("/the-trip-ends", 0x1) = -1 ENOENT',
        ]
    )
    assert trip.parse_trace(trace) == ({"write": 1, "fdatasync": 1}, 300)
