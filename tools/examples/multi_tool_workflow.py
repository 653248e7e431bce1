"""One session over many tools: each call gets a folder, is timed, recorded and linked."""

import tempfile
from pathlib import Path

from eventstore import FileSystemSessionStorage, SessionManager


def main() -> None:
    """Run three tools (one fails), and print the timeline."""
    with (
        tempfile.TemporaryDirectory() as folder,
        SessionManager(FileSystemSessionStorage(Path(folder, ".sessions"), Path(folder, ".history"))) as manager,
    ):
        session = manager.create_session(purpose="Investigate production issue", tags=["production", "urgent"])
        session_id = session.metadata.session_id
        for tool_name in ("git_tool", "log_analysis", "knowledge_indexer"):
            try:
                with manager.invocation(session_id, tool_name, {"depth": 3}) as call:
                    call.result = work(tool_name)
            except TimeoutError as error:
                manager.add_conversation_message(session_id, "tool", str(error), tool_name, call.invocation_id)
            else:
                manager.add_conversation_message(session_id, "tool", call.result, tool_name, call.invocation_id)
        statistics = manager.get_session_statistics(session_id)
        assert statistics is not None
        for row in manager.timeline(session_id):
            print(row.who, row.what, row.tool_name or "", row.text)
        print(f"used {len(statistics['tools_used'])} tools")


def work(tool_name: str) -> str:
    """Do what the tool does."""
    if tool_name == "log_analysis":
        raise TimeoutError("the log server did not answer")
    return "analysis complete"


if __name__ == "__main__":
    main()
