"""Write a store with everything in it, and what it answers: `python tools/golden_store.py FOLDER [--path CHECKOUT]`.

FOLDER, which must not exist, gets `store.tar.xz`, `answers.json.xz` and the files that left the store: an archive, an audit
bundle, signed notes, a key, transcripts. `--path` names the checkout whose code writes. `tests/golden` keeps what each
released version wrote; `tests/test_golden_store.py` opens it with the present code. Nothing here is a real key, person or secret.
"""

import argparse
import json
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any

ROOT = Path(__file__).parents[1]
PACKED = "store.tar.xz"
ANSWERS = "answers.json.xz"
LONG = 1_060
"""Events of the long session: enough for a snapshot."""
KEY = "PRIVATE+KEY+golden.example/store+d8e6cc07+Ae3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t7e3t"
SEARCHES = ["logins", "deploy", '"token leaked"', "quarterly", "git_log", "purposeful", "inherit*", "torn", "nowhere"]
MOMENTS = [1, 3, 7, 12]


# --- the store


@contextmanager
def opened(folder: Path) -> Iterator[Any]:
    """Open the store in a folder. Damaged sessions warn of themselves; here they are expected."""
    from eventstore import FileSystemSessionStorage, SessionManager

    storage = FileSystemSessionStorage(folder / ".sessions", folder / ".history", fsync="no")
    with warnings.catch_warnings(), SessionManager(storage, by={"actor": "golden"}) as manager:
        warnings.simplefilter("ignore")
        yield manager


def log_of(folder: Path, session_id: str) -> Path:
    """Name the file that holds a session's log."""
    return folder / ".sessions" / session_id / "events.jsonl"


def write_everything(manager: Any) -> None:
    """Write a session with every event that sessions can have, through the API where it has a method."""
    from eventstore import events as e

    name = "everything"
    manager.create_session(name, "Find out why logins fail", "ana", ["bug", "login"])
    manager.update_session_metadata(name, tags=["bug", "é ☃"], custom_metadata={"k": [1, 2.5, None, True]})
    manager.add_conversation_message(name, "system", "Be brief.", occurred_at="2026-01-02T03:04:05Z")
    manager.add_conversation_message(name, "user", "Logins fail. What changed?", id="key-1", by={"actor": "ana"})
    with manager.invocation(name, "git_log", {"since": "yesterday"}) as call:
        manager.add_conversation_message(name, "assistant", '{"since": "yesterday"}', "git_log", call.invocation_id)
        call.result = "e41c9d2 touches auth/token.py"
        (call.folder / "kept.txt").write_text("what the tool left\n", encoding="utf-8")
    manager.add_conversation_message(name, "tool", call.result, "git_log", call.invocation_id)
    try:
        with manager.invocation(name, "deploy", {"to": "production"}) as call:
            raise RuntimeError("no permission")
    except RuntimeError:
        manager.add_conversation_message(name, "assistant", "I may not deploy.")
    manager.storage.append(name, [e.ReasoningRecorded(content="Let me think about tokens.")])
    batch = [e.MessageAdded(role="user", content=f"part {n} \N{GRINNING FACE}\u2028\0") for n in range(3)]
    manager.storage.append(name, batch)
    manager.storage.append(name, [e.ForeignRecorded(origin=e.Origin("codex", line_base64="/w=="))])
    manager.storage.append(name, [e.ConversationRewound(to=manager.head(name).version - 2)])
    manager.link_invocation(name, "by-hand", "grep", None, 12.5, success=True)
    manager.link_invocation(name, "not-mine", "grep", "/made/up/folder")
    manager.storage.append(name, [e.InvocationUnlinked(invocation_id="not-mine")])
    manager.record_usage(name, {"input": 2140, "output": 312}, cost=0.0131, model="made-up-1", key="turn-1")
    manager.record_usage(name, {"input": 2140, "output": 400}, cost=0.0150, model="made-up-1", key="turn-1")
    manager.record_usage(name, {"input": 5, "cache_read": 7})
    manager.set_data(name, "culprit", {"commit": "e41c9d2", "deep": [{"x": -1}]})
    manager.set_data(name, "gone", 1)
    manager.delete_data(name, "gone")
    manager.set_data("everything", "n", 2**60, expected_version=manager.head(name).version)
    manager.storage.append(name, [e.SessionAdjusted(total_duration_ms=99.5, estimated_cost=1.25, user_id="ana")])
    manager.complete_session(name, "failed", reason="for now")
    manager.reopen_session(name)
    manager.pin_session(name)
    secret = manager.add_conversation_message(name, "user", "the token leaked: made-up-secret-1")
    manager.add_conversation_message(name, "assistant", "The token leaked? I will rotate it.")
    manager.redactions.redact(name, secret.last, "a secret was said", by={"actor": "dpo"})


