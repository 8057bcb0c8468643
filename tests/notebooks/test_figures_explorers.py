"""Every widget of the course: labelled controls with bounds, and a picture and a description that follow them."""

import numpy as np
import pytest
from figures import chunks, mask, memory, norms, parallel, phase, scales, spectrum

GAMMA, TIMES, MINUS = "\N{GREEK SMALL LETTER GAMMA}", "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}"
DIVISORS = {"one": np.ones(5), "two": np.arange(1.0, 6.0)}
# By topic: the widget for some tokens, its labels, least and greatest values, a move, and words of the description then.
EXPLORERS = {
    "memory": (
        lambda q, k, v: memory.state_stepper(q, k, v, 0.5),
        {"token": "token n", "decay": f"decay {GAMMA}"},
        {"token": (0, 5), "decay": (0.05, 1.0)},
        {"token": 3},
        "Token 3",
    ),
    "spectrum": (
        lambda *_: spectrum.eigenvalue_explorer(0.95, 30),
        {"radius": f"radius {GAMMA}", "degrees": "angle θ (degrees)"},
        {"radius": (0, 1.1), "degrees": (0, 180)},
        {"radius": 1.0, "degrees": 180},
        "radius 1 and angle 180 degrees",
    ),
    "phase": (
        lambda *_: phase.hands_explorer([1.0, 0.0], [0.8, 0.6], 30, 3, 2),
        {"degrees": "angle θ (degrees)", "lag": f"lag n {MINUS} m", "m": "key's token m"},
        {},
        {"m": 5},
        "query at token 8",
    ),
    "parallel": (
        lambda q, k, v: parallel.two_pictures_explorer(q, k, v, 0.5),
        {"token": "token n", "term": "past token m"},
        {"token": (1, 5)},
        {"token": 4, "term": 2},
        "in o_4",
    ),
    "mask": (
        lambda *_: mask.breaking_explorer(),
        {"gamma": f"decay {GAMMA}", "time": "tokens T", "precision": "precision"},
        {},
        {"time": 32768, "gamma": 1 - 2**-12},
        "float32, T = 32,768",
    ),
    "chunks": (
        lambda *_: chunks.explorer(0.8, 12, 4, 4, 8),
        {"size": "chunk size C", "decay": f"decay {GAMMA}"},
        {"size": (1, 12)},
        {"size": 6, "decay": 0.5},
        "chunks of 6",
    ),
    "scales": (
        lambda *_: scales.explorer(5, 64, 256),
        {"schedule": "schedule", "number": "heads H", "lag": "lag L"},
        {"number": (1, 16)},
        {"number": 3, "lag": 4096},
        "At lag 4,096",
    ),
    "norms": (
        lambda q, *_: norms.norm_explorer(q, DIVISORS),
        {"eps": "ε", "scale": f"input {TIMES} c"},
        {},
        {"eps": 1e-4, "scale": 0.1},
        "eps 0.0001, input times 0.1",
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
    assert explorer.screen.value == picture.png() != screen
    assert words in explorer.words.value != said
