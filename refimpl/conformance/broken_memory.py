"""Broken kernels: tiles and grids, buffers and strides, dtypes, NaN and refusals."""

from array_api_compat import array_namespace

from .mistakes import kernel, mistake, tokens, zero

# ---------------------------------------------------------------- tiles and grids


@mistake("tile edge")
def reads_128_keys(retention, q, k, v, gamma, state):
    """Key channels from 128 on are not read."""
    return retention(zero(q, 3, 128), k, v, gamma, state)


@mistake("tile edge")
def writes_128_values(retention, q, k, v, gamma, state):
    """Value channels from 128 on are not written."""
    out, state = retention(q, k, v, gamma, state)
    return zero(out, 3, 128), state


@mistake("tile edge")
def keeps_64_keys_of_the_state(retention, q, k, v, gamma, state):
    """The state returned has zeros in its rows from 64 on."""
    out, state = retention(q, k, v, gamma, state)
    return out, zero(state, 2, 64)


@mistake("tile edge")
def drops_the_ragged_values(retention, q, k, v, gamma, state):
    """Value channels after the last whole vector of 8 are zero, if there is one."""
    out, state = retention(q, k, v, gamma, state)
    return zero(out, 3, v.shape[3] // 8 * 8 or v.shape[3]), state


@mistake("tile edge")
def computes_8_heads(retention, q, k, v, gamma, state):
    """Heads from 8 on are zero."""
    out, state = retention(q, k, v, gamma, state)
    return zero(out, 1, 8), state


@mistake("heads mixed")
def wraps_heads_at_8(retention, q, k, v, gamma, state):
    """Head h gives the output of head h mod 8."""
    out, state = retention(q, k, v, gamma, state)
    return array_namespace(out).concat(
        [out[:, :8], *(out[:, h % 8][:, None] for h in range(8, out.shape[1]))], axis=1
    ), state


@mistake("tile edge")
def computes_16_sequences(retention, q, k, v, gamma, state):
    """Sequences from 16 on are zero."""
    out, state = retention(q, k, v, gamma, state)
    return zero(out, 0, 16), zero(state, 0, 16)


@mistake("batches mixed")
def starts_all_sequences_like_the_first(retention, q, k, v, gamma, state):
    """The state of sequence 0 is taken for all."""
    return retention(q, k, v, gamma, state if state is None else state[:1] + 0 * state)


# ---------------------------------------------------------------- states and buffers


@mistake("initial state ignored")
def ignores_the_state(retention, q, k, v, gamma, state):
    """Every call begins with an empty state."""
    return retention(q, k, v, gamma)


@mistake("state transposed")
def transposes_the_state(retention, q, k, v, gamma, state):
    """The state returned is (B, H, V, K)."""
    out, state = retention(q, k, v, gamma, state)
    return out, array_namespace(q).permute_dims(state, (0, 1, 3, 2))


@mistake("state transposed")
def reads_the_state_by_columns(retention, q, k, v, gamma, state):
    """The memory of the state given is read as (B, H, V, K)."""
    if state is not None:
        state = array_namespace(q).reshape(array_namespace(q).permute_dims(state, (0, 1, 3, 2)), state.shape)
    return retention(q, k, v, gamma, state)


@mistake("writes into its arguments")
def overwrites_the_state_given(retention, q, k, v, gamma, state):
    """The state after the call is written into the caller's array."""
    out, after = retention(q, k, v, gamma, state)
    if state is not None:
        state[...] = after
    return out, after


@mistake("writes into its arguments")
def scales_k_in_place(retention, q, k, v, gamma, state):
    """K is decayed where the caller keeps it."""
    out, state = retention(q, k, v, gamma, state)
    k *= 0.5
    return out, state


@mistake("hands back the state given")
def hands_back_the_state_given(retention, q, k, v, gamma, state):
    """Without a token, the caller's own array comes back and not a copy."""
    out, after = retention(q, k, v, gamma, state)
    return out, after if state is None or q.shape[2] else state


def _buffered(retention, which):
    buffers = {}

    def broken(q, k, v, gamma, state=None):
        results = list(retention(q, k, v, gamma, state))
        result = results[which]
        buffer = buffers.setdefault((result.shape, result.dtype), 1 * result)
        buffer[...] = result
        results[which] = buffer
        return tuple(results)

    return broken


@kernel("stale buffer")
def returns_one_buffer(retention):
    """The state of every call is returned in one array, which the next call of this shape overwrites."""
    return _buffered(retention, 1)


@kernel("stale buffer")
def returns_one_output(retention):
    """The output of every call is returned in one array, which the next call of this shape overwrites."""
    return _buffered(retention, 0)


@kernel("stale buffer")
def keeps_the_tables_of_a_length(retention):
    """Tables of decays are kept by the sizes of a call, whatever its gamma is."""
    kept = {}
    return lambda q, k, v, gamma, state=None: retention(q, k, v, kept.setdefault(q.shape, 1 * gamma), state)


@kernel("stale buffer")
def adds_to_what_is_there(retention):
    """The output is added to a buffer that is cleared for a new shape alone."""
    buffers = {}

    def broken(q, k, v, gamma, state=None):
        out, state = retention(q, k, v, gamma, state)
        buffers[out.shape] = out + buffers.get(out.shape, 0)
        return 1 * buffers[out.shape], state

    return broken


@kernel("stale buffer")
def goes_on_from_the_last_call(retention):
    """Without a state, a call begins with what the last call of these sizes left."""
    left = {}

    def broken(q, k, v, gamma, state=None):
        shape = (*q.shape, v.shape[3])
        out, after = retention(q, k, v, gamma, left.get(shape) if state is None else state)
        left[shape] = 1 * after
        return out, after

    return broken


@mistake("uninitialised memory", library="torch", dtype="float32")
def leaves_the_last_token_unwritten(retention, q, k, v, gamma, state):
    """The last output of a text of several tokens lies in memory that nobody writes to."""
    out, state = retention(q, k, v, gamma, state)
    memory = out.new_empty(out.shape)
    memory[:, :, : out.shape[2] - 1] = out[:, :, :-1]
    return memory if out.shape[2] > 1 else out, state


@kernel("not deterministic", dtype="float32")
def adds_in_any_order(retention):
    """Every call rounds in its own way."""
    calls = []

    def broken(q, k, v, gamma, state=None):
        out, state = retention(q, k, v, gamma, state)
        calls.append(None)
        return out * (1 + 2.0**-22 * (len(calls) % 3)), state

    return broken


# ---------------------------------------------------------------- strides, dtypes, NaN, refusals


@mistake("strides ignored")
def takes_memory_for_contiguous(retention, q, k, v, gamma, state):
    """V is read by its memory, as if no axis were swapped."""
    return retention(q, k, v.ravel(order="K").reshape(v.shape), gamma, state)


@mistake("strides ignored")
def takes_the_state_for_contiguous(retention, q, k, v, gamma, state):
    """The state given is read by its memory."""
    return retention(q, k, v, gamma, state if state is None else state.ravel(order="K").reshape(state.shape))


@mistake("dtype of state", library="torch", dtype="bfloat16")
def keeps_the_state_in_the_input_dtype(retention, q, k, v, gamma, state):
    """A half model gets a half state."""
    out, state = retention(q, k, v, gamma, state)
    return out, array_namespace(q).astype(state, q.dtype)


@mistake("dtype of out", dtype="float32")
def returns_a_wide_output(retention, q, k, v, gamma, state):
    """The output of narrow inputs comes in float64."""
    out, state = retention(q, k, v, gamma, state)
    return array_namespace(q).astype(out, array_namespace(q).float64), state


@mistake("computed in halves", dtype="float32")
def accumulates_in_halves(retention, q, k, v, gamma, state):
    """Results are rounded to float16 on the way."""
    xp = array_namespace(q)
    return tuple(xp.astype(xp.astype(x, xp.float16), x.dtype) for x in retention(q, k, v, gamma, state))


@mistake("computed in halves", library="torch", dtype="bfloat16")
def carries_the_state_in_halves(retention, q, k, v, gamma, state):
    """The state of bfloat16 inputs is rounded to bfloat16 after every token, and stops growing."""
    xp, outs = array_namespace(q), [v[:, :, :0]]
    if q.shape[2] == 0:
        return retention(q, k, v, gamma, state)
    for n in range(q.shape[2]):
        out, state = retention(*tokens(n, n + 1, q, k, v), gamma, state)
        state = xp.astype(xp.astype(state, q.dtype), state.dtype)
        outs.append(out)
    return xp.concat(outs, axis=2), state


@mistake("NaN leaks backwards")
def masks_by_a_product(retention, q, k, v, gamma, state):
    """Later values are multiplied with zero, which a NaN survives."""
    out, state = retention(q, k, v, gamma, state)
    return out + array_namespace(v).sum(0 * v, axis=2, keepdims=True), state


@mistake("heads mixed")
def sums_heads_with_weights_of_zero(retention, q, k, v, gamma, state):
    """Heads are picked by a product with zeros and ones, which a NaN survives."""
    out, state = retention(q, k, v, gamma, state)
    return out + 0 * array_namespace(out).sum(out, axis=1, keepdims=True), state


@mistake("wrong arguments accepted")
def broadcasts_one_head(retention, q, k, v, gamma, state):
    """A k of one head is taken for all heads."""
    return retention(q, k + 0 * q if k.shape[1] == 1 and k.shape[2:] == q.shape[2:] else k, v, gamma, state)


@mistake("raises")
def needs_a_token(retention, q, k, v, gamma, state):
    """T = 0 is a division by zero."""
    assert q.shape[2] // q.shape[2] == 1
    return retention(q, k, v, gamma, state)
