"""The transcript formats that can be imported, by name."""

from eventstore.importers import claude_code, codex
from eventstore.importers.transcript import Format

FORMATS = {
    one.name: one
    for one in (
        Format(
            claude_code.FORMAT,
            claude_code.HOME,
            claude_code.PATTERN,
            claude_code.session_id_of,
            claude_code.ClaudeCode,
        ),
        Format(codex.FORMAT, codex.HOME, codex.PATTERN, codex.session_id_of, codex.Codex),
    )
}
