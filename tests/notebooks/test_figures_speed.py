"""The pictures of lesson 11 that put measured times beside predicted ones, read back."""

import numpy as np
from figures import speed
from legible import faults
from plotted import texts

MEASURED = {"NumPy recurrent": 8.0, "compiled recurrent": 0.5, "NumPy chunkwise": 1.0}
WITHOUT_STEPS = {"NumPy recurrent": 0.6, "compiled recurrent": 0.6, "NumPy chunkwise": 0.2}
WITH_STEPS = {"NumPy recurrent": 4.0, "NumPy chunkwise": 0.4}
SIZES = [4, 16, 64]
TOKENS = {
    "NumPy": {16: [4.0, 1.0, 2.0], 256: [20.0, 8.0, 4.0]},
    "compiled": {16: [0.5, 0.25, 1.0], 256: [9.0, 4.0, 5.0]},
}
BEST = {"NumPy": {16: 8, 256: 64}, "compiled": {16: 16, 256: 32}}


GAPS = {"NumPy recurrent": ("Python", "new arrays"), "NumPy chunkwise": ("Python",)}


def test_the_fastest_round_counts_and_the_last_line_says_how_far_the_medians_lie_above(monkeypatch, capsys):
    seconds = {"a": [0.004, 0.003, 0.009], "b": [0.001] * 3, ("c", 8): [0.002, 0.002, 0.001]}
    monkeypatch.setattr(speed, "time_calls", lambda calls, rounds, now: {name: seconds[name] for name in calls})
    assert speed.timed({"a": None, "b": None}, than="b") == {"a": 0.003, "b": 0.001}
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.split() == ["measured:", "a", "3.00", "ms,", "3.0", "times", "b"]
    assert second.endswith("1.0 times b")
    assert last == "measured: medians lie up to 33% above the fastest rounds"
    speed.timed(seconds, shown=[("c", 8)])
    only, last = capsys.readouterr().out.splitlines()
    assert only.split() == ["measured:", "c,", "8", "tokens", "1.00", "ms"]
    assert "100%" in last
    assert speed.timed({"a": None}, shown=False)["a"] == 0.003
    assert capsys.readouterr().out == ""


def test_points_stand_at_the_measured_times_joined_to_ticks_at_the_predictions():
    picture = speed.against_limits(MEASURED, WITHOUT_STEPS, WITH_STEPS, GAPS, "a finding")
    assert list(faults(picture)) == []
    (ax,) = picture.axes
    assert ax.get_xscale() == "log"
    assert ax.get_title() == "a finding"
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(MEASURED)
    joins, points = ax.lines[::2], ax.lines[1::2]
    assert [point.get_xdata()[0] for point in points] == list(MEASURED.values())
    colors = [speed.COLORS[form] for form in ("recurrent", "recurrent", "chunkwise")]
    assert [point.get_color() for point in points] == colors
    assert [tuple(join.get_xdata()) for join in joins] == [(0.6, 8.0), (0.5, 0.6), (0.2, 1.0)]
    assert texts(ax.texts) == ["Python", "new arrays", "8.00 ms", "0.50 ms", "Python", "1.00 ms"]
    assert [ax.texts[i].xy for i in (0, 4)] == [(np.sqrt(0.6 * 4.0), 0), (np.sqrt(0.2 * 0.4), 2)]
    for drawn, ticks in zip(ax.collections, (WITHOUT_STEPS, WITH_STEPS), strict=True):
        rows = [list(MEASURED).index(name) for name in ticks]
        for segment, ms, row in zip(drawn.get_segments(), ticks.values(), rows, strict=True):
            np.testing.assert_allclose(segment, [(ms, row - 0.2), (ms, row + 0.3)])
    assert "(NumPy recurrent, compiled recurrent, NumPy chunkwise)" in picture.description


def test_lines_by_length_have_the_colour_of_their_form_and_are_dashed_for_numpy():
    each = {"NumPy recurrent": [1.0, 4.0], "compiled recurrent": [0.1, 0.4], "compiled chunkwise": [0.2, 0.3]}
    picture = speed.by_length([32, 2048], each, "a finding")
    assert list(faults(picture)) == []
    (ax,) = picture.axes
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_title()) == ("log", "log", "a finding")
    lines = [line for line in ax.lines if line.get_label() in each]
    assert [(list(line.get_ydata()), line.get_linestyle()) for line in lines] == [
        (ms, "--" if name.startswith("NumPy") else "-") for name, ms in each.items()
    ]
    assert [line.get_color() for line in lines] == [speed.COLORS[name.split()[-1]] for name in each]
    assert sorted(texts(ax.texts)) == sorted([*each, "slope of T", "slope of T²"])
    for guide, power in zip(ax.lines[-2:], (1, 2), strict=True):
        (first, last), (foot, top) = guide.get_data()
        assert np.isclose(top / foot, (last / first) ** power)


def test_a_ring_stands_at_the_fastest_size_and_a_dot_on_the_line_at_the_predicted_one():
    picture = speed.by_chunk_size(SIZES, TOKENS, BEST, {"NumPy": "first", "compiled": "second"})
    assert list(faults(picture)) == []
    assert [ax.get_title() for ax in picture.axes] == ["first", "second"]
    for ax, (library, lines) in zip(picture.axes, TOKENS.items(), strict=True):
        assert texts(ax.texts) == ["K = 16", "K = 256"]
        for each, at in zip(lines.values(), (0, 4), strict=True):
            line, band, ring, dot = ax.lines[at : at + 4]
            flat = band.get_ydata()[~np.isnan(band.get_ydata())]
            assert min(each) <= flat.min() <= flat.max() <= 1.15 * min(each)
            np.testing.assert_array_equal(line.get_ydata(), each)
            fastest = int(np.argmin(each))
            assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (SIZES[fastest], each[fastest])
            assert dot.get_xdata()[0] in BEST[library].values()
    first_dot = picture.axes[0].lines[3]
    np.testing.assert_allclose(first_dot.get_ydata(), 2.0)  # 8 is halfway between 4 and 16, and 2 between 4 and 1
