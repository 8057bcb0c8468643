"""Gradients by hand, in NumPy: of each form of retention, of each layer, and of the whole model.

Every function takes the arguments of the forward function and the gradients of its results, and returns the gradients of
its arguments. The functions stand in the order of their forward counterparts. The three forms of retention give the same
gradients, as they give the same outputs: with A = (Q K^T) * D and W = (G V^T) * D, dV = A^T G, dQ = W K, dK = W^T Q,
which is a retention run backwards in time.

The contract of a backward retention, which extends that of `refimpl.retention`:

    (q, k, v, gamma, grad_out, state=None, grad_state=None) -> (dq, dk, dv, dstate)

    grad_out            (B, H, T, V)   dL/d out, in v's dtype
    grad_state, dstate  (B, H, K, V)   dL/d of the state after and before, in the state's dtype; None means zero
    dq, dk, dv          like q, k, v

All are NumPy arrays. Anything else raises a TypeError or ValueError that names the argument. Sequences of different lengths
are taken as by the forward functions: `refimpl.lengths`. Equations: arXiv:2307.08621v4.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from .arrays import Params
from .checks import check_integer, check_numpy, check_shape, check_state
from .config import FEED_FORWARDS, RetNetConfig
from .decay import carry, in_two_parts
from .layers import erf, linear, merge_heads, split_heads
from .lengths import each_alone_backward, with_lengths_backward
from .model import State
from .retention import chunk_step, chunk_tables, prepare, token_step
from .rotation import turn

Gradients: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # dq, dk, dv, dstate


@with_lengths_backward
def retention_parallel_backward(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    gamma: np.ndarray,
    grad_out: np.ndarray,
    state: np.ndarray | None = None,
    grad_state: np.ndarray | None = None,
) -> Gradients:
    """Gradients of `retention_parallel` (Eq. 5). Shapes, dtypes and errors: the contract in `refimpl.backward`.

    >>> one = np.ones((1, 1, 2, 1))
    >>> [grad.ravel().tolist() for grad in retention_parallel_backward(one, one, one, np.asarray([0.5]), one)]
    [[1.0, 1.5], [1.5, 1.0], [1.5, 1.0], [0.75]]
    """
    q, k, v, grad_out, state, grad_state, dtype = prepare_backward(q, k, v, gamma, grad_out, state, grad_state)
    dq, dk, dv, grad_state = _chunk_backward(
        q, k, v, chunk_tables(gamma, q.shape[2], q.dtype), grad_out, state, grad_state
    )
    return *in_dtype(dtype, dq, dk, dv), grad_state


@with_lengths_backward
def retention_recurrent_backward(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    gamma: np.ndarray,
    grad_out: np.ndarray,
    state: np.ndarray | None = None,
    grad_state: np.ndarray | None = None,
) -> Gradients:
    """Gradients of `retention_recurrent` (Eq. 6): dq_n = G_n S_n^T, and with R_n = gamma R_(n+1) + q_n^T G_n running
    backwards from the gradient of the last state, dk_n = v_n R_n^T, dv_n = k_n R_n, dS_0 = gamma R_1.

    Shapes, dtypes and errors: the contract in `refimpl.backward`.
    """
    q, k, v, grad_out, state, grad_state, dtype = prepare_backward(q, k, v, gamma, grad_out, state, grad_state)
    decay = in_two_parts(gamma, q.dtype)
    dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    for n in range(q.shape[2]):
        token = np.s_[:, :, n : n + 1]
        _, state = token_step(q[token], k[token], v[token], decay, state)
        dq[token] = grad_out[token] @ state.mT
    for n in reversed(range(q.shape[2])):
        token = np.s_[:, :, n : n + 1]
        grad_state = grad_state + q[token].mT @ grad_out[token]
        dk[token] = v[token] @ grad_state.mT
        dv[token] = k[token] @ grad_state
        grad_state = carry(decay, grad_state, 0.0)
    return *in_dtype(dtype, dq, dk, dv), grad_state


@with_lengths_backward
def retention_chunkwise_backward(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    gamma: np.ndarray,
    grad_out: np.ndarray,
    state: np.ndarray | None = None,
    grad_state: np.ndarray | None = None,
    *,
    chunk_size: int = 64,
) -> Gradients:
    """Gradients of `retention_chunkwise` (Eq. 7): states forwards chunk by chunk, then their gradients backwards.

    chunk_size: an integer of at least 1. Shapes, dtypes and errors: the contract in `refimpl.backward`.
    """
    q, k, v, grad_out, state, grad_state, dtype = prepare_backward(q, k, v, gamma, grad_out, state, grad_state)
    chunk_size = check_integer("chunk_size", chunk_size, minimum=1)
    chunks = [np.s_[:, :, start : start + chunk_size] for start in range(0, q.shape[2], chunk_size)]
    tables = {length: chunk_tables(gamma, length, q.dtype) for length in {q[chunk].shape[2] for chunk in chunks}}
    before = []
    for chunk in chunks:
        before.append(state)
        _, state = chunk_step(q[chunk], k[chunk], v[chunk], tables[q[chunk].shape[2]], state)
    dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    for chunk, state in zip(reversed(chunks), reversed(before), strict=True):
        dq[chunk], dk[chunk], dv[chunk], grad_state = _chunk_backward(
            q[chunk], k[chunk], v[chunk], tables[q[chunk].shape[2]], grad_out[chunk], state, grad_state
        )
    return *in_dtype(dtype, dq, dk, dv), grad_state


def _chunk_backward(q: Any, k: Any, v: Any, tables: Any, grad_out: Any, state: Any, grad_state: Any) -> Gradients:
    """The gradients of `retention.chunk_step`, line by line."""
    mask, xi, zeta, whole = tables
    # S_i = K^T (V * zeta) + gamma^C S_(i-1)
    dk = (v * zeta) @ grad_state.mT
    dv = (k @ grad_state) * zeta
    dstate = carry(whole, grad_state, 0.0)
    # O_i = (Q K^T * D) V + (Q S_(i-1)) * xi
    scores, grad_scores, grad_cross = (q @ k.mT) * mask, (grad_out @ v.mT) * mask, grad_out * xi
    dq = grad_scores @ k + grad_cross @ state.mT
    return dq, dk + grad_scores.mT @ q, dv + scores.mT @ grad_out, dstate + q.mT @ grad_cross


def in_dtype(dtype: Any, dq: Any, dk: Any, dv: Any) -> tuple[Any, Any, Any]:
    """The three gradients in dtype."""
    return dq.astype(dtype, copy=False), dk.astype(dtype, copy=False), dv.astype(dtype, copy=False)


def prepare_backward(q: Any, k: Any, v: Any, gamma: Any, grad_out: Any, state: Any, grad_state: Any) -> tuple[Any, ...]:
    """`retention.prepare`, which checks and casts, and the same for the two gradients.

    Returns q, k, v, grad_out, state and a new grad_state in the accumulation dtype, and the dtype of dq, dk and dv.
    """
    check_numpy(q=q, k=k, v=v, gamma=gamma, grad_out=grad_out, state=state, grad_state=grad_state)
    q, k, v, state, dtype = prepare(q, k, v, gamma, state)
    check_shape("grad_out", grad_out, v.shape, "that of v")
    if grad_out.dtype != dtype:
        raise TypeError(f"grad_out must have dtype {dtype} like q, got {grad_out.dtype}")
    if grad_state is None:
        grad_state = np.zeros_like(state)
    check_state("grad_state", grad_state, state.shape, q.dtype)
    return q, k, v, grad_out.astype(q.dtype, copy=False), state, 1.0 * grad_state, dtype


def rms_norm_backward(
    x: np.ndarray, weight: np.ndarray | None, grad: np.ndarray, *, eps: float
) -> tuple[np.ndarray, np.ndarray | None]:
    """Gradients (dx, dweight) of `rms_norm`: x, grad (..., N); weight (N,), or None, whose gradient is None."""
    width = x.shape[-1]
    scale = 1.0 / np.sqrt(np.vecdot(x, x)[..., None] / width + eps)
    dweight = None if weight is None else np.sum(grad * (x * scale), axis=tuple(range(x.ndim - 1)))
    grad = grad if weight is None else grad * weight
    return scale * (grad - x * (scale * scale / width * np.vecdot(grad, x)[..., None])), dweight


def group_norm_backward(
    y: np.ndarray, weight: np.ndarray | None, grad: np.ndarray, config: RetNetConfig
) -> tuple[np.ndarray, np.ndarray | None]:
    """Gradients (dy, dweight) of `group_norm`, y and grad (B, H, T, V)."""
    if config.group_norm is None:
        return grad, None
    if config.group_norm == "mean":
        y = y - np.mean(y, axis=-1, keepdims=True)
    dy, dweight = rms_norm_backward(y, weight, grad, eps=config.norm_eps)
    if config.group_norm == "mean":
        dy = dy - np.mean(dy, axis=-1, keepdims=True)
    return dy, dweight


def swish_and_slope(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`swish` and its slope: with s = sigmoid(x), x s and s + x s (1 - s)."""
    sigmoid = 0.5 + 0.5 * np.tanh(0.5 * x)
    value = x * sigmoid
    return value, sigmoid + value * (1.0 - sigmoid)


