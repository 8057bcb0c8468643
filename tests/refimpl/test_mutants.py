"""Every mutant dies, and the list says of what; the unbroken package survives the same checks."""

import pytest
from mutants import MUTANTS, Mutant, every_check, killers, mutated_package, reaches_retention


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_killed(mutant, tmp_path, record_property):
    with mutated_package(mutant, tmp_path) as package:
        checks = every_check(package, reaches_retention(mutant))
        found, crashed = killers(checks, one_is_enough=mutant.only is None)
    assert found, f"no assertion sees that {mutant.name}; it only crashes {crashed}"
    if mutant.only is not None:
        seen = set(found) | set(crashed)
        assert seen == {mutant.only}, f"meant to be seen by the {mutant.only} alone, was seen by {found} {crashed}"
    kind, labels = next(iter(found.items()))
    record_property("mutant", (mutant.name, f"{kind}: {labels[0]}", mutant.only is not None))


def test_unbroken_copy_survives(tmp_path):
    """The way mutants are loaded kills nothing by itself."""
    with mutated_package(Mutant("unbroken", ()), tmp_path) as package:
        assert package.__name__ == "mutant_unbroken"
        assert killers(every_check(package)) == ({}, {})


@pytest.mark.parametrize("kind", ["oracle", "paper facts", "validation"])
def test_each_kind_of_evidence_is_needed(kind):
    """Some mutant is seen by this kind alone (which test_mutant_is_killed proves), so agreement of the forms misses it."""
    assert [mutant.name for mutant in MUTANTS if mutant.only == kind]
