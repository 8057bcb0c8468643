"""Every mutant and every broken kernel dies, and the list says of what; the unbroken package survives the same checks."""

import functools

import pytest
from mutants import MUTANTS, Mutant, every_check, fitting, killers, mutated_package

import refimpl
from refimpl.conformance.broken import MISTAKES
from refimpl.conformance.contract import RETENTION_CHECKS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_is_killed(mutant, tmp_path, record_property):
    with mutated_package(mutant, tmp_path) as package:
        found, crashed = killers(every_check(package))
    assert found, f"no assertion sees that {mutant.name}; it only crashes {crashed}"
    if mutant.only is not None:
        seen = set(found) | set(crashed)
        assert seen == {mutant.only}, f"meant to be seen by the {mutant.only} alone, was seen by {found} {crashed}"
    # The agreement of the forms is the weakest evidence and named last.
    kind = next(kind for kind in ("paper facts", "oracle", "property", "validation", "agreement") if kind in found)
    record_property("mutant", (mutant.name, f"{kind}: {found[kind][0]}", sorted(found)))


def test_unbroken_copy_survives(tmp_path):
    """The way mutants are loaded kills nothing by itself."""
    with mutated_package(Mutant("unbroken", ()), tmp_path) as package:
        assert package.__name__ == "mutant_unbroken"
        assert killers(every_check(package)) == ({}, {})


@pytest.mark.parametrize("kind", ["oracle", "paper facts", "validation"])
def test_each_kind_of_evidence_is_needed(kind):
    """Some mutant is seen by this kind alone (which test_mutant_is_killed proves), so agreement of the forms misses it."""
    assert [mutant.name for mutant in MUTANTS if mutant.only == kind]


def contract_on(retention):
    """The checks of the contract on one retention, as `killers` takes them."""
    for check, (kind, feature) in RETENTION_CHECKS.items():
        yield kind, check.__name__, functools.partial(check, retention, fitting(feature))


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_the_contract_catches_a_broken_kernel(mistake):
    found, crashed = killers(contract_on(mistake(refimpl.retention_chunkwise)), one_is_enough=True)
    assert found, f"no check sees that a kernel {mistake.__name__}; it only crashes {crashed}"


def test_what_a_mistake_is_made_of_keeps_the_contract():
    assert killers(contract_on(refimpl.retention_chunkwise)) == ({}, {})
