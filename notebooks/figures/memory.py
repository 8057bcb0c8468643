"""Lesson 1: writes, states and one step of the recurrence."""

import numpy as np
from matplotlib import rc_context

from refimpl import retention_recurrent

from .explorer import Explorer, slider
from .style import STYLE, heat, new_picture, sign


@rc_context(STYLE)
def outer_products(k, v, names):
    """Each written matrix k_m^T v_m, and their sum: the state. k (T, K), v (T, V), T names."""
    written = k[:, :, None] * v[:, None, :]  # (T, K, V)
    pictures = [*written, written.sum(0)]
    limit = np.abs(pictures).max() or 1
    titles = [f"{name}: $k_{m}^T v_{m}$" for m, name in enumerate(names, 1)] + ["the state $S$"]
    picture = new_picture(1.6 * len(pictures), 2.5, f"Heat maps: {' + '.join(names)} = the state, value by value.")
    axes = picture.subplots(1, len(pictures), gridspec_kw={"wspace": 0.65, "left": 0.08, "right": 0.98, "bottom": 0.2})
    for ax, matrix, title in zip(axes, pictures, titles, strict=True):
        heat(ax, matrix, limit, title=title, ylabel="key channel" if ax is axes[0] else "")
    picture.canvas.draw()  # settles the positions that an equal aspect changes
    for index in range(len(names)):
        sign(picture, axes[index], axes[index + 1], "=" if index == len(names) - 1 else "+")
    return picture


@rc_context(STYLE)
def states_over_time(states, names, gamma):
    """The state after each token, side by side. states (T, K, V), T names."""
    picture = new_picture(
        1.3 * len(states) + 0.5, 2.5, f"Heat maps of the state after each of {len(states)} tokens, gamma = {gamma:g}."
    )
    axes = picture.subplots(
        1, len(states), sharey=True, gridspec_kw={"wspace": 0.35, "left": 0.07, "right": 0.99, "bottom": 0.2}
    )
    for n, (ax, state, name) in enumerate(zip(np.atleast_1d(axes), states, names, strict=True), 1):
        heat(ax, state, np.abs(states).max() or 1, title=f"$S_{{{n}}}$, token {n}\n{name}", ylabel="")
    np.atleast_1d(axes)[0].set_ylabel("key channel")
    return picture


@rc_context(STYLE)
def step_picture(q, k, v, gamma, n, names=None):
    """Token n of Eq. 6 as a sum of matrices: what was kept, what is written, the state, what is read.

    q, k (T, K), v (T, V), gamma a number; n from 0 (before the first token) to T; T names or None. The four
    axes are labelled kept, written, state and read.
    """
    gammas = np.asarray([gamma], dtype=np.float64)
    history = [
        retention_recurrent(*(x[None, None, :length] for x in (q, k, v)), gammas)[1][0, 0]
        for length in range(len(k) + 1)
    ]
    state = history[n]
    written = np.outer(k[n - 1], v[n - 1]) if n else np.zeros_like(state)
    kept = gamma * history[n - 1] if n else np.zeros_like(state)
    read = q[n - 1] @ state if n else np.zeros(v.shape[1])
    limit = max(np.abs(history).max(), np.abs(np.einsum("nk,nv->nkv", k, v)).max(initial=0)) or 1
    name = f" ({names[n - 1]})" if n and names else ""
    said = f"Token {n}{name}: kept + written = state; the query reads {np.round(read, 3).tolist()}."
    picture = new_picture(8.4, 2.6, said if n else "Token 0: nothing has been written; the state is zero.")
    axes = picture.subplots(1, 4, gridspec_kw={"wspace": 0.6, "left": 0.07, "right": 0.98, "bottom": 0.2, "top": 0.8})
    titles = (rf"kept: $\gamma\,S_{{{n - 1}}}$", rf"written: $k_{{{n}}}^T v_{{{n}}}$") if n else ("kept", "written")
    read_title = rf"read: $o_{{{n}}} = q_{{{n}}} S_{{{n}}}$" if n else "read"
    for ax, name, matrix, title in zip(
        axes,
        ("kept", "written", "state", "read"),
        (kept, written, state, read),
        (*titles, f"state $S_{{{n}}}$", read_title),
        strict=True,
    ):
        ax.set_label(name)
        heat(ax, matrix, limit, title=title, ylabel="" if name == "read" else "key channel")
    axes[3].set_yticks([])
    if n:
        asked = ", ".join(f"{x:g}" for x in q[n - 1])
        axes[3].set_xlabel(f"value channel\n\n$q_{{{n}}}$ = ({asked})")
    picture.canvas.draw()
    for index, text in enumerate(("+", "=", "→")):
        sign(picture, axes[index], axes[index + 1], text)
    return picture


def state_stepper(q, k, v, gamma, names=None):
    """A widget that steps through the tokens of one head. q, k (T, K), v (T, V), gamma a number, T names."""
    return Explorer(
        lambda token, decay: step_picture(q, k, v, decay, token, names),
        token=slider("token n", 0, 0, len(k)),
        decay=slider("decay γ", gamma, 0.05, 1.0, 0.05),
    )
