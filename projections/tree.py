"""The symbolic links of a session to its tool calls, as `{link: target}`. No link is created here.

Targets are relative to the history folder, or absolute.
"""

from collections.abc import Iterable

from eventstore.ids import file_name
from projections import invocations
from projections.fold import Fold
from projections.invocations import Invocation

projection: Fold[dict[str, Invocation]] = invocations.projection
"""The folder of the links."""


def plan(calls: Iterable[Invocation]) -> dict[str, str]:
    """Return one link `invocations/<file name of the id>` for each call that has a folder, in order."""
    return {
        f"invocations/{file_name(call.invocation_id)}": call.invocation_dir for call in calls if call.invocation_dir
    }
