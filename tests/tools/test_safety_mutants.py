"""The mutants of `tools/faults.py mutants` are of this version: each rule they remove is in the file they name."""

import pytest
from breaking.mutants import MUTANTS, Mutant
from breaking.order_mutants import ROOT, changed


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_the_text_of_each_rule_is_in_its_file_once(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text("utf-8")
    assert changed(text, *mutant[:4]) != text
