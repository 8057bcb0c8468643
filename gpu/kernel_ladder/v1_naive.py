"""Version 1: the recurrence itself (Eq. 6), one program a head and BV columns of the state, token by token.

Found: three times as long as predicted. The prediction left out that sixteen programs share a multiprocessor, and that a
token is 20,000 ordinary operations for each of them: 0.65 us for the sixteen, at 67 TFLOP/s on 132 multiprocessors. That
makes 0.17 TFLOP altogether, 2.6 ms at that peak, five operations for each number of the state: twice what the prediction
counted. What else takes the time was not measured.
"""

import torch
import triton
import triton.language as tl

from gpu.kernels.triton_common import log2_decay, power_less_one, power_of_two, state_like

PREDICTED_MS = 5.0
PREDICTION = """0.086 TFLOP, but none of it a matrix product, and each token waits for the one before: a load from the L2
cache, a sum over K across the threads of a program and a store, about 1.2 us a token whatever the width. T = 4,096 tokens
then take 5 ms, and twice as long a sequence takes twice as long however many GPUs there are."""


@triton.jit
def _kernel(q, k, v, gamma, start, out, end, T, heads, K, V, BK: tl.constexpr, BV: tl.constexpr):
    bh, rows, columns = tl.program_id(1), tl.arange(0, BK), tl.program_id(0) * BV + tl.arange(0, BV)
    q, k = q + tl.cast(bh, tl.int64) * T * K + rows, k + tl.cast(bh, tl.int64) * T * K + rows
    v, out = v + tl.cast(bh, tl.int64) * T * V + columns, out + tl.cast(bh, tl.int64) * T * V + columns
    state_at = tl.cast(bh, tl.int64) * K * V + rows[:, None] * V + columns[None, :]
    inside = (rows < K)[:, None] & (columns < V)[None, :]
    less_one = power_less_one(log2_decay(gamma, bh % heads), 1)
    state = tl.load(start + state_at, mask=inside, other=0.0)
    for _ in range(T):
        key, query = tl.load(k, mask=rows < K, other=0.0), tl.load(q, mask=rows < K, other=0.0)
        value = tl.load(v, mask=columns < V, other=0.0)
        state += state * less_one + key.to(tl.float32)[:, None] * value.to(tl.float32)[None, :]
        result = tl.sum(query.to(tl.float32)[:, None] * state, 0)
        tl.store(out, result.to(out.dtype.element_ty), mask=columns < V)
        q, k, v, out = q + K, k + K, v + V, out + V
    tl.store(end + state_at, state, mask=inside)


def retention(q, k, v, gamma, state=None):
    """(out, state) of the contract; arguments are not checked."""
    (batch, heads, time, key_dim), value_dim = q.shape, v.shape[3]
    q, k, v = (x.contiguous() for x in (q, k, v))
    start = torch.zeros_like(state_like(q, v)) if state is None else state.contiguous()
    out, end = torch.empty_like(v), torch.empty_like(start)
    _kernel[(triton.cdiv(value_dim, 16), batch * heads)](
        q, k, v, gamma, start, out, end, time, heads, key_dim, value_dim, BK=power_of_two(key_dim), BV=16
    )
    return out, end
