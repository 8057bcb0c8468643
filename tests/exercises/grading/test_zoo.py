"""Hostile submissions affect only their own results: the whole zoo in one kind of isolation, and who attacks in each.

In the first isolation that works attackers have a sandbox each. In another two sandboxes, beside one another, take all of
them, and what is odd shares one: starting a sandbox takes most of the time.
"""

import contextlib
import os
import re
import time

import pytest
from graded import COURSE, WAYS, descendants, processes, results_of, rows_of, why_not
from zoo import FULL, OF_LIMITS, beasts, of_isolation, write_zoo
from zoo_in_one import LIMITS, kept_sandboxes, words_of_hidden_checks

from exercises.grading import batch
from exercises.grading.batch import Batch
from exercises.grading.intake import find_entries
from exercises.grading.isolation import Limits
from exercises.grading.sandbox import Sandbox


@pytest.fixture(scope="module")
def graded(way, tmp_path_factory):
    """The zoo after one batch: (animals, their rows, output folder, the rows of whom nothing can be graded)."""
    with Sandbox(way, Limits()) as sandbox:
        if way.name != "bubblewrap" and not any("Landlock" in one for one in sandbox.in_force):
            pytest.skip("the zoo is not let loose: without Landlock, limits do not protect the course's files")
    folder = tmp_path_factory.mktemp("zoo")
    first = next(
        one for one in WAYS.values() if not why_not(one)
    )  # odd answers and files are judged alike in all: once will do
    here = beasts(COURSE) if way == first else of_isolation(COURSE)
    animals = write_zoo(folder, COURSE, {name: here[name] for name in here if way == first or name not in OF_LIMITS})
    before = {path: path.read_bytes() for path in COURSE.rglob("*.py")}
    entries, _ = find_entries(folder)
    out = tmp_path_factory.mktemp("graded")
    attack = of_isolation(COURSE)
    with contextlib.nullcontext() if way == first else kept_sandboxes(way), pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "WAITING", batch.WAITING if way == first else 0)  # so that two sandboxes are enough
        list(Batch([one for one in entries if one.student in attack], out, way, LIMITS, workers=2).run())
    with kept_sandboxes(way):
        list(Batch([one for one in entries if one.student not in attack], out, way, LIMITS, workers=1).run())
    assert {path: path.read_bytes() for path in COURSE.rglob("*.py")} == before
    rows = rows_of(out)
    nothing = {name: rows.pop(name) for name, row in [*rows.items()] if row["status"] == "nothing gradable"}
    return animals, rows, out, nothing


def test_the_zoo_earns_what_it_did_and_no_more(graded):
    animals, rows, _, _ = graded
    assert set(rows) == set(animals)
    earned = {name: int(row["points"]) for name, row in rows.items()}
    assert earned == {name: animal.points for name, animal in animals.items()}
    assert {row["status"] for row in rows.values()} == {"graded", "unusable"}
    assert {row["most"] for row in rows.values()} == {str(FULL)}


def test_the_zoo_is_told_why(graded):
    animals, rows, out, _ = graded
    for name, animal in animals.items():
        results = results_of(out, rows[name])
        failed = [test for test in results["tests"] if test["status"] == "failed"]
        assert bool(failed) == (animal.points < FULL)
        text = "\n".join(test["output"] for test in failed)
        assert re.search(animal.told, text), f"{name}: {text}"
        for test in failed:
            reason = test["output"].splitlines()[0]
            assert reason, name
            assert reason.isprintable(), name


def test_results_are_gradescope_s_and_say_the_isolation(graded, way):
    _, rows, out, _ = graded
    for row in rows.values():
        results = results_of(out, row)
        assert {"score", "max_score", "output", "stdout_visibility", "tests", "extra_data"} <= set(results)
        assert results["score"] == sum(test["score"] for test in results["tests"])
        assert results["max_score"] == sum(test["max_score"] for test in results["tests"]) == FULL
        assert {test["visibility"] for test in results["tests"]} == {"visible", "after_published"}
        facts = results["extra_data"]
        assert facts["isolation"] == way.name == row["isolation"]
        assert {"submission", "key", "versions", "seconds"} <= set(facts)
        if facts["status"] == "graded":
            assert {"CPU time", "wall-clock time", "file size", "descriptors", "processes"} <= set(facts["in_force"])


def test_hidden_checks_say_one_of_few_sentences(graded):
    _, rows, out, _ = graded
    words = words_of_hidden_checks()
    for name, row in rows.items():
        for test in results_of(out, row)["tests"]:
            assert test["visibility"] == "visible" or test["output"] in words[test["name"]], name


def test_pages_and_tables_are_safe(graded):
    _, rows, out, _ = graded
    pages = [(out / row["feedback"]).read_text(encoding="utf-8") for row in rows.values()]
    assert not any("<script" in page for page in pages)
    assert any("&lt;script&gt;alert(1)" in page for page in pages)
    assert "'=HYPERLINK(1)" in (out / "grades.csv").read_text(encoding="utf-8")
    assert {path.name for path in out.iterdir()} == {"results", "grades.csv"}
    assert len({row["feedback"] for row in rows.values()}) == len(rows)
    for row in rows.values():
        assert re.fullmatch(r"results/[A-Za-z0-9_-]+/ex01/feedback\.html", row["feedback"])


def test_whoever_handed_in_nothing_that_can_be_graded_has_a_row(graded):
    _, rows, _, nothing = graded
    assert {name: row["note"] for name, row in nothing.items()} == {
        "notes.txt": "notes.txt: it is no notebook and no script",
        "linked": "linked: it is a link",
        "piped": "ex01.py: it is not a plain file",
        "bomb": "bomb.zip: the archive cannot be read: File is not a zip file",
    }
    assert {row["points"] for row in nothing.values()} <= {"", "0"}
    assert rows["right"]["note"] == "not graded: ex01_mine_old.py, ex99.py"


def test_nothing_stays_behind(graded):
    deadline = time.monotonic() + 10
    while left := {
        pid for pid in descendants(os.getpid()) if "exercises.harness.child" in processes().get(pid, (0, ""))[1]
    }:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