def write_branches(manager: Any) -> None:
    """Write forks, forks of forks, a fork whose parent is deleted, templates, and a redaction of what a fork inherits."""
    version = manager.head("everything").version
    manager.fork_session("everything", 9, "fork", tags=["fork"])
    manager.add_conversation_message("fork", "user", "What if we inherit the past?")
    secret = manager.add_conversation_message("fork", "user", "made-up-secret-2").last
    manager.fork_session("fork", None, "fork-of-fork", purpose="deeper")
    manager.add_conversation_message("fork-of-fork", "assistant", "Inheritance is deep.")
    manager.fork_session("fork-of-fork", None, "fork-3")
    manager.set_data("fork-3", "depth", 3)
    manager.fork_session("everything", version, "fork-at-end")
    manager.redactions.redact("fork", secret, "forks hold it too")
    manager.create_session("parent", "will be deleted", "bob")
    manager.add_conversation_message("parent", "user", "Remember me in the quarterly report.")
    manager.fork_session("parent", None, "orphan")
    manager.add_conversation_message("orphan", "assistant", "I do.")
    manager.delete_session("parent")
    manager.templates.save("greeting", "everything", 4)
    manager.create_session("from-template", "purposeful", "bob", template="greeting")
    manager.add_conversation_message("from-template", "user", "Logins work again.")
    manager.templates.save("used-up", "orphan")


def write_redacted(manager: Any) -> None:
    """Write a session with a redacted message, redacted data and a redacted tool call."""
    manager.create_session("redacted", "keep secrets", "eve", ["secret"])
    for n in range(3):
        manager.add_conversation_message(
            "redacted", "user", f"quarterly figures {n}: made-up-secret-{n + 3}", id=f"m{n}"
        )
    manager.set_data("redacted", "password", "made-up-secret-9")
    with manager.invocation("redacted", "login", {"password": "made-up-secret-10"}) as call:
        call.result = "made-up-secret-11"
    manager.record_usage("redacted", {"input": 1}, key="kept")
    manager.add_conversation_message("redacted", "user", "Start over.")
    manager.clear_conversation("redacted")
    manager.set_data("redacted", "short", "lived")
    manager.clear_data("redacted")
    manager.set_data("redacted", "kept", [1])
    manager.redactions.redact("redacted", [3, 5, 7], "figures are not public")


def write_trash(manager: Any) -> None:
    """Write sessions in the trash: one id twice, a restored one, purged ones, one whose id is used again."""
    manager.create_session("purged", "out of the trash for good")
    manager.trash.put("purged")
    manager.cleanup_old_sessions(36_500, 0)
    for name in ("trashed", "back", "deleted", "again"):
        manager.create_session(name, f"to be {name}", "tom", ["trash"])
        manager.add_conversation_message(name, "user", f"I was {name} at the quarterly meeting.")
    for name in ("trashed", "back"):
        manager.trash.put(name)
    manager.trash.restore("back")
    manager.create_session("trashed", "the second of its name", "tom")
    manager.add_conversation_message("trashed", "user", "Second life, made-up-secret-12.")
    manager.trash.put("trashed")
    for name in ("deleted", "again"):
        manager.delete_session(name)
    manager.create_session("again", "the id is used again", "tom")


