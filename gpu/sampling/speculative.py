"""Speculative decoding: a draft proposes tokens, the model reads them in one call, and the text keeps the model's distribution.

A call that reads D + 1 tokens reads the weights and the states once, as a step of one token does. What `refimpl.sampling.verify`
accepts stands; the rest is taken back, which replay decoding makes exact and free: see `refimpl.replay`. The text follows the
model's distribution whatever is proposed, and at temperature 0 it is the same text, up to the rounding of logits.

A draft has `count`, the number D of tokens that it proposes, a `tally`, and
    check(rows, vocab_size)                       ValueError unless it can propose for so many texts over these tokens
    propose(last, uniform, *sampling)             tokens (B, D) to follow last (B,), and their probabilities (B, D, vocab), or None
                                                  where they are certain; uniform (B, D) in [0, 1)
    accept(counts)                                of the proposed tokens so many stand in each text: a list and the tensor (B,)
"""

import dataclasses
import functools
from collections import deque

import torch

from refimpl.checks import check_integer
from refimpl.libraries import values_trusted
from refimpl.replay import LENGTH, drop_tokens, retention_replay
from refimpl.sampling import draw_from, probabilities, verify

COUNT = 4  # tokens that are proposed at once
LONGEST = 4  # tokens that `NgramDraft` looks up


@dataclasses.dataclass
class Tally:
    """What a draft was worth: calls of the model, times texts; tokens proposed in them, and accepted."""

    calls: int = 0
    drafted: int = 0
    accepted: int = 0

    def __str__(self):
        """The share accepted, and the tokens that a call of the model wrote.

        >>> f"{Tally(calls=10, drafted=40, accepted=25)}"
        '62 % of 40 drafted tokens accepted, 3.50 tokens a call of the model'
        """
        share, each = 100 * self.accepted / max(self.drafted, 1), 1 + self.accepted / max(self.calls, 1)
        return f"{share:.0f} % of {self.drafted:,} drafted tokens accepted, {each:.2f} tokens a call of the model"


class NgramDraft:
    """Proposes what followed the last tokens of a text where they stood before: the latest place of the longest match.

    prompts: (B, T) integers, or a list of (T_i,), of which one serves only one text. count: D. longest: the most tokens that are
    looked up.
    """

    def __init__(self, prompts, count=COUNT, longest=LONGEST):
        self.count, self.tally = check_integer("count", count, minimum=1), Tally()
        self.longest = check_integer("longest", longest, minimum=1)
        self.texts, self.places = [[] for _ in prompts], [{} for _ in prompts]
        for row, prompt in enumerate(prompts):
            self._add(row, prompt.tolist())

    def check(self, rows, vocab_size):
        """One text a row."""
        if rows != len(self.texts):
            raise ValueError(f"draft must be of {rows} prompts, as the past is, got {len(self.texts)}")

    def propose(self, last, uniform, *sampling):
        """Certain tokens, so None for their probabilities."""
        for row, token in enumerate(last.tolist()):
            self._add(row, [token])
        self.proposed = [self._following(row) for row in range(len(self.texts))]
        return torch.tensor(self.proposed, device=last.device), None

    def accept(self, counts, _):
        """The accepted tokens are part of the text."""
        for row, count in enumerate(counts):
            self._add(row, self.proposed[row][:count])

    def _add(self, row, tokens):
        """Add tokens to a text, and note for what stands before each of them where it stands: the latest place counts."""
        text, places = self.texts[row], self.places[row]
        for token in tokens:
            for length in range(1, min(self.longest, len(text)) + 1):
                places[tuple(text[-length:])] = len(text)
            text.append(token)

    def _following(self, row):
        """D tokens after the text; a match that ends with the text goes on as it began."""
        text, places = self.texts[row], self.places[row]
        found = (places.get(tuple(text[-length:])) for length in range(min(self.longest, len(text)), 0, -1))
        start = next((place for place in found if place is not None), len(text) - 1)
        return [text[start + n % (len(text) - start)] for n in range(self.count)]


