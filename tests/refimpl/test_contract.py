"""Every retention of refimpl passes every check of the contract, on every array library."""

import contract
import pytest

import refimpl

FORMS = contract.forms(refimpl)
CASES = [
    pytest.param(form, check, backend, id=f"{check.__name__}-{name}-{backend.name}")
    for check, (_, backends) in contract.RETENTION_CHECKS.items()
    for backend in backends
    for name, form in FORMS.items()
]


@pytest.mark.parametrize(("form", "check", "backend"), CASES)
def test_retention_keeps_the_contract(form, check, backend):
    check(form, backend)


@pytest.mark.parametrize("check", contract.PACKAGE_CHECKS, ids=lambda check: check.__name__)
def test_package_keeps_the_contract(check):
    check(refimpl)
