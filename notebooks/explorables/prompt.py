"""Lesson 9: a prompt is read once, its state is saved and brought back; with a kernel, a prompt of one's own."""

import io
from functools import cache

import numpy as np
import traitlets

from refimpl import State, decode_step, forward, retention_chunkwise
from refimpl.sampling import draw
from refimpl.training.text import encode
from refimpl.weights import load_pretrained, pretrained_card

from .explorable import Explorable

LENGTH, LONGEST = 64, 200  # bytes that are written, and of the longest prompt
TEMPERATURE, SEED = 0.7, 0
BACK = ("all", "unplaced", "nothing")  # what is brought back: state and position, the state alone, neither

load = cache(load_pretrained)


class Prompt(Explorable):
    """A model has read a prompt, and its state was saved. Two lanes write on from there: one brings the state back, the other
    reads the whole prompt again. Press Play: they write the same, one of them later. Then bring back less than everything.
    Where Python runs behind the page, type a prompt of your own."""

    module = "prompt"

    request = traitlets.Dict().tag(sync=True)  # {"id"} asks whether there is a kernel, {"id", "prompt"} to write on
    reply = traitlets.Dict().tag(sync=True)  # {"id", "error"}: the error as a sentence, "" if there is none

    @classmethod
    def course_data(cls):
        """{"recorded": prompts with what was written on, see `write_on`}: a short one and two that were held out."""
        passage = pretrained_card()["passage"]["text"].strip()
        return {"recorded": _recorded(("And the LORD said unto", passage[44:124], passage[44:233]))}

    @traitlets.observe("request")
    def _answer(self, change):
        request, error = change["new"], ""
        if "prompt" in request:
            try:
                self.data = self.data | {"own": write_on(request["prompt"])}
            except (TypeError, ValueError) as wrong:
                error = f"{wrong}."
        self.reply = {"id": request.get("id"), "error": error}


def write_on(text):
    """What the shipped model writes after a prompt, as bytes: {"prompt", "again", *BACK, "size"}.

    again: the prompt is read again; the others go on from a file, of which each brings another part back. size: of the
    file, in bytes.
    """
    return _write_on([text])[0]


def _write_on(texts):
    """`write_on` of each text: all are written in one batch, because to read the weights takes most of a step."""
    params, config = load()
    prompts, sizes, logits, positions, layers = [], [], [], [], []
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"The prompt must be a text, got {type(text).__name__}")
        prompt = encode(text)
        if not 1 <= len(prompt) <= LONGEST:
            raise ValueError(f"The prompt must have 1 to {LONGEST} bytes, got {len(prompt)}")
        every, again = forward(params, prompt[None], config, retention=retention_chunkwise)
        file = saved(every, again)
        last, kept = loaded(file)
        prompts.append(prompt.tolist())
        sizes.append(len(file))
        logits += [every[:, -1], *[last] * len(BACK)]
        positions += [again.position, kept.position, 0, 0]  # a row for reading again, and one for each of BACK
        pairs = zip(again.layers, kept.layers, strict=True)
        layers.append([np.concatenate([read, back, back, np.zeros_like(back)]) for read, back in pairs])
    state = State(np.array(positions), tuple(map(np.concatenate, zip(*layers, strict=True))))
    logits, written = np.concatenate(logits), []
    for uniform in np.random.default_rng(SEED).random(LENGTH):  # all rows draw alike
        tokens = draw(logits, np.full(len(logits), uniform), TEMPERATURE)
        written.append(tokens)
        logits, state = decode_step(params, tokens, config, state)
    rows = np.stack(written, axis=1).reshape(len(texts), 1 + len(BACK), LENGTH).tolist()
    return [
        {"prompt": prompt, "size": size} | dict(zip(("again", *BACK), each, strict=True))
        for prompt, size, each in zip(prompts, sizes, rows, strict=True)
    ]


_recorded = cache(_write_on)


def saved(logits, state):
    """The state after a prompt, its position and the logits of the next byte, as the bytes of a file."""
    file = io.BytesIO()
    np.savez(file, *state.layers, position=state.position, logits=logits[:, -1])
    return file.getvalue()


def loaded(file):
    """(logits, state) of the bytes that `saved` returned."""
    with np.load(io.BytesIO(file)) as arrays:
        layers = tuple(arrays[name] for name in sorted(arrays.files) if name.startswith("arr_"))
        return arrays["logits"], State(int(arrays["position"]), layers)
