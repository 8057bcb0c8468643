"""The figures of all results: text that can be read where they are 700 pixels wide, and lines that differ."""

import json
from collections import Counter

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from paths import ROOT

from gpu.report import figures, page
from refimpl.bench.drawing import WIDTH
from refimpl.bench.figure import figure as forms_figure

DRAW = {page.FOLDER / f"{section}.json": draw for section, draw in figures.FIGURES.items()}
DRAW |= {page.FOLDER / "compare.json": page.curves, ROOT / "refimpl" / "results" / "cpu.json": forms_figure}


@pytest.fixture(scope="module", params=DRAW, ids=lambda path: path.stem)
def drawn(request):
    found = DRAW[request.param](json.loads(request.param.read_text(encoding="utf-8")))
    FigureCanvasAgg(found).draw()
    return found


def test_text_has_at_least_8_points_and_is_not_cut(drawn):
    assert drawn.get_figwidth() == WIDTH
    ticks = [text for axes in drawn.axes for text in axes.get_xticklabels()]  # one beyond the end is not drawn
    for text in drawn.findobj(lambda artist: isinstance(artist, Text) and artist.get_text().strip()):
        assert text.get_fontsize() / 72 * 700 / WIDTH > 8 * 96 / 72, text  # pixels; 96 an inch
        box = text.get_window_extent()
        if text.get_visible() and box.width and text not in ticks:
            assert drawn.bbox.x0 <= box.x0
            assert box.x1 <= drawn.bbox.x1, text


def test_there_is_no_legend_and_lines_with_names_differ(drawn):
    assert not drawn.legends
    for axes in drawn.axes:
        assert axes.get_legend() is None
        named = [each.lines[0] for each in axes.containers if hasattr(each, "lines")]
        named += [line for line in axes.lines if not line.get_label().startswith("_")]
        looks = Counter((line.get_color(), line.get_linestyle(), line.get_marker()) for line in named)
        assert set(looks.values()) <= {1}, looks