class ModelDraft:
    """Proposes what a smaller model draws, by the same temperature, top_k and top_p.

    model: a `gpu.models.retnet.RetNet` over the same tokens. past: the `Past` of the same prompts in it. count: D.
    """

    def __init__(self, model, past, count=COUNT):
        self.count, self.tally = check_integer("count", count, minimum=1), Tally()
        self.model, self.state = model, past.state
        self.retention = functools.partial(retention_replay, length=max(LENGTH, count + 1))

    def check(self, rows, vocab_size):
        """One text a row, and the same tokens."""
        if rows != len(self.state.position):
            raise ValueError(f"draft must be of {rows} prompts, as the past is, got {len(self.state.position)}")
        check_vocabulary(self.model, vocab_size)

    def propose(self, last, uniform, *sampling):
        """A step for each token; the state is left as it was, for `accept`."""
        state, read, drawn_from = self.state, [last], []
        for n in range(self.count):
            logits, state = self.model(read[-1][:, None], state=state, retention=self.retention)
            drawn_from.append(probabilities(logits[:, 0], *sampling))
            read.append(draw_from(drawn_from[-1], uniform[:, n]))
        self.read = torch.stack(read, dim=1)
        return self.read[:, 1:], torch.stack(drawn_from, dim=1)

    def accept(self, counts, accepted):
        """Read what stands, all at once."""
        _, state = self.model(self.read, state=self.state, retention=self.retention)
        self.state = _taken_back(state, self.count, counts, accepted)


def check_vocabulary(model, vocab_size):
    """Require a drafting model over the same number of tokens."""
    if model.config.vocab_size != vocab_size:
        raise ValueError(
            f"draft must be a model over {vocab_size} tokens, as the model is, got {model.config.vocab_size}"
        )


@torch.no_grad()
def speculated(model, past, new_tokens, draft, length, generators, *sampling):
    """`gpu.sampling.generate.draw_tokens` with a draft, for arguments that have been checked.

    length: L of `refimpl.replay`, at least D + 1. generators: one for each text, on the CPU; a call draws as many numbers in
    each, so that a text does not depend on those beside it. sampling: temperature, top_k, top_p.
    """
    count, retention = draft.count, functools.partial(retention_replay, length=length)

    def uniform(numbers):
        drawn = [torch.rand(numbers, dtype=torch.float64, generator=generator) for generator in generators]
        return torch.stack(drawn).to(past.logits.device)

    state, last = past.state, draw_from(probabilities(past.logits, *sampling), uniform(1)[:, 0])
    waiting = [deque([pair]) for pair in zip(last, past.logits, strict=True)]  # texts grow at different speeds
    for _ in range(new_tokens):
        while not all(waiting):
            with values_trusted():
                drafted, drawn_from = draft.propose(last, uniform(count), *sampling)
                if drawn_from is None:
                    drawn_from = torch.nn.functional.one_hot(drafted, past.logits.shape[1]).double()
                read = torch.cat([last[:, None], drafted], dim=1)
                logits, state = model(read, state=state, retention=retention)
                wanted = probabilities(logits.flatten(0, 1), *sampling).unflatten(0, read.shape)
                accepted, last = verify(drafted, drawn_from, wanted, uniform(count + 1))
                counts = accepted.tolist()
                state = _taken_back(state, count, counts, accepted)
                draft.accept(counts, accepted)
            for row, stand in enumerate(counts):
                waiting[row] += zip([*drafted[row, :stand], last[row]], logits[row], strict=False)
            tally = draft.tally
            tally.calls, tally.drafted = tally.calls + len(counts), tally.drafted + count * len(counts)
            tally.accepted += sum(counts)
        tokens, each = zip(*(row.popleft() for row in waiting), strict=True)
        yield torch.stack(tokens), torch.stack(each)


def _taken_back(state, count, counts, accepted):
    """The state without the tokens of the last count that were not accepted: first those of all texts, at no cost."""
    most = max(counts)
    state = drop_tokens(state, count - most)
    return state if min(counts) == most else drop_tokens(state, most - accepted)