def write_long(manager: Any) -> None:
    """Write a session that is long enough for a snapshot."""
    from eventstore import events as e

    manager.create_session("long", "many events", "lou")
    for first in range(0, LONG - 1, 50):
        some = range(first, min(first + 50, LONG - 1))
        manager.storage.append("long", [e.UsageRecorded(tokens={"input": n % 7}, key=f"k{n % 90}") for n in some])
    manager.complete_session("long")


def write_torn(folder: Path) -> None:
    """Write a session whose last line was torn, then cut and kept by the next writer."""
    with opened(folder) as manager:
        manager.create_session("repaired", "survives a crash", "rob")
        manager.add_conversation_message("repaired", "user", "Before the torn line.")
    with log_of(folder, "repaired").open("ab") as file:
        file.write(b'{"type":"message.added","seq":3,"at":"2026-')
    with opened(folder) as manager:
        manager.add_conversation_message("repaired", "user", "Behind the torn line.")


def break_logs(folder: Path) -> None:
    """Write a session with damage in its middle, and one with a torn tail that no writer has seen."""
    with opened(folder) as manager:
        for name in ("damaged", "torn"):
            manager.create_session(name, f"a {name} log", "dan")
            for n in range(4):
                manager.add_conversation_message(name, "user", f"torn or damaged {n}")
    path = log_of(folder, "damaged")
    path.write_bytes(path.read_bytes().replace(b"damaged 1", b"damagXd 1"))
    with log_of(folder, "torn").open("ab") as file:
        file.write(b'{"type":"message.added","seq":6')


def import_transcripts(folder: Path, out: Path, checkout: Path) -> None:
    """Import a made-up transcript of each format by the command, as a user does, and keep the files."""
    sys.path.insert(0, str(ROOT / "tests"))
    from transcripts import claude_session, codex_session, lines

    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    for form, made in (("claude-code", claude_session()), ("codex", codex_session())):
        path = out / f"{form}.jsonl"
        path.write_bytes(lines(*made))
        command = [sys.executable, "-m", "eventstore", "import", form, str(path), "--json", "--store", str(folder)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


# --- what left the store, and who follows it


def sign(folder: Path, out: Path) -> None:
    """Sign sessions, and at last the store's own log; keep the notes outside."""
    from eventstore.integrity import SigningKey, parse_note

    key = SigningKey.from_text(KEY)
    (out / "key.txt").write_text(KEY + "\n", encoding="utf-8")
    (out / "verifier-key.txt").write_text(key.verifier_key.to_text() + "\n", encoding="utf-8")
    (out / "notes").mkdir()
    with opened(folder) as manager:
        for name in ("everything", "fork-of-fork", "redacted", "repaired", "_template.greeting", "_store"):
            note = manager.proofs.sign_checkpoint(name, key)
            (out / "notes" / f"{name}-{parse_note(note).checkpoint.size}.note").write_text(note, encoding="utf-8")
        manager.add_conversation_message("everything", "user", "After the first checkpoint.")
        manager.proofs.sign_checkpoint("everything", key)


def follow(folder: Path) -> dict[str, str]:
    """Return cursor texts of followers of one session and of all, and store named ones."""
    texts = {}
    with opened(folder) as manager:
        for session_id in ("everything", "fork-of-fork", "redacted"):
            with manager.follow(session_id, live=False) as follower:
                texts[session_id] = [one.cursor for one in follower][4]
        with manager.follow(live=False) as follower:
            everything = [one.cursor for one in follower]
        texts["all, near the beginning"], texts["all, at the end"] = everything[20], everything[-1]
        for name, of in (("reader-of-one", "everything"), ("reader-of-all", None)):
            with manager.follow(of, live=False, name=name) as follower:
                assert list(follower)
    return texts


def grow(folder: Path) -> None:
    """Append what the cursors have not seen."""
    with opened(folder) as manager:
        for name in ("everything", "redacted", "fork-of-fork", "back"):
            manager.add_conversation_message(name, "user", "Said after the cursors.")
        manager.create_session("newer", "begun after the cursors", "ana")


def leave(folder: Path, out: Path) -> dict[str, Any]:
    """Write an archive, of all sessions but the long one, and an audit bundle; return what its verifier finds."""
    from eventstore.exporters import export_archive, export_audit, verify

    with opened(folder) as manager:
        wanted = [*manager.storage.log.ids(), *(f"_template.{name}" for name in manager.templates.list())]
        archive = export_archive(manager, out / "archive.zip", sorted(set(wanted) - {"long"}))
        ids = ["everything", "fork-of-fork", "redacted", "repaired", "_template.greeting"]
        bundle = export_audit(manager, ids, out / "bundle.zip", include_store=True)
    found = {
        "alone": judge(Path(verify.__file__), out),
        "with notes": judge(Path(verify.__file__), out, "--key", "verifier-key.txt", "--checkpoint", "notes"),
    }
    return {"archive": sorted(archive.sessions), "manifest_sha256": bundle.manifest_sha256, "verifier": found}


def judge(program: Path, out: Path, *options: str) -> list[Any]:
    """Verify the bundle in a folder with a verifier; give its exit status and what it prints as JSON."""
    command = [sys.executable, "-I", "-S", str(program), "bundle.zip", *options, "--json"]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True)
    return [done.returncode, json.loads(done.stdout)]


