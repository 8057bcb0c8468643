"""The oracle: retention, rotation and the model written as the literal sums, one term at a time.

It imports nothing of this package and shares no line with it, so it cannot share a bug with all the
fast forms. Slow on purpose; float64; NumPy arrays in and out.
"""

import cmath
import math
import typing

import numpy as np


def retention_oracle(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, gamma: np.ndarray, state: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """o_n = sum over m <= n of gamma^(n-m) (q_n . k_m) v_m + gamma^n q_n S_0, n from 1 (Eq. 4-5).

    q, k (B, H, T, K); v (B, H, T, V); gamma (H,); state S_0 (B, H, K, V) or None for zero.
    Returns out (B, H, T, V) and the state after the last token (B, H, K, V), both float64.

    >>> one = np.ones((1, 1, 3, 1))
    >>> out, state = retention_oracle(one, one, one, np.array([0.5]))
    >>> out.ravel(), state.ravel()
    (array([1.  , 1.5 , 1.75]), array([1.75]))
    """
    q, k, v, gamma = (np.asarray(x, dtype=np.float64) for x in (q, k, v, gamma))
    batch, heads, time, key_dim = q.shape
    start = np.zeros((batch, heads, key_dim, v.shape[3])) if state is None else np.asarray(state, dtype=np.float64)
    out, end = np.zeros(v.shape), np.zeros(start.shape)
    for b in range(batch):
        for h in range(heads):
            decay, pairs = float(gamma[h]), list(zip(k[b, h], v[b, h], strict=True))
            for n, query in enumerate(q[b, h]):
                row = decay ** (n + 1) * (query @ start[b, h])
                for m, (key, value) in enumerate(pairs[: n + 1]):
                    row += decay ** (n - m) * (query @ key) * value
                out[b, h, n] = row
            end[b, h] = decay**time * start[b, h]
            for m, (key, value) in enumerate(pairs):
                end[b, h] += decay ** (time - 1 - m) * np.outer(key, value)
    return out, end


def rotation_oracle(x: np.ndarray, frequencies: np.ndarray | list[float], offset: int = 0) -> np.ndarray:
    """Multiply the complex number x_2i + j x_(2i+1) of token n by e^(j (offset + n) theta_i) (Eq. 4).

    x (..., T, K); frequencies theta (K/2,), radians a token. Returns (..., T, K) float64.

    >>> rotation_oracle(np.array([[1.0, 0.0], [1.0, 0.0]]), [np.pi / 2]).round(12)
    array([[1., 0.],
           [0., 1.]])
    """
    x = np.asarray(x, dtype=np.float64)
    out = np.zeros(x.shape)
    for index in np.ndindex(*x.shape[:-1]):
        for i, theta in enumerate(frequencies):
            turned = complex(*x[index][2 * i : 2 * i + 2]) * cmath.exp(1j * (offset + index[-1]) * float(theta))
            out[index][2 * i : 2 * i + 2] = turned.real, turned.imag
    return out


def model_oracle(
    params: dict, tokens: np.ndarray, config: typing.Any, gamma: np.ndarray, frequencies: np.ndarray
) -> np.ndarray:
    """Logits (B, T, vocab_size) of a whole text from its first token, a sequence, a head and a vector at a time.

    gamma: the decay of each head; frequencies: the K/2 angles of rotation. Of config only sizes, eps, norms and the
    kinds of gate and feed-forward are read.
    """
    heads, keys, values = config.num_heads, config.key_dim, config.value_dim
    logits = np.zeros((*tokens.shape, config.vocab_size))
    for b, text in enumerate(tokens):
        stream = [config.embedding_scale * params["embedding"][token] for token in text]
        for layer in params["layers"]:
            weights = layer["retention"]
            inputs = [_rms(x, layer["retention_norm"], config.norm_eps) for x in stream]
            mixed = [np.zeros(heads * values) for _ in stream]
            for h in range(heads):
                q, k, v = (
                    np.array([x @ weights[name][:, h * width : (h + 1) * width] for x in inputs])
                    for name, width in (("w_q", keys), ("w_k", keys), ("w_v", values))
                )
                q, k = rotation_oracle(q, frequencies), rotation_oracle(k, frequencies) / math.sqrt(keys)
                out, _ = retention_oracle(q[None, None], k[None, None], v[None, None], gamma[h : h + 1])
                for n in range(len(text)):
                    row = out[0, 0, n]
                    if config.row_norm:
                        row = row / math.sqrt(sum(gamma[h] ** i for i in range(n + 1)))
                    if config.group_norm == "mean":
                        row = row - sum(row) / values
                    mixed[n][h * values : (h + 1) * values] = _rms(row, 1.0, config.norm_eps)
            for n, x in enumerate(inputs):
                gate = np.array([z / (1 + math.exp(-z)) for z in x @ weights["w_g"]])
                stream[n] = stream[n] + (gate * mixed[n]) @ weights["w_o"]
            ffn = layer["ffn"]
            for n, x in enumerate(stream):
                x = _rms(x, layer["ffn_norm"], config.norm_eps)
                if config.ffn == "swiglu":
                    inner = np.array([z / (1 + math.exp(-z)) for z in x @ ffn["w_1"]])
                else:
                    inner = np.array([z * 0.5 * math.erfc(-z / math.sqrt(2)) for z in x @ ffn["w_1"]])
                if config.ffn != "gelu":
                    inner = inner * (x @ ffn["w_gate"])
                stream[n] = stream[n] + inner @ ffn["w_2"]
        for n, x in enumerate(stream):
            logits[b, n] = _rms(x, params["final_norm"], config.norm_eps) @ params["head"]
    return logits


def _rms(x: np.ndarray, weight: np.ndarray | float, eps: float) -> np.ndarray:
    return x / math.sqrt(sum(z * z for z in x) / len(x) + eps) * weight
