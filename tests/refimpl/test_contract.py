"""Every retention of refimpl passes every check of the contract, on every array library."""

import pytest
from backends import BACKENDS

import refimpl
from refimpl.conformance import contract


def cases(checks):
    """Each check on each backend that it fits."""
    fits = [(check, backend) for backend in BACKENDS for check in contract.checks_for(backend, checks)]
    return [pytest.param(check, backend, id=f"{check.__name__}-{backend.name}") for check, backend in fits]


@pytest.mark.parametrize("form", contract.forms(refimpl).values(), ids=contract.forms(refimpl))
@pytest.mark.parametrize(("check", "backend"), cases(contract.RETENTION_CHECKS))
def test_retention_keeps_the_contract(form, check, backend):
    check(form, backend)


@pytest.mark.parametrize(("check", "backend"), cases(contract.BACKEND_CHECKS))
def test_package_keeps_the_contract_on_a_backend(check, backend):
    check(refimpl, backend)


@pytest.mark.parametrize("check", contract.PACKAGE_CHECKS, ids=lambda check: check.__name__)
def test_package_keeps_the_contract(check):
    check(refimpl)
