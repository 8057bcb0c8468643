"""Every mutant dies, and the list says of what; the unbroken package survives the same checks."""

import mutants
import pytest


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_killed(mutant, tmp_path, record_property):
    with mutants.mutated_package(mutant, tmp_path) as package:
        found, crashed = mutants.killers(package)
    assert found, f"no assertion sees that {mutant.name}; it only crashes {crashed}"
    if mutant.only is not None:
        seen = set(found) | set(crashed)
        assert seen == {mutant.only}, f"meant to be seen by the {mutant.only} alone, was seen by {found} {crashed}"
    # The agreement of the forms is the weakest evidence and named last.
    kind = next(kind for kind in ("paper facts", "oracle", "property", "door", "agreement") if kind in found)
    record_property("mutant", (mutant.name, f"{kind}: {found[kind][0]}", sorted(found)))


def test_unbroken_copy_survives(tmp_path):
    """The way mutants are loaded kills nothing by itself."""
    unbroken = mutants.Mutant(mutants.MUTANTS[0].name, ())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mutants, "MUTANTS", (unbroken,))
        with mutants.mutated_package(unbroken, tmp_path) as package:
            assert package.__name__ == "mutant_0"
            assert mutants.killers(package) == ({}, {})


@pytest.mark.parametrize("kind", ["oracle", "paper facts", "door"])
def test_each_kind_of_evidence_is_needed(kind):
    """Some mutant is seen by this kind alone (which test_mutant_is_killed proves), so agreement of the forms misses it."""
    assert [mutant.name for mutant in mutants.MUTANTS if mutant.only == kind]
