"""Every public function refuses bad arguments with the message a user needs, and takes what lies just inside."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
from backends import STRICT, TORCH

import refimpl
from refimpl.compiled import kernels
from refimpl.conformance import validation
from refimpl.conformance.comparison import all_close
from refimpl.oracle import retention_oracle

PLAIN = {
    "parallel": refimpl.retention_parallel,
    "recurrent": refimpl.retention_recurrent,
    "chunkwise": functools.partial(refimpl.retention_chunkwise, chunk_size=2),
    "step": refimpl.retention_step,
}
COMPILED = {
    "compiled recurrent": kernels.retention_recurrent_numba,
    "compiled chunkwise": functools.partial(kernels.retention_chunkwise_numba, chunk_size=2),
    "compiled step": kernels.retention_step_numba,
}
FORMS = PLAIN | COMPILED
by_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@by_form
@pytest.mark.parametrize("refusal", validation.RETENTION_REFUSALS, ids=lambda refusal: refusal.message)
def test_retention_refuses(form, refusal):
    validation.retention_refuses(form, refusal)


@by_form
@pytest.mark.parametrize("backend", [TORCH, STRICT], ids=lambda backend: backend.name)
def test_retention_refuses_other_libraries(form, backend):
    validation.refuses_other_libraries(form, backend)


@pytest.mark.parametrize("form", PLAIN.values(), ids=PLAIN)
def test_retention_refuses_other_devices_and_half_states(form):
    validation.refuses_other_devices(form, TORCH)
    validation.refuses_half_states(form, TORCH)


@pytest.mark.parametrize("form", COMPILED.values(), ids=COMPILED)
def test_compiled_retention_refuses_what_is_not_numpy(form):
    arguments = {name: TORCH.asarray(x) for name, x in validation.arguments().items()}
    validation.refused(lambda: form(**arguments), TypeError, "q must be a NumPy array, got Tensor")


KERNELS = SimpleNamespace(
    retention_chunkwise=kernels.retention_chunkwise_numba, retention_step=kernels.retention_step_numba
)


@pytest.mark.parametrize(
    ("package", "refusal"),
    [
        pytest.param(package, refusal, id=f"{name}.{refusal.function}: {refusal.message}")
        for name, package in (("refimpl", refimpl), ("compiled", KERNELS))
        for refusal in validation.PACKAGE_REFUSALS
        if hasattr(package, refusal.function)
    ],
)
def test_package_refuses(package, refusal):
    validation.package_refuses(package, refusal)


@pytest.mark.parametrize("backend", [TORCH, STRICT], ids=lambda backend: backend.name)
def test_model_refuses_other_libraries(backend):
    validation.model_refuses_other_libraries(refimpl, backend)


def test_unchanged_arguments_are_accepted():
    """What the refusals change is good as it stands, so each refusal is of its change alone."""
    good = validation.arguments()
    for name in ("parallel", "recurrent", "chunkwise"):
        all_close(FORMS[name](**good), retention_oracle(**good))


@pytest.mark.parametrize("schedule", [True, None, "slow", "0.5"])
def test_what_is_no_schedule_is_refused(schedule):
    message = f"schedule must be one of 'released', 'paper', 'quarter'.*, got {schedule!r}"
    with pytest.raises((TypeError, ValueError), match=message):
        refimpl.head_decays(2, schedule)


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
