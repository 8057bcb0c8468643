"""Every widget of the course: labelled controls with bounds, and a picture and a description that follow them."""

import numpy as np
import pytest
from figures import memory, trained

GAMMA, MINUS = "\N{GREEK SMALL LETTER GAMMA}", "\N{MINUS SIGN}"
TEXTS = {
    (prompt, temperature): (np.frombuffer(prompt + b"x" * 30, np.uint8), np.array([np.nan] * 2 + [cost] * 30))
    for prompt in (b"ab", b"cd")
    for temperature, cost in ((0.0, 1.0), (0.7, 3.0))
}
# By topic: the widget for some tokens, its labels, least and greatest values, a move, and words of the description then.
EXPLORERS = {
    "memory": (
        lambda q, k, v: memory.state_stepper({"a": q[0], "b": q[1]}, k, v, 0.5),
        {"token": "token n", "decay": f"decay {GAMMA}", "asked": "ask for"},
        {"token": (0, 5), "decay": (0.05, 1.0)},
        {"token": 3},
        "Token 3",
    ),
    "trained": (
        lambda *_: trained.writer(TEXTS, length=20, longest=30),
        {"prompt": "prompt", "temperature": "temperature", "length": "bytes to write"},
        {"length": (10, 30)},
        {"prompt": b"cd", "temperature": 0.7, "length": 10},
        "Temperature 0.7, 10 bytes",
    ),
}


@pytest.mark.parametrize(("make", "labels", "limits", "move", "words"), EXPLORERS.values(), ids=EXPLORERS)
def test_a_widget_is_labelled_and_redraws(tokens, make, labels, limits, move, words):
    explorer = make(*tokens)
    controls = explorer.controls
    assert {name: control.description for name, control in controls.items()} == labels
    assert {name: control.tooltip for name, control in controls.items()} == labels  # otherwise it would say "null"
    assert {name: (controls[name].min, controls[name].max) for name in limits} == limits
    assert explorer.children == (*controls.values(), explorer.screen, explorer.words)
    screen, said = explorer.screen.value, explorer.words.value
    picture = explorer.move(**move)
    assert explorer.picture is picture
    assert explorer.screen.value == picture.html() != screen
    assert words in explorer.words.value != said
