"""The pictures of lesson 11 that put measured times beside predicted ones, read back."""

import numpy as np
from figures import speed
from legible import faults
from matplotlib.colors import to_hex
from plotted import texts

MEASURED = {"NumPy recurrent": 8.0, "compiled recurrent": 0.5, "NumPy chunkwise": 1.0}
KERNEL = {"NumPy recurrent": 0.6, "compiled recurrent": 0.6, "NumPy chunkwise": 0.2}
WITH_STEPS = {"NumPy recurrent": 4.0, "NumPy chunkwise": 0.4}
SIZES = [4, 16, 64]
TOKENS = {
    "NumPy": {16: [4.0, 1.0, 2.0], 256: [20.0, 8.0, 4.0]},
    "compiled": {16: [0.5, 0.25, 1.0], 256: [9.0, 4.0, 5.0]},
}
BEST = {"NumPy": {16: 8, 256: 64}, "compiled": {16: 16, 256: 32}}


def test_bars_end_at_the_measured_times_and_ticks_stand_at_the_predictions():
    picture = speed.against_limits(MEASURED, KERNEL, WITH_STEPS, "a finding")
    assert list(faults(picture)) == []
    (ax,) = picture.axes
    assert ax.get_xscale() == "log"
    assert ax.get_title() == "a finding"
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(MEASURED)
    np.testing.assert_allclose([bar.get_x() + bar.get_width() for bar in ax.patches], list(MEASURED.values()))
    tints = [to_hex(bar.get_facecolor()).upper() for bar in ax.patches]
    assert tints == [speed.TINTS[form] for form in ("recurrent", "recurrent", "chunkwise")]
    assert texts(ax.texts) == ["8.00 ms", "0.50 ms", "1.00 ms"]
    for drawn, ticks in zip(ax.collections, (KERNEL, WITH_STEPS), strict=True):
        middles = [tuple(segment.mean(axis=0)) for segment in drawn.get_segments()]
        np.testing.assert_allclose(middles, [(ms, list(MEASURED).index(name)) for name, ms in ticks.items()])
    assert "(NumPy recurrent, compiled recurrent, NumPy chunkwise)" in picture.description


def test_a_ring_stands_at_the_fastest_size_and_a_dot_on_the_line_at_the_predicted_one():
    picture = speed.by_chunk_size(SIZES, TOKENS, BEST, {"NumPy": "first", "compiled": "second"})
    assert list(faults(picture)) == []
    assert [ax.get_title() for ax in picture.axes] == ["first", "second"]
    for ax, (library, lines) in zip(picture.axes, TOKENS.items(), strict=True):
        assert texts(ax.texts) == ["K = 16", "K = 256"]
        for each, at in zip(lines.values(), (0, 3), strict=True):
            line, ring, dot = ax.lines[at : at + 3]
            np.testing.assert_array_equal(line.get_ydata(), each)
            fastest = int(np.argmin(each))
            assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (SIZES[fastest], each[fastest])
            assert dot.get_xdata()[0] in BEST[library].values()
    first_dot = picture.axes[0].lines[2]
    np.testing.assert_allclose(first_dot.get_ydata(), 2.0)  # 8 is halfway between 4 and 16, and 2 between 4 and 1
