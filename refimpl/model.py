"""The language model: embedding, blocks of multi-scale retention and feed-forward, output head.

One forward pass for every form, backend and device: the retention is an argument, the arrays are
whatever array-API library the parameters come from. A block is Y = MSR(RMSNorm(X)) + X,
X' = FFN(RMSNorm(Y)) + Y (arXiv:2307.08621v4).
"""

from typing import NamedTuple

import numpy as np
from array_api_compat import array_namespace

from .layers import feed_forward, multi_scale_retention, rms_norm
from .retention import retention_parallel, retention_step


class State(NamedTuple):
    """What the past leaves behind: how many tokens there were, and (B, H, K, V) for each layer."""

    position: int
    layers: tuple


def init_params(config, seed=0, dtype=np.float32):
    """Seeded parameters, a nested dict of NumPy arrays of `dtype`.

    The released initialisation: projections are Xavier-uniform, with gain 2^-2.5 for w_q, w_k, w_v, w_g and 2^-1 for
    w_o; the feed-forward is uniform within 1/sqrt(inputs); embedding and output head are normal with deviation d^-0.5;
    norm weights are 1.

    >>> from refimpl import RetNetConfig
    >>> params = init_params(RetNetConfig(dim=8, num_layers=1, num_heads=2))
    >>> params["layers"][0]["retention"]["w_v"].shape
    (8, 16)
    """
    rng = np.random.default_rng(seed)
    dim, keys, values = config.dim, config.num_heads * config.key_dim, config.num_heads * config.value_dim

    def xavier(inputs, outputs, gain):
        bound = gain * (6.0 / (inputs + outputs)) ** 0.5
        return rng.uniform(-bound, bound, (inputs, outputs)).astype(dtype)

    def normal(*shape):
        return rng.normal(0.0, dim**-0.5, shape).astype(dtype)

    def linear(inputs, outputs):
        return rng.uniform(-(inputs**-0.5), inputs**-0.5, (inputs, outputs)).astype(dtype)

    def layer():
        retention = {
            "w_q": xavier(dim, keys, 2**-2.5),
            "w_k": xavier(dim, keys, 2**-2.5),
            "w_v": xavier(dim, values, 2**-2.5),
        }
        if config.gate:
            retention["w_g"] = xavier(dim, values, 2**-2.5)
        if config.group_norm_affine:
            retention["group_norm"] = np.ones(config.value_dim, dtype)
        retention["w_o"] = xavier(values, dim, 2**-1.0)
        ffn = {"w_1": linear(dim, config.ffn_dim)}
        if config.ffn != "gelu":
            ffn["w_gate"] = linear(dim, config.ffn_dim)
        ffn["w_2"] = linear(config.ffn_dim, dim)
        return {
            "retention_norm": np.ones(dim, dtype),
            "retention": retention,
            "ffn_norm": np.ones(dim, dtype),
            "ffn": ffn,
        }

    return {
        "embedding": normal(config.vocab_size, dim),
        "layers": [layer() for _ in range(config.num_layers)],
        "final_norm": np.ones(dim, dtype),
        "head": normal(dim, config.vocab_size),
    }


def forward(params, tokens, config, *, retention=retention_parallel, state=None, record=None):
    """Logits of the next token at every position, by any form of retention.

    Args:
        params: a nested dict of arrays, as `init_params` makes it.
        tokens: (B, T) integers in [0, vocab_size), of the same array library and device.
        config: the `RetNetConfig` the parameters were made for.
        retention: any function under the contract of `refimpl.retention`.
        state: the `State` an earlier call returned, from which this one goes on, or None.
        record: an empty list, which receives what `refimpl.backward` needs, an entry a layer and one for the end.

    Returns:
        logits (B, T, vocab_size) and the `State` after the last token.

    Raises:
        TypeError, ValueError: tokens are not integers of rank 2 or lie outside the vocabulary; the
            state has another number of layers; anything the retention refuses.
    """
    xp = _check_tokens(tokens, config)
    state = State(0, (None,) * config.num_layers) if state is None else state
    if len(state.layers) != config.num_layers:
        raise ValueError(f"state must hold {config.num_layers} layers, got {len(state.layers)}")
    x = config.embedding_scale * xp.reshape(
        xp.take(params["embedding"], xp.reshape(tokens, (-1,)), axis=0), (*tokens.shape, config.dim)
    )
    after = []
    for layer, before in zip(params["layers"], state.layers, strict=True):
        kept = None if record is None else {"x": x, "retention": {}, "ffn": {}}
        y, layer_state = multi_scale_retention(
            layer["retention"],
            rms_norm(x, layer["retention_norm"], eps=config.norm_eps),
            config,
            retention=retention,
            state=before,
            position=state.position,
            record=kept and kept["retention"],
        )
        y = x + y
        normed = rms_norm(y, layer["ffn_norm"], eps=config.norm_eps)
        x = y + feed_forward(layer["ffn"], normed, config.ffn, record=kept and kept["ffn"])
        if record is not None:
            record.append(kept | {"y": y})
        after.append(layer_state)
    normed = rms_norm(x, params["final_norm"], eps=config.norm_eps)
    if record is not None:
        record.append({"x": x, "normed": normed})
    return normed @ params["head"], State(state.position + tokens.shape[1], tuple(after))


def decode_step(params, tokens, config, state=None):
    """One token a sequence, recurrently: `forward` with `retention_step`.

    tokens (B,); returns logits (B, vocab_size) and the `State` after the token. Errors as `forward`.
    """
    if tokens.ndim != 1:
        raise ValueError(f"tokens must have shape (batch,), one token a sequence, got {tuple(tokens.shape)}")
    logits, state = forward(params, tokens[:, None], config, retention=retention_step, state=state)
    return logits[:, 0, :], state


def _check_tokens(tokens, config):
    xp = array_namespace(tokens)
    if not xp.isdtype(tokens.dtype, "integral"):
        raise TypeError(f"tokens must be integers, got {tokens.dtype}")
    if tokens.ndim != 2:
        raise ValueError(f"tokens must have shape (batch, time), got {tuple(tokens.shape)}")
    if 0 not in tokens.shape:
        for extreme in (int(xp.min(tokens)), int(xp.max(tokens))):
            if not 0 <= extreme < config.vocab_size:
                raise ValueError(f"tokens must lie in [0, {config.vocab_size}), got {extreme}")
    return xp
