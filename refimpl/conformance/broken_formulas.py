"""Broken kernels: what they compute is not retention, or not at every length."""

from array_api_compat import array_namespace

from .mistakes import by_head, itself, mistake, past, tokens, zero

# ---------------------------------------------------------------- the decay


@mistake("gamma ignored")
def forgets_nothing(retention, q, k, v, gamma, state):
    """Gamma is taken for 1."""
    return retention(q, k, v, gamma**0, state)


@mistake("gamma ignored")
def decays_by_its_own_schedule(retention, q, k, v, gamma, state):
    """1 - 2^(-5-h), whatever gamma says."""
    xp = array_namespace(gamma)
    return retention(q, k, v, 1 - 2.0 ** (-5 - xp.arange(gamma.shape[0], dtype=gamma.dtype)), state)


@mistake("sees itself alone")
def forgets_everything(retention, q, k, v, gamma, state):
    """Each token sees itself alone."""
    return itself(q, k, v), retention(q, k, v, gamma, state)[1]


@mistake("one head's decay for all")
def decays_every_head_like_the_first(retention, q, k, v, gamma, state):
    """The decay of head 0 is taken for all heads."""
    return retention(q, k, v, gamma[:1] + 0 * gamma, state)


@mistake("heads mixed")
def decays_heads_in_reverse(retention, q, k, v, gamma, state):
    """The last head's decay is taken for the first."""
    return retention(q, k, v, array_namespace(gamma).flip(gamma), state)


@mistake("decay after reading")
def decays_after_reading(retention, q, k, v, gamma, state):
    """o_n = q_n (S_(n-1) + k_n v_n) and S_n = gamma (S_(n-1) + k_n v_n): the state returned has one decay too many."""
    out, state = retention(q, k, v, gamma, state if state is None else state / by_head(gamma, state))
    return out, state * by_head(gamma, state)


@mistake("decays the new token")
def decays_the_new_token(retention, q, k, v, gamma, state):
    """S_n = gamma (S_(n-1) + k_n v_n), o_n = q_n S_n."""
    return retention(q, k * by_head(gamma, k), v, gamma, state)


@mistake("missing zeta")
def misses_zeta(retention, q, k, v, gamma, state):
    """Tokens enter the state of a chunk of 64 undecayed, as in the paper's pseudocode."""
    xp, outs = array_namespace(q), [v[:, :, :0]]
    if q.shape[2] == 0:
        return retention(q, k, v, gamma, state)
    for start in range(0, q.shape[2], 64):
        part = tokens(start, start + 64, q, k, v)
        outs.append(retention(*part, gamma, state)[0])
        written = retention(*part, gamma**0)[1]
        state = written if state is None else written + past(retention, *part, gamma, state)[1]
    return xp.concat(outs, axis=2), state


@mistake("missing xi")
def misses_xi(retention, q, k, v, gamma, state):
    """The state before the call is read undecayed."""
    out, after = retention(q, k, v, gamma)
    if state is not None:
        out = out + past(retention, q, k, v, gamma**0, state)[0]
        after = after + past(retention, q, k, v, gamma, state)[1]
    return out, after


@mistake("state carried undecayed")
def carries_the_state_undecayed(retention, q, k, v, gamma, state):
    """The state before the call enters the state after it as it was."""
    out, _ = retention(q, k, v, gamma, state)
    _, written = retention(q, k, v, gamma)
    return out, written if state is None else written + state


@mistake("decays in float32")
def decays_in_float32(retention, q, k, v, gamma, state):
    """Gamma is rounded to float32, which costs 2e-6 of the answer after 257 tokens."""
    xp = array_namespace(gamma)
    return retention(q, k, v, xp.astype(xp.astype(gamma, xp.float32), xp.float64), state)


@mistake("decays in halves", dtype="float32")
def decays_in_halves(retention, q, k, v, gamma, state):
    """Gamma is rounded to float16."""
    xp = array_namespace(gamma)
    return retention(q, k, v, xp.astype(xp.astype(gamma, xp.float16), xp.float64), state)


@mistake("slow heads")
def clamps_slow_heads(retention, q, k, v, gamma, state):
    """No head is slower than 1 - 2^-8."""
    return retention(q, k, v, array_namespace(gamma).minimum(gamma, 0 * gamma + 1 - 2.0**-8), state)


@mistake("decays out of range")
def clamps_fast_heads(retention, q, k, v, gamma, state):
    """No head is faster than 0.6."""
    return retention(q, k, v, array_namespace(gamma).maximum(gamma, 0 * gamma + 0.6), state)


@mistake("gamma 1")
def divides_by_what_is_forgotten(retention, q, k, v, gamma, state):
    """A sum of powers as (1 - gamma^n) / (1 - gamma), which is 0 / 0 for a head that forgets nothing."""
    xp = array_namespace(gamma)
    out, state = retention(q, k, v, gamma, state)
    return out + xp.where(gamma == 1, 0 * gamma + float("nan"), 0 * gamma)[:, None, None], state


