"""One response, one session, one count: history that agents copy is imported once, whatever the order of imports."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transcripts import claude, lines, second

from eventstore import MemorySessionStorage, SessionManager, SessionStorage
from eventstore.exporters.transcript import export_transcript
from eventstore.importers import Imported
from eventstore.importers.formats import FORMATS
from eventstore.importers.transcript import import_transcript


def take(storage: SessionStorage, path: Path, form: str = "claude-code") -> Imported:
    return import_transcript(storage, FORMATS[form], path)


def write(folder: Path, name: str, *objects: Any) -> Path:
    path = folder / f"{name}.jsonl"
    path.write_bytes(lines(*objects))
    return path


# --- Codex


def rollout(name: str, *, at: float = 0, meta: dict[str, Any] | None = None, cwd: str = "/app") -> dict[str, Any]:
    payload = {"id": name, "cwd": cwd, "cli_version": "0.150.0", "originator": "made_up", **(meta or {})}
    return {"timestamp": second(at), "type": "session_meta", "payload": payload}


def said(role: str, text: str, at: float) -> dict[str, Any]:
    part = {"type": "output_text" if role == "assistant" else "input_text", "text": text}
    return {
        "timestamp": second(at),
        "type": "response_item",
        "payload": {"type": "message", "role": role, "content": [part]},
    }


def counted(total: tuple[int, int, int, int], last: tuple[int, int, int, int], at: float) -> dict[str, Any]:
    names = "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens"
    info = {
        "total_token_usage": dict(zip(names, total, strict=True)),
        "last_token_usage": dict(zip(names, last, strict=True)),
    }
    return {"timestamp": second(at), "type": "event_msg", "payload": {"type": "token_count", "info": info}}


PARENT = "0199aaaa-0000-7000-8000-0000000000aa"
CHILD = "0199aaaa-0000-7000-8000-0000000000bb"
OTHER = "0199aaaa-0000-7000-8000-0000000000cc"


def parent_lines(at: float = 0) -> list[dict[str, Any]]:
    return [
        said("user", "plan the trip", at + 1),
        said("assistant", "by train", at + 2),
        counted((500, 100, 60, 20), (500, 100, 60, 20), at + 3),
    ]


def child_file(folder: Path, name: str = CHILD, asks: str = "book the hotel", cwd: str = "/child") -> Path:
    meta = {"forked_from_id": PARENT, "git": {"branch": "side"}}
    copied = [{**one, "timestamp": second(30)} for one in parent_lines()]
    own = [said("user", asks, 40), said("assistant", "done", 41), counted((900, 100, 80, 20), (400, 0, 20, 0), 42)]
    return write(
        folder, f"rollout-{name}", rollout(name, at=30, meta=meta, cwd=cwd), rollout(PARENT, at=30), *copied, *own
    )


def parent_file(folder: Path, *more: dict[str, Any]) -> Path:
    return write(folder, f"rollout-{PARENT}", rollout(PARENT, meta={"git": {"branch": "main"}}), *parent_lines(), *more)


def tokens(storage: SessionStorage) -> tuple[int, int]:
    """Return the tokens and messages of the whole store."""
    rows = SessionManager(storage).analytics("model")
    return sum(row.tokens for row in rows), sum(row.messages for row in rows)


def test_a_report_of_the_same_total_adds_nothing_and_kinds_do_not_overlap(
    storage: SessionStorage, tmp_path: Path
) -> None:
    again = counted((500, 100, 60, 20), (500, 100, 60, 20), 4)
    reset = counted((30, 10, 5, 0), (30, 10, 5, 0), 6)
    path = parent_file(tmp_path, again, again, counted((700, 200, 90, 20), (200, 100, 30, 0), 5), reset)
    take(storage, path, "codex")
    assert storage.metadata(PARENT).token_usage == {"input": 520, "cache_read": 210, "output": 75, "reasoning": 20}
    assert tokens(storage)[0] == 700 + 90 + 30 + 5


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_forked_rollouts_count_their_parent_once_in_any_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    files = [parent_file(tmp_path), child_file(tmp_path), child_file(tmp_path, OTHER, "call the airport", "/other")]
    with MemorySessionStorage() as storage:
        for index in (*order, *order):
            take(storage, files[index], "codex")
        assert tokens(storage) == (560 + 420 + 420, 6)
        for path in files:
            name = path.stem.removeprefix("rollout-")
            assert b"".join(export_transcript(storage, name, "codex")) == path.read_bytes()
        known = {name: storage.metadata(name) for name in (PARENT, CHILD, OTHER)}
        assert [one.purpose for one in known.values()] == ["plan the trip", "book the hotel", "call the airport"]
        assert [one.custom_metadata["cwd"] for one in known.values()] == ["/app", "/child", "/other"]
        assert [one.custom_metadata["git_branch"] for one in known.values()] == ["main", "side", "side"]
        assert [one.custom_metadata.get("forked_from") for one in known.values()] == [None, PARENT, PARENT]
        texts = [[one.content for one in storage.fold(name).conversation.messages] for name in known]
        assert texts[0] == ["plan the trip", "by train"]
        assert texts[1] == [*texts[0], "book the hotel", "done"]
        assert texts[2] == [*texts[0], "call the airport", "done"]


def test_siblings_of_a_parent_that_is_not_there_share_its_history(storage: SessionStorage, tmp_path: Path) -> None:
    take(storage, child_file(tmp_path), "codex")
    take(storage, child_file(tmp_path, OTHER, "call the airport"), "codex")
    assert tokens(storage) == (560 + 420 + 420, 6)


def test_rollouts_that_do_not_name_each_other_are_not_copies(storage: SessionStorage, tmp_path: Path) -> None:
    for name in (PARENT, OTHER):
        take(storage, write(tmp_path, f"rollout-{name}", rollout(name), *parent_lines()), "codex")
    assert tokens(storage) == (2 * 560, 4)


# --- Claude Code


def turn(number: int, text: str, uuid: str = "", parent: str | None = None, **more: Any) -> list[dict[str, Any]]:
    """Make a prompt and a response of two lines, whose usage grows."""
    used = {"input_tokens": 3, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 7}
    response = {"m_id": f"msg{number}{uuid}", "m_model": "made-up", "requestId": f"req{number}{uuid}", **more}
    ids = [f"{kind}{number}{uuid}" for kind in ("u", "a", "b")]
    return [
        claude("user", ids[0], parent, 10 * number, f"{text}?", **more),
        claude("assistant", ids[1], ids[0], 10 * number + 1, [{"type": "text", "text": f"{text}, well"}],
               m_usage={**used, "output_tokens": 1}, **response),
        claude("assistant", ids[2], ids[1], 10 * number + 2, [{"type": "text", "text": f"{text}."}],
               m_usage={**used, "output_tokens": 20}, **response),
    ]  # fmt: skip


def copy_of(copied: list[dict[str, Any]], name: str, source: str | None = None) -> list[dict[str, Any]]:
    told = {"forkedFrom": {"sessionId": source, "messageUuid": "x"}} if source else {}
    return [{**one, "sessionId": name, **told} for one in copied]


@pytest.mark.parametrize("source", ["one", None])
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_forked_and_resumed_transcripts_count_once_in_any_order(
    tmp_path: Path, order: tuple[int, ...], source: str | None
) -> None:
    first = turn(1, "first") + turn(2, "second", parent="b1")
    end = [{"type": "custom-title", "customTitle": "the end", "sessionId": "one"}]
    files = [
        write(tmp_path, "one", *first, *turn(3, "third", parent="b2"), *end),
        write(tmp_path, "two", *copy_of(first, "two", source), *turn(3, "other", "x", "b2")),
        write(tmp_path, "three", *copy_of(first[:3], "three", source), *turn(4, "last", "y", "b1")),
    ]
    with MemorySessionStorage() as storage:
        for index in (*order, *order):
            take(storage, files[index])
        manager = SessionManager(storage)
        assert tokens(storage) == (5 * 130, 15)
        texts = {path.stem: [one.content for one in storage.fold(path.stem).conversation.messages] for path in files}
        assert [text for text in texts["two"] if text.endswith("?")] == ["first?", "second?", "other?"]
        assert [text for text in texts["three"] if text.endswith("?")] == ["first?", "last?"]
        assert [len(one) for one in texts.values()] == [9, 9, 6]
        assert len(manager.search("second")) == 3  # the prompt and the response of one session
        for path in files:
            assert b"".join(export_transcript(storage, path.stem, "claude-code")) == path.read_bytes()
            assert storage.metadata(path.stem).custom_metadata.get("forked_from") == (
                source if path.stem != "one" else None
            )
        assert storage.metadata("one").purpose == "the end"
        assert storage.metadata("two").token_usage == {"input": 9, "cache_read": 300, "cache_write": 21, "output": 60}


def test_a_copy_of_a_part_of_a_conversation_has_only_that_part(storage: SessionStorage, tmp_path: Path) -> None:
    first = turn(1, "first") + turn(2, "second", parent="b1")
    take(storage, write(tmp_path, "one", *first))
    take(storage, write(tmp_path, "two", *copy_of(first[3:], "two"), *turn(3, "third", "x", "b2")))
    texts = [one.content for one in storage.fold("two").conversation.messages]
    assert texts == ["second?", "second, well", "second.", "third?", "third, well", "third."]
    assert tokens(storage) == (3 * 130, 9)


def test_a_copied_prompt_that_is_edited_takes_the_conversation_back(storage: SessionStorage, tmp_path: Path) -> None:
    first = turn(1, "first") + turn(2, "second", parent="b1")
    take(storage, write(tmp_path, "one", *first))
    take(storage, write(tmp_path, "two", *copy_of(first, "two"), *turn(3, "instead", "x", "b1")))
    texts = [one.content for one in storage.fold("two").conversation.messages if one.role == "user"]
    assert texts == ["first?", "instead?"]


def test_no_history_is_a_fork_of_one_that_withdrew_a_part_of_it(storage: SessionStorage, tmp_path: Path) -> None:
    """Another file copied the middle only, and came first."""
    first, second = turn(1, "first"), turn(2, "second", parent="b1")
    take(storage, write(tmp_path, "one", *first))
    take(storage, write(tmp_path, "middle", *copy_of((first + second)[1:4], "middle", "one")))
    take(storage, write(tmp_path, "two", *copy_of(first, "two", "one"), *second))
    texts = [one.content for one in storage.fold("two").conversation.messages]
    assert texts == ["first?", "first, well", "first.", "second?", "second, well", "second."]
    assert tokens(storage) == (2 * 130, 6)


# --- any history, cut, copied, resumed and interleaved at random


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[list[dict[str, Any]]], list[int]]:
    """Draw the lines of some files that go on from each other, and an order of imports, with repetitions."""
    files: list[list[dict[str, Any]]] = [turn(1, "t1")]
    number = 2
    for index in range(1, draw(st.integers(1, 4)) + 1):
        kind = draw(st.sampled_from(["fork", "fork", "middle", "mixed"]))
        source = draw(st.sampled_from(files))
        cut = draw(st.integers(1, len(source)))
        start = draw(st.integers(0, cut - 1)) if kind == "middle" else 0
        own = []
        for _ in range(draw(st.integers(0, 2))):
            own += turn(number, f"t{number}")
            number += 1
        copied = copy_of(source[start:cut], f"f{index}", draw(st.sampled_from(["f0", None])))
        if kind == "mixed" and own:
            place = draw(st.integers(0, len(copied)))
            files.append(copied[:place] + own + copied[place:])
        else:
            files.append(copied + own)
        if draw(st.booleans()):
            files[draw(st.integers(0, index))] += turn(number, f"t{number}")
            number += 1
    order = draw(st.lists(st.integers(0, len(files) - 1), max_size=4)) + draw(st.permutations(range(len(files))))
    return files, order


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_a_response_whose_lines_are_in_copies_of_different_parts_counts_once(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    """One copy has its first line, another its last one with more tokens; the whole file may come at any time."""
    used = {"input_tokens": 3, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 7}
    response: dict[str, Any] = {"m_id": "msg1", "m_model": "made-up", "requestId": "req1"}
    asked = claude("user", "u1", None, 10, "t1?")
    first = claude("assistant", "a1", "u1", 11, "t1, well", m_usage={**used, "output_tokens": 1}, **response)
    last = claude("assistant", "b1", "a1", 12, "t1.", m_usage={**used, "output_tokens": 20}, **response)
    origin = {"forkedFrom": {"sessionId": "one", "messageUuid": "x"}}
    files = [[asked, first, last], [asked | origin, first | origin], [last | origin]]
    with MemorySessionStorage() as storage:
        for index in order:
            take(storage, write(tmp_path, f"f{index}", *files[index]))
        assert tokens(storage) == (130, 3)


@given(histories(), st.randoms(use_true_random=False))
def test_totals_are_those_of_the_history_whatever_was_copied_and_imported(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[list[list[dict[str, Any]]], list[int]], random: Any
) -> None:
    files, order = drawn
    folder = tmp_path_factory.mktemp("copies")
    original = {one["uuid"]: one for file in files for one in file}
    most: dict[str, int] = {}
    for one in original.values():
        if "id" in one["message"]:
            name, used = one["message"]["id"], one["message"]["usage"]
            most[name] = max(most.get(name, 0), sum(used.values()))
    with MemorySessionStorage() as storage:
        for index in order:
            path = write(folder, f"f{index}", *files[index])
            if random.random() < 0.3:  # the file as it was before it grew
                whole = path.read_bytes()
                path.write_bytes(b"".join(whole.splitlines(keepends=True)[: random.randint(1, len(files[index]))]))
                take(storage, path)
                path.write_bytes(whole)
            take(storage, path)
        assert tokens(storage) == (sum(most.values()), len(original))
        for index, file in enumerate(files):
            assert b"".join(export_transcript(storage, f"f{index}", "claude-code")) == lines(*file)
            contents = [one["message"]["content"] for one in {x["uuid"]: x for x in file}.values()]
            texts = [one if isinstance(one, str) else one[0]["text"] for one in contents]
            assert sorted(one.content for one in storage.fold(f"f{index}").conversation.messages) == sorted(texts)


def test_a_prompt_that_waited_for_a_copied_result_is_no_copy(storage: SessionStorage, tmp_path: Path) -> None:
    asked = claude("user", "u0", None, 0, "start the build")
    called = claude("assistant", "u1", "u0", 1, [{"type": "tool_use", "id": "c", "name": "Bash", "input": {}}])
    answered = claude("user", "u2", "u1", 4, [{"type": "tool_result", "tool_use_id": "c", "content": "ok"}])
    typed = {"type": "queue-operation", "operation": "enqueue", "timestamp": second(2), "content": "use the flag"}
    given = {**typed, "operation": "remove", "timestamp": second(3), "reason": "absorbed_mid_turn"}
    take(storage, write(tmp_path, "one", asked, called, answered))
    take(storage, write(tmp_path, "two", asked, called, typed, given, answered))
    assert [hit.session_id for hit in SessionManager(storage).search("flag", wait_s=None)] == ["two"]
    assert tokens(storage)[1] == 4
    state = storage.fold("two")
    assert [one.content for one in state.conversation.messages] == ["start the build", "{}", "ok", "use the flag"]
