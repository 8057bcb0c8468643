"""Every public function refuses bad arguments with the message a user needs."""

import functools

import contract
import door
import numpy as np
import pytest

import refimpl

FORMS = {
    "parallel": refimpl.retention_parallel,
    "recurrent": refimpl.retention_recurrent,
    "chunkwise": functools.partial(refimpl.retention_chunkwise, chunk_size=2),
    "step": refimpl.retention_step,
}


@pytest.mark.parametrize("name", door.RETENTION_REFUSALS)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_retention_refuses(form, name):
    door.retention_refuses(form, name)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_retention_refuses_other_devices_and_half_states(form):
    door.refuses_other_devices(form)
    door.refuses_half_states(form)


@pytest.mark.parametrize("name", door.PACKAGE_REFUSALS)
def test_package_refuses(name):
    door.package_refuses(refimpl, name)


def test_unchanged_arguments_are_accepted():
    """What the refusals change is good as it stands, so each refusal is of its change alone."""
    good = door._arguments()
    want = contract.retention_oracle(**good)
    for name in ("parallel", "recurrent", "chunkwise"):
        for got, other in zip(FORMS[name](**good), want, strict=True):
            contract.close(got, other)
            assert np.isfinite(got).all()