def gelu_and_slope(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`gelu` and its slope, Phi(x) + x phi(x), the normal distribution and its density."""
    distribution = 0.5 * (1.0 + erf(x * 0.5**0.5))
    return x * distribution, distribution + x * np.exp(-0.5 * x * x) * (2.0 * np.pi) ** -0.5


ACTIVATIONS = {"swish": swish_and_slope, "gelu": gelu_and_slope}


def linear_backward(x: np.ndarray, weight: np.ndarray, grad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients (dx, dweight) of x @ weight: x (B, T, N), weight (N, M), grad (B, T, M)."""
    return linear(grad, weight.T), x.reshape(-1, x.shape[-1]).T @ grad.reshape(-1, grad.shape[-1])


def multi_scale_retention_backward(
    params: Params,
    grad: np.ndarray,
    config: RetNetConfig,
    record: dict[str, Any],
    *,
    retention_backward: Callable[..., Gradients] = retention_parallel_backward,
    grad_state: np.ndarray | None = None,
) -> tuple[np.ndarray, Params, np.ndarray]:
    """Gradients of `multi_scale_retention`, which filled `record`.

    grad (B, T, d), grad_state (B, H, K, V) or None. Returns dx (B, T, d), a dict of gradients like params, and dstate.
    """
    grads: Params = {}
    grad, grads["w_o"] = linear_backward(record["gated"], params["w_o"], grad)
    x, merged = record["x"], record["merged"]
    dx: Any = 0.0
    if config.gate:
        opened, slope = swish_and_slope(record["gate"])
        dx, grads["w_g"] = linear_backward(x, params["w_g"], grad * merged * slope)
        grad = grad * opened
    grad = split_heads(grad, config.num_heads)
    grad, dweight = group_norm_backward(record["divided"], params.get("group_norm"), grad, config)
    if config.group_norm_affine:
        grads["group_norm"] = dweight
    # The divisor has no gradient: row sums are constants, and score norms are treated as constants by the released code.
    if record["divisor"] is not None:
        grad = grad / record["divisor"]
    dq, dk, dv, dstate = retention_backward(
        record["q"], record["k"], record["v"], record["gamma"], grad, record["state"], grad_state
    )
    if config.scale_keys:
        dk = dk * config.key_dim**-0.5
    if record["phases"] is not None:
        cos, sin = record["phases"]
        dq, dk = turn(dq, cos, -sin), turn(dk, cos, -sin)  # the opposite rotation
    for name, each in (("w_q", dq), ("w_k", dk), ("w_v", dv)):
        dx_part, grads[name] = linear_backward(x, params[name], merge_heads(each))
        dx = dx + dx_part
    return dx, grads, dstate


def feed_forward_backward(
    params: Params, grad: np.ndarray, kind: str, record: dict[str, Any]
) -> tuple[np.ndarray, Params]:
    """Gradients (dx, dict like params) of `feed_forward`, which filled `record`."""
    x, (activated, slope) = record["x"], ACTIVATIONS[FEED_FORWARDS[kind].activation](record["inner"])
    grads: Params = {}
    grad, grads["w_2"] = linear_backward(record["hidden"], params["w_2"], grad)
    dx: Any = 0.0
    if FEED_FORWARDS[kind].gated:
        dx, grads["w_gate"] = linear_backward(x, params["w_gate"], grad * activated)
        grad = grad * record["gate"]
    dx_part, grads["w_1"] = linear_backward(x, params["w_1"], grad * slope)
    return dx + dx_part, grads


def backward(
    params: Params,
    tokens: np.ndarray,
    config: RetNetConfig,
    record: list[dict[str, Any]],
    grad_logits: np.ndarray,
    *,
    retention_backward: Callable[..., Gradients] = retention_parallel_backward,
    grad_state: State | None = None,
) -> tuple[Params, State]:
    """Gradients of `forward` with respect to all parameters and to the state it started from.

    Args:
        params, tokens, config: the arguments of `forward`, as NumPy arrays.
        record: the list that `forward` filled when called with record=[].
        grad_logits: (B, T, vocab_size).
        retention_backward: the backward of the form used, or of any other, since they agree.
        grad_state: a `State` of gradients of the state returned, or None for zero.

    Returns:
        A nested dict like params, and a `State` of gradients of the state before, with position 0.

    Raises:
        ValueError: record does not hold as many entries as `forward` makes for this config.
    """
    if len(record) != config.num_layers + 1:
        raise ValueError(
            f"record must hold {config.num_layers + 1} entries, as forward(record=[]) leaves it, got {len(record)}"
        )
    final = record[-1]
    grads: Params = {"layers": [None] * config.num_layers}
    if (sequences := final["sequences"]) is not None:
        tokens = np.where(sequences.real, tokens, 0)
        retention_backward = functools.partial(
            each_alone_backward, retention=retention_backward, sequences=sequences, keep_values=True
        )
    grad, grads["head"] = linear_backward(final["normed"], params["head"], grad_logits)
    grad, grads["final_norm"] = rms_norm_backward(final["x"], params["final_norm"], grad, eps=config.norm_eps)
    before: list[Any] = [None] * config.num_layers
    for i in reversed(range(config.num_layers)):
        layer, kept = params["layers"][i], record[i]
        dx, ffn = feed_forward_backward(layer["ffn"], grad, config.ffn, kept["ffn"])
        dx, ffn_norm = rms_norm_backward(kept["y"], layer["ffn_norm"], dx, eps=config.norm_eps)
        grad = grad + dx
        dx, retention, before[i] = multi_scale_retention_backward(
            layer["retention"], grad, config, kept["retention"], retention_backward=retention_backward,
            grad_state=None if grad_state is None else grad_state.layers[i],
        )  # fmt: skip
        dx, retention_norm = rms_norm_backward(kept["x"], layer["retention_norm"], dx, eps=config.norm_eps)
        grad = grad + dx
        grads["layers"][i] = {
            "retention_norm": retention_norm, "retention": retention, "ffn_norm": ffn_norm, "ffn": ffn,
        }  # fmt: skip
    grads["embedding"] = np.zeros_like(params["embedding"])
    np.add.at(grads["embedding"], tokens.ravel(), config.embedding_scale * grad.reshape(-1, grad.shape[-1]))
    return grads, State(0, tuple(before))
