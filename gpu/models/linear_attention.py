"""The mixer that RetNet developed from: linear attention, softmax replaced by positive features (arXiv:2006.16236).

o_n = sum_(m<=n) phi(q_n) phi(k_m)^T v_m / sum_(m<=n) phi(q_n) phi(k_m)^T with phi(x) = elu(x) + 1. Numerator and
denominator come from one retention without decay, of values with a column of ones appended.
"""

import torch
from torch import nn
from torch.nn import functional as F

from refimpl import retention_chunkwise

CHUNK_SIZE = 256  # the fastest of the sizes tried for training on a GPU


class LinearAttention(nn.Module):
    """Causal linear attention in `num_heads` heads; keys and values as in attention, no positions."""

    def __init__(self, config):
        super().__init__()
        self.num_heads, self.width = config.num_heads, config.dim // config.num_heads
        self.w_q, self.w_k, self.w_v, self.w_o = (nn.Linear(config.dim, config.dim, bias=False) for _ in range(4))

    @staticmethod
    def shared(config, position, time, device):
        """None: the position of a token does not matter."""

    def memory(self, batch, capacity, dtype, device):
        """The sums over earlier tokens (B, H, width, width + 1) in float32, whatever the capacity."""
        return torch.zeros((batch, self.num_heads, self.width, self.width + 1), device=device)

    def forward(self, x, shared, position=0, memory=None):
        """(B, T, d) and the sums, or None for zero -> the same; sums are taken in float32."""
        batch, time, dim = x.shape
        q, k, v = (w(x).view(batch, time, -1, self.width).transpose(1, 2) for w in (self.w_q, self.w_k, self.w_v))
        with torch.autocast(x.device.type, enabled=False):
            q, k, v = (F.elu(q.float()) + 1.0, F.elu(k.float()) + 1.0, F.pad(v.float(), (0, 1), value=1.0))
            one = torch.ones(self.num_heads, device=x.device)
            sums, after = retention_chunkwise(q, k, v, one, memory, chunk_size=CHUNK_SIZE)
            out = sums[..., :-1] / sums[..., -1:]
        out = out.to(x.dtype).transpose(1, 2).reshape(batch, time, dim)
        return self.w_o(out), None if memory is None else after
