"""Lessons 0 and 9: the whole shipped model as a diagram, with its sizes and what it expects after each block."""

import numpy as np

from refimpl.config import FEED_FORWARDS
from refimpl.layers import linear, rms_norm
from refimpl.model import block
from refimpl.training.text import encode
from refimpl.weights import load_pretrained, pretrained_card

from .explorable import Explorable


class ModelDiagram(Explorable):
    """The trained model from a byte to the next byte. Down the tower the guess at the next byte sharpens, block by block. Press
    Play, and the model reads on; then choose the recurrent form, and make the text long: what it keeps stays as it is."""

    module = "model"

    @classmethod
    def course_data(cls):
        """The sizes of the model, a text that it wrote, and its likeliest next byte if it ended after each block."""
        params, config = load_pretrained()
        card = pretrained_card()["text"]
        text = card["prompt"] + card["continuation"]
        x = params["embedding"][encode(text[:-1])][None]
        streams = [x]
        for layer in params["layers"]:
            streams.append(x := block(layer, x, config)[0])

        def ended(x):
            return linear(rms_norm(x, params["final_norm"], eps=config.norm_eps), params["head"])

        return {
            "text": text,
            "prompt": len(card["prompt"]),
            "guesses": [_guesses(ended(x)[0]) for x in streams],
            "vocab": config.vocab_size, "dim": config.dim, "layers": config.num_layers, "heads": config.num_heads,
            "key_dim": config.key_dim, "value_dim": config.value_dim, "ffn_dim": config.ffn_dim,
            "gate": config.gate, "gated_ffn": FEED_FORWARDS[config.ffn].gated,
        }  # fmt: skip


def _guesses(logits):
    """[[the likeliest byte, its probability], ...] for logits (T, 256)."""
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return [[chr(best), round(float(row[best]), 3)] for row, best in zip(p, p.argmax(axis=-1), strict=True)]
