"""The transcript formats that can be imported, by name."""

from eventstore.importers import claude_code, codex, copilot, gemini, homes, opencode, pi, qwen
from eventstore.importers.identity import ClaudeIdentity, CodexIdentity
from eventstore.importers.plain import PlainIdentity
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
            ClaudeIdentity,
            homes=homes.claude_homes,
            skipped=homes.is_journal,
            beside=homes.claude_beside,
            attach=claude_code.attach,
        ),
        Format(
            codex.FORMAT,
            codex.HOME,
            codex.PATTERN,
            codex.session_id_of,
            codex.Codex,
            CodexIdentity,
            homes=homes.codex_homes,
            patterns=(codex.PATTERN, f"{codex.PATTERN}.zst"),
        ),
        Format(copilot.FORMAT, copilot.HOME, copilot.PATTERN, copilot.session_id_of, copilot.Copilot, PlainIdentity),
        Format(gemini.FORMAT, gemini.HOME, gemini.PATTERN, gemini.session_id_of, gemini.Gemini, PlainIdentity),
        Format(
            opencode.FORMAT, opencode.HOME, opencode.PATTERN, opencode.session_id_of, opencode.OpenCode, PlainIdentity
        ),
        Format(pi.FORMAT, pi.HOME, pi.PATTERN, pi.session_id_of, pi.Pi, PlainIdentity),
        Format(qwen.FORMAT, qwen.HOME, qwen.PATTERN, qwen.session_id_of, qwen.Qwen, PlainIdentity),
    )
}
