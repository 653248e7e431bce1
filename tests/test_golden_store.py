"""Stores that released versions wrote give the same answers for ever, and can be used further."""

import json
import lzma
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import golden_store
import pytest
from golden_store import opened

from eventstore import LogDamaged, SessionExists
from eventstore.exporters import verify
from eventstore.importers import import_archive
from eventstore.integrity import SigningKey, VerifierKey, parse_note, verify_all, verify_consistency, verify_session

STORES = sorted((Path(__file__).parent / "golden").glob("store-*"))
SAID = "Said by a later version."


class Golden(NamedTuple):
    """A copy of a store that a released version wrote, what came with it, and what that version answered."""

    folder: Path
    came_with: Path
    answers: dict[str, Any]

    @property
    def outcomes(self) -> dict[str, str]:
        return {name: outcome for name, (outcome, *_) in self.answers["store"]["outcomes"].items()}

    def notes(self) -> dict[str, str]:
        found = sorted((self.came_with / "notes").iterdir())
        return {path.stem.rpartition("-")[0]: path.read_text("utf-8") for path in found}


@pytest.fixture(params=STORES, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Golden:
    came_with = Path(request.param)
    golden_store.unpack(came_with / golden_store.PACKED, tmp_path / "store")
    answers = json.loads(lzma.decompress((came_with / golden_store.ANSWERS).read_bytes()))
    return Golden(tmp_path / "store", came_with, answers)


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Name what was answered and is not any more; new keys of objects are no difference."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            if key in new:
                yield from differences(value, new[key], f"{where} > {key}")
            else:
                yield f"{where} > {key}: was {value!r:.200}, is gone"
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for n, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{where} > {n}")
    elif old != new:
        yield f"{where}: was {old!r:.200}, is {new!r:.200}"


CODEX = "0199aaaa-0000-7000-8000-00000000c0de"
KINDS = ("input", "output", "cache_read", "reasoning", "tokens", "input_tokens", "output_tokens")


def is_corrected(golden: Golden, difference: str) -> bool:
    """Tell whether an answer of 0.1.0 was wrong: it counted the cached tokens of Codex, and repeated reports, twice."""
    where, _, _ = difference.partition(":")
    is_token = where.rpartition(" > ")[2] in KINDS
    return golden.came_with.name == "store-0.1.0" and is_token and (CODEX in where or "analytics" in where)


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def logs(folder: Path) -> dict[str, str]:
    found = sorted(folder.rglob("events.jsonl"))
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in found}


def outcomes(manager: Any) -> dict[str, str]:
    return {one.session_id: one.outcome for one in verify_all(manager.storage)}


def test_there_is_a_store_of_a_released_version() -> None:
    assert STORES


def test_every_question_has_the_answer_that_it_had(golden: Golden) -> None:
    before = logs(golden.folder)
    found = golden_store.ask(golden.folder, golden.answers["cursors"])
    changed = differences(golden.answers, {**golden.answers, **as_json(found)})
    assert [one for one in changed if not is_corrected(golden, one)] == []
    assert logs(golden.folder) == before


def test_every_session_can_be_appended_to(golden: Golden) -> None:
    with opened(golden.folder) as manager:
        for name, answers in golden.answers["sessions"].items():
            done = manager.add_conversation_message(name, "user", SAID)
            repaired = name == "torn"
            assert done.last == answers["head"][0] + 1 + repaired
            said = [one.to_dict() for one in manager.get_session(name).conversation]
            assert said[:-1] == answers["session"]["conversation"]
            assert said[-1]["content"] == SAID
        with pytest.raises(LogDamaged):
            manager.add_conversation_message("damaged", "user", SAID)
        assert [hit.session_id for hit in manager.search(f'"{SAID}"', limit=100, role="user")]
        assert outcomes(manager) == {**golden.outcomes, "torn": "whole"}


def test_an_append_that_is_repeated_with_its_key_writes_nothing(golden: Golden) -> None:
    with opened(golden.folder) as manager:
        done = manager.add_conversation_message("everything", "user", "Logins fail. What changed?", id="key-1")
        assert (done.last, done.repeated) == (4, True)


def test_every_session_can_be_forked_at_its_end_and_in_its_past(golden: Golden) -> None:
    with opened(golden.folder) as manager:
        for name, answers in golden.answers["sessions"].items():
            fork = manager.fork_session(name)
            assert manager.get_session(fork).to_dict()["conversation"] == answers["session"]["conversation"]
            assert manager.data(manager.fork_session(name, 1)) == answers["as of"]["1"]["data"]
        assert [name for name, one in outcomes(manager).items() if one != "whole"] == ["damaged", "torn"]


