"""Every public function refuses bad arguments with the message a user needs, and takes what lies just inside."""

import functools

import numpy as np
import pytest
from backends import STRICT, TORCH

import refimpl
from refimpl.conformance import validation
from refimpl.conformance.contract import all_close
from refimpl.oracle import retention_oracle

FORMS = {
    "parallel": refimpl.retention_parallel,
    "recurrent": refimpl.retention_recurrent,
    "chunkwise": functools.partial(refimpl.retention_chunkwise, chunk_size=2),
    "step": refimpl.retention_step,
}
by_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@by_form
@pytest.mark.parametrize("refusal", validation.RETENTION_REFUSALS, ids=lambda refusal: refusal.message)
def test_retention_refuses(form, refusal):
    validation.retention_refuses(form, refusal)


@by_form
def test_retention_refuses_other_libraries_devices_and_half_states(form):
    for backend in (TORCH, STRICT):
        validation.refuses_other_libraries(form, backend)
    validation.refuses_other_devices(form, TORCH)
    validation.refuses_half_states(form, TORCH)


@pytest.mark.parametrize(
    "refusal", validation.PACKAGE_REFUSALS, ids=lambda refusal: f"{refusal.function}: {refusal.message}"
)
def test_package_refuses(refusal):
    validation.package_refuses(refimpl, refusal)


@pytest.mark.parametrize("backend", [TORCH, STRICT], ids=lambda backend: backend.name)
def test_model_refuses_other_libraries(backend):
    validation.model_refuses_other_libraries(refimpl, backend)


def test_unchanged_arguments_are_accepted():
    """What the refusals change is good as it stands, so each refusal is of its change alone."""
    good = validation.arguments()
    for name in ("parallel", "recurrent", "chunkwise"):
        all_close(FORMS[name](**good), retention_oracle(**good))


def test_the_least_values_are_accepted():
    """One less of each is refused by name, see `validation.VALUE_ERRORS`."""
    least = {"vocab_size": 1, "dim": 1, "num_layers": 1, "num_heads": 1, "key_dim": 2, "value_dim": 1, "ffn_dim": 1}
    config = refimpl.RetNetConfig(**least, norm_eps=0.0, gamma_schedule=1e-3)
    logits, _ = refimpl.forward(refimpl.init_params(config), np.array([[0, 0]]), config)
    assert logits.shape == (1, 2, 1)
    assert np.isfinite(logits).all()
    nothing = np.ones((1, 1, 0, 1))
    assert refimpl.retention_chunkwise(nothing, nothing, nothing, np.ones(1), chunk_size=1)[0].shape == (1, 1, 0, 1)
    assert refimpl.decay_mask(np.ones(1), 0).shape == (1, 0, 0)
    assert [x.shape for x in refimpl.chunk_decays(np.ones(1), 0)] == [(1, 0), (1, 0), (1,)]
