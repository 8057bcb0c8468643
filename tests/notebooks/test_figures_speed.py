"""The picture of lesson 11 that puts measured times beside predicted ones, read back."""

import numpy as np
from figures import speed
from plotted import texts

MEASURED = {"NumPy recurrent": 8.0, "compiled": 0.5, "NumPy chunkwise": 1.0}
KERNEL = {"NumPy recurrent": 0.6, "compiled": 0.6, "NumPy chunkwise": 0.2}
WITH_STEPS = {"NumPy recurrent": 4.0, "NumPy chunkwise": 0.4}


def test_bars_end_at_the_measured_times_and_ticks_stand_at_the_predictions():
    picture = speed.against_limits(MEASURED, KERNEL, WITH_STEPS)
    (ax,) = picture.axes
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(MEASURED)
    np.testing.assert_allclose([bar.get_x() + bar.get_width() for bar in ax.patches], list(MEASURED.values()))
    assert texts(ax.texts) == ["8.00 ms", "0.50 ms", "1.00 ms"]
    for drawn, ticks in zip(ax.collections, (KERNEL, WITH_STEPS), strict=True):
        middles = [tuple(segment.mean(axis=0)) for segment in drawn.get_segments()]
        np.testing.assert_allclose(middles, [(ms, list(MEASURED).index(name)) for name, ms in ticks.items()])
    assert "(NumPy recurrent, compiled, NumPy chunkwise)" in picture.description
