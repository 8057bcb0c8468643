"""Sampling text: prompts are read chunkwise, then each new token costs one recurrent step.

Prompts of different lengths are read one behind another; then all continue side by side, each at its own position. On a GPU
the step is a CUDA graph: about a hundred small kernels in one launch. A step may leave the states as they are and keep a few
tokens beside them (`refimpl.replay`); a draft may propose tokens, which are read several at once (`gpu.sampling.speculative`).
"""

import codecs
import functools
from typing import NamedTuple

import torch

from refimpl import State, retention_chunkwise, retention_step
from refimpl.checks import check_integer
from refimpl.libraries import values_trusted
from refimpl.replay import LENGTH, ReplayState, retention_replay
from refimpl.sampling import check_sampling, draw
from refimpl.training.text import VOCAB_SIZE

from ..kernels.registry import fastest_model_step
from ..numerics import record
from .speculative import speculated

PIECE = 4096  # tokens of a prompt that are read at once, and draws that are made at once, which bounds the memory


class Past(NamedTuple):
    """What B sequences leave: a `State` with positions (B,), and logits (B, vocab) of the next token."""

    state: State
    logits: torch.Tensor


class Sample(NamedTuple):
    """What `generate` returns.

    tokens: (B, T + N), the prompt and what follows; for a list of prompts a list of (T_i + N,).
    logits: (B, N, vocab), from which each new token was drawn.
    """

    tokens: torch.Tensor | list
    logits: torch.Tensor