# --- the answers


def plain(value: Any) -> Any:
    """Return a value in the form of JSON."""
    import msgspec

    return json.loads(msgspec.json.encode(value))


def answers_of(manager: Any, session_id: str) -> dict[str, Any]:
    """Ask all that can be asked of one session."""
    session = manager.get_session(session_id)
    head = manager.head(session_id)
    return {
        "session": session.to_dict(),
        "head": [head.version, head.at, head.hash],
        "statistics": manager.get_session_statistics(session_id),
        "conversation": [one.to_dict() for one in manager.conversation(session_id)],
        "openai": manager.conversation(session_id, format="openai", limit=6),
        "anthropic": manager.conversation(session_id, format="anthropic", tokens=200),
        "data": manager.data(session_id),
        "timeline": [row.to_dict() for row in manager.timeline(session_id)][:80],
        "tree": manager.tree(session_id),
        "lineage": plain(manager.lineage(session_id)),
        "checkpoints": manager.proofs.checkpoints(session_id),
        "events": [[event.seq, event.type, event.at, event.time, event.hash] for event in manager.events(session_id)][
            :80
        ],
        "as of": {str(n): manager.get_session(session_id, n).to_dict() for n in MOMENTS if n <= head.version},
        "changed since 1": plain(manager.diff(session_id, 1))[:80],
    }


def records_of(manager: Any) -> list[dict[str, Any]]:
    """Read the records of all tool calls."""
    found = manager.tool_history.records()
    return sorted(({"folder": path.name, **record.to_dict()} for path, record in found), key=lambda one: one["folder"])


def answers_of_store(manager: Any) -> dict[str, Any]:
    """Ask all that can be asked of a store."""
    from eventstore.integrity import verify_all

    pages = {sort: manager.page_sessions(sort=sort, limit=None).sessions for sort in ("updated", "created", "cost")}
    hits = {text: manager.search(text, limit=100, wait_s=None) for text in SEARCHES}
    return {
        "lists": {sort: [one.session_id for one in found] for sort, found in pages.items()},
        "metadata": {one.session_id: one.to_dict() for one in pages["updated"]},
        "of ana": [one.metadata.session_id for one in manager.list_sessions(user_id="ana")],
        "tagged": [one.metadata.session_id for one in manager.list_sessions(tags=["bug", "trash"])],
        "active": [one.metadata.session_id for one in manager.list_sessions(status="active")],
        "analytics": {
            by: [dict(zip(one._fields, plain(one), strict=True)) for one in manager.analytics(by)]
            for by in ("day", "user", "tag", "tool", "model")
        },
        "search": {
            text: sorted([hit.session_id, hit.seq, hit.role, hit.tool_name, hit.time, hit.snippet] for hit in found)
            for text, found in hits.items()
        },
        "templates": {name: manager.templates.get(name).to_dict() for name in manager.templates.list()},
        "trash": [[one.session_id, one.name, one.since, one.events] for one in manager.trash.list()],
        "records": records_of(manager),
        "compared": plain(manager.compare_branches("fork-3", "everything")),
        "outcomes": {
            one.session_id: [one.outcome, one.events, sorted({(found.part, found.outcome) for found in one.findings})]
            for one in verify_all(manager.storage)
        },
        "salvaged": [[one.line, one.offset_bytes, one.standing] for one in manager.salvage("damaged")],
    }


