"""Lesson 9: what each head of the shipped model reads at a byte, and what the model predicts without it."""

from base64 import b64encode
from functools import cache

import numpy as np

from refimpl import decay_mask, forward
from refimpl.model import block
from refimpl.training.text import decode, encode
from refimpl.tree import map_tree
from refimpl.weights import load_pretrained, pretrained_card

from .explorable import Explorable

TEXT = slice(2, 122)  # of the held-out passage on the model's card, which begins with two line breaks
BEST = 5  # predictions that are kept of each byte


class Heads(Explorable):
    """Point at a byte of a text that the shipped model never saw. Each head of a layer reads the bytes before it in its own
    way: how far back does it look, and does it matter? Choose a head to see what the model predicts without it: the more
    bits the true byte costs, the less it was expected."""

    module = "heads"

    @classmethod
    def course_data(cls):
        """text; gammas (H,); and, as bytes in base 64:

        weights: int8, for each layer, head and byte n the n + 1 weights, score times decay, where 127 is the largest.
        tokens, chances: the likeliest bytes after each byte and 255 times their probabilities, and costs, of the byte
        that did come, in hundredths of a bit: first by the whole model, then without each head of each layer.
        losses: the mean of those costs over the text, in bits.
        """
        return _measured()


def without(params, config, head):
    """The parameters of a layer in which that head is silent."""
    w_o = params["retention"]["w_o"].copy()  # (H V, d)
    w_o[head * config.value_dim : (head + 1) * config.value_dim] = 0
    return params | {"retention": params["retention"] | {"w_o": w_o}}


def with_and_without(params, x, config, *, state, **options):
    """A layer whose batch is the whole model, then one model for each head that is silent, here or in a layer before.

    Up to the layer of its head a model computes what the whole one does, so it joins the batch there.
    """
    models = [block(params, x, config, **options)[0]]
    models += [block(without(params, config, head), x[:1], config, **options)[0] for head in range(config.num_heads)]
    return np.concatenate(models), state


def log_probabilities(logits):
    """log softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@cache
def _measured():
    params, config = load_pretrained()
    params = map_tree(lambda _, x: x.astype(np.float64), params)  # so that every machine rounds alike
    passage = encode(pretrained_card()["passage"]["text"])
    text, later = passage[TEXT], passage[TEXT.start + 1 : TEXT.stop + 1]
    record = []
    forward(params, text[None], config, record=record)
    gammas = record[0]["retention"]["gamma"]
    mask, weights = decay_mask(gammas, len(text)), []
    for layer in record[: config.num_layers]:
        q, k = (layer["retention"][name][0] for name in "qk")  # (H, T, K)
        for head in q @ np.moveaxis(k, 1, 2) * mask:
            for n, row in enumerate(head):
                weights.append(np.rint(127 * row[: n + 1] / np.abs(row).max()).astype(np.int8))
    chances = log_probabilities(
        forward(params, text[None], config, layer=with_and_without)[0]
    )  # (1 + layers H, T, 256)
    best = np.argsort(-chances, axis=-1, kind="stable")[..., :BEST]
    costs = -np.take_along_axis(chances, np.broadcast_to(later[:, None], (*chances.shape[:2], 1)).astype(int), axis=-1)
    costs = costs[..., 0] / np.log(2)
    packed = lambda array: b64encode(np.ascontiguousarray(array).tobytes()).decode()  # noqa: E731
    return {
        "text": decode(text) + chr(later[-1]),
        "gammas": gammas.tolist(),
        "layers": config.num_layers,
        "weights": packed(np.concatenate(weights)),
        "tokens": packed(best.astype(np.uint8)),
        "chances": packed(np.rint(255 * np.exp(np.take_along_axis(chances, best, axis=-1))).astype(np.uint8)),
        "costs": np.rint(100 * costs).astype(int).tolist(),
        "losses": costs.mean(axis=-1).round(4).tolist(),
    }
