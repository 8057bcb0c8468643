"""Every widget of the course: labelled controls with bounds, and a picture and a description that follow them."""

import pytest
from figures import memory

GAMMA = "\N{GREEK SMALL LETTER GAMMA}"
# By topic: the widget for some tokens, its labels, least and greatest values, a move, and words of the description then.
EXPLORERS = {
    "memory": (
        lambda q, k, v: memory.state_stepper({"a": q[0], "b": q[1]}, k, v, 0.5),
        {"token": "token n", "decay": f"decay {GAMMA}", "asked": "ask for"},
        {"token": (0, 5), "decay": (0.05, 1.0)},
        {"token": 3},
        "Token 3",
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
