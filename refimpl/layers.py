"""The layers around retention: norms, gate, multi-scale retention, feed-forward.

Weights are (inputs, outputs) matrices in nested dicts; x is (B, T, d). Norms are computed in float32
at least. Equations: arXiv:2307.08621v4; where the authors' released code differs, we follow
the code and say so.
"""

from array_api_compat import array_namespace, device

from .checks import accumulation_dtype, check_arrays, check_shape
from .decay import head_decays
from .retention import retention_parallel
from .rotation import rotate


def rms_norm(x, weight=None, *, eps=1e-6):
    """x / sqrt(mean(x^2) + eps) over the last axis, times weight if one is given.

    Over the value axis of (B, H, T, V) and without a weight this is the group norm of multi-scale
    retention: one group a head, as in the released code (the paper writes GroupNorm, Eq. 8).

    Args:
        x: (..., N) real floating.
        weight: (N,) or None.
        eps: added to the mean square; it is what makes the norm not quite scale-invariant.

    Returns:
        An array of x's shape and dtype.

    Raises:
        TypeError, ValueError: x or weight is not as above.

    >>> import numpy as np
    >>> rms_norm(np.asarray([3.0, 4.0]), eps=0.0).round(6)
    array([0.848528, 1.131371])
    """
    xp = check_arrays(x=x) if weight is None else check_arrays(x=x, weight=weight)
    if weight is not None:
        check_shape("weight", weight, x.shape[-1:], "the last axis of x")
    wide = xp.astype(x, accumulation_dtype(xp, x.dtype), copy=False)
    normed = wide / xp.sqrt(xp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    normed = xp.astype(normed, x.dtype, copy=False)
    return normed if weight is None else normed * weight


def swish(x):
    """x sigmoid(x), the gate's activation (Eq. 8); written with tanh, which never overflows.

    >>> import numpy as np
    >>> swish(np.asarray([0.0, -1000.0, 1000.0]))
    array([   0.,   -0., 1000.])
    """
    return x * 0.5 * (1.0 + array_namespace(x).tanh(0.5 * x))


def multi_scale_retention(params, x, config, *, retention=retention_parallel, state=None, position=0):
    """Retention in H heads, each with its own gamma, normalised and gated (Eq. 8).

    q, k, v are projections of x; q and k are rotated, k is scaled by 1/sqrt(K). Then
    Y = GroupNorm_h(retention_h(q, k, v)), out = (swish(x W_G) * Y) W_O.

    Args:
        params: dict of w_q, w_k (d, H K), w_v, w_g (d, H V), w_o (H V, d).
        x: (B, T, d).
        config: a `RetNetConfig`.
        retention: any function under the contract of `refimpl.retention`.
        state: (B, H, K, V), or None for zero.
        position: how many tokens came before x.

    Returns:
        out (B, T, d) and the state after the last token (B, H, K, V).

    Raises:
        TypeError, ValueError: from `rotate` and the retention, for shapes that do not fit.
    """
    xp = array_namespace(x)
    q = rotate(_split_heads(x @ params["w_q"], config.num_heads), position, config.rotation)
    k = rotate(_split_heads(x @ params["w_k"], config.num_heads), position, config.rotation)
    k = k * config.key_dim**-0.5
    v = _split_heads(x @ params["w_v"], config.num_heads)
    gamma = head_decays(config.num_heads, config.gamma_schedule, xp=xp, device=device(x))
    y, state = retention(q, k, v, gamma, state)
    y = _merge_heads(rms_norm(y, eps=config.norm_eps))
    return (swish(x @ params["w_g"]) * y) @ params["w_o"], state


def feed_forward(params, x):
    """The gated unit of the released code: (swish(x W_1) * x W_gate) W_2.

    params: dict of w_1, w_gate (d, f), w_2 (f, d); x (B, T, d). Returns (B, T, d).
    """
    return (swish(x @ params["w_1"]) * (x @ params["w_gate"])) @ params["w_2"]


def _split_heads(x, num_heads):
    """(B, T, H N) -> (B, H, T, N)."""
    xp, (batch, time, width) = array_namespace(x), x.shape
    return xp.permute_dims(xp.reshape(x, (batch, time, num_heads, width // num_heads)), (0, 2, 1, 3))


def _merge_heads(x):
    """(B, H, T, N) -> (B, T, H N)."""
    xp, (batch, num_heads, time, width) = array_namespace(x), x.shape
    return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (batch, time, num_heads * width))
