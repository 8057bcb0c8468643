"""May a cut between chunks follow the text? States of passages that were read apart, joined, on the shipped model.

In one layer a join is exact: S_AB = gamma^|B| S_A + S_B. In a deeper layer the inputs of B already depend on A, so the join of
states that were read apart leaves something out. What that costs, and whether it costs less where A ends with a line than where
it ends within one, is measured on the bytes after B, in bits per byte over the exact state.
"""

import json
import platform
from typing import Any

import numpy as np

from ..arrays import Params
from ..bench.run import package_versions
from ..checks import check_integer
from ..config import RetNetConfig
from ..decay import head_decays
from ..model import State, forward
from ..retention import retention_chunkwise
from ..weights import PRETRAINED, load_pretrained, pretrained_card
from .facts import bits, scored_parts
from .text import encode

PASSAGES = PRETRAINED.with_name("passages.json")
BEFORE, BETWEEN, AFTER = 512, (8, 32, 128), 64  # bytes of A, of B, and those that are judged
LINE = ord("\n")


def joined(first: State, second: State, config: RetNetConfig) -> State:
    """The state after A and B from those of each alone: gamma^|B| S_A + S_B in every layer.

    first: after A, from nothing. second: after B, read from an empty state at A's last position. Exact with one layer.
    """
    gamma = head_decays(config.num_heads, config.gamma_schedule) ** float(second.position - first.position)
    layers = zip(first.layers, second.layers, strict=True)
    return State(second.position, tuple((gamma[:, None, None] * a + b).astype(b.dtype) for a, b in layers))


def empty(position: int, config: RetNetConfig) -> State:
    """A state that holds nothing, of a text that begins at `position`."""
    zero = np.zeros((1, config.num_heads, config.key_dim, config.value_dim), dtype=np.float32)
    return State(position, (zero,) * config.num_layers)


def read(
    params: Params, config: RetNetConfig, tokens: np.ndarray, state: State | None = None
) -> tuple[np.ndarray, State]:
    """Logits (T, vocab) of tokens (T,) and the state after them."""
    logits, after = forward(params, tokens[None], config, retention=retention_chunkwise, state=state)
    return logits[0], after


def costs(params: Params, config: RetNetConfig, text: np.ndarray, cut: int, end: int) -> dict[str, float]:
    """Bits per byte of text[end + 1 : end + AFTER], by the state of A, text[cut - BEFORE : cut], and B, text[cut:end].

    exact: A and B read at once. joined: read apart. forgotten: B alone.
    """
    a, b, after = text[cut - BEFORE : cut], text[cut:end], text[end : end + AFTER]
    _, first = read(params, config, a)
    _, apart = read(params, config, b, empty(BEFORE, config))
    _, exact = read(params, config, b, first)
    states = {"exact": exact, "joined": joined(first, apart, config), "forgotten": apart}

    def loss(state: State) -> float:
        logits, _ = read(params, config, after[:-1], state)
        return float(bits(logits, after[1:]).mean())

    return {name: round(loss(state), 5) for name, state in states.items()}


def cuts(text: np.ndarray, spots: int) -> list[tuple[int, int]]:
    """For spots that lie evenly over a text, the end of the next line and the middle of the line after it; each once."""
    ends = np.flatnonzero(text == LINE) + 1
    middles = (ends[:-1] + ends[1:]) // 2
    fits = (ends[:-1] >= BEFORE) & (middles + BETWEEN[-1] + AFTER <= len(text)) & (middles > ends[:-1])
    ends, middles = ends[:-1][fits], middles[fits]
    if len(ends) < spots:
        raise ValueError(f"spots must be at most {len(ends)}, the lines of the held-out text, got {spots}")
    places = np.unique(np.searchsorted(ends, np.linspace(ends[0], ends[-1], spots).astype(int)))
    return [(int(ends[i]), int(middles[i])) for i in places]


def measure(corpus: str, spots: int = 40, progress: Any = lambda rows: rows) -> dict[str, Any]:
    """Measure at spots that lie evenly over the held-out text; returns what the file holds.

    corpus: as for `facts.scored_parts`. progress: wraps the rows, for a progress bar.

    Raises:
        ValueError: spots is no integer of at least 2, or the corpus none that the card scores.
    """
    check_integer("spots", spots, minimum=2)
    card, (params, config) = pretrained_card(), load_pretrained()
    held_out = encode(scored_parts(corpus)[1].text)
    rows: list[dict[str, Any]] = []
    for line, middle in progress(cuts(held_out, spots)):
        rows.append({"start": line})
        for name, cut in (("line", line), ("within", middle)):
            rows[-1][name] = [costs(params, config, held_out, cut, cut + length) for length in BETWEEN]
    return {
        "command": f"python -m refimpl passages --corpus '{corpus}' --spots {spots}",
        "weights": card["sha256"],
        "versions": {"python": platform.python_version()} | package_versions(("numpy",)),
        "before": BEFORE, "between": BETWEEN, "after": AFTER, "spots": rows,
    }  # fmt: skip


def load_passages() -> dict[str, Any]:
    """The file that `python -m refimpl passages` wrote, with the numbers of each spot."""
    return json.loads(PASSAGES.read_text(encoding="utf-8"))
