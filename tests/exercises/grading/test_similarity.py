"""Pairs of submissions: copies stand at the top, also renamed and reordered; what was given to all does not count."""

import json
import random
import re

import pytest
from typer.testing import CliRunner
from zoo import RIGHT, notebook

import exercises.__main__
from exercises.grading.intake import find_entries
from exercises.grading.similarity import compare, form_of, given_lines, page, ranked, text_of
from exercises.handout.release import notebooks_of

FUNCTIONS = ["retention_step", "retention_loop"]
STEPS = (
    "    {s} = gamma * state + k[:, None] * v\n    return q @ {s}, {s}\n",
    "    {s} = state * gamma\n    {s} = {s} + np.outer(k, v)\n    {o} = q @ {s}\n    return {o}, {s}\n",
    "    {s} = np.einsum('k,v->kv', k, v)\n    {s} = {s} + gamma * state\n    return np.einsum('k,kv->v', q, {s}), {s}\n",
    "    # decay, then write\n    {s} = np.multiply(gamma, state) + k.reshape(-1, 1) @ v.reshape(1, -1)\n    {o} = np.dot(q, {s})\n    return {o}, {s}\n",
)
STARTS = (
    "    {s} = np.zeros((q.shape[1], v.shape[1])) if state is None else state\n",
    "    if state is None:\n        {s} = np.zeros((k.shape[-1], v.shape[-1]))\n    else:\n        {s} = state.copy()\n",
    "    {s} = state\n    if {s} is None:\n        {s} = 0 * np.outer(k[0], v[0])\n",
)
LOOPS = (
    "    {o} = np.empty_like(v)\n    for {n} in range(len(q)):\n        {o}[{n}], {s} = retention_step(q[{n}], k[{n}], v[{n}], gamma, {s})\n    return {o}, {s}\n",
    "    {o} = []\n    for a, b, c in zip(q, k, v):\n        {s} = gamma * {s} + np.outer(b, c)\n        {o}.append(a @ {s})\n    return np.array({o}), {s}\n",
    "    T = q.shape[0]\n    {o} = np.zeros((T, v.shape[1]))\n    {n} = 0\n    while {n} < T:\n        {s} = {s} * gamma + k[{n}][:, None] * v[{n}][None]\n        {o}[{n}, :] = q[{n}] @ {s}\n        {n} += 1\n    return {o}, {s}\n",
    "    {o} = np.zeros(v.shape)\n    for {n}, key in enumerate(k):\n        write = np.outer(key, v[{n}])\n        {s} = gamma * {s} + write\n        {o}[{n}] = np.dot(q[{n}], {s})\n    return {o}, {s}\n",
)


def honest(seed):
    """The work of somebody who writes alone: one of 48 forms, in names of their own."""
    draw = random.Random(seed)
    forms = [(a, b, c) for a in STEPS for b in STARTS for c in LOOPS]
    draw_form = random.Random(0).sample(forms, len(forms))[seed]
    names = {
        "s": draw.choice(["S", "s", "memory", "new", "st"]),
        "o": draw.choice(["out", "o", "y"]),
        "n": draw.choice("nti"),
    }
    step, start, loop = (part.format(**names) for part in draw_form)
    return (
        f"import numpy as np\ndef retention_step(q, k, v, gamma, state):\n{step}"
        f"def retention_loop(q, k, v, gamma, state):\n{start}{loop}"
    )


def copied(source):
    return source.replace("import numpy as np\n", "import numpy as np\n# my own work\n").replace(" = ", "  =  ")


def renamed(source):
    """The same with other names, comments, and the functions the other way round."""
    for name, other in {
        "S": "Q7",
        "s": "r",
        "memory": "store",
        "new": "fresh",
        "st": "held",
        "out": "res",
        "o": "z",
        "y": "w",
    }.items():
        source = re.sub(rf"(?<![.\w'])\b{name}\b(?!')", other, source)
    head, step, loop = re.split(r"(?m)^(?=def )", source)
    return head + "# all mine\n" + loop + "\n\n" + step


@pytest.fixture
def folder(tmp_path):
    """A class of 24, of whom two handed in another's work."""
    for n in range(22):
        (tmp_path / "in" / f"student{n:02}").mkdir(parents=True)
        (tmp_path / "in" / f"student{n:02}" / "ex01.py").write_text(honest(n))
    for name, change, n in ("copier", copied, 3), ("renamer", renamed, 8):
        (tmp_path / "in" / name).mkdir()
        (tmp_path / "in" / name / "ex01.ipynb").write_bytes(notebook(change(honest(n))))
    return tmp_path / "in"