def test_what_forks_inherit_can_be_redacted(golden: Golden) -> None:
    secret = "Logins fail. What changed?"
    with opened(golden.folder) as manager:
        holders = [name for name, one in golden.answers["sessions"].items() if secret in str(one["conversation"])]
        assert {"everything", "fork", "fork-of-fork", "fork-3", "fork-at-end", "from-template"} <= set(holders)
        for name in ("everything", "from-template"):
            manager.redactions.redact(name, 4, "it was said by mistake")
        for name in holders:
            if name not in ("claude-code", "0199aaaa-0000-7000-8000-00000000c0de"):
                assert secret not in str(manager.get_session(name).to_dict())
        assert outcomes(manager) == golden.outcomes
    left = [path for path in golden.folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert left == []


def test_sessions_come_back_out_of_the_trash(golden: Golden) -> None:
    with opened(golden.folder) as manager:
        manager.trash.restore("trashed")
        assert manager.get_session("trashed").metadata.purpose == "the second of its name"
        with pytest.raises(SessionExists):
            manager.trash.restore("trashed")
        manager.delete_session("trashed")
        manager.trash.restore("trashed")
        assert manager.get_session("trashed").metadata.purpose == "to be trashed"
        assert manager.trash.list() == []
        assert manager.create_session("deleted").metadata.session_id == "deleted"
        (event,) = manager.events("deleted")
        assert event.used_before
        assert outcomes(manager) == {**golden.outcomes, "trashed": "whole", "deleted": "whole"}


def test_followers_go_on_with_exactly_the_rest_and_with_what_comes_then(golden: Golden) -> None:
    with opened(golden.folder) as manager:
        manager.add_conversation_message("everything", "user", SAID)
        manager.add_conversation_message("again", "user", SAID)
        found = golden_store.rest_of(manager, golden.answers["cursors"])
        again = golden_store.rest_of(manager, {})
    for name, old in golden.answers["rest"].items():
        expected = dict(old)
        if "everything" in old:
            expected["everything"] = [old["everything"][0], old["everything"][1] + 1]
        if name in ("all, near the beginning", "all, at the end", "reader-of-all"):
            expected["again"] = [2, 2]
        assert found[name] == expected, name
    assert again["reader-of-one"] == {}


def test_templates_begin_sessions(golden: Golden) -> None:
    with opened(golden.folder) as manager:
        for name, answers in golden.answers["store"]["templates"].items():
            session = manager.create_session(template=name)
            assert [one.to_dict() for one in session.conversation] == answers["conversation"]


def test_the_same_key_signs_on_and_the_kept_notes_hold(golden: Golden) -> None:
    key = SigningKey.from_text((golden.came_with / "key.txt").read_text("utf-8"))
    trusted = VerifierKey.from_text((golden.came_with / "verifier-key.txt").read_text("utf-8"))
    with opened(golden.folder) as manager:
        for name, text in golden.notes().items():
            old = parse_note(text).checkpoint
            verdict = verify_session(manager.storage, name, keys=[trusted], anchors=[text])
            assert verdict.findings == ()
            assert verdict.anchored_to == old.size
            new = parse_note(manager.proofs.sign_checkpoint(name, key)).checkpoint
            proof = manager.proofs.prove_consistency(name, old.size, new.size)
            assert verify_consistency(old.size, new.size, old.root, new.root, proof.hashes)
            last = manager.proofs.checkpoints(name)
            assert verify_session(manager.storage, name, keys=[trusted], anchors=last).is_whole


def test_the_archive_can_be_imported_into_an_empty_store(golden: Golden, tmp_path: Path) -> None:
    with opened(tmp_path / "new") as manager:
        import_archive(manager, golden.came_with / "archive.zip")
        for name in golden.answers["left"]["archive"]:
            if name.startswith("_template."):
                assert manager.templates.get(name.removeprefix("_template.")).metadata.session_id
                continue
            events = [[one.seq, one.type, one.at, one.time, one.hash] for one in manager.events(name)][:80]
            assert events == golden.answers["sessions"][name]["events"][: len(events)]
            assert events
        assert set(outcomes(manager).values()) == {"whole"}
        names = {one["folder"] for one in golden.answers["store"]["records"]}
        assert {one["folder"] for one in golden_store.records_of(manager)} == names


def test_an_archive_brings_nothing_new_to_the_store_that_it_came_from(golden: Golden, tmp_path: Path) -> None:
    before = logs(golden.folder)
    with opened(golden.folder) as manager:
        import_archive(manager, golden.came_with / "archive.zip")
    assert logs(golden.folder) == before


@pytest.mark.parametrize("program", ["its own", "the present"])
def test_the_bundle_is_verified_alone_and_against_the_kept_notes(golden: Golden, program: str, tmp_path: Path) -> None:
    path = Path(verify.__file__)
    if program == "its own":
        with zipfile.ZipFile(golden.came_with / "bundle.zip") as bundle:
            path = Path(bundle.extract("verify.py", tmp_path))
    with_notes = ("--key", "verifier-key.txt", "--checkpoint", "notes")
    found = {
        "alone": golden_store.judge(path, golden.came_with),
        "with notes": golden_store.judge(path, golden.came_with, *with_notes),
    }
    wanted = golden.answers["left"]["verifier"]
    for _, answer in [*wanted.values(), *found.values()]:
        del answer["limits"]  # sentences for people
    assert list(differences(wanted, found)) == []


@pytest.mark.parametrize("form", ["claude-code", "codex"])
def test_an_imported_transcript_is_known_again_and_given_back(golden: Golden, form: str, tmp_path: Path) -> None:
    path = golden.came_with / f"{form}.jsonl"
    command = [sys.executable, "-m", "eventstore"]
    store = ["--store", str(golden.folder)]
    again = [*command, "import", form, str(path), "--json", *store]
    first, second = (
        json.loads(subprocess.run(again, check=True, capture_output=True, timeout=60).stdout) for _ in range(2)
    )
    assert first["events"] <= 1  # 0.1.0 did not record how a session ended
    assert second["events"] == 0
    back = [*command, "export", form, first["session_id"], *store]
    assert subprocess.run(back, check=True, capture_output=True, timeout=60).stdout == path.read_bytes()


def test_the_present_code_writes_and_answers_a_store_of_its_own(tmp_path: Path) -> None:
    golden_store.write(tmp_path / "made", golden_store.ROOT)
    assert (tmp_path / "made" / golden_store.ANSWERS).exists()
