"""A session's own key-value data."""

from copy import deepcopy
from typing import Any

from eventstore.events import DataCleared, DataDeleted, DataSet, Event
from projections.fold import Fold


def apply(state: dict[str, Any], event: Event) -> None:
    """Apply one event. Values are copied, so that the state shares none with an event."""
    if isinstance(event, DataSet):
        state[event.key] = deepcopy(event.value)
    elif isinstance(event, DataDeleted):
        state.pop(event.key, None)
    elif isinstance(event, DataCleared):
        state.clear()


projection: Fold[dict[str, Any]] = Fold(dict, deepcopy, apply)
"""Values by key."""
