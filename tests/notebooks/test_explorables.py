"""Rules for all pictures that are drawn in the browser: numbers at both ends of each control, stills, words, bundles."""

import functools
import itertools
import json
import re

import numpy as np
import pytest
from explorables import EXPLORABLES
from explorables.explorable import HERE, bundle
from explorables.node import ask
from paths import ROOT

every = pytest.mark.parametrize("cls", EXPLORABLES, ids=lambda cls: cls.module)
WIDTHS = (320, 760)


@functools.cache
def start(cls):
    """(controls, picture, pictures of WIDTHS) of an explorable as it starts, from one process of Node."""
    data = cls.course_data()
    pictures = [{"what": "picture", "data": data, "options": {"width": width}} for width in WIDTHS]
    controls, picture, *wide = ask(cls.module, [{"what": "controls"}, {"what": "picture", "data": data}, *pictures])
    return controls, picture, wide


def ends(cls):
    """Settings with one control at either end, and with all of them there."""
    reach = {}
    for control in start(cls)[0]:
        if control["kind"] == "slider":
            reach[control["name"]] = (control["min"], control["max"])
        elif control["kind"] == "choice":
            reach[control["name"]] = tuple(control["options"])
        elif control["kind"] == "toggle":
            reach[control["name"]] = (False, True)
    single = [{name: value} for name, values in reach.items() for value in values]
    both = [{name: values[end] for name, values in reach.items()} for end in (0, -1)]
    return [{}, *single, *both]


@every
def test_it_draws_and_speaks_at_both_ends_of_each_control(cls):
    data = cls.course_data()
    settings = ends(cls)
    questions = [{"what": "picture", "values": values, "data": data, "options": {"width": 360}} for values in settings]
    for values, drawn in zip(settings, ask(cls.module, questions), strict=True):
        for text in (drawn["svg"], drawn["words"]):
            assert not re.search(r"NaN|undefined|\[object|null", text), (
                values,
                re.findall(r".{30}(?:NaN|undefined|null).{30}", text),
            )
        assert 40 < len(drawn["words"]) < 700, (values, drawn["words"])
        assert drawn["words"].endswith("."), drawn["words"]


@every
def test_no_text_is_small(cls):
    for picture in start(cls)[2]:
        sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)"', picture["svg"])]
        assert sizes
        assert min(sizes) >= 12


@every
def test_stills_are_those_of_the_modules(cls):
    """Up to the rounding of the machine that drew them. `python -m explorables stills` draws them again."""
    kept, now = cls.still(), start(cls)[1]
    for old, new in zip(kept, (now["svg"] + "\n", now["words"]), strict=True):
        number = r"-?\d+(?:\.\d+)?"
        assert re.sub(number, "#", old) == re.sub(number, "#", new)
        np.testing.assert_allclose(
            [float(x) for x in re.findall(number, old)],
            [float(x) for x in re.findall(number, new)],
            atol=1.01,
            rtol=0.02,
        )


def leaves(data):
    """Every text and number in JSON data, in the order of their names."""
    parts = (
        [data[name] for name in sorted(data)] if isinstance(data, dict) else data if isinstance(data, list) else None
    )
    return [data] if parts is None else [leaf for part in parts for leaf in leaves(part)]


def test_lessons_store_the_data_of_the_course():
    """Up to the rounding of the machine that ran them. The site shows what is stored."""
    classes, seen = {f"{cls.__module__}.{cls.__name__}": cls for cls in EXPLORABLES}, set()
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        widgets = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("widgets", {})
        for model in (model["state"] for kind in widgets.values() for model in kind["state"].values()):
            if cls := classes.get(model.get("_anywidget_id")):
                seen.add(cls)
                now = json.loads(json.dumps(cls.course_data()))
                assert now.keys() == model["data"].keys(), cls.module
                for new, old in zip(leaves(now), leaves(model["data"]), strict=True):
                    digit = 1 if isinstance(new, int) else 1.1e-3
                    assert new == old if isinstance(new, str) else new == pytest.approx(old, rel=0.02, abs=digit)
    assert len(seen) > len(classes) / 2


@every
def test_wrong_values_are_named_and_nothing_else_is_drawn(cls):
    """What a caller sets is checked where it is drawn: the sentence below the picture says what is wrong."""
    assert cls(nonsense=1).values == {"nonsense": 1}
    program = start(cls)[0]
    names = [control["name"] for control in program]
    assert len(set(names)) == len(names)
    for control in program:
        assert control["kind"] == "hidden" or control["title"], control


@every
def test_a_bundle_needs_no_other_file_and_shares_no_name(cls):
    text = bundle(cls.module)
    assert not re.search(r"^\s*(import|export (?!default))", text, re.MULTILINE)
    assert text.count("export default ") == 1
    names = re.findall(r"^(?:const|let|function|async function) (\w+)", text, re.MULTILINE)
    assert len(set(names)) == len(names), [name for name in names if names.count(name) > 1]
    assert not re.search(r"https?://(?!www\.w3\.org/)", text), "it asks for something outside"


@every
def test_a_widget_shows_its_still_and_its_words_where_no_script_runs(cls):
    shown, _ = cls()._repr_mimebundle_()
    svg, words = cls.still()
    assert {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"} <= set(shown)
    assert shown["text/html"].startswith("<img alt=")
    assert shown["text/plain"] == words
    assert "<svg" in svg
    assert "0x" not in repr(cls()), "nbval would see another address each time"


def test_each_module_has_its_class_and_its_test():
    modules = {path.stem for path in HERE.glob("*.js")} - {"shared", "retention"}
    assert modules == {cls.module for cls in EXPLORABLES}
    tests = {
        path.stem.removeprefix("test_explorable_")
        for path in (HERE.parents[1] / "tests/notebooks").glob("test_explorable_*.py")
    }
    assert modules <= tests
    assert len(set(itertools.chain.from_iterable((cls.__doc__,) for cls in EXPLORABLES))) == len(EXPLORABLES)


def test_the_latency_of_each_picture_is_on_record():
    """On the page and in JupyterLab, for each slider; a picture without a slider has nothing to time."""
    rows = json.loads((HERE / "latency.json").read_text(encoding="utf-8"))["rows"]
    sliders = [cls.module for cls in EXPLORABLES for control in start(cls)[0] if control["kind"] == "slider"]
    for place in ("page", "lab"):
        assert [row["module"] for row in rows if row["place"] == place] == sliders
