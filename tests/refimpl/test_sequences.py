"""Lengths that are refused: the message names the keyword, what came and what is wanted."""

import re

import numpy as np
import pytest
import torch
from backends import small_model
from ragged import sequences

import refimpl
from refimpl import backward, retention_chunkwise, retention_parallel, retention_recurrent
from refimpl.compiled.kernels import retention_chunkwise_numba

GAMMA = np.array([0.9, 0.5, 1.0])
FORMS = (retention_parallel, retention_recurrent, retention_chunkwise, retention_chunkwise_numba)
Q, K, V, _ = next(sequences(lengths=(5,)))
ROWS = tuple(np.concatenate([x, x]) for x in (Q, K, V))
STATE = np.zeros((2, 3, 4, 3))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"lengths": [3, 5]}, TypeError, "lengths must be an array of integers of numpy, got list"),
        ({"lengths": 3}, TypeError, "lengths must be an array of integers of numpy, got int"),
        ({"lengths": torch.tensor([3, 5])}, TypeError, "lengths must be an array of integers of numpy, got one of torch"),
        ({"lengths": np.array([3.0, 5.0])}, TypeError, "lengths must be an array of integers of numpy, got one of numpy and"),
        ({"lengths": np.array([True, False])}, TypeError, "got one of numpy and bool"),
        ({"lengths": np.array([3])}, ValueError, "lengths must have shape (2,) (one for each sequence), got (1,)"),
        ({"lengths": np.array([[3], [5]])}, ValueError, "lengths must have shape (2,)"),
        ({"lengths": np.array([5, 6])}, ValueError, "lengths must lie in [0, 5], got 6 at sequence 1"),
        ({"lengths": np.array([-1, 6])}, ValueError, "lengths must lie in [0, 5], got -1 at sequence 0"),
        ({"lengths": np.array([3, 5]), "padding": "both"}, ValueError, "padding must be one of 'right', 'left', got 'both'"),
        ({"padding": "left"}, ValueError, "lengths must be given with padding on the left, got None"),
        ({"max_length": 3}, ValueError, "max_length must be None without cu_seqlens, got 3"),
        ({"lengths": np.array([3, 5]), "max_length": 5}, ValueError, "max_length must be None without cu_seqlens, got 5"),
        ({"lengths": np.array([3, 5]), "cu_seqlens": np.array([0, 5])}, ValueError, "cu_seqlens must be None with lengths"),
        ({"cu_seqlens": np.array([0, 5])}, ValueError, "q must hold one row of packed sequences (batch = 1)"),
    ],
)  # fmt: skip
def test_bad_keywords_are_refused(given, error, message):
    for form in FORMS:
        with pytest.raises(error, match=re.escape(message)):
            form(*ROWS, GAMMA, **given)
    with pytest.raises(error, match=re.escape(message)):
        backward.retention_parallel_backward(*ROWS, GAMMA, ROWS[2], **given)
    params, config = small_model()
    with pytest.raises(error, match=re.escape(message.replace("q must", "tokens must"))):
        refimpl.forward(params, np.zeros((2, 5), int), config, **given)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([0, 2, 5], TypeError, "cu_seqlens must be an array of integers of numpy, got list"),
        (
            np.array([0.0, 5.0]),
            TypeError,
            "cu_seqlens must be an array of integers of numpy, got one of numpy and float64",
        ),
        (
            np.array([[0, 5]]),
            ValueError,
            "cu_seqlens must have shape (sequences + 1,), 0 and the end of each, got (1, 2)",
        ),
        (np.array([], int), ValueError, "cu_seqlens must have shape (sequences + 1,), 0 and the end of each, got (0,)"),
        (np.array([1, 5]), ValueError, "cu_seqlens must begin with 0, got 1"),
        (np.array([0, 4]), ValueError, "cu_seqlens must end with 5, the number of tokens, got 4"),
        (np.array([0, 3, 2, 5]), ValueError, "cu_seqlens must not fall, got a length of -1 at sequence 1"),
    ],
)
def test_bad_cu_seqlens_are_refused(given, error, message):
    params, config = small_model()
    for call in (
        lambda: retention_chunkwise(Q, K, V, GAMMA, cu_seqlens=given),
        lambda: refimpl.forward(params, np.zeros((1, 5), int), config, cu_seqlens=given),
    ):
        with pytest.raises(error, match=re.escape(message)):
            call()


