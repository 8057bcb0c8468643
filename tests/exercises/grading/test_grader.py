"""The grader: a killed batch can be continued, isolation is as announced. Hostile submissions: test_zoo.py."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import defaultdict
from pathlib import Path

import pytest
from class_of_300 import whole_class
from graded import AGREE, COURSE, WAYS, descendants, processes, rows_of, why_not
from zoo import FULL, RIGHT, RIGHT_STEP
from zoo_in_one import Lent, two_checks

from exercises import exercise_names, load
from exercises.checking.key import answer_key
from exercises.grading import isolation
from exercises.grading.batch import GRADERS, Batch, key_version
from exercises.grading.intake import Entry, find_entries
from exercises.grading.isolation import CHILD_MODULES, EXERCISES, HARNESS, Isolation, IsolationError, Limits
from exercises.grading.sandbox import choose_isolation, put_questions
from exercises.harness import child
from exercises.harness.wire import PATIENCE


def grade(folder, out, *options, **settings):
    command = [sys.executable, "-m", "exercises", "grade", str(folder), "--out", str(out), *map(str, options)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=COURSE.parent, check=False, **settings
    )


def class_of(folder, number):
    """Write as many right submissions as that, each a different file."""
    for n in range(number):
        (folder / f"student{n:03}_ex01.py").write_text(f"{RIGHT}\n# {n}\n")
    return folder


def interrupted(folder, out, enough, number=10):
    """Start grading `number` submissions and return, once `enough` are graded, the process and those below it."""
    folder.mkdir()
    class_of(folder, number)
    command = [sys.executable, "-m", "exercises", "grade", str(folder), "--out", str(out), "--workers", "2"]
    process = subprocess.Popen(command, cwd=COURSE.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len([*out.rglob("results.json")]) < enough:
        assert process.poll() is None, "the batch ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process, descendants(process.pid)


def wait_until_gone(numbers):
    """Wait for processes to leave the system's table, which takes a busy machine a moment; AssertionError after 10 s."""
    deadline = time.monotonic() + 10
    while left := numbers & set(processes()):
        assert time.monotonic() < deadline, f"these outlive the grader: {left}"
        time.sleep(0.05)


def test_a_killed_batch_goes_on_where_it_was(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    process, below = interrupted(folder, out, enough=3)
    process.kill()
    process.communicate()
    wait_until_gone(below)
    done = {path: path.stat().st_mtime_ns for path in out.rglob("results.json")}
    assert 3 <= len(done) < 10
    again = grade(folder, out)
    assert again.returncode == 0, again.stderr
    assert f"{len(done)} of them graded before" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in done} == done
    rows = [(row["student"], row["points"]) for row in rows_of(out).values()]
    assert rows == [(f"student{n:03}", str(FULL)) for n in range(10)]
    assert len([*out.rglob("results.json")]) == len([*out.rglob("feedback.html")]) == 10


