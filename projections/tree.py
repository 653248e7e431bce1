"""The plan of a session's links: `{link: target}`, nothing made. Targets are relative to the history folder, or absolute."""

from collections.abc import Iterable

from eventstore.ids import file_name
from projections import invocations
from projections.invocations import Invocation
from projections.projection import Projection

projection: Projection[dict[str, Invocation]] = invocations.projection
"""The calls that the plan is drawn from."""


def plan(calls: Iterable[Invocation]) -> dict[str, str]:
    """Draw the plan: one link `invocations/<file name of the id>` for each call that has a folder, in order."""
    return {
        f"invocations/{file_name(call.invocation_id)}": call.invocation_dir for call in calls if call.invocation_dir
    }
