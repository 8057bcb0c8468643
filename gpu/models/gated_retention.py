"""The mixer of gated retention, whose decay each token sets for each head (RetNet-3, arXiv:2405.05254; SSD, 2405.21060).

gamma_n = sigmoid(x_n W_gamma)^(1 / 16): the root keeps decays near 1, as in RetNet-3. All else is multi-scale retention.
"""

import torch
from torch import nn
from torch.nn import functional as F

from .retention import CHUNK_SIZE, Retention

TEMPERATURE = 16.0


class GatedRetention(Retention):
    """Retention whose decays are a function of the token, (B, H, T), in place of a schedule."""

    def __init__(self, config):
        super().__init__(config)
        self.w_gamma = nn.Linear(config.dim, config.num_heads, bias=False)

    def retaining(self, x):
        """Gated retention under the contract, with the gates of x (B, T, d)."""
        log_gate = F.logsigmoid(self.w_gamma(x).float()).mT / TEMPERATURE
        return lambda q, k, v, _, state=None: gated_retention(q, k, v, log_gate, state)


def gated_retention(q, k, v, log_gate, state=None, *, chunk_size=CHUNK_SIZE):
    """S_n = gate_n S_(n-1) + k_n^T v_n, o_n = q_n S_n, in chunks: `refimpl.family.gated_retention_parallel` on torch.

    Args:
        q, k: (B, H, T, K). v: (B, H, T, V).
        log_gate: (B, H, T) float32 or float64, the logarithms of the gates, at most 0.
        state: (B, H, K, V), or None for zero.
        chunk_size: tokens that are computed at once.

    Returns:
        out (B, H, T, V) in the dtype of v, and the state after the last token in that of log_gate.
    """
    dtype, chunks = v.dtype, []
    with torch.autocast(q.device.type, enabled=False):
        q, k, v = (x.to(log_gate.dtype) for x in (q, k, v))
        if state is None:
            state = q.new_zeros(*q.shape[:2], q.shape[3], v.shape[3])
        for first in range(0, q.shape[2], chunk_size):
            part = slice(first, first + chunk_size)
            gates = log_gate[..., part]
            future = torch.ones(2 * gates.shape[-1:], dtype=torch.bool, device=gates.device).triu(1)
            # Of what was there before the chunk, after each of its tokens. CUDA's cumsum is not deterministic, this sum is.
            kept = gates[..., None, :].masked_fill(future, 0.0).sum(dim=-1)
            lags = kept[..., :, None] - kept[..., None, :]
            mask = lags.masked_fill(future, -torch.inf).exp()  # masked before exp, which would overflow there
            inside = ((q[:, :, part] @ k[:, :, part].mT) * mask) @ v[:, :, part]
            chunks.append(inside + (q[:, :, part] * kept.exp()[..., None]) @ state)
            written = k[:, :, part] * (kept[..., -1:] - kept).exp()[..., None]
            state = kept[..., -1:, None].exp() * state + written.mT @ v[:, :, part]
    return torch.cat(chunks, dim=2).to(dtype), state
