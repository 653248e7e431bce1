"""The folders in which agents keep their transcripts, and the files next to them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eventstore.importers.meaning import decode

_MOST_BYTES = 64 * 1024 * 1024  # of a file next to a transcript: larger ones are not read


def claude_homes() -> list[Path]:
    """Return the folders of Claude Code's projects: those that CLAUDE_CONFIG_DIR names, else the usual ones."""
    named = [one.strip() for one in os.environ.get("CLAUDE_CONFIG_DIR", "").split(",") if one.strip()]
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return [Path(one, "projects").expanduser() for one in named or ("~/.claude", f"{config}/claude")]


def codex_homes() -> list[Path]:
    """Return the folders of Codex's rollouts, those in the archive too: below CODEX_HOME, else ~/.codex."""
    home = Path(os.environ.get("CODEX_HOME") or "~/.codex").expanduser()
    return [home / "sessions", home / "archived_sessions"]


def is_journal(path: Path) -> bool:
    """Return whether a file of Claude Code's folders is the journal of a workflow: that is not a session."""
    return path.name == "journal.jsonl" and "subagents" in path.parts


def claude_beside(path: Path) -> Mapping[str, Any]:
    """Return the content of the file next to a sub-agent's transcript: its kind, and the call that started it."""
    found = decode(read_beside(path.with_suffix(".meta.json")) or b"") if path.stem.startswith("agent-") else None
    names = {"agentType": "agent_type", "toolUseId": "parent_call", "description": "agent_task"}
    known = {name: found.get(key) for key, name in names.items()} if found is not None else {}
    return {name: value for name, value in known.items() if isinstance(value, str) and value}


def read_beside(path: Path) -> bytes | None:
    """Return the content of a regular file of bounded size, or None."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        return path.read_bytes()
    except OSError:
        return None


def saved_output(path: Path, name: str) -> str | None:
    """Return the full output of a call, which Claude Code saved in the folder `tool-results` of a transcript."""
    folder = path.with_suffix("") / "tool-results"
    found = read_beside(folder / Path(name).name)
    return None if found is None else found.decode("utf-8", "replace")