def test_copies_stand_at_the_top_and_apart(folder):
    pairs, notes = compare(find_entries(folder, ["ex01"])[0], ["ex01"], top=1000)
    assert len(pairs) == 24 * 23 / 2
    assert notes == []
    found = [{pair.first.student, pair.second.student} for pair in pairs[:2]]
    assert found == [{"student03", "copier"}, {"student08", "renamer"}]
    first, second, third = pairs[:3]
    assert first.written > 0.95
    assert second.form > 0.95 > second.written
    assert second.beyond > third.beyond + 0.1
    assert all(0 <= one <= 1 for pair in pairs for one in (pair.written, pair.form, *pair.usual))


def test_what_was_given_does_not_count():
    """Two who left the notebook as it is, with hints pasted as comments, have nothing in common."""
    (path,) = notebooks_of("ex01")
    cells = json.loads(path.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    hints = [
        "# " + line
        for cell in cells
        if cell["cell_type"] == "markdown"
        for line in "".join(cell["source"]).splitlines()
    ]
    data = notebook(*code, "\n".join(hints))
    text = text_of("ann", "submission.ipynb", data, given_lines("ex01"), FUNCTIONS)
    assert text.written == text.form == ()
    assert ranked("ex01", [text, text]) == []


def test_names_comments_and_spaces_are_left_aside():
    one, two = "state = decay*state+np.outer(k, v)  # write", "    S   = g * S + np.outer(key, value)"
    assert form_of(one) == form_of(two)
    assert form_of(one) != form_of(two.replace("outer", "dot"))
    assert form_of("x = 1") != form_of("x = 2")


def test_a_small_class_has_nothing_usual():
    texts = [text_of(name, "x.py", RIGHT.encode(), set(), FUNCTIONS) for name in ("ann", "bob")]
    (pair,) = ranked("ex01", texts)
    assert (pair.written, pair.form, pair.usual, pair.beyond) == (1, 1, (0, 0), 1)
    assert ranked("ex01", texts[:1]) == ranked("ex01", []) == []


def test_all_of_one_form_are_no_evidence():
    texts = [text_of(f"s{n}", "x.py", RIGHT.encode(), set(), FUNCTIONS) for n in range(6)]
    assert {pair.beyond for pair in ranked("ex01", texts)} == {0}


@pytest.mark.parametrize(
    "data",
    [b"\xff\xfe", b"x = (" * 20_000, b'"""' * 20_000, b"def " * 100_000, b"#" * 1_000_000, b"\n" * 1_000_000],
    ids=["bytes", "open", "quotes", "def", "comment", "lines"],
)
def test_odd_files_take_no_time_and_raise_nothing(data, folder):
    (folder / "student00" / "ex01.py").write_bytes(data)
    pairs, notes = compare(find_entries(folder, ["ex01"])[0], ["ex01"], top=3)
    assert {pairs[0].first.student, pairs[0].second.student} == {"copier", "student03"}
    assert all("student00" in note for note in notes)


def test_the_page_shows_the_lines_and_no_markup_of_a_student(folder):
    for name in ("student03", "copier"):
        (path,) = (folder / name).iterdir()
        text = path.read_text()
        path.write_text(text.replace("import numpy as np", "x = '<script>alert(1)</script>'; import numpy as np"))
    (folder / "student03").rename(folder / "a<b>")
    result = CliRunner().invoke(
        exercises.__main__.app,
        ["similarity", str(folder), "--out", str(folder / "out"), "--top", "2", "--exercise", "ex01"],
    )
    assert result.exit_code == 0, result.output
    text = (folder / "out" / "similarity.html").read_text()
    assert "<script" not in text
    assert "a<b>" not in text
    assert "&lt;script&gt;" in text
    assert "a&lt;b&gt;" in text
    assert text.count("<h2") == 2
    assert "does not say that anybody copied" in text
    assert '<span class="same">' in text
    assert '<span class="renamed">' in text


def test_notes_name_who_is_not_compared(folder):
    (folder / "student00" / "ex01.py").write_text("x = 1")
    (folder / "student01" / "ex01.py").rename(folder / "student01" / "ex01.ipynb")
    (folder / "student02" / "ex01.py").rename(folder / "student02" / "ex01.pdf")
    _, notes = compare(find_entries(folder, ["ex01"])[0], ["ex01"], top=3)
    assert [note.partition(":")[0] for note in notes] == [f"student0{n}, ex01" for n in range(3)]
    assert "student02" in page([], notes)