def test_what_does_not_fit_the_sequences_is_refused():
    packed = {"cu_seqlens": np.array([0, 2, 5])}
    for given, wanted in (
        ({"max_length": 2}, "at least the longest length, got 2 for 3 at sequence 1"),
        ({"max_length": -1}, "at least 0"),
    ):
        with pytest.raises(ValueError, match=f"max_length must be {wanted}"):
            retention_parallel(Q, K, V, GAMMA, **packed, **given)
    with pytest.raises(TypeError, match=r"max_length must be an integer, got 3\.5"):
        retention_parallel(Q, K, V, GAMMA, **packed, max_length=3.5)
    with pytest.raises(ValueError, match="cu_seqlens must be None with padding on the left"):
        retention_parallel(Q, K, V, GAMMA, **packed, padding="left")
    with pytest.raises(
        ValueError, match=re.escape("state must have shape (2, 3, 4, 3) (batch, heads, key_dim, value_dim), got (1,")
    ):
        retention_parallel(Q, K, V, GAMMA, STATE[:1], **packed)
    with pytest.raises(TypeError, match="state must have dtype float64 when q is float64, got float32"):
        retention_parallel(Q, K, V, GAMMA, STATE.astype(np.float32), **packed)
    with pytest.raises(TypeError, match="state must be an array of numpy like q, got one of torch"):
        retention_parallel(Q, K, V, GAMMA, torch.from_numpy(STATE), **packed)
    with pytest.raises(ValueError, match="k must have shape"):
        retention_parallel(Q, K[:, :, 1:], V, GAMMA, **packed)
    with pytest.raises(
        ValueError, match=re.escape("grad_out must have shape (1, 3, 5, 3) (that of v), got (1, 3, 4, 3)")
    ):
        backward.retention_parallel_backward(Q, K, V, GAMMA, V[:, :, 1:], **packed)
    with pytest.raises(ValueError, match=re.escape("grad_state must have shape (2, 3, 4, 3)")):
        backward.retention_parallel_backward(Q, K, V, GAMMA, V, grad_state=STATE[:1], **packed)
    params, config = small_model()
    tokens, (_, end) = np.array([[1, 2, 3, 4, 5]]), refimpl.forward(params, np.zeros((3, 1), int), config)
    with pytest.raises(ValueError, match=re.escape("state must have shape (2, 2, 12, 24)")):
        refimpl.forward(params, tokens, config, state=end, **packed)
    with pytest.raises(
        ValueError, match=re.escape("state.position must have shape (2,) (one for each sequence), got (3,)")
    ):
        refimpl.forward(params, tokens, config, state=end._replace(position=np.array([1, 1, 1])), **packed)
    with pytest.raises(ValueError, match=re.escape("tokens must lie in [0, 13), got 77")):
        refimpl.forward(params, np.array([[1, 77, 99]]), config, lengths=np.array([2]))
    for options in ({"score_norm": "sum"}, {"score_norm": "absolute"}):
        params, config = small_model(**options)
        with pytest.raises(ValueError, match="score_norm must be None with sequences of different lengths, got"):
            refimpl.forward(params, tokens, config, **packed)


def test_what_cannot_be_read_is_asked_for():
    """On the meta device, which has no values, as on a GPU, which would have to be waited for."""
    q, k, v = (torch.zeros(x.shape, device="meta") for x in (Q, K, V))
    gamma, cu_seqlens = torch.ones(3, device="meta"), torch.zeros(3, dtype=torch.int32, device="meta")
    with pytest.raises(ValueError, match="max_length must be given where the values of cu_seqlens cannot be read"):
        retention_chunkwise(q, k, v, gamma, cu_seqlens=cu_seqlens)
    out, states = retention_chunkwise(q, k, v, gamma, cu_seqlens=cu_seqlens, max_length=3)
    assert (out.shape, states.shape) == (v.shape, (2, 3, 4, 3))
    with pytest.raises(ValueError, match="lengths must be on device meta, got device cpu"):
        retention_chunkwise(q, k, v, gamma, lengths=torch.tensor([3]))
