"""The layers around retention: norms, activations, multi-scale retention, feed-forward.

Weights are (inputs, outputs) matrices in nested dicts; x is (B, T, d). Norms are computed in float32 at least.
Equations: arXiv:2307.08621v4; what the released code does otherwise is an option of `RetNetConfig`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from array_api_compat import array_namespace, device

from .arrays import Array, ArrayT, Params, Retention
from .checks import accumulation_dtype, check_arrays, check_shape
from .config import FEED_FORWARDS, RetNetConfig
from .decay import head_decays
from .retention import retention_parallel
from .rotation import phases as phases_of
from .rotation import turn
from .score_norm import row_sums_of, score_scale


def rms_norm(x: ArrayT, weight: Array | None = None, *, eps: float = 1e-6) -> ArrayT:
    """x / sqrt(mean(x^2) + eps) over the last axis, times weight if one is given.

    Over the value axis of (B, H, T, V) and without a weight this is the group norm of multi-scale
    retention: one group a head, as in the released code (the paper writes GroupNorm, Eq. 8).

    Args:
        x: (..., N) real floating.
        weight: (N,) or None.
        eps: added to the mean square; with eps > 0 the norm is not quite scale-invariant.

    Returns:
        An array of x's shape and dtype.

    Raises:
        TypeError, ValueError: x or weight is not as above.

    >>> import numpy as np
    >>> rms_norm(np.asarray([3.0, 4.0]), eps=0.0).round(6)
    array([0.848528, 1.131371])
    """
    check_arrays(x=x, **({} if weight is None else {"weight": weight}))
    if weight is not None:
        check_shape("weight", weight, x.shape[-1:], "the last axis of x")
    xp = array_namespace(x)
    wide = xp.astype(x, accumulation_dtype(xp, x.dtype), copy=False)
    normed = wide / xp.sqrt(xp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    normed = xp.astype(normed, x.dtype, copy=False)
    return normed if weight is None else normed * weight


def linear(x: ArrayT, weight: Array) -> ArrayT:
    """x W for x (..., N) and weight (N, M), as one product of two matrices; NumPy would compute one for each sequence."""
    xp = array_namespace(x)
    return xp.reshape(xp.reshape(x, (-1, x.shape[-1])) @ weight, (*x.shape[:-1], weight.shape[1]))


def linears(x: ArrayT, *weights: Array) -> tuple[ArrayT, ...]:
    """`linear` of x by each of the weights."""
    return tuple(linear(x, weight) for weight in weights)


def swish(x: ArrayT) -> ArrayT:
    """x sigmoid(x), the gate's activation (Eq. 8), written with tanh, which never overflows.

    >>> import numpy as np
    >>> swish(np.asarray([0.0, -1000.0, 1000.0]))
    array([   0.,    0., 1000.])
    """
    half = 0.5 * x
    return half + half * array_namespace(x).tanh(half)


def gelu(x: ArrayT) -> ArrayT:
    """x (1 + erf(x / sqrt 2)) / 2, exactly: the activation of the paper's feed-forward.

    >>> import numpy as np
    >>> gelu(np.asarray([0.0, 1.0, -10.0])).round(6)
    array([ 0.      ,  0.841345, -0.      ])
    """
    return 0.5 * x * (1.0 + erf(x * 0.5**0.5))


def erf(x: ArrayT) -> ArrayT:
    """The error function, 2 / sqrt(pi) e^(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!: all terms have one sign, so no digits
    are lost."""
    xp = array_namespace(x)
    wide = xp.astype(x, accumulation_dtype(xp, x.dtype), copy=False)  # the sum reaches 1e15, beyond float16
    wide = xp.clip(wide, -6.0, 6.0)  # where erf is 1 to the last digit of float64
    total = term = wide
    for n in range(1, 130):  # the last term is below 1e-17 of the sum at |x| = 6
        term = term * (wide * wide) * (2.0 / (2 * n + 1))
        total = total + term
    return xp.astype((2.0 / math.sqrt(math.pi)) * xp.exp(-wide * wide) * total, x.dtype, copy=False)


def embed(weight: ArrayT, tokens: Array) -> ArrayT:
    """The row of weight (N, d) of each token: integers (...) below N -> (..., d).

    >>> import numpy as np
    >>> embed(np.asarray([[1.0, 2.0], [3.0, 4.0]]), np.asarray([1, 0]))
    array([[3., 4.],
           [1., 2.]])
    """
    xp = array_namespace(weight)
    return xp.reshape(xp.take(weight, xp.reshape(tokens, (-1,)), axis=0), (*tokens.shape, weight.shape[1]))


def turn_and_scale(x: ArrayT, cos: Array, sin: Array, scale: float = 1.0) -> ArrayT:
    """`refimpl.rotation.turn`, times scale."""
    turned = turn(x, cos, sin)
    return turned if scale == 1.0 else turned * scale


class Operations(NamedTuple):
    """What an array library may compute in its own way: with fewer kernels, or keeping less for its gradients.

    linears, rms_norm, swish, gelu, embed, turn_and_scale: like the functions of these names here, without the checks.
    gated_norm: `gated_norm` of the library's own rms_norm and swish.
    stop_gradient: x -> x, a constant for automatic differentiation.
    recomputed: function, *arrays -> function(*arrays); automatic differentiation may keep only the arrays and compute
        the rest again.
    """

    linears: Callable[..., tuple[Any, ...]]
    rms_norm: Callable[..., Any]
    swish: Callable[[Any], Any]
    gelu: Callable[[Any], Any]
    embed: Callable[[Any, Any], Any]
    turn_and_scale: Callable[..., Any]
    gated_norm: Callable[..., Any]
    stop_gradient: Callable[[Any], Any]
    recomputed: Callable[..., Any]


def gated_norm(
    y: ArrayT, gate: ArrayT, *, eps: float, rms_norm: Callable[..., Any] = rms_norm, swish: Callable[[Any], Any] = swish
) -> ArrayT:
    """swish(gate) times the group norm of y, heads merged (Eq. 8): y (B, H, T, V), gate (B, T, H V) -> (B, T, H V)."""
    xp = array_namespace(y)
    # The layout that fused kernels write, so that heads are merged without a copy.
    normed = rms_norm(xp.permute_dims(y, (0, 2, 1, 3)), eps=eps)
    return swish(gate) * xp.reshape(normed, gate.shape)


# Plain arithmetic, for any library. The array API cannot stop a gradient, so here `stop_gradient` does nothing.
REFERENCE = Operations(
    linears=linears,
    rms_norm=rms_norm,
    swish=swish,
    gelu=gelu,
    embed=embed,
    turn_and_scale=turn_and_scale,
    gated_norm=gated_norm,
    stop_gradient=lambda x: x,
    recomputed=lambda function, *arrays: function(*arrays),
)


def group_norm(
    y: ArrayT, config: RetNetConfig, weight: Array | None = None, *, operations: Operations = REFERENCE
) -> ArrayT:
    """The norm of Eq. 8: one group a head, over the value axis of (B, H, T, V), as `config.group_norm` says."""
    if config.group_norm is None:
        return y
    xp = array_namespace(y)
    if config.group_norm == "mean":
        y = y - xp.mean(y, axis=-1, keepdims=True)
    y = xp.permute_dims(y, (0, 2, 1, 3))  # the layout that fused kernels write and `merge_heads` takes without a copy
    return xp.permute_dims(operations.rms_norm(y, weight, eps=config.norm_eps), (0, 2, 1, 3))


def multi_scale_retention(
    params: Params,
    x: ArrayT,
    config: RetNetConfig,
    *,
    retention: Retention = retention_parallel,
    state: ArrayT | None = None,
    position: int | Array = 0,
    phases: tuple[ArrayT, ArrayT] | None = None,
    record: dict[str, Any] | None = None,
    operations: Operations = REFERENCE,
) -> tuple[ArrayT, ArrayT]:
    """Retention in H heads, each with its own gamma, normalised and gated (Eq. 8).

    q, k, v are projections of x; q and k are rotated, k is scaled by 1/sqrt(K). Then
    Y = GroupNorm_h(retention_h(q, k, v)), out = (swish(x W_G) * Y) W_O. `config` can leave each of these out.

    Args:
        params: dict of w_q, w_k (d, H K), w_v, w_g (d, H V), w_o (H V, d), and group_norm (V,) if it is affine.
        x: (B, T, d).
        config: a `RetNetConfig`.
        retention: any function under the contract of `refimpl.retention`.
        state: (B, H, K, V), or None for zero.
        position: the number of tokens before x, an integer, or integers (B,), one for each sequence; or (B, T), before
            every token.
        phases: what `shared_phases` returned for x and position; None to compute them here.
        record: a dict that receives the intermediate results for `refimpl.backward`; None to keep nothing.
        operations: the `Operations` of the array library, by default plain arithmetic, which every library has.

    Returns:
        out (B, T, d) and the state after the last token (B, H, K, V).

    Raises:
        TypeError, ValueError: from `rotate` and the retention, for shapes that do not fit; ValueError for
            config.score_norm with another form than retention_parallel, or with a past.
    """
    # A wrapper of layers may round what it hands in, such as FSDP with a policy of mixed precision.
    if phases is None or phases[0].dtype != accumulation_dtype(array_namespace(x), x.dtype):
        phases = shared_phases(x, config, position)
    q, k, v, gamma = project(params, x, config, position, phases, operations=operations)
    y, after = retention(q, k, v, gamma, state)
    divisor = score_divisor(q, k, gamma, config, retention, position, operations=operations)
    divided = y if divisor is None else y / divisor
    gate = linear(x, params["w_g"]) if config.gate else None
    if record is not None:
        record.update(
            x=x, q=q, k=k, v=v, gamma=gamma, state=state, phases=phases, divisor=divisor, divided=divided, gate=gate
        )

    def output(divided: Any, gate: Any, weight: Any, w_o: Any) -> Any:
        if record is None and gate is not None and weight is None and config.group_norm == "rms":
            return linear(operations.gated_norm(divided, gate, eps=config.norm_eps), w_o)
        gated = merged = merge_heads(group_norm(divided, config, weight, operations=operations))
        if gate is not None:
            gated = operations.swish(gate) * merged
        if record is not None:
            record.update(merged=merged, gated=gated)
        return linear(gated, w_o)

    return operations.recomputed(output, divided, gate, params.get("group_norm"), params["w_o"]), after


def shared_phases(x: ArrayT, config: RetNetConfig, position: int | Array = 0) -> tuple[ArrayT, ArrayT] | None:
    """cos and sin for the queries and keys of all layers, of x (B, T, d) in any of them; None without a rotation."""
    if config.rotation is None:
        return None
    xp, (batch, time, _) = array_namespace(x), x.shape
    queries = xp.broadcast_to(x[:, None, :, :1], (batch, 1, time, config.key_dim))
    return phases_of(queries, position, config.rotation)


def project(
    params: Params,
    x: ArrayT,
    config: RetNetConfig,
    position: int | Array = 0,
    phases: tuple[ArrayT, ArrayT] | None = None,
    *,
    operations: Operations = REFERENCE,
) -> tuple[ArrayT, ArrayT, ArrayT, ArrayT]:
    """q, k, v of `multi_scale_retention`, rotated and scaled, (B, H, T, N) each, and gamma (H,)."""
    xp, scale = array_namespace(x), config.key_dim**-0.5 if config.scale_keys else 1.0
    projected = *operations.linears(x, params["w_q"], params["w_k"]), linear(x, params["w_v"])
    q, k, v = (split_heads(each, config.num_heads) for each in projected)
    phases = shared_phases(x, config, position) if phases is None else phases
    if phases is not None:
        q, k = operations.turn_and_scale(q, *phases), operations.turn_and_scale(k, *phases, scale)
    elif config.scale_keys:
        k = k * scale
    return q, k, v, head_decays(config.num_heads, config.gamma_schedule, xp=xp, device=device(x))


def score_divisor(
    q: Array,
    k: Array,
    gamma: Array,
    config: RetNetConfig,
    retention: Retention = retention_parallel,
    position: Any = 0,
    *,
    operations: Operations = REFERENCE,
) -> Any:
    """The divisor of retention before the norm, (H, T, 1) or (B, H, T, 1), or None; see `refimpl.score_norm`."""
    xp, divisor = array_namespace(q), None
    if config.row_norm:
        divisor = xp.astype(xp.sqrt(row_sums_of(gamma, q.shape[2], position)), q.dtype)[..., None]
    if config.score_norm is not None:
        if retention is not retention_parallel or bool(getattr(position, "ndim", 0)) or position != 0:
            raise ValueError(
                f"score_norm must be None unless retention is retention_parallel on the whole text, got "
                f"{config.score_norm!r}: the scores of a row stand side by side in the parallel form alone"
            )
        q, k = operations.stop_gradient(q), operations.stop_gradient(k)  # as in the released code
        scale = score_scale(q, k, gamma, config.score_norm, config.row_norm)
        divisor = scale if divisor is None else divisor * scale
    return divisor


def feed_forward(
    params: Params,
    x: ArrayT,
    kind: str = "swiglu",
    record: dict[str, Any] | None = None,
    *,
    operations: Operations = REFERENCE,
) -> ArrayT:
    """The feed-forward, (f(x W_1) * x W_gate) W_2, or f(x W_1) W_2 without a gate; kind: one of `FEED_FORWARDS`.

    params: dict of w_1, w_gate (d, f), w_2 (f, d); w_gate only for gated kinds. x (B, T, d). Returns (B, T, d).
    record, operations: as for `multi_scale_retention`.
    """
    activation, gated = FEED_FORWARDS[kind]
    inner, gate = linear(x, params["w_1"]), None
    hidden = getattr(operations, activation)(inner)
    if gated:
        gate = linear(x, params["w_gate"])
        hidden = hidden * gate
    if record is not None:
        record.update(x=x, inner=inner, gate=gate, hidden=hidden)
    return linear(hidden, params["w_2"])


def split_heads(x: ArrayT, num_heads: int) -> ArrayT:
    """(B, T, H N) -> (B, H, T, N)."""
    xp, (batch, time, width) = array_namespace(x), x.shape
    return xp.permute_dims(xp.reshape(x, (batch, time, num_heads, width // num_heads)), (0, 2, 1, 3))


def merge_heads(x: ArrayT) -> ArrayT:
    """(B, H, T, N) -> (B, T, H N)."""
    xp, (batch, num_heads, time, width) = array_namespace(x), x.shape
    return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (batch, time, num_heads * width))
