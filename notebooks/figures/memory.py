"""Lesson 1: writes, states and one step of the recurrence."""

import numpy as np

from refimpl import retention_recurrent

from .explorer import Explorer, choice, slider
from .style import equation, heat, new_picture, panels, styled


@styled
def outer_products(k, v, names):
    """Each written matrix k_m^T v_m, and their sum: the state. k (T, K), v (T, V), T names."""
    written = k[:, :, None] * v[:, None, :]  # (T, K, V)
    matrices = [*written, written.sum(0)]
    titles = [f"{name}: $k_{m}^T v_{m}$" for m, name in enumerate(names, 1)] + ["the state $S$"]
    picture = new_picture(1.6 * len(matrices), 2.5, f"Heat maps: {' + '.join(names)} = the state, value by value.")
    look = {"limit": np.abs(matrices).max() or 1, "ylabel": "key channel", "wspace": 0.65, "left": 0.08, "right": 0.98}
    equation(picture, titles, matrices, titles, (*"+" * (len(names) - 1), "="), **look)
    return picture


@styled
def states_over_time(states, names, gamma):
    """The state after each token, side by side. states (T, K, V), T names."""
    said = f"Heat maps of the state after each of {len(states)} tokens, gamma = {gamma:g}."
    picture = new_picture(1.3 * len(states) + 0.5, 2.5, said)
    titles = [f"$S_{{{n}}}$, token {n}\n{name}" for n, name in enumerate(names, 1)]
    axes = panels(picture, titles, sharey=True, wspace=0.35, left=0.07, right=0.99, bottom=0.2)
    for ax, state, title in zip(axes, states, titles, strict=True):
        heat(ax, state, np.abs(states).max() or 1, title=title, ylabel="key channel" if ax is axes[0] else "")
    return picture


@styled
def step_picture(q, k, v, gamma, n, names=None):
    """Token n of Eq. 6 as a sum of matrices: the state that was kept, what is written, the new state, what is read.

    q, k (T, K), v (T, V), gamma a number; n from 0 (before the first token) to T; T names or None. The four
    axes are labelled kept, written, state and read.
    """
    inputs, gammas = [x[None, None] for x in (q, k, v)], np.asarray([gamma], dtype=np.float64)
    lengths = range(len(k) + 1)
    history = [retention_recurrent(*(x[:, :, :length] for x in inputs), gammas)[1][0, 0] for length in lengths]
    state, zero = history[n], np.zeros_like(history[n])
    kept, written = (gamma * history[n - 1], np.outer(k[n - 1], v[n - 1])) if n else (zero, zero)
    read = q[n - 1] @ state if n else np.zeros(v.shape[1])
    limit = max(np.abs(history).max(), np.abs(np.einsum("nk,nv->nkv", k, v)).max(initial=0)) or 1
    name = f" ({names[n - 1]})" if n and names else ""
    said = f"Token {n}{name}: kept + written = state; the query reads {np.round(read, 3).tolist()}."
    picture = new_picture(8.4, 2.6, said if n else "Token 0: nothing has been written; the state is zero.")
    labels = ("kept", "written", "state", "read")
    formulas = (rf"\gamma\,S_{{{n - 1}}}", f"k_{{{n}}}^T v_{{{n}}}", "", f"o_{{{n}}} = q_{{{n}}} S_{{{n}}}")
    titles = [f"{label}: ${formula}$" if n else label for label, formula in zip(labels, formulas, strict=True)]
    titles[2] = f"state $S_{{{n}}}$"
    grid = {"wspace": 0.6, "left": 0.07, "right": 0.98, "top": 0.8}
    axes = equation(picture, labels, (kept, written, state, read), titles, "+=→", limit=limit, **grid)
    for ax in axes[:3]:
        ax.set_ylabel("key channel")
    axes[3].set_yticks([])
    if n:
        asked = ", ".join(f"{x:g}" for x in q[n - 1])
        axes[3].set_xlabel(f"value channel\n\n$q_{{{n}}}$ = ({asked})")
    return picture


def state_stepper(asks, k, v, gamma, names=None, *, token=0):
    """A widget that steps through the tokens of one head, from `token` on, and asks for what the reader chooses.

    asks {name: key (K,)}, k (T, K), v (T, V), gamma a number, T names or None.
    """
    return Explorer(
        lambda token, decay, asked: step_picture(np.tile(asks[asked], (len(k), 1)), k, v, decay, token, names),
        token=slider("token n", token, 0, len(k)),
        decay=slider("decay γ", gamma, 0.05, 1.0, 0.05),
        asked=choice("ask for", list(asks)),
    )
