"""The accelerator: it says the same as Python of all lines, damaged ones too, and nothing needs it."""

import dataclasses
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import MemoryEventLog
from eventstore import events as e
from eventstore.record import accelerator, codec, hash_chain
from eventstore.record.scan import Scan, Tip


def _data() -> bytes:
    log = MemoryEventLog()
    log.append("s", [e.SessionCreated(purpose="p")], expected_version=0)
    for place in range(6):
        log.append(
            "s", [e.MessageAdded(role="user", content=f"é {place}", id=f"k{place}") for _ in range(place % 3 + 1)]
        )
    log.redact("s", [3], "a secret")
    return b"".join(log.chunks("s"))


DATA = _data()
CHANGES = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "drop", "swap", "feed"]), st.integers(0, len(DATA)), st.integers(1, 80)),
    max_size=3,
)


def damaged(changes: list[tuple[str, int, int]]) -> bytes:
    data = DATA
    for what, at, size in changes:
        lines = data.splitlines(keepends=True)
        if what == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ size]) + data[at + 1 :]
        elif what == "cut":
            data = data[:at]
        elif what == "drop":
            data = data[:at] + data[at + size :]
        elif what == "feed":
            data = data[:at] + b"\n" + data[at:]
        elif len(lines) > 1:
            one = at % (len(lines) - 1)
            lines[one], lines[one + 1] = lines[one + 1], lines[one]
            data = b"".join(lines)
    return data


def scanned(data: bytes, chain: accelerator.Chain | None, size: int) -> Scan:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hash_chain, "_chain", chain)
        scan = Scan(Tip(hash_chain.first_hash("s")))
        scan.feed([data[start : start + size] for start in range(0, len(data), size)])
    return scan


@given(changes=CHANGES, size=st.sampled_from([100, 1_000, 1_000_000]))
def test_a_scan_is_the_same_with_and_without(
    built: accelerator.Chain, changes: list[tuple[str, int, int]], size: int
) -> None:
    data = damaged(changes)
    assert dataclasses.asdict(scanned(data, built, size)) == dataclasses.asdict(scanned(data, None, size))


def test_it_counts_the_lines_up_to_the_first_that_does_not_fit(built: accelerator.Chain) -> None:
    first, lines = hash_chain.first_hash("s"), DATA.splitlines()
    assert built.count_fitting(b"\n".join(lines[:2]), first) == 2
    assert built.count_fitting(b"\n".join([lines[0], b"x" * 200, lines[1]]), first) == 1
    assert built.count_fitting(b"", first) == 0
    assert built.count_fitting(b"\n\n", first) == 0
    with pytest.raises(ValueError, match="32 bytes"):
        built.count_fitting(DATA, b"short")


@given(
    content=st.text(st.characters(codec="utf-8"), max_size=40).map(lambda text: text * 200)
    | st.text(st.characters(codec="utf-8")),
    key=st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=9),
    seq=st.integers(1, 2**62),
    batch=st.none() | st.tuples(st.integers(0, 9), st.integers(1, 2**40)),
    previous=st.binary(min_size=32, max_size=32),
)
def test_a_line_is_sealed_the_same_with_and_without(
    built: accelerator.Chain, content: str, key: str | None, seq: int, batch: tuple[int, int] | None, previous: bytes
) -> None:
    piece = codec.prepare(e.MessageAdded(role="user", content=content, id=key))
    at = b"2026-01-02T03:04:05.000006Z"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_chain", built)
        fast = codec.seal(piece, seq, at, batch, previous)
        patch.setattr(codec, "_chain", None)
        assert fast == codec.seal(piece, seq, at, batch, previous)
    line, digest = fast
    assert hash_chain.verify(line[:-1], previous) == digest


def test_what_is_no_line_is_not_sealed(built: accelerator.Chain) -> None:
    piece = (b"{", 1, b"at", b"", None, b"", b"x" * 32)
    with pytest.raises(TypeError, match="7 arguments"):
        built.seal(*piece[:3])  # type: ignore[call-arg]
    for place, other, error in (
        (0, "text", "bytes"),
        (1, "1", "integer"),
        (4, (1,), "2 arguments"),
        (6, b"x", "32 bytes"),
    ):
        wrong = (*piece[:place], other, *piece[place + 1 :])
        with pytest.raises((TypeError, ValueError), match=error):
            built.seal(*wrong)  # type: ignore[arg-type]


def test_one_of_another_release_is_not_used(monkeypatch: pytest.MonkeyPatch, built: accelerator.Chain) -> None:
    monkeypatch.setitem(sys.modules, "eventstore.record._chain", built)
    assert accelerator.load() is built
    monkeypatch.setattr(accelerator, "_FORM", accelerator._FORM + 1)
    assert accelerator.load() is None


def test_where_it_cannot_be_built_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(accelerator, "_SOURCE", tmp_path / "none.c")
    assert accelerator.main() == 1
    assert "Python does its work" in capsys.readouterr().err
