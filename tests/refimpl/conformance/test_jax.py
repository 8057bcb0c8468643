"""A retention of somebody else's, a scan in JAX, keeps the contract, with JAX's own gradients."""

import functools

import pytest
from backends import OF_DTYPES

from refimpl.conformance import contract, gradients
from refimpl.conformance.kernel import Kernel
from refimpl.conformance.libraries import library
from refimpl.conformance.suite import dtypes_of

jax = pytest.importorskip("jax", reason="JAX is not installed")


@functools.partial(jax.jit, static_argnames="narrow")
def scan(q, k, v, gamma, state, narrow):
    """S_n = gamma S_(n-1) + k_n v_n, o_n = q_n S_n, in float32."""
    gamma = gamma[:, None, None]

    def step(state, token):
        q, k, v = (x.astype(state.dtype) for x in token)
        state = gamma * state + k[..., :, None] * v[..., None, :]
        return state, jax.numpy.einsum("bhk,bhkv->bhv", q, state)

    state, out = jax.lax.scan(step, state, [jax.numpy.moveaxis(x, 2, 0) for x in (q, k, v)])
    return jax.numpy.moveaxis(out, 0, 2).astype(narrow), state


def retention(q, k, v, gamma, state=None):
    shape = (*q.shape[:2], q.shape[3], v.shape[3])
    if state is None:
        state = jax.numpy.zeros(shape, "float32")
    if (q.shape, v.shape[:3], gamma.shape, state.shape) != (k.shape, q.shape[:3], q.shape[1:2], shape):
        raise ValueError("shapes do not fit")
    return scan(q, k, v, gamma, state, v.dtype.name)


# Every shape is compiled anew, so the others, of many shapes, are left to `python -m refimpl conformance`.
CHECKS = [
    contract.keeps_dtypes, contract.equals_oracle, contract.empty_sequence_keeps_state, contract.is_causal,
    contract.owns_its_results, contract.gives_the_same_bits, contract.keeps_nan_in_its_place, contract.takes_any_strides,
    gradients.gradients_stand_alone, contract.refuses_wrong_arguments,
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "dtype"),
    [
        pytest.param(check, dtype, id=f"{dtype}-{check.__name__}")
        for check in CHECKS
        for dtype in (("float32", "bfloat16") if check in OF_DTYPES else ("float32",))
    ],
)
def test_a_scan_in_jax_keeps_the_contract(check, dtype):
    kernel = Kernel(retention, library("jax"), gradients=True)
    assert dtypes_of(kernel) == ("float32",)
    check(kernel, dtype)


def test_float64_is_refused_where_jax_makes_float32_of_it():
    with pytest.raises(ValueError, match="narrower than float64 where jax_enable_x64 is not set"):
        contract.keeps_dtypes(Kernel(retention, library("jax")), "float64")
