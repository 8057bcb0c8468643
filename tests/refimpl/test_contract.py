"""Every retention of refimpl passes every check of the contract, on every array library, and so does the package."""

import pytest
from backends import BACKENDS, DTYPES, NUMPY, STRICT, TORCH, dtypes_of, kernel_of, name_of

import refimpl
from refimpl.conformance import contract, drawn, gradients
from refimpl.conformance import package as of_package

FORMS = of_package.forms(refimpl)
SIZES = ("chunkwise C=1", "chunkwise C=64", "chunkwise C=300")  # C=7 calls all that they call
BY_TOKEN = ("step", "chunkwise C=1")
LONG = (
    contract.holds_at_every_length, contract.chains, contract.starts_afresh, contract.holds_for_long_texts,
    gradients.gradients_hold_at_every_size,
)  # fmt: skip
MANY_STEPS = (
    contract.equals_oracle, contract.gives_the_same_bits, contract.holds_at_every_width, contract.owns_its_results,
)  # fmt: skip
by_form = pytest.mark.parametrize("name", FORMS)


@by_form
@pytest.mark.parametrize("library", BACKENDS, ids=name_of)
@pytest.mark.parametrize("check", contract.CHECKS, ids=name_of)
def test_retention_keeps_the_contract(name, library, check):
    kernel = kernel_of(FORMS[name], name, library)
    if library is not NUMPY and name in SIZES and check is not gradients.gradients_are_right:
        return  # shows nothing of the library
    if name == "step" and library is not NUMPY and (check in LONG or check in MANY_STEPS):
        return  # recurrent takes the same steps; checks of few tokens show that one is taken rightly
    if check is contract.holds_for_long_texts and (library is STRICT or name in BY_TOKEN):
        return  # recurrent takes the same steps, so that more of them show nothing new
    if check is contract.holds_for_long_texts and library is TORCH and name == "parallel":
        return  # what leaves its range is a power in the mask, of which NumPy alone warns
    if check is contract.holds_for_slow_heads:
        return  # asked below with a tighter bound
    if contract.CHECKS[check].declared(kernel) is None:
        narrow = (
            check is not gradients.gradients_are_right or name not in BY_TOKEN
        )  # else recurrent's, which has all dtypes
        for dtype in dtypes_of(check, library) if narrow else ("float64",):
            check(kernel, dtype)


@by_form
@pytest.mark.parametrize("library", BACKENDS, ids=name_of)
def test_retention_is_as_precise_as_float32_is(name, library):
    if name == "step" and library is not NUMPY:
        return  # recurrent takes the same steps
    kernel = kernel_of(FORMS[name], name, library, slack=1)
    for dtype in DTYPES[library]:
        contract.holds_for_slow_heads(kernel, dtype)


@by_form
@pytest.mark.parametrize("check", drawn.RETENTION_CHECKS, ids=name_of)
def test_retention_keeps_the_contract_on_what_is_drawn(name, check):
    check(FORMS[name])


@pytest.mark.parametrize(
    ("check", "library"),
    [
        pytest.param(check, library, id=f"{check.__name__}-{library.name}")
        for check, (_, feature) in of_package.LIBRARY_CHECKS.items()
        for library in BACKENDS
        if library.has(feature)
    ],
)
def test_package_keeps_the_contract_on_a_library(check, library):
    check(refimpl, library)


@pytest.mark.parametrize("check", [*of_package.CHECKS, *drawn.CHECKS], ids=name_of)
def test_package_keeps_the_contract(check):
    check(refimpl)