def rest_of(manager: Any, texts: dict[str, str]) -> dict[str, Any]:
    """Follow on from each cursor to the end: the first and last number of the events by session."""
    found: dict[str, Any] = {}
    for name, text in texts.items():
        session_id = None if name.startswith("all") else name
        with manager.follow(session_id, text, live=False) as follower:
            found[name] = by_session(follower)
    for name, of in (("reader-of-one", "everything"), ("reader-of-all", None)):
        with manager.follow(of, live=False, name=name) as follower:
            found[name] = by_session(follower)
    return found


def by_session(follower: Any) -> dict[str, list[int]]:
    """Return the first and last number of the events by session, after a check that none is missing between them."""
    numbers: dict[str, list[int]] = {}
    for one in follower:
        numbers.setdefault(one.session_id, []).append(one.event.seq)
    for some in numbers.values():
        assert some == list(range(some[0], some[-1] + 1))
    return {name: [some[0], some[-1]] for name, some in sorted(numbers.items())}


def ask(folder: Path, cursors: dict[str, str]) -> dict[str, Any]:
    """Ask a store everything. Followers keep where they are, so ask a copy."""
    with opened(folder) as manager:
        whole = sorted(one for one in manager.storage.log.ids() if one != "damaged")
        return {
            "sessions": {one: answers_of(manager, one) for one in whole},
            "store": answers_of_store(manager),
            "rest": rest_of(manager, cursors),
        }


# --- the files


def pack(folder: Path, path: Path) -> None:
    """Pack a store, links and modes as they are; owners and times are left out."""

    def bare(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(path, "w:xz", preset=9) as tar:
        for one in sorted(folder.iterdir()):
            tar.add(one, one.name, filter=bare)


def unpack(path: Path, folder: Path) -> None:
    """Unpack a store; its files are as new as if they were written now."""
    folder.mkdir()
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter=without_time)  # noqa: S202 - the archive is one of ours


def without_time(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """Leave the time of a file to the moment when it is unpacked, and refuse what would lie outside the folder."""
    return tarfile.tar_filter(member, folder).replace(mtime=None, deep=False)  # type: ignore[arg-type]


def write(out: Path, checkout: Path) -> None:
    """Write the store, its answers, and what left it."""
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "store"
        with opened(folder) as manager:
            write_everything(manager)
            write_branches(manager)
            write_redacted(manager)
            write_trash(manager)
            write_long(manager)
        write_torn(folder)
        import_transcripts(folder, out, checkout)
        sign(folder, out)
        left = leave(folder, out)
        cursors = follow(folder)
        grow(folder)
        break_logs(folder)
        with opened(folder) as manager:
            manager.page_sessions()
            manager.search("logins")
            manager.analytics("day")
            manager.flush()
        pack(folder, out / PACKED)
        copy = Path(made) / "copy"
        copytree(folder, copy, symlinks=True)
        answers = {"left": left, "cursors": cursors, **ask(copy, cursors)}
    with lzma.open(out / ANSWERS, "wt", encoding="utf-8", preset=9) as file:
        json.dump(answers, file, ensure_ascii=False, sort_keys=True, indent=1)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to write; must not exist")
    parser.add_argument("--path", type=Path, default=ROOT, metavar="CHECKOUT", help="the checkout whose code writes")
    asked = parser.parse_args()
    checkout = asked.path.resolve()
    sys.path.insert(0, str(checkout))
    write(asked.folder, checkout)
    for one in sorted(asked.folder.rglob("*")):
        print(f"{one.stat().st_size:>8} {one.relative_to(asked.folder)}")


if __name__ == "__main__":
    main()
