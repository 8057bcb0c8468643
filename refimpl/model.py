"""The language model: embedding, blocks of multi-scale retention and feed-forward, output head.

One forward pass for every form, backend and device: the retention is an argument, the arrays are
whatever array-API library the parameters come from. A block is Y = MSR(RMSNorm(X)) + X,
X' = FFN(RMSNorm(Y)) + Y (arXiv:2307.08621v4).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj

from .arrays import Array, ArrayT, Params, Retention
from .checks import check_choice, check_positions, check_shape
from .config import FEED_FORWARDS, RetNetConfig
from .layers import REFERENCE, Operations, feed_forward, linear, multi_scale_retention, shared_phases
from .lengths import each_alone
from .libraries import check_values
from .retention import retention_parallel, retention_step
from .sequences import none_given, sequences_in
from .tree import flatten, map_tree


class State(NamedTuple):
    """What is left of the past: the number of tokens, and (B, H, K, V) for each layer.

    position is an int, or integers (B,) for a batch of sequences of different lengths.
    """

    position: Any
    layers: tuple[Any, ...]


@functools.cache
def param_shapes(config: RetNetConfig) -> Params:
    """The nested dict of the parameters of a model, with their shapes as leaves.

    >>> from refimpl import RetNetConfig
    >>> param_shapes(RetNetConfig(dim=8, num_layers=1, num_heads=2))["layers"][0]["retention"]["w_v"]
    (8, 16)
    """
    dim, keys, values = config.dim, config.num_heads * config.key_dim, config.num_heads * config.value_dim
    retention: dict[str, tuple[int, ...]] = {"w_q": (dim, keys), "w_k": (dim, keys), "w_v": (dim, values)}
    if config.gate:
        retention["w_g"] = (dim, values)
    if config.group_norm_affine:
        retention["group_norm"] = (config.value_dim,)
    retention["w_o"] = (values, dim)
    ffn = {"w_1": (dim, config.ffn_dim)}
    if FEED_FORWARDS[config.ffn].gated:
        ffn["w_gate"] = (dim, config.ffn_dim)
    ffn["w_2"] = (config.ffn_dim, dim)
    layer = {"retention_norm": (dim,), "retention": retention, "ffn_norm": (dim,), "ffn": ffn}
    return {
        "embedding": (config.vocab_size, dim),
        "layers": [layer] * config.num_layers,
        "final_norm": (dim,),
        "head": (dim, config.vocab_size),
    }


GAINS = {"w_q": 2**-2.5, "w_k": 2**-2.5, "w_v": 2**-2.5, "w_g": 2**-2.5, "w_o": 2**-1}
INITIALISATIONS = ("default", "normal", "depth")
DEVIATION = 0.02  # of "normal"
RESIDUAL = ("w_o", "w_2")  # the output projections: what they return is added to the residual stream


def init_params(
    config: RetNetConfig, seed: int = 0, dtype: Any = np.float32, initialisation: str = "default"
) -> Params:
    """Seeded parameters, a nested dict of NumPy arrays of `dtype` in the shapes of `param_shapes`.

    The default is the released initialisation: projections are Xavier-uniform, with gain 2^-2.5 for w_q, w_k, w_v, w_g and
    2^-1 for w_o; the feed-forward is uniform within 1/sqrt(inputs); embedding and output head are normal with deviation
    d^-0.5; norm weights are 1. "normal" draws every matrix with deviation 0.02; "depth" is the default with w_o and w_2
    divided by sqrt(2 num_layers), so that the residual stream does not grow with the number of layers.

    >>> from refimpl import RetNetConfig
    >>> init_params(RetNetConfig(dim=8, num_layers=1, num_heads=2))["final_norm"]
    array([1., 1., 1., 1., 1., 1., 1., 1.], dtype=float32)
    """
    check_choice("initialisation", initialisation, INITIALISATIONS)
    rng = np.random.default_rng(seed)

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        leaf = name.rpartition(".")[2]
        if len(shape) == 1:
            return np.ones(shape, dtype)
        if initialisation == "normal":
            return rng.normal(0.0, DEVIATION, shape).astype(dtype)
        if leaf in ("embedding", "head"):
            return rng.normal(0.0, config.dim**-0.5, shape).astype(dtype)
        bound = GAINS[leaf] * (6.0 / sum(shape)) ** 0.5 if leaf in GAINS else shape[0] ** -0.5
        if initialisation == "depth" and leaf in RESIDUAL:
            bound *= (2 * config.num_layers) ** -0.5
        return rng.uniform(-bound, bound, shape).astype(dtype)

    return map_tree(draw, param_shapes(config))


def check_params(params: Params, config: RetNetConfig) -> None:
    """Require the parameters of a model of `config`, of one library and dtype.

    A ValueError or TypeError names the first that is missing, unknown or of another kind or shape.
    """
    flat, wanted = flatten(params), flatten(param_shapes(config))
    for name in sorted(wanted.keys() - flat.keys()):
        raise ValueError(f"params: {name} is missing")
    for name in sorted(flat.keys() - wanted.keys()):
        raise ValueError(f"params: {name} is no parameter of this config")
    first = flat["embedding"]
    for name, array in flat.items():
        if array.dtype != first.dtype or type(array) is not type(first):
            raise TypeError(
                f"params: {name} must be {type(first).__name__} of {first.dtype} like embedding, "
                f"got {type(array).__name__} of {array.dtype}"
            )
        check_shape(f"params: {name}", array, wanted[name], "by the config")


def block(
    params: Params,
    x: ArrayT,
    config: RetNetConfig,
    *,
    retention: Retention = retention_parallel,
    state: ArrayT | None = None,
    position: int | Array = 0,
    phases: tuple[ArrayT, ArrayT] | None = None,
    record: list[dict[str, Any]] | None = None,
    operations: Operations = REFERENCE,
) -> tuple[ArrayT, ArrayT]:
    """One layer: Y = MSR(RMSNorm(X)) + X, X' = FFN(RMSNorm(Y)) + Y.

    params: an entry of params["layers"]; x (B, T, d); the others as for `refimpl.layers.multi_scale_retention`.
    Returns (B, T, d) and the state after the last token (B, H, K, V).
    """
    kept: dict[str, Any] = {} if record is None else {"x": x, "retention": {}, "ffn": {}}
    y, after = multi_scale_retention(
        params["retention"], operations.rms_norm(x, params["retention_norm"], eps=config.norm_eps), config,
        retention=retention, state=state, position=position, phases=phases, record=kept.get("retention"),
        operations=operations,
    )  # fmt: skip
    y = x + y
    normed = operations.rms_norm(y, params["ffn_norm"], eps=config.norm_eps)
    x = y + feed_forward(params["ffn"], normed, config.ffn, record=kept.get("ffn"), operations=operations)
    if record is not None:
        record.append(kept | {"y": y})
    return x, after


def forward(
    params: Params,
    tokens: ArrayT,
    config: RetNetConfig,
    *,
    retention: Retention = retention_parallel,
    state: State | None = None,
    record: list[dict[str, Any]] | None = None,
    layer: Callable[..., tuple[Any, Any]] | None = None,
    operations: Operations = REFERENCE,
    lengths: Array | None = None,
    cu_seqlens: Array | None = None,
    max_length: int | None = None,
    padding: str = "right",
) -> tuple[ArrayT, State]:
    """Logits of the next token at every position, by any form of retention.

    Args:
        params: a nested dict of arrays, as `init_params` makes it.
        tokens: (B, T) integers in [0, vocab_size), of the same array library and device; any integers at padding.
        config: the `RetNetConfig` of the parameters.
        retention: any function under the contract of `refimpl.retention`.
        state: the `State` that an earlier call returned, to continue from, or None.
        record: an empty list that receives what `refimpl.backward` needs, one entry a layer and one for the end.
        layer: the function that computes a layer, `block` by default. Another function takes the same arguments;
            params["layers"] then holds what it takes as params, such as the modules in `gpu`, and params are not checked.
        operations: the `refimpl.layers.Operations` of the array library, by default plain arithmetic.
        lengths, cu_seqlens, max_length, padding: where sequences of different lengths lie in tokens, as in
            `refimpl.lengths`; for any retention, but not for a config with a score_norm.

    Returns:
        logits (B, T, vocab_size) and the `State` after the last token. With lengths or cu_seqlens its position is (N,)
        for N sequences, each of which it continues; logits at padding mean nothing.

    Raises:
        TypeError, ValueError: params do not fit config; tokens are not integers of rank 2 or lie outside the
            vocabulary; state is no `State` or of another depth; lengths are not as above; the retention raises it.
    """
    if layer is None:
        check_params(params, config)
        layer = block
    tokens = _check_tokens(tokens, params["embedding"])
    state = State(0, (None,) * config.num_layers) if state is None else state
    if not isinstance(state, State):
        raise TypeError(f"state must be a State that forward returned, or None, got {type(state).__name__}")
    if len(state.layers) != config.num_layers:
        raise ValueError(f"state must hold {config.num_layers} layers, got {len(state.layers)}")
    xp, position, end = array_namespace(tokens), state.position, state.position + tokens.shape[1]
    sequences = None
    if not none_given(lengths, cu_seqlens, max_length, padding):
        if config.score_norm is not None:
            raise ValueError(f"score_norm must be None with sequences of different lengths, got {config.score_norm!r}")
        like = params["embedding"]
        sequences = sequences_in("tokens", like, tokens.shape, lengths, cu_seqlens, max_length, padding)
        before = check_positions("state.position", position, like, sequences.lengths.shape)
        position, end = sequences.positions(before), before + sequences.lengths
        tokens = xp.where(sequences.real, tokens, xp.zeros_like(tokens))
        retention = functools.partial(each_alone, retention=retention, sequences=sequences, keep_values=True)
    _check_vocabulary(tokens, config)
    x = config.embedding_scale * operations.embed(params["embedding"], tokens)
    options = {
        "retention": retention, "position": position, "phases": shared_phases(x, config, position), "record": record,
        "operations": operations,
    }  # fmt: skip
    after = []
    for layer_params, before in zip(params["layers"], state.layers, strict=True):
        x, layer_state = layer(layer_params, x, config, state=before, **options)
        after.append(layer_state)
    normed = operations.rms_norm(x, params["final_norm"], eps=config.norm_eps)
    if record is not None:
        record.append({"x": x, "normed": normed, "sequences": sequences})
    return linear(normed, params["head"]), State(end, tuple(after))


def decode_step(
    params: Params,
    tokens: ArrayT,
    config: RetNetConfig,
    state: State | None = None,
    *,
    retention: Retention = retention_step,
    operations: Operations = REFERENCE,
) -> tuple[ArrayT, State]:
    """One token a sequence, recurrently: `forward` with `retention_step`, or with another step under the contract.

    tokens (B,); returns logits (B, vocab_size) and the `State` after the token. With `refimpl.replay.retention_replay` as
    the retention, states are written every few steps. The rest, and errors, as `forward`.
    """
    if tokens.ndim != 1:
        raise ValueError(f"tokens must have shape (batch,), one token a sequence, got {tuple(tokens.shape)}")
    logits, state = forward(params, tokens[:, None], config, retention=retention, state=state, operations=operations)
    return logits[:, 0, :], state


def _check_tokens(tokens: Any, embedding: Any) -> Any:
    """Return the tokens as int64, which every library can index with."""
    if not is_array_api_obj(tokens) or array_namespace(tokens) is not array_namespace(embedding):
        raise TypeError(f"tokens must be an array of the library of params, got {type(tokens).__name__}")
    xp = array_namespace(tokens)
    if not xp.isdtype(tokens.dtype, "integral"):
        raise TypeError(f"tokens must be integers, got {tokens.dtype}")
    if tokens.ndim != 2:
        raise ValueError(f"tokens must have shape (batch, time), got {tuple(tokens.shape)}")
    return xp.astype(tokens, xp.int64, copy=False)


def _check_vocabulary(tokens: Any, config: RetNetConfig) -> None:
    xp, vocabulary = array_namespace(tokens), config.vocab_size
    check_values(
        tokens,
        lambda tokens: (tokens >= 0) & (tokens < vocabulary),
        f"tokens must lie in [0, {vocabulary})",
        lambda: f"{next(x for x in (int(xp.min(tokens)), int(xp.max(tokens))) if not 0 <= x < vocabulary)}",
    )
