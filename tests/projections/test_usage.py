"""Uses of tokens: reports with the same key are one use."""

from itertools import permutations

import pytest

from eventstore import events as e
from projections import branches, facts, metadata
from projections.models import SessionMetadata

REPORTS = [
    e.UsageRecorded(tokens={"input": 10}, cost=0.5, key="k", seq=1),
    e.UsageRecorded(tokens={"input": 4, "output": 2}, key="k", seq=2),
    e.UsageRecorded(tokens={"input": 10, "output": 1}, cost=0.25, key="k", seq=3),
]


def shown(reports: list[e.UsageRecorded]) -> SessionMetadata:
    return metadata.projection.fold(reports).to_model("s")


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_each_projection_counts_a_use_by_its_maximum_in_any_order(order: tuple[int, ...]) -> None:
    reports = [REPORTS[place] for place in order]
    branch = branches.summarize("s", reports)
    (fact,) = facts.projection.fold(reports).facts.values()
    assert shown(reports).token_usage == branch.tokens == {"input": 10, "output": 2}
    assert (fact.tokens, fact.input_tokens, fact.output_tokens) == (12, 10, 2)
    assert shown(reports).estimated_cost == branch.cost == fact.cost == 0.5