def test_an_interrupt_stops_cleanly(tmp_path):
    out = tmp_path / "out"
    process, below = interrupted(tmp_path / "in", out, enough=3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "The same command goes on from here." in errors
    assert 3 <= len(rows_of(out)) < 10
    wait_until_gone(below)


def test_only_what_changed_is_graded_again(tmp_path, best, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    class_of(folder, 3)

    def run(limits=Limits()):  # noqa: B008
        batch = Batch(find_entries(folder)[0], out, best, limits)
        points = [row["points"] for _, row in batch.run()]
        return batch.reused, sorted(points)

    assert run() == (0, [FULL] * 3)
    assert run() == (3, [FULL] * 3)
    (folder / "student001_ex01.py").write_text("")
    assert run() == (2, [0, FULL, FULL])
    (folder / "student000_ex01_later.py").write_text(RIGHT)
    assert run() == (2, [0, FULL, FULL])
    results = out / "results" / "student002" / "ex01" / "results.json"
    results.write_text(results.read_text()[:100])  # as no crash of ours leaves it
    assert run() == (2, [0, FULL, FULL])
    assert run(Limits(seconds=5.0)) == (0, [0, FULL, FULL])


def test_the_table_says_when_a_file_was_changed(tmp_path, best):
    """But not where it lies with others' in an archive, which is as old as the download."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "ann_ex01.py").write_text("")
    (folder / "bob").symlink_to("ann_ex01.py")
    with zipfile.ZipFile(folder / "cat.zip", "w") as archive:
        archive.writestr("ex01.py", "")
    (tmp_path / "class").mkdir()
    with zipfile.ZipFile(tmp_path / "class" / "all.zip", "w") as archive:
        for student in ("dan", "eve"):
            archive.writestr(f"{student}/ex01.py", "")
    for path in (folder / "ann_ex01.py", folder / "cat.zip", tmp_path / "class" / "all.zip"):
        os.utime(path, (1e9, 1e9))
    when = {}
    for place in (folder, tmp_path / "class"):
        rows = [row for _, row in Batch(find_entries(place)[0], tmp_path / "out", best, Limits()).run()]
        when |= {row["student"]: row["submitted"] for row in rows}
    assert when.pop("bob") > "2020"  # the link's own
    assert when == dict.fromkeys(("ann", "cat"), "2001-09-09T01:46:40+00:00") | {"dan": "", "eve": ""}


def told(source, limits, best, key=None):
    """What the visible checks say of a script, and the notes. key: of the checks, by default all of exercise 1."""
    key = answer_key(load("ex01")) if key is None else key
    given = put_questions(key, "submission.py", source.encode(), best, limits)
    results = [one for several in key.report(given.runs).results.values() for one in several]
    return {one.reason for one in results if not one.check.hidden and not one.passed}, given.notes


@pytest.fixture
def crowded():
    """One core, for what the test starts, and four other programs that compute on it."""
    here = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(here)})
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    yield
    os.sched_setaffinity(0, here)
    for other in others:
        other.kill()
        other.wait()


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="no system but Linux tells who waits for a core")
def test_a_busy_machine_costs_no_points(way, crowded):
    """Each check of a function has 0.6 s and computes for 0.3 s, which takes 1.5 s here."""
    slow = RIGHT_STEP.replace("    state = ", "    while time.process_time() < 0.3:\n        pass\n    state = ", 1)
    source = f"import time\n{RIGHT.replace(RIGHT_STEP, slow)}"
    reasons, notes = told(source, Limits(seconds=0.6, total_seconds=1.5), way, two_checks(answer_key(load("ex01"))))
    assert (reasons, notes) == (set(), [])


def test_who_waits_for_something_else_than_a_core_is_late():
    reader, _writer = os.pipe()
    source, _grader = os.pipe()
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        began = time.monotonic()
        assert child._collect(reader, source, sleeper.pid, 0.5) == (b"", "late")
        assert time.monotonic() - began < 0.5 * PATIENCE
        sleeper.kill()


def test_a_file_too_long_to_be_read_is_told_so(best):
    digits = f"X = [{'1, ' * 1_500_000}]\n{RIGHT}"
    (reason,), _ = told(digits, Limits(cpu_seconds=1), best)
    assert re.search(
        "(the file has 4.5 MB|it takes too much memory to be read): shorten it, above all long lists", reason
    )


def test_no_time_for_hidden_checks_is_told(best, monkeypatch):
    monkeypatch.setattr("exercises.grading.sandbox.LONG_READING", 0.0)
    reasons, notes = told(RIGHT, Limits(total_seconds=0.001), best)
    (reason,), (note,) = reasons, notes
    assert re.fullmatch(r"reading your file takes too long, about \d+ s in each check: shorten it", reason)
    assert note == f"{reason}; some hidden checks may not be run"
    assert told(RIGHT, Limits(), best) == (set(), [])


def test_a_loop_in_a_long_file_is_called_a_loop(best, monkeypatch):
    monkeypatch.setattr("exercises.grading.sandbox.LONG", 1000)
    monkeypatch.setattr("exercises.grading.sandbox.LONG_READING", 0.01)
    endless = "def retention_step(*_):\n    while True: pass\n# " + "x" * 400_000
    reasons, notes = told(endless, Limits(cpu_seconds=1, seconds=3.0), best)
    assert any("look for a loop that does not end" in reason for reason in reasons)
    assert not any("takes too long" in reason for reason in reasons)
    assert notes == []


def test_a_failing_grader_fails_on_one_alone(tmp_path, best, monkeypatch):
    folder = class_of(tmp_path, 3)
    out = tmp_path / "out"

    def broken(key, name, source, *arguments):
        if b"# 1" in source:
            raise RuntimeError("the disk is on fire")
        return put_questions(key, name, source, *arguments)

    monkeypatch.setattr("exercises.grading.batch.put_questions", broken)
    rows = {row["student"]: row for _, row in Batch(find_entries(folder)[0], out, best, Limits()).run()}
    assert [row["points"] for _, row in sorted(rows.items())] == [FULL, "", FULL]
    assert rows["student001"]["status"] == "grader error"
    assert "the disk is on fire" in rows["student001"]["note"]
    assert "not your fault" in (out / rows["student001"]["feedback"]).read_text()
    monkeypatch.undo()
    again = Batch(find_entries(folder)[0], out, best, Limits())
    assert [row["points"] for _, row in again.run()] == [FULL] * 3
    assert again.reused == 2


def test_several_files_of_one_student(tmp_path):
    (tmp_path / "ann").mkdir()
    for name in ("ann_ex01_v2.py", "ann_ex01_v10.ipynb", "ann/ex01_v9.py", "ben_ex01.py"):
        (tmp_path / name).write_text("")
    entries, ignored = find_entries(tmp_path)
    assert ignored == []
    assert [(entry.student, entry.path.name) for entry in entries] == [("ann", "ex01_v9.py"), ("ben", "ben_ex01.py")]
    assert entries[0].others == ("ann_ex01_v2.py", "ann_ex01_v10.ipynb")
    (alone,) = find_entries(tmp_path / "ann")[0]  # nobody's name is there
    assert (alone.student, alone.notes) == ("ex01_v9.py", ("the name of the file does not say whose it is",))


def test_names_of_files_as_they_come(tmp_path):
    for student, *names in (
        ("again", "ex01.py", "ex01 (1).py", "ex01 (2).py", "ex01-3.ipynb"),
        ("digits", "ex01²2.py", "ex01 ٣.py"),  # digits to Python, and no numbers to int()
        ("line", "EX01 ü'\",;\n x.PY"),
    ):
        (tmp_path / student).mkdir()
        for name in names:
            (tmp_path / student / name).write_text("")
    (tmp_path / "._ann_ex01.py").write_text("")
    entries, ignored = find_entries(tmp_path)
    counts = {entry.student: entry.path.name for entry in entries}
    assert counts == {"again": "ex01-3.ipynb", "digits": "ex01²2.py", "line": "EX01 ü'\",;\n x.PY"}
    assert entries[0].others == ("ex01.py", "ex01 (1).py", "ex01 (2).py")
    assert ignored == [(tmp_path / "._ann_ex01.py", "it is hidden")]


def test_a_folder_that_cannot_be_read_stops_no_batch(tmp_path, monkeypatch):
    for student in ("ann", "ben"):
        (tmp_path / student).mkdir()
        (tmp_path / student / "ex01.py").write_text("")
    listed = os.scandir

    def scandir(path):
        if Path(path).name == "ann":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr("os.scandir", scandir)
    entries, _ = find_entries(tmp_path)
    reasons = {entry.student: entry.reason for entry in entries}
    assert reasons == {"ann": "ann: it cannot be read: Permission denied", "ben": ""}


def test_result_folders_are_safe_and_differ():
    names = ["ann", "Ann", "ANN", "..", ".", "a/b", "a_b", "", "é", "x" * 300, "x" * 301]
    names += [Entry(name, "ex01", Path("ex01.py")).folder.parts[1].lower() for name in ("Ann", "é")]  # as a thief would
    folders = [Entry(name, "ex01", Path("ex01.py")).folder for name in names]
    assert len({str(folder).lower() for folder in folders}) == len(names)
    for folder in folders:
        assert re.fullmatch(r"results/[A-Za-z0-9_-]{1,70}/ex01", folder.as_posix())


def test_the_command_says_what_is_wrong(tmp_path):
    for options, message in (
        ([tmp_path / "nowhere"], "Cannot grade: "),
        ([tmp_path, "--exercise", "ex99"], "exercise must be one of 'ex01'"),
        ([tmp_path / "gone"], "FOLDER must hold the submissions, there is no "),
        ([tmp_path, "--isolation", "none"], "isolation must be one of 'auto', 'bubblewrap', 'limits', got 'none'"),
    ):
        result = grade(options[0], tmp_path / "out", *options[1:])
        assert result.returncode == 2, result.stderr
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_secret_that_could_be_guessed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("EXERCISES_SECRET", "short")
    result = grade(tmp_path, tmp_path / "out")
    assert result.returncode == 2
    assert result.stderr == "Cannot grade: EXERCISES_SECRET must hold at least 16 characters, got 5\n"


def test_isolation_that_is_not_there_is_an_error_and_no_downgrade(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(IsolationError, match="no isolation by bubblewrap here: there is no bwrap"):
        choose_isolation("bubblewrap")
    assert choose_isolation("auto").name == choose_isolation("limits").name == "limits only"


def test_the_old_path_of_isolation_still_holds_its_names():
    old = importlib.import_module("exercises.isolation")
    assert old.choose_isolation is choose_isolation
    assert (old.Isolation, old.IsolationError, old.Limits) == (Isolation, IsolationError, Limits)
    assert old.CHOICES == ("auto", "bubblewrap", "limits")


def test_user_namespaces_work_without_root():
    """Root starts bubblewrap in another way; this is how everybody else does."""
    way = Isolation("bubblewrap", own_user=False, namespaces=True)
    if why_not(way):
        pytest.skip(f"bubblewrap in user namespaces does not work here: {why_not(way)}")
    key = answer_key(load("ex01"))
    given = put_questions(key, "ex01.py", RIGHT.encode(), way, Limits())
    assert key.report(given.runs).passed
    peeking = (
        f"def retention_step(q, k, v, gamma, state):\n    raise ValueError(__import__('os').listdir({str(COURSE)!r}))\n"
    )
    given = put_questions(key, "ex01.py", peeking.encode(), way, Limits())
    reason = key.report(given.runs).results["retention_step"][0].reason
    assert re.search(" raised (FileNotFoundError|PermissionError): ", reason), reason


# Every exercise through the isolated grader.


@pytest.fixture(scope="module")
def sandboxes():
    idle = defaultdict(list)
    yield idle
    for one in (one for several in idle.values() for one in several):
        one.end()


@pytest.fixture
def shared(sandboxes, monkeypatch):
    """Tests that ask for this grade in one sandbox for each kind of isolation: starting one takes most of their time."""

    def start(isolation, limits, stop):
        idle = sandboxes[isolation]
        return idle.pop() if idle else Lent(idle, isolation, limits, stop)

    monkeypatch.setattr("exercises.grading.sandbox.Sandbox", start)


def without_the_course(text):
    """The text of a module without its imports from the course."""
    return re.sub(r"^from \.[\w.]* import (\([^)]*\)|[^\n]*)$", "", text, flags=re.MULTILINE)


def solutions_of(name):
    """The solutions of an exercise as a script: the module is read anew in each check, and the rest of it is long."""
    text = (COURSE / "answers" / f"{name}.py").read_text(encoding="utf-8")
    return without_the_course(text[: text.index("# Wrong answers")]).encode()


def as_submission(name, choose):
    """The module of an exercise as one script that ends in its functions; `choose(problem)` is the expression for each."""
    done = set()

    def inlined(module):
        """The text of a module after the text of those that it imports from the course."""
        if module in done:
            return ""
        done.add(module)
        text, before = module.read_text(encoding="utf-8"), ""
        for dots, path in re.findall(r"^from (\.+)([\w.]+) import", text, re.MULTILINE):
            before += inlined(module.parents[len(dots) - 1] / (path.replace(".", "/") + ".py"))
        return before + without_the_course(text)

    source = inlined(COURSE / "answers" / f"{name}.py")
    # In a namespace of its own, because a wrong answer may call the solution by the name that it takes here.
    source = f"def _load():\n    space = {{}}\n    exec({source!r}, space)\n    return space['EXERCISE']\n"
    source += "_exercise = _load()\n"
    for i, problem in enumerate(load(name).problems):
        source += f"{problem.function} = _exercise.problems[{i}].{choose(problem)}\n"
    return source.encode()


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("name", exercise_names())
def test_solutions_get_full_marks_in_isolation(name, way):
    key = answer_key(load(name))
    given = put_questions(key, f"{name}.py", solutions_of(name), way, Limits())
    report = key.report(given.runs)
    assert given.notes == []
    assert [result.reason for results in report.results.values() for result in results if not result.passed] == []
    assert report.points == report.most == sum(problem.points for problem in load(name).problems)


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize(("turn", "name"), [*enumerate(exercise_names())])
def test_wrong_answers_get_their_own_message_in_isolation(turn, name, best):
    """The first, a middle and the last ones in turn; without isolation `test_exercises.py` tries every one of them."""
    key, wrongs = answer_key(load(name)), {one.function: one.wrong_answers for one in load(name).problems}
    last = max(map(len, wrongs.values())) - 1
    n = (0, last // 2, last)[turn % 3]
    chosen = {function: min(n, len(several) - 1) for function, several in wrongs.items()}
    source = as_submission(name, lambda one: f"wrong_answers[{chosen[one.function]}].function")
    report = key.report(put_questions(key, f"{name}.py", source, best, Limits()).runs)
    for function, several in wrongs.items():
        wrong = several[chosen[function]]
        failed = [result for result in report.results[function] if not result.passed]
        (told,) = {result.mistake for result in failed}
        assert told in (wrong.name, AGREE.get(wrong.name))
        assert {result.reason for result in failed} == {one.message for one in several if one.name == told}


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("name", exercise_names())
def test_stubs_earn_nothing_in_isolation(name, best):
    (path,) = COURSE.glob(f"{name}_*.ipynb")
    key = answer_key(load(name))
    report = key.report(put_questions(key, path.name, path.read_bytes(), best, Limits()).runs)
    assert report.points == 0
    assert all(not result.written for results in report.results.values() for result in results)


# What the sandbox shows of the course, and what results depend on.

IMPORTING = """
def retention_step(q, k, v, gamma, state):
    found = []
    for name in {names}:
        try:
            __import__(name)
            found.append(name)
        except ImportError:
            pass
    raise LookupError(f"imported {{found}}")
"""


def test_student_code_imports_nothing_of_the_course(way, monkeypatch):
    names = ["exercises", "exercises.answers", "exercises.answers.ex01", "exercises.checking", "exercises.checking.key"]
    names += ["exercises.harness", "exercises.harness.wire", "exercises.harness.child", "refimpl", "refimpl.oracle"]
    key, source = answer_key(load("ex01")).only("retention_step"), IMPORTING.format(names=names).encode()

    def reason():
        runs = put_questions(key, "ex01.py", source, way, Limits()).runs
        return key.report(runs).results["retention_step"][0].reason

    assert re.match(r"line \d+ of retention_step raised LookupError: imported \[\]; the call was", reason())
    if way.name == "limits only":  # also where every file is readable, as without Landlock
        monkeypatch.setattr(isolation, "_numpy_folders", lambda: [Path("/")])
        assert re.match(r"line \d+ of retention_step raised LookupError: imported \[\]; the call was", reason())


def test_a_sandbox_that_shows_the_course_is_refused(monkeypatch):
    way = WAYS["bubblewrap"]
    if why_not(way):
        pytest.skip(f"bubblewrap does not work here: {why_not(way)}")
    folders = [*isolation._numpy_folders(), COURSE / "answers"]
    monkeypatch.setattr(isolation, "_numpy_folders", lambda: folders)
    with pytest.raises(IsolationError, match="the sandbox shows the course"):
        choose_isolation("bubblewrap")


def test_the_sandbox_holds_the_harness_and_no_other_room():
    assert COURSE == EXERCISES
    assert {path.stem for path in HARNESS.glob("*.py")} == {"__init__", *CHILD_MODULES}
    command = WAYS["bubblewrap"].command(Limits())
    mounts = [
        (source, target)
        for kind, source, target in zip(command, command[1:], command[2:], strict=False)
        if kind == "--ro-bind"
    ]
    ours = {source: target for source, target in mounts if Path(source).is_relative_to(COURSE)}
    assert ours == {str(HARNESS / f"{name}.py"): f"/grader/exercises/harness/{name}.py" for name in CHILD_MODULES}
    settings = json.loads(command[-1])
    assert settings["unseen"] == [str(COURSE)]
    assert settings["modules"] == "/grader/exercises/harness"


def test_the_sandbox_sees_no_more_than_it_needs():
    sources = {name: (COURSE / "harness" / f"{name}.py").read_text(encoding="utf-8") for name in CHILD_MODULES}
    for name, source in sources.items():
        assert set(re.findall(r"^from \.(\w+) import", source, re.MULTILINE)) <= set(CHILD_MODULES), name
        assert not re.search(r"^ *(from|import) (refimpl|pickle|marshal)", source, re.MULTILINE), name


def test_versions_change_with_key_and_limits(best):
    key = answer_key(load("ex01"))
    assert key_version(key, best, Limits()) == key_version(key, best, Limits())
    assert key_version(key, best, Limits()) != key_version(key, best, Limits(seconds=9.0))
    assert key_version(key, best, Limits()) != key_version(key.visible(), best, Limits())


@pytest.fixture
def rooms(tmp_path, monkeypatch):
    """A copy of the course's exercises that versions are made of."""
    copy = shutil.copytree(COURSE, tmp_path / "exercises", ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
    monkeypatch.setattr("exercises.grading.batch.EXERCISES", copy)
    return copy


@pytest.mark.parametrize("room", sorted({path.parent.relative_to(COURSE).as_posix() for path in COURSE.rglob("*.py")}))
def test_versions_change_with_every_file_of_the_grader_and_no_other(room, rooms, best):
    key = answer_key(load("ex01")).only("retention_step")
    for path in (rooms / room).glob("*.py"):
        before, text = key_version(key, best, Limits()), path.read_text(encoding="utf-8")
        path.write_text(text + "# changed\n", encoding="utf-8")
        assert (key_version(key, best, Limits()) != before) == (room in GRADERS), path


def test_grading_imports_no_other_room():
    """Else a change there could change a verdict, and nothing would be graded again. What matters in the answers is in the key."""
    code = "import sys; from exercises.grading import batch; print(*(name for name in sys.modules if name.startswith('exercises.')))"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=COURSE.parent)
    assert {name.split(".")[1] for name in names.stdout.split()} == {"answers", *GRADERS}


def test_readme_quotes_its_results_file():
    numbers = json.loads((COURSE / "results" / "class_of_300.json").read_text(encoding="utf-8"))
    readme = " ".join((COURSE / "README.md").read_text(encoding="utf-8").split())
    class_of = "grades {submissions} submissions, {hostile} of them hostile, {late} late and {zips} zips,"
    assert class_of.format(**numbers) in readme
    assert "It took {seconds:.0f} s, {seconds_a_submission} s a submission, on two cores".format(**numbers) in readme
    assert numbers["in_every_export"] == numbers["submissions"] == 300
    assert numbers["cores"] == 2


def test_a_small_class_is_graded_killed_graded_on_and_exported(tmp_path):
    took = whole_class(tmp_path, 12, 1)
    assert took["found_graded_after_the_kill"] in range(6, 12)
    assert (took["late"], took["zips"], took["in_every_export"]) == (2, 2, 12)