@mistake("decays out of range")
def multiplies_by_inverse_decays(retention, q, k, v, gamma, state):
    """gamma^(n-m) as gamma^n gamma^-m in float32, which overflows: every output after that is lost."""
    xp = array_namespace(q)
    with_overflow = xp.arange(q.shape[2], dtype=xp.float64) * -xp.log2(xp.astype(gamma, xp.float64))[:, None] >= 128
    out, state = retention(q, k, v, gamma, state)
    return xp.where(with_overflow[:, :, None], xp.zeros_like(out), out), state


# ---------------------------------------------------------------- what is read


@mistake("strict mask")
def reads_before_it_writes(retention, q, k, v, gamma, state):
    """The mask is strict: token n does not see itself."""
    out, state = retention(q, k, v, gamma, state)
    return out - itself(q, k, v), state


@mistake("not causal")
def sees_the_next_token(retention, q, k, v, gamma, state):
    """The mask is one diagonal too wide."""
    out, state = retention(q, k, v, gamma, state)
    xp = array_namespace(q)
    return out + itself(q, *(xp.concat([x[:, :, 1:], 0 * x[:, :, :1]], axis=2) for x in (k, v))), state


@mistake("q and k swapped")
def swaps_queries_and_keys(retention, q, k, v, gamma, state):
    """Scores are k_n . q_m; the state is that of the keys."""
    return retention(k, q, v, gamma, state)[0], retention(q, k, v, gamma, state)[1]


@mistake("scale of its own")
def scales_the_queries(retention, q, k, v, gamma, state):
    """The kernel divides by sqrt(K), which the caller has done."""
    return retention(q * q.shape[3] ** -0.5, k, v, gamma, state)


@mistake("scale in one term")
def scales_all_but_the_state(retention, q, k, v, gamma, state):
    """The scores are divided by sqrt(K), and what is read of the state is not."""
    out, after = retention(q * q.shape[3] ** -0.5, k, v, gamma)
    if state is None:
        return out, after
    return out + past(retention, q, k, v, gamma, state)[0], retention(q, k, v, gamma, state)[1]


@mistake("scale in one term")
def doubles_the_diagonal(retention, q, k, v, gamma, state):
    """What a token reads of itself counts twice: the masks of two loops overlap."""
    out, state = retention(q, k, v, gamma, state)
    return out + itself(q, k, v), state


# ---------------------------------------------------------------- chunks and lengths


@mistake("ragged tail")
def drops_the_ragged_tail(retention, q, k, v, gamma, state):
    """Tokens after the last whole chunk of 16 give zero and are not written."""
    whole = q.shape[2] // 16 * 16
    out, state = retention(*tokens(0, whole, q, k, v), gamma, state)
    return array_namespace(q).concat([out, 0 * v[:, :, whole:]], axis=2), state


@mistake("wrong chunk length in the tail")
def pads_the_tail_with_decays(retention, q, k, v, gamma, state):
    """The state decays over the padding of the last chunk of 64 tokens."""
    out, state = retention(q, k, v, gamma, state)
    return out, state * by_head(gamma ** (-q.shape[2] % 64), state)


@mistake("state lost between chunks")
def forgets_between_chunks(retention, q, k, v, gamma, state):
    """Every chunk of 16 tokens begins with an empty state, also the first."""
    xp, outs = array_namespace(q), [v[:, :, :0]]
    _, after = retention(q, k, v, gamma, state)
    for start in range(0, q.shape[2], 16):
        outs.append(retention(*tokens(start, start + 16, q, k, v), gamma)[0])
    return xp.concat(outs, axis=2), after


@mistake("chunk edge")
def loses_the_first_token_of_a_chunk(retention, q, k, v, gamma, state):
    """The first output of each chunk of 32, but for the first chunk, is zero."""
    out, state = retention(q, k, v, gamma, state)
    out[:, :, 32::32] = 0
    return out, state


@mistake("length limit")
def stops_at_token_512(retention, q, k, v, gamma, state):
    """Outputs after token 512 are zero."""
    out, state = retention(q, k, v, gamma, state)
    return zero(out, 2, 512), state


@mistake("length limit", dtype="float32")
def forgets_the_state_at_token_1024(retention, q, k, v, gamma, state):
    """After token 1,024 the state begins again."""
    if q.shape[2] <= 1024:
        return retention(q, k, v, gamma, state)
    out, _ = retention(*tokens(0, 1024, q, k, v), gamma, state)
    rest, state = retention(*tokens(1024, None, q, k, v), gamma)
    return array_namespace(q).concat([out, rest], axis=2), state
