"""The oracles: the function each fast form must give, as literal loops that owe refimpl nothing.

Those of retention and rotation stand in `refimpl/oracle.py`, because `python -m refimpl` shows them to users as well;
`test_oracle.py` asserts that they import nothing of refimpl. The model's stands here.
"""

import math

import numpy as np

from refimpl.oracle import retention_oracle, rotation_oracle

__all__ = ["model_oracle", "retention_oracle", "rotation_oracle"]


def model_oracle(params, tokens, config, gamma, frequencies):
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
                out, _ = retention_oracle(*(x[None, None] for x in (q, k, v)), [gamma[h]])
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


def _rms(x, weight, eps):
    return x / math.sqrt(sum(z * z for z in x) / len(x) + eps) * weight
