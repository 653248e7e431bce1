"""Each rule of order and durability has a test that fails without it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from breaking.order_mutants import MUTANTS, ROOT, OrderMutant, changed, copied, run, run_changed


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with copied() as place:
        yield place


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_the_text_of_each_rule_is_there(mutant: OrderMutant) -> None:
    assert changed((ROOT / mutant.file).read_text("utf-8"), *mutant[:4])
    path, _, name = mutant.test.partition("::")
    contract = sorted((ROOT / "eventstore" / "log" / "contract").glob("*.py")) if "::" in name else []
    texts = [one.read_text("utf-8") for one in (ROOT / path, *contract)]
    assert any(f"def {name.rpartition('::')[2].partition('[')[0]}(" in text for text in texts)


def test_a_rule_whose_text_is_gone_or_there_twice_fails() -> None:
    mutant = OrderMutant("a rule", "a.py", "old", "new", "a test")
    for text in ("other", "old old"):
        with pytest.raises(AssertionError, match=r"'a rule' is [02] times in a\.py"):
            changed(text, *mutant[:4])


@pytest.mark.long
@pytest.mark.patient
@pytest.mark.timeout(600)
def test_the_tests_of_the_rules_pass_while_no_rule_is_broken(place: Path) -> None:
    assert run(place, *sorted({mutant.test for mutant in MUTANTS})) == 0


OFTEN = 6
"""`.ci/run` breaks every sixth rule, and all of them with --all: each takes a process of tests."""


@pytest.mark.long
@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(one, id=one.rule, marks=[] if number % OFTEN == 1 else pytest.mark.patient)
        for number, one in enumerate(MUTANTS)
    ],
)
def test_a_broken_rule_of_order_is_noticed(place: Path, mutant: OrderMutant) -> None:
    assert run_changed(place, mutant) == 1
