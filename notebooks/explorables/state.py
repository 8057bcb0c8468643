"""Lesson 1: the state of a trained head as a movie, with the text that it has read beside it."""

from refimpl.layers import project, rms_norm
from refimpl.training.text import encode
from refimpl.weights import load_pretrained, pretrained_card

from .explorable import Explorable


class StateMovie(Explorable):
    """The memory of one head of the trained model while it reads 200 bytes: one matrix, to which each byte adds a product of
    its key and its value. Press Play or a letter, then move γ: the matrix keeps its size, and γ says how much of each byte
    is left in it."""

    module = "state"

    @classmethod
    def course_data(cls):
        """200 bytes of held-out text, and the first 16 channels of their keys and values in head 1 of layer 1."""
        params, config = load_pretrained()
        text = pretrained_card()["passage"]["text"].strip()[:200]
        layer, x = params["layers"][0], params["embedding"][encode(text)][None]
        _, k, v, _ = project(layer["retention"], rms_norm(x, layer["retention_norm"], eps=config.norm_eps), config)
        return {
            "text": text,
            "keys": [[round(float(number), 3) for number in token[:16]] for token in k[0, 0]],
            "values": [[round(float(number), 2) for number in token[:16]] for token in v[0, 0]],
            "key_dim": config.key_dim,
            "value_dim": config.value_dim,
        }
