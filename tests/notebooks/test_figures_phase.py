"""The pictures of lesson 3, read back: hands, dot products against the lag, ladders of angles."""

import numpy as np
import pytest
from figures import phase
from plotted import axes, check_line, texts

from refimpl.oracle import rotation_oracle

Q, K = [1.0, 0.0], [0.8, 0.6]


def ends(ax):
    """The tip of every hand on a dial, by its label; all of them start in the centre."""
    hands = {line.get_label()[1:]: line.get_xydata() for line in ax.lines if not line.get_label().startswith("_child")}
    assert all(np.array_equal(points[0], [0, 0]) for points in hands.values())
    return {name: points[1] for name, points in hands.items()}


def turned(x, position, degrees):
    return rotation_oracle(np.array([x]), [np.deg2rad(degrees)], offset=position)[0]


def test_dial_draws_each_hand_under_its_name():
    pairs = [[1.0, 0.0], [0.0, -2.0]]
    picture = phase.dial(pairs, ["east", "south"])
    (ax,) = picture.axes
    hands = ends(ax)
    np.testing.assert_array_equal([hands["east"], hands["south"]], pairs)
    assert texts(ax.texts) == ["east", "south"]
    assert min(ax.get_xlim()[1], ax.get_ylim()[1]) > 2
    assert "south at [0.0, -2.0]" in picture.description


def test_scores_by_lag_draws_every_pair_at_its_lag():
    scores, curve = np.arange(9.0).reshape(3, 3), np.array([5.0, 4, 3, 2, 1])
    drawn = axes(phase.scores_by_lag(scores, curve))
    np.testing.assert_array_equal(drawn["scores"].images[0].get_array(), scores)
    line, circles = drawn["lag"].lines
    check_line(line, [-2, -1, 0, 1, 2], curve)
    points = {tuple(point) for point in circles.get_xydata()}
    assert points == {(n - m, 3.0 * n + m) for n in range(3) for m in range(3)}


def test_scores_by_lag_says_whether_only_the_lag_matters():
    lags = np.subtract.outer(np.arange(4), np.arange(4))
    assert "no visible spread" in phase.scores_by_lag(np.cos(lags), np.cos(np.arange(-3, 4))).description
    assert "spread 3" in phase.scores_by_lag(np.arange(16).reshape(4, 4) % 4, np.zeros(7)).description


@pytest.mark.parametrize(("degrees", "lag", "m"), [(30, 3, 2), (90, 1, 0), (5, 12, 30), (0, 4, 7)])
def test_hands_are_turned_by_the_oracles_angle(degrees, lag, m):
    picture = phase.hands(Q, K, degrees, lag, m)
    drawn = axes(picture)
    hands = ends(drawn["dial"])
    np.testing.assert_allclose(hands[f"$q_{{{m + lag}}}$"], turned(Q, m + lag, degrees), atol=1e-12)
    np.testing.assert_allclose(hands[f"$k_{{{m}}}$"], turned(K, m, degrees), atol=1e-12)

    line, diamond = drawn["product"].lines[:2]
    want = np.cos(np.arange(13) * np.deg2rad(degrees) - np.arctan2(0.6, 0.8))  # |q| = |k| = 1
    np.testing.assert_allclose(line.get_xydata(), np.column_stack([range(13), want]), atol=1e-12)
    np.testing.assert_allclose(diamond.get_xydata(), [[lag, want[lag]]], atol=1e-12)
    assert f"lag {lag}, dot product {want[lag]:.3f}" in picture.description


def test_moving_the_key_turns_the_hands_and_keeps_the_product():
    explorer = phase.hands_explorer(Q, K, 30, 3, 2)
    drawn = axes(explorer.move(m=5))
    np.testing.assert_allclose(ends(drawn["dial"])["$k_{5}$"], turned(K, 5, 30), atol=1e-12)
    assert drawn["product"].lines[1].get_ydata()[0] == pytest.approx(0.6)
    drawn = axes(explorer.move(degrees=0))
    assert drawn["product"].lines[1].get_ydata()[0] == pytest.approx(0.8)  # nothing turns: the plain dot product


def test_ladders_draw_angles_and_full_turns():
    angles = {"a": np.array([1.0, 0.1]), "b": np.array([1.0, 0.5])}
    picture = phase.ladders(angles)
    angle, turn = (axes(picture)[label] for label in ("angle", "turn"))
    for line, turn_line, (name, theta) in zip(angle.lines, turn.lines, angles.items(), strict=True):
        check_line(line, [0, 1], theta, name)
        check_line(turn_line, [0, 1], 2 * np.pi / theta, name)
    looks = {(line.get_linestyle(), line.get_marker()) for line in angle.lines}
    assert len(looks) == 2  # told apart without colour
    assert angle.get_yscale() == turn.get_yscale() == "log"
    assert "a from 1 to 0.1; b from 1 to 0.5" in picture.description