def generate(model, prompt, new_tokens, *, past=None, draft=None, **sampling):
    """Continue a batch of prompts.

    Args:
        model: a `gpu.models.retnet.RetNet`.
        prompt: (B, T) int64 on the model's device, or a list of (T_i,); T at least 1 unless there is a past.
        new_tokens: N, how many to draw, at least 1.
        past: as for `prefill`.
        draft; sampling: temperature, top_k, top_p, seed, replay: as for `draw_tokens`.

    Returns:
        A `Sample`.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    check_integer("new_tokens", new_tokens, minimum=1)
    check_drawing(new_tokens, **sampling, drafted=draft and draft.count)
    past = prefill(model, prompt, past)
    drawn = draw_tokens(model, past, new_tokens, draft=draft, **sampling)
    tokens, logits = (torch.stack(each, dim=1) for each in zip(*drawn, strict=True))
    if isinstance(prompt, torch.Tensor):
        return Sample(torch.cat([prompt.expand(len(tokens), -1), tokens], dim=1), logits)
    return Sample([torch.cat(pair) for pair in zip(prompt, tokens, strict=True)], logits)


@torch.no_grad()
def prefill(model, prompts, past=None):
    """Read prompts chunkwise; returns the `Past` to draw from.

    Args:
        model: a `gpu.models.retnet.RetNet`.
        prompts: (B, T) int64, or a list of (T_i,); T at least 1 unless there is a past.
        past: a `Past` that the prompts continue, of B rows or of one row for all prompts.

    Raises:
        ValueError: prompts are not as above; the past has another number of rows.
        FloatingPointError: logits are not finite.
        TypeError, ValueError: as `refimpl.forward`.
    """
    shapes = [tuple(prompts.shape)] if isinstance(prompts, torch.Tensor) else [(1, *prompt.shape) for prompt in prompts]
    for shape in shapes or [(0, 0)]:
        if len(shape) != 2 or shape[0] == 0 or (shape[1] == 0 and past is None):
            raise ValueError(f"prompt must have shape (batch, time) with time at least 1, got {shape}")
    if past is not None and len(past.logits) == 1:
        past = _rows(past, [0] * len(prompts))
    if past is not None and len(past.logits) != len(prompts):
        raise ValueError(f"past must hold 1 row or {len(prompts)}, one for each prompt, got {len(past.logits)}")
    past = _read(model, prompts, past)
    if not torch.isfinite(past.logits).all():
        raise FloatingPointError("the logits after the prompt are not finite: the weights may be broken")
    return past


def draw_tokens(model, past, new_tokens, *, temperature=1.0, top_k=None, top_p=None, seed=0, replay=None, draft=None):
    """An iterator of new_tokens times (tokens (B,), the logits (B, vocab) they were drawn from), a recurrent step each.

    Args:
        model: a `gpu.models.retnet.RetNet`.
        past: a `Past` that `prefill` returned; it is not changed.
        temperature: logits are divided by it; 0 takes the likeliest token.
        top_k: draw only from the k likeliest tokens; None is all.
        top_p: of these, draw from the fewest likeliest whose probabilities reach this sum, in (0, 1]; None is 1.
        seed: row i draws with seed + i from its own generator on the CPU, so a prompt gets the same text on any device and
            in any batch, up to the rounding of logits.
        replay: L of `refimpl.replay`: states are written every L tokens; None writes them at each.
        draft: a draft of `gpu.sampling.speculative`, for these prompts and this call alone: the text has the same distribution,
            but the same seed gives another one. replay must then be more than the tokens it proposes at once; None is 16, or
            one more than those.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """
    how = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed, "replay": replay}
    replay = check_drawing(new_tokens, **how, drafted=draft and draft.count)
    rows, vocab_size = past.logits.shape
    generators = [torch.Generator().manual_seed(seed + row) for row in range(rows)]
    if draft is not None:
        draft.check(rows, vocab_size)
        return speculated(model, past, new_tokens, draft, replay, generators, temperature, top_k, top_p)
    return _drawn(model, past, new_tokens, replay, generators, temperature, top_k, top_p)


def check_drawing(new_tokens, *, temperature=1.0, top_k=None, top_p=None, seed=0, replay=None, drafted=None):
    """Check what `draw_tokens` takes, drafted being its draft's count, and return the L of its replay decoding, or None."""
    check_sampling(new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    if replay is not None and check_integer("replay", replay, minimum=1) <= (drafted or 0):
        raise ValueError(f"replay must be at least {drafted + 1}, one more than the drafted tokens, got {replay}")
    return replay if drafted is None else replay or max(LENGTH, drafted + 1)


@torch.no_grad()
def _drawn(model, past, new_tokens, replay, generators, *sampling):
    """`draw_tokens` after its checks, which so come at the call and not at the first token."""
    device = past.logits.device
    logits, step = past.logits, None
    for n in range(new_tokens):
        if n % PIECE == 0:  # in blocks: a copy to a GPU for each token would take time, one of all has no bound
            block = [torch.rand(min(PIECE, new_tokens - n), dtype=torch.float64, generator=each) for each in generators]
            uniform = torch.stack(block).to(device)
        tokens = draw(logits, uniform[:, n % PIECE], *sampling)
        yield tokens, logits
        if n + 1 < new_tokens:
            step = step or step_from(model, past.state, replay)
            logits = step(tokens)


def step_from(model, state, replay=None):
    """The step of a model from a state, on its device; replay as for `draw_tokens`."""
    graphed = state.position.is_cuda
    if replay is None:
        return (
            GraphedStep(model, state, fused=fastest_model_step(model.embedding.device))
            if graphed
            else Step(model, state)
        )
    if graphed:
        return GraphedReplay(model, state, length=replay)
    return Step(model, state, retention=functools.partial(retention_replay, length=replay))


def stream_text(model, past, new_tokens, *, pieces=None, **sampling):
    """Yield B strings for each new token, empty while a character is incomplete.

    pieces: the bytes of each token; None for a model whose tokens are bytes. All other arguments and errors as
    `draw_tokens`. The joined strings of a row are the text of its tokens' bytes, with U+FFFD for what is not UTF-8.
    """
    pieces = pieces or [bytes([byte]) for byte in range(VOCAB_SIZE)]
    decoders = [codecs.getincrementaldecoder("utf-8")(errors="replace") for _ in past.logits]
    for tokens, _ in draw_tokens(model, past, new_tokens, **sampling):
        yield tuple(decoder.decode(pieces[token]) for decoder, token in zip(decoders, tokens.tolist(), strict=True))
    yield tuple(decoder.decode(b"", final=True) for decoder in decoders)


class Step:
    """A recurrent step of B sequences: tokens (B,) -> logits (B, vocab); it keeps the state.

    retention: one under the contract that takes one token. how: further arguments of the model.
    """

    def __init__(self, model, state, *, retention=retention_step, **how):
        self.model, self.state, self.how = model, state, {"retention": retention, **how}

    @torch.no_grad()
    def __call__(self, tokens):
        """The logits after one more token of each sequence; tokens must lie in the vocabulary."""
        with values_trusted():  # they were drawn from its logits
            logits, self.state = self.model(tokens[:, None], state=self.state, **self.how)
        return logits[:, 0]


class GraphedStep:
    """`Step` as a CUDA graph: recorded once, on fixed buffers, and then replayed for each token.

    Each layer's state is written back before the next layer starts, so memory holds one state and not two. fused: a
    `model_step` of `gpu.kernels.registry`, which computes the step where it can; retention and how are for elsewhere.
    """

    @torch.no_grad()
    def __init__(self, model, state, *, retention=retention_step, fused=None, **how):
        self.buffers, self.tokens = _map_state(torch.clone, state), torch.zeros_like(state.position)
        self.step = fused and fused(model, self.buffers)
        if self.step is None:
            self.step = Step(model, self.buffers, retention=_in_place(retention), **how)
        self.graph, self.logits = record(self._advance, self.tokens.device)
        _map_state(torch.Tensor.copy_, self.buffers, state)  # undo the steps of the warm-up

    def __call__(self, tokens):
        """As `Step`."""
        self.tokens.copy_(tokens)
        with torch.cuda.device(self.tokens.device):
            self.graph.replay()
        return self.logits.clone()  # the next replay writes there

    def _advance(self):
        self.step.state = self.buffers
        logits = self.step(self.tokens)
        _map_state(torch.Tensor.copy_, self.buffers, self.step.state)
        return logits


class GraphedReplay:
    """`Step` by `retention_replay` as CUDA graphs, one for each number of kept tokens.

    Each works on its part of the same buffers: the states, and L keys and values. Only the one that finds all L kept writes
    states. length: L. step: what computes a token on such buffers, like `replay_step`. how: further arguments of the model.
    """

    @torch.no_grad()
    def __init__(self, model, state, *, length=LENGTH, step=None, **how):
        self.length, self.slots, self.how = length, 0, how
        self.compute = step or replay_step
        self.model, self.tokens = model, torch.zeros_like(state.position)
        self.buffers = _map_state(lambda x: x.clone() if x.ndim == 1 else self._buffers(model, x), state)
        self.graphs = []
        for slots in range(length + 1):
            self.graphs.append(record(functools.partial(self._advance, slots), self.tokens.device))
        self.buffers.position.copy_(state.position)  # undo the steps of the warm-up
        for buffers, layer in zip(self.buffers.layers, state.layers, strict=True):
            buffers.state.copy_(layer)

    def __call__(self, tokens):
        """As `Step`."""
        self.tokens.copy_(tokens)
        graph, logits = self.graphs[self.slots]
        with torch.cuda.device(self.tokens.device):
            graph.replay()
        self.slots = self.slots % self.length + 1
        return logits.clone()  # the next replay of this graph writes there

    def _buffers(self, model, state):
        """The buffers of a layer, for keys and values of the dtype in which the model computes them."""
        (batch, heads, key_dim, value_dim), dtype = state.shape, model.embedding.dtype
        keys, values = (state.new_zeros((batch, heads, self.length, n), dtype=dtype) for n in (key_dim, value_dim))
        return ReplayState(state.clone(), keys, values)

    def _advance(self, slots):
        step = Step(self.model, self.buffers, retention=functools.partial(self._retention, slots), **self.how)
        logits = step(self.tokens)
        self.buffers.position.copy_(step.state.position)
        return logits

    def _retention(self, slots, q, k, v, gamma, buffers):
        return self.compute(q, k, v, gamma, buffers, slots), buffers


def replay_step(q, k, v, gamma, buffers, slots):
    """The out of one token by `retention_replay`, on a `ReplayState` of which the first `slots` of L places are kept tokens.

    The token is written to the next place; where all are kept, they are written into the state, and it comes first.
    """
    before = ReplayState(buffers.state, buffers.k[:, :, :slots], buffers.v[:, :, :slots])
    out, after = retention_replay(q, k, v, gamma, before, length=buffers.k.shape[2])
    if after.state is not before.state:
        buffers.state.copy_(after.state)
    place = slice(after.k.shape[2] - 1, after.k.shape[2])
    buffers.k[:, :, place], buffers.v[:, :, place] = k, v
    return out


def _in_place(retention):
    """The retention, with the new state written over the given one."""

    def call(q, k, v, gamma, state):
        out, after = retention(q, k, v, gamma, state)
        return out, after if after is state else state.copy_(after)

    return call


def _read(model, prompts, past):
    """Prefill of prompts (T_i,), packed: piece by piece, one behind another."""
    state, last = past or (None, 0.0)
    for start in range(0, max(map(len, prompts)), PIECE):
        pieces = [prompt[start : start + PIECE] for prompt in prompts]
        lengths = [0, *map(len, pieces)]
        ends = torch.tensor(lengths, device=pieces[0].device).cumsum(0)
        packed = {"cu_seqlens": ends, "max_length": max(lengths)}
        logits, state = model(torch.cat(pieces)[None], retention=retention_chunkwise, state=state, **packed)
        last = torch.where((ends.diff() > 0)[:, None], logits[0, ends[1:] - 1], last)
    return Past(state, last)


def _rows(past, rows):
    """The given rows of a `Past`, in their order."""
    return Past(_map_state(lambda x: x[rows], past.state), past.logits[rows])


def _map_state(function, *states):
    """function of the positions, and of the arrays of each layer, as a `State`."""
    layers = zip(*(state.layers for state in states), strict=True)
    return State(function(*(state.position for state in states)), tuple(function(*layer) for layer in layers))
