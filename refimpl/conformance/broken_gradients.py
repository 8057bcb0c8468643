"""Broken kernels: results are right, and what flows back is not. They need an autograd."""

from array_api_compat import array_namespace

from .mistakes import by_head, constant, kernel, mistake, past, tokens, with_gradient, zero

# ---------------------------------------------------------------- gradients


@mistake("gradient cut at chunks", library="torch")
def cuts_gradients_between_chunks(retention, q, k, v, gamma, state):
    """The state handed on after each 64 tokens is a constant to autograd."""
    outs = [v[:, :, :0]]
    for start in range(0, q.shape[2], 64):
        out, state = retention(*tokens(start, start + 64, q, k, v), gamma, constant(state) if start else state)
        outs.append(out)
    if not q.shape[2]:
        return retention(q, k, v, gamma, state)
    return array_namespace(q).concat(outs, axis=2), state


@mistake("no gradient", library="torch")
def has_no_gradient_of_gamma(retention, q, k, v, gamma, state):
    """Gamma is a constant to autograd."""
    return retention(q, k, v, constant(gamma), state)


@mistake("no gradient", library="torch")
def has_no_gradient_of_the_state_given(retention, q, k, v, gamma, state):
    """The state given is a constant to autograd."""
    return retention(q, k, v, gamma, state if state is None else constant(state))


@mistake("gradient of one result lost", library="torch")
def has_no_gradient_of_the_state_returned(retention, q, k, v, gamma, state):
    """The state returned is a constant to autograd."""
    out, state = retention(q, k, v, gamma, state)
    return out, constant(state)


@mistake("gradient misses a term", library="torch")
def decays_the_state_as_a_constant(retention, q, k, v, gamma, state):
    """Gamma's gradient leaves out what it does to the state given."""
    if state is None:
        return retention(q, k, v, gamma)
    written, kept = retention(q, k, v, gamma), past(retention, q, k, v, constant(gamma), state)
    return written[0] + kept[0], written[1] + kept[1]


@mistake("gradient scaled", library="torch")
def scales_the_gradient_of_k(retention, q, k, v, gamma, state):
    """The gradient of k is divided by sqrt(K)."""
    return retention(q, with_gradient(k, lambda grad: grad * k.shape[3] ** -0.5), v, gamma, state)


@mistake("one decay too many", library="torch")
def decays_the_gradient_of_the_state(retention, q, k, v, gamma, state):
    """The gradient of the state given has one decay too many."""
    if state is not None:
        state = with_gradient(state, lambda grad: grad * by_head(gamma, grad))
    return retention(q, k, v, gamma, state)


@mistake("tile edge", library="torch")
def has_gradients_of_128_values(retention, q, k, v, gamma, state):
    """The gradient of value channels from 128 on is zero."""
    return retention(q, k, with_gradient(v, lambda grad: zero(grad, 3, 128)), gamma, state)


@mistake("length limit", library="torch", dtype="float32")
def has_gradients_of_512_tokens(retention, q, k, v, gamma, state):
    """The gradient of q of tokens from 512 on is zero."""
    return retention(with_gradient(q, lambda grad: zero(grad, 2, 512)), k, v, gamma, state)


@mistake("computed in halves", library="torch", dtype="float32")
def rounds_gradients_to_halves(retention, q, k, v, gamma, state):
    """The gradient of v goes through bfloat16."""
    return retention(q, k, with_gradient(v, lambda grad: grad.bfloat16().to(grad.dtype)), gamma, state)


@mistake("gradient scaled", library="torch", dtype="bfloat16")
def doubles_the_gradient_of_q_in_halves(retention, q, k, v, gamma, state):
    """Two programs add the gradient of q of a bfloat16 model."""
    return retention(with_gradient(q, lambda grad: 2 * grad), k, v, gamma, state)


@mistake("strides ignored", library="torch")
def takes_upstream_gradients_for_contiguous(retention, q, k, v, gamma, state):
    """The gradient of out is read by its memory."""
    out, state = retention(q, k, v, gamma, state)
    return with_gradient(out, lambda grad: grad if grad.is_contiguous() else 0 * grad), state


@mistake("gradient not finite", library="torch", dtype="float32")
def divides_by_gamma_in_backward(retention, q, k, v, gamma, state):
    """The gradient of k holds gamma^-T, which overflows for fast heads."""
    weight = lambda grad: grad + 0 * by_head(gamma ** -q.shape[2], grad)  # noqa: E731
    return retention(q, with_gradient(k, weight), v, gamma, state)


@kernel("stale buffer", library="torch")
def saves_for_backward_in_one_buffer(retention):
    """What the backward pass needs lies where the next forward pass writes."""
    calls = []

    def broken(q, k, v, gamma, state=None):
        calls.append(None)
        mine = len(calls)
        return retention(q, k, with_gradient(v, lambda grad: grad if len(calls) == mine else -grad), gamma, state)

    return broken


@mistake("writes into its arguments", library="torch")
def doubles_the_gradient_that_it_is_given(retention, q, k, v, gamma, state):
    """The backward pass works where the caller keeps the gradient of out."""
    out, state = retention(q, k, v, gamma, state)
    return with_gradient(out, lambda grad: grad.mul_(2) / 2), state


@kernel("not deterministic", library="torch", dtype="float32")
def adds_gradients_in_any_order(retention):
    """Every backward pass rounds in its own way."""
    calls = []

    def broken(q, k, v, gamma, state=None):
        rounds = lambda grad: calls.append(None) or grad * (1 + 2.0**-22 * (len(calls) % 3))  # noqa: E731
        return retention(q, with_gradient(k, rounds), v, gamma, state)

    return broken
