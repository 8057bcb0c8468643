"""refimpl gives the numbers worked by hand."""

import paper_facts
import pytest

import refimpl


@pytest.mark.parametrize("fact", paper_facts.FACTS, ids=lambda fact: fact.__name__)
def test_fact_holds(fact):
    fact(refimpl)


def test_every_fact_is_listed_and_documented():
    defined = {
        value
        for name, value in vars(paper_facts).items()
        if callable(value) and value.__module__ == "paper_facts" and name[0] != "_"
    }
    assert defined == set(paper_facts.FACTS)
    assert all(fact.__doc__ for fact in defined)
