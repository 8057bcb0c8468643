"""refimpl gives the numbers worked by hand."""

import pytest

import refimpl
from refimpl.conformance.paper_facts import FACTS


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.__name__)
def test_fact_holds(fact):
    fact(refimpl)


def test_every_fact_is_documented():
    assert len(FACTS) >= 16
    assert all(fact.__doc__ for fact in FACTS)
