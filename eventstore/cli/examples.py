"""Two examples for each command, as its help shows them. The tests run every one."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

EXAMPLES = {
    "analytics": ("eventstore analytics --by month", "eventstore analytics --by project --since 30d"),
    "audit export": ("eventstore audit export latest -o bundle.zip", "eventstore audit export --all -o all.zip"),
    "audit report": ("eventstore audit report latest -o report.html", "eventstore audit report latest"),
    "browse": ("eventstore browse", "eventstore browse latest"),
    "checkpoint": (
        "eventstore checkpoint --all --store-log --key audit.key --out notes",
        "eventstore checkpoint latest --key audit.key",
    ),
    "cleanup": ("eventstore cleanup --dry-run", "eventstore cleanup --days 90 --yes"),
    "compare": ("eventstore compare demo latest", "eventstore compare demo latest --json"),
    "completion": ("source <(eventstore completion bash)", "eventstore completion fish"),
    "copy": ("eventstore copy --from . --to backup", "eventstore copy demo --from . --to backup --json"),
    "create": ("eventstore create --purpose 'Find out why logins fail'", "eventstore create retry --tag bug"),
    "delete": ("eventstore delete demo", "eventstore delete demo --yes"),
    "demo": ("eventstore demo", "eventstore demo | less"),
    "diff": ("eventstore diff latest 5", "eventstore diff latest 2 10 --json"),
    "doctor": ("eventstore doctor", "eventstore doctor --json"),
    "export": ("eventstore export markdown latest", "eventstore export csv latest --table calls -o calls.csv"),
    "follow": ("eventstore follow --all", "eventstore follow latest --lines 5 --no-wait"),
    "fork": ("eventstore fork latest", "eventstore fork demo:5 other-way"),
    "import": ("eventstore import claude-code", "eventstore import codex ~/old/sessions"),
    "keygen": ("eventstore keygen example.com/sessions -o sessions.key", "eventstore keygen my-host"),
    "lineage": ("eventstore lineage latest", "eventstore lineage latest --json"),
    "list": ("eventstore list --project shop --since 7d", "eventstore list --json --limit 5"),
    "mcp": ("eventstore mcp", "eventstore mcp --write --http 127.0.0.1:8000"),
    "mirror": ("eventstore mirror . mirrored --once", "eventstore mirror postgresql://db.example.com/agents mirrored"),
    "pin": ("eventstore pin latest", "eventstore pin demo --remove"),
    "prove": ("eventstore prove demo --event 3", "eventstore prove demo --since 5 --json"),
    "rebuild": ("eventstore rebuild --check", "eventstore rebuild"),
    "recover": ("eventstore recover", "eventstore recover --silent-hours 2"),
    "redact": (
        "eventstore redact --all --secrets",
        "eventstore redact demo --event 4 --reason 'asked for by ana' --yes",
    ),
    "repair": ("eventstore repair --all", "eventstore repair demo --yes"),
    "replay": ("eventstore replay latest --quiet", "eventstore replay latest --speed 20 --max-wait 1"),
    "restore": ("eventstore restore gone", "eventstore trash && eventstore restore gone"),
    "search": ("eventstore search logins fail", "eventstore search '\"logins fail\"' --role user --since 2026"),
    "serve": ("eventstore serve --open", "eventstore serve --port 0 --json"),
    "show": ("eventstore show latest", "eventstore show demo:3 -C 2"),
    "stats": ("eventstore stats latest", "eventstore stats demo --at 5"),
    "template list": ("eventstore template list", "eventstore template list --json"),
    "template remove": (
        "eventstore template remove start",
        "eventstore template list && eventstore template remove start",
    ),
    "template save": ("eventstore template save opening latest", "eventstore template save begun demo:4"),
    "template show": ("eventstore template show start", "eventstore template show start --json"),
    "trash": ("eventstore trash", "eventstore trash demo"),
    "tree": ("eventstore tree latest", "eventstore tree demo --at 8"),
    "verify": ("eventstore verify --all", "eventstore verify latest --json"),
    "where": ("eventstore where", "eventstore where --json"),
}


def add_examples(name: str, command: "click.Command") -> None:
    """Add the examples after the help of a command, and of its subcommands."""
    for inner, each in getattr(command, "commands", {}).items():
        add_examples(f"{name} {inner}", each)
    if name in EXAMPLES:
        lines = "\n".join(f"  {one}" for one in EXAMPLES[name])
        command.epilog = f"\b\nExamples:\n{lines}"
