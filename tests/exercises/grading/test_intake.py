"""What came in: whose it is and what it is, whatever students, colleagues and learning platforms call and pack it."""

import csv
import io
import os
import stat
import sys
import unicodedata
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner
from zoo import FULL, RIGHT, notebook

from exercises.__main__ import app
from exercises.grading import batch, intake, places
from exercises.grading.intake import find_entries

N = notebook(RIGHT)
OLD = "def retention_step(*_):\n    return 1\n"


def zipped(tree):
    """The bytes of an archive of {name: text, bytes or, for an archive in it, dict}."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in tree.items():
            archive.writestr(name, zipped(content) if isinstance(content, dict) else content)
    return file.getvalue()


def write(folder, tree):
    """Write {name: text, bytes or dict}: a dict is a folder, or an archive if the name ends in .zip; return the folder."""
    for name, content in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict) and not name.endswith(".zip"):
            path.mkdir(exist_ok=True)
            write(path, content)
        else:
            content = zipped(content) if isinstance(content, dict) else content
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def found(folder, exercises=None):
    """{student: file that counts for ex01, or the reason why none does}; every file that counts can be read."""
    entries, _ = find_entries(folder, exercises)
    assert all(entry.read()[0] and not entry.read()[1] for entry in entries if not entry.reason)
    return {entry.student: entry.reason or entry.file for entry in entries}


# What comes in, and whose it is: {case: (tree, {student: file or reason})}.
CLASSES = {
    "files beside each other": (
        {
            "ann_ex01.py": RIGHT,
            "Copy of ben_ex01.ipynb": N,
            "Cat - Exercise 1.ipynb": N,
            "dan.ipynb": N,
            "eve_ex01.zip": {"a/b.py": RIGHT},
        },
        {
            "ann": "ann_ex01.py",
            "ben": "Copy of ben_ex01.ipynb",
            "Cat": "Cat - Exercise 1.ipynb",
            "dan": "dan.ipynb",
            "eve": "eve_ex01.zip/a/b.py",
        },
    ),
    "files that do not say whose they are": (
        {"ex01_ann.py": RIGHT, "ex01_retention_step.ipynb": N, "Copy of ex01.ipynb": N},
        {name: name for name in ("ex01_ann.py", "ex01_retention_step.ipynb", "Copy of ex01.ipynb")},
    ),
    "nested, renamed, copied and packed": (
        {
            "ann": {"work": {"ex01.py": RIGHT}},
            "ben": {"a": {"b": {"c": {"EX 01 (2).ipynb": N}}}},
            "cat": {"Kopie von ex01_retention_step.ipynb": N},
            "dan": {"Untitled.ipynb": N, "helper.py": "x = 1"},
            "eve": {"my.zip": {"eve/ex01.ipynb": N, "__MACOSX/eve/._ex01.ipynb": "x"}},
            "fay": {"ex01.ipynb.txt": N, ".ipynb_checkpoints": {"ex01-checkpoint.ipynb": N}},
            "gus": {"ex1": {"main.ipynb": notebook("1 + 1")}},
            "hal": {"ex01.ipynb": {"mine.py": RIGHT}},
        },
        {
            "ann": "ex01.py",
            "ben": "EX 01 (2).ipynb",
            "cat": "Kopie von ex01_retention_step.ipynb",
            "dan": "Untitled.ipynb",
            "eve": "my.zip/eve/ex01.ipynb",
            "fay": "ex01.ipynb.txt",
            "gus": "main.ipynb",
            "hal": "mine.py",
        },
    ),
    "nothing to grade": (
        {
            "ann": {},
            "ben": {"report.pdf": "x", "data": {"a.csv": "x"}},
            "cat": {"ex01.rar": "x"},
            "dan": {"ex99.py": RIGHT},
            "eve": {"essay.py": "x = 1"},
            "fay.zip": "no archive",
            "gus": {"a.zip": {"b.zip": {"c.zip": {"d.zip": {"ex01.py": RIGHT}}}}},
            "notes.txt": "",
            "zoe_ex01.pdf": "",
        },
        {
            "ann": "it is empty",
            "ben": "report.pdf: it is no notebook and no script; data/a.csv: it is no notebook and no script",
            "cat": "ex01.rar: it is no notebook and no script",
            "dan": "ex99.py: there is no exercise ex99",
            "eve": "essay.py: neither its name nor what it defines says for which exercise it is",
            "fay": "fay.zip: the archive cannot be read: File is not a zip file",
            "gus": "a.zip/b.zip/c.zip/d.zip: it is an archive in an archive in an archive",
            "notes.txt": "notes.txt: it is no notebook and no script",
            "zoe": "zoe_ex01.pdf: it is no notebook and no script",
        },
    ),
    "one level too deep": (
        {"hand-ins": {"ann": {"ex01.py": RIGHT}, "ben": {"ex01.py": RIGHT}}},
        {"ann": "ex01.py", "ben": "ex01.py"},
    ),
    "two levels too deep": (
        {"a": {"b": {"ann_ex01.py": RIGHT, "ben_ex01.py": RIGHT}}},
        {"ann": "ann_ex01.py", "ben": "ben_ex01.py"},
    ),
    "sections with a name in common": (
        {
            "A": {"ann": {"ex01.py": RIGHT}, "ben": {"ex01.py": RIGHT}},
            "B": {"ann": {"ex01.py": RIGHT}, "cat": {"ex01.py": RIGHT}},
        },
        {"A/ann": "ex01.py", "B/ann": "ex01.py", "ben": "ex01.py", "cat": "ex01.py"},
    ),
    "a folder an exercise": (
        {"ex01": {"ann": {"a.py": RIGHT}, "ben": {"ex01.py": RIGHT}}, "ex99": {"ann": {"ex99.py": RIGHT}}},
        {"ann": "a.py", "ben": "ex01.py"},
    ),
    "as nbgrader and GitHub Classroom": (
        {"ann": {"ex01": {"ex01.py": RIGHT}}, "ex01-ben": {"README.md": "", "src": {"ex01.py": RIGHT}}},
        {"ann": "ex01.py", "ex01-ben": "ex01.py"},
    ),
    "as Canvas": (
        {
            "doejane_LATE_12345_67890_ex01-1.ipynb": N,
            "smithjo_22_333_Untitled.ipynb": N,
            "smithjo_23_334_ex01.ipynb": N,
            "leeann_5_6_work.zip": {"ex01.ipynb": N},
            "poeed_7_8_essay.pdf": "",
        },
        {
            "doejane_12345": "doejane_LATE_12345_67890_ex01-1.ipynb",
            "smithjo_22": "smithjo_22_333_Untitled.ipynb",
            "smithjo_23": "smithjo_23_334_ex01.ipynb",
            "leeann_5": "leeann_5_6_work.zip/ex01.ipynb",
            "poeed_7": "essay.pdf: it is no notebook and no script",
        },
    ),
    "as otter names what it exports, with and without Canvas": (
        {
            "doejane_1_2_ex01_2024_01_01T01_02_03_123456.zip": {"ex01.ipynb": N},
            "ann_ex01_2024_01_01T01_02_03_123456.zip": {"ex01.ipynb": N},
            "ben_2024_01_01T01_02_03_123456.zip": {"ex01.ipynb": N},
        },
        {
            "doejane_1": "doejane_1_2_ex01_2024_01_01T01_02_03_123456.zip/ex01.ipynb",
            "ann": "ann_ex01_2024_01_01T01_02_03_123456.zip/ex01.ipynb",
            "ben_2024_01_01T01_02_03_123456": "ben_2024_01_01T01_02_03_123456.zip/ex01.ipynb",
        },
    ),
    "as Moodle, in an archive": (
        {
            "Course-Exercise 1-99.zip": {
                "Jane Doe_123_assignsubmission_file_/ex01.ipynb": N,
                "Jane Doe_124_assignsubmission_file_/sol.ipynb": N,
                "Zoë O'B_125_assignsubmission_file/ex01.ipynb": N,
                "Tim_126_assignsubmission_onlinetext_/onlinetext.html": "",
            }
        },
        {
            "Jane Doe_123": "Course-Exercise 1-99.zip/Jane Doe_123_assignsubmission_file_/ex01.ipynb",
            "Jane Doe_124": "Course-Exercise 1-99.zip/Jane Doe_124_assignsubmission_file_/sol.ipynb",
            "Zoë O'B": "Course-Exercise 1-99.zip/Zoë O'B_125_assignsubmission_file/ex01.ipynb",
            "Tim": "onlinetext.html: it is no notebook and no script",
        },
    ),
    "as Moodle, unpacked": (
        {
            "Jane Doe_123_assignsubmission_file_": {"ex01.ipynb": N},
            "Kim_124_assignsubmission_file_": {"my": {"a.py": RIGHT}},
        },
        {"Jane Doe": "Jane Doe_123_assignsubmission_file_/ex01.ipynb", "Kim": "Kim_124_assignsubmission_file_/a.py"},
    ),
    "as Moodle, flat": (
        {"Jane Doe_123_assignsubmission_file_ex01.ipynb": N, "Kim_124_assignsubmission_file_my.zip": {"ex01.ipynb": N}},
        {
            "Jane Doe": "Jane Doe_123_assignsubmission_file_ex01.ipynb",
            "Kim": "Kim_124_assignsubmission_file_my.zip/ex01.ipynb",
        },
    ),
    "as Gradescope": (
        {
            "assignment_12_export": {
                "submission_metadata.yml": "---\nsubmission_77:\n  :submitters:\n  - :name: Jane Doe\n    :sid: '9'\n"
                "  - :name: Ben\n    :sid: '10'\n  :created_at: x\nsubmission_78:\n  :submitters:\n  - :name: 'O''Cat'\n",
                "submission_77": {"ex01.py": RIGHT},
                "submission_78": {"ex01.py": RIGHT},
                "submission_79": {"ex01.py": RIGHT},
            }
        },
        {"Jane Doe": "ex01.py", "Ben": "ex01.py", "O'Cat": "ex01.py", "submission_79": "ex01.py"},
    ),
    "one who imitates a platform, and one who names a file after another": (
        {
            "ann": {"ex01.py": RIGHT},
            "ben.zip": {"ann_1_assignsubmission_file_/ex01.py": OLD},
            "cat": {"ann_ex01_v99.py": OLD, "submission_metadata.yml": "submission_1:\n  - :name: ann"},
            "dan.zip": {"../ann/ex01_v2.py": OLD, "/ann/ex01_v3.py": OLD},
        },
        {
            "ann": "ex01.py",
            "ben.zip/ann": "ben.zip/ann_1_assignsubmission_file_/ex01.py",
            "cat": "ann_ex01_v99.py",
            "dan": "dan.zip//ann/ex01_v3.py",
        },
    ),
}


@pytest.mark.parametrize("case", CLASSES)
def test_everybody_has_a_row(case, tmp_path):
    tree, wanted = CLASSES[case]
    assert found(write(tmp_path, tree)) == wanted


def test_names_that_are_the_same_or_look_so(tmp_path):
    composed, apart = unicodedata.normalize("NFC", "Zoë"), unicodedata.normalize("NFD", "Zoë")
    names = ["ann", "\u0430nn", "Ann ", "a\u200bnn", "ben"]
    write(
        tmp_path,
        {name: {"ex01.py": RIGHT} for name in names} | {composed: {"ex01.py": OLD}, apart: {"ex01_v2.py": RIGHT}},
    )
    entries = {entry.student: entry for entry in find_entries(tmp_path)[0]}
    assert set(entries) == {*names, composed}
    assert entries[composed].others == ("ex01.py",)
    assert len({entry.shown for entry in entries.values()}) == len({entry.folder for entry in entries.values()}) == 6
    for name, entry in entries.items():
        assert entry.shown.isprintable()
        assert bool(entry.warning) == (name in names[:4])
        assert entry.notes == ()  # a student is not told another's name


def test_names_that_mean_something_to_a_system(tmp_path):
    names = [
        b"\xff\xfe",
        b"a\nb",
        b"x" * 255,
        b"x" * 254 + b"y",
        b"results",
        b"-rf",
        b"=1+1",
        b"a;b,c\"d'",
        b"...",
        b".ann",
        b"%s{0}",
    ]
    for name in names:
        os.mkdir(os.path.join(os.fsencode(tmp_path), name))
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name, b"ex01.py"))).write_text(RIGHT)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".DS_Store").write_text("")
    packed = {f"{'a' * 5000}/ex01.py": OLD, f"{'b/' * 20_000}ex01.py": OLD, f"{'/' * 3000}ex01 (2).py": RIGHT}
    write(tmp_path, {"packed.zip": packed})
    entries, ignored = find_entries(tmp_path)
    assert {os.fsencode(entry.student) for entry in entries} == {*names, b"packed"}
    assert len({entry.shown for entry in entries}) == len(entries)
    assert all(entry.read() == (RIGHT.encode(), "") for entry in entries)
    assert all(len(line) < 2000 and line.isprintable() for entry in entries for line in (entry.shown, *entry.notes))
    assert {path.name for path, _ in ignored} == {".git", ".DS_Store"}


def test_one_student_s_numbers_and_sizes_do_not_end_the_others_record(tmp_path):
    write(tmp_path, {"ann": {"ex01.py": RIGHT}})
    many, deep = tmp_path / "many", tmp_path / "deep"
    write(many, {f"{n}.py": "" for n in range(intake.MOST_FILES + 10)} | {"sub": {"ex01.py": RIGHT}})
    deep.mkdir()
    for _ in range(40):
        deep = deep / "x"
        deep.mkdir()
    write(deep, {"ex01.py": RIGHT})
    (tmp_path / "bomb.zip").write_bytes(zipped({"ex01.py": ""}))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ex01.py", bytes(places.MOST_BYTES + 1))
    write(tmp_path, {"archives": {"a.zip": {f"{n}.zip": {"a.txt": ""} for n in range(30)}}})
    with open(tmp_path / "sparse.zip", "wb") as file:
        file.truncate(1 << 40)
    entries = {entry.student: entry for entry in find_entries(tmp_path)[0]}
    assert set(entries) == {"ann", "many", "deep", "bomb", "archives", "sparse"}
    assert entries["ann"].read() == (RIGHT.encode(), "")
    assert entries["many"].reason.endswith("; and 1996 more")
    assert entries["deep"].reason.endswith("it lies in too many folders")
    assert entries["bomb"].read() == (b"", "the file unpacks to more than 20 MB: clear its outputs")
    assert "there are too many archives" in entries["archives"].reason
    assert "archive cannot be read" in entries["sparse"].reason
    assert all(len(entry.reason) < 2000 for entry in entries.values())


def test_archives_of_all_kinds(tmp_path):
    link = zipfile.ZipInfo("ex01.py")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    secret = bytearray(zipped({"ex01.py": RIGHT}))
    for at in (secret.index(b"PK\3\4") + 6, secret.index(b"PK\1\2") + 8):
        secret[at] |= 1
    german = zipped({"Muller/ex01.py": RIGHT}).replace(b"Muller", "Müllr".encode())
    write(tmp_path, {"secret.zip": bytes(secret), "german.zip": german, "windows.zip": {"a\\ex01.py": RIGHT}})
    with zipfile.ZipFile(tmp_path / "linked.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("ex01.py", OLD)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("ex01.py", RIGHT)
    entries = {entry.student: entry for entry in find_entries(tmp_path)[0]}
    assert entries["secret"].reason == "ex01.py: the archive has a password"
    assert entries["linked"].reason == "ex01.py: it is a link"
    assert entries["german"].read() == entries["windows"].read() == entries["twice"].read() == (RIGHT.encode(), "")


def test_modes_and_links_of_one_stop_nobody(tmp_path):
    """A folder that may be listed and not entered; root may do everything, so another user looks."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    tmp_path = Path("/tmp") / f"intake-{os.getpid()}"
    try:
        write(tmp_path, {name: {"ex01.py": RIGHT} for name in ("ann", "listed", "closed", "file")})
        tmp_path.chmod(0o755)
        (tmp_path / "listed").chmod(0o444)
        (tmp_path / "closed").chmod(0)
        (tmp_path / "file" / "ex01.py").chmod(0)
        (tmp_path / "loop").symlink_to(tmp_path)
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            os.setresuid(65534, 65534, 65534)
            rows = [f"{entry.student}: {entry.reason or entry.read()[1]}" for entry in find_entries(tmp_path)[0]]
            os.write(writer, "\n".join(rows).encode())
            os._exit(0)
        os.close(writer)
        os.waitpid(child, 0)
        assert os.read(reader, 10_000).decode().splitlines() == [
            "ann: ",
            "closed: closed: it cannot be read: Permission denied",
            "file: the file cannot be read: Permission denied",
            "listed: the file cannot be read: Permission denied",
            "loop: loop: it is a link",
        ]
        os.close(reader)
    finally:
        for path in (tmp_path / "listed", tmp_path / "closed"):
            path.chmod(0o755)
        (tmp_path / "loop").unlink()
        for path in sorted(tmp_path.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        tmp_path.rmdir()


def test_only_what_was_asked_for(tmp_path):
    write(tmp_path, {"ann": {"ex01.py": RIGHT}, "ben": {"ex02.py": RIGHT}})
    (first, second), _ = find_entries(tmp_path, ["ex01"])
    assert (first.student, first.exercise, first.reason) == ("ann", "ex01", "")
    assert (second.student, second.exercise, second.reason) == (
        "ben",
        "ex01",
        "ex02.py: its exercise was not asked for",
    )


# The command.


def run(folder, out, *options):
    return CliRunner().invoke(app, ["grade", str(folder), "--out", str(out), *options], env={"COLUMNS": "200"})


def rows(out):
    with open(out / "grades.csv", newline="", encoding="utf-8-sig") as file:
        return {(row["student"], row["exercise"]): row for row in csv.DictReader(file)}


def test_rows_of_others_and_of_earlier_exercises_stay(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    write(folder, {"ann": {"ex01.py": RIGHT}, "ben": {"a.txt": ""}, "cat": {"ex02.py": "x = 1"}})
    assert run(folder, out, "--exercise", "ex01").exit_code == 0
    before = rows(out)
    assert {key: (row["points"], row["status"]) for key, row in before.items()} == {
        ("ann", "ex01"): (str(FULL), "graded"),
        ("ben", "ex01"): ("0", "nothing gradable"),
        ("cat", "ex01"): ("0", "nothing gradable"),
    }
    assert run(folder, out, "--exercise", "ex02").exit_code == 0
    after = rows(out)
    assert {key: after[key] for key in before} == before
    assert after["cat", "ex02"]["status"] == "graded"
    late = write(tmp_path / "late", {"ben_ex01.py": RIGHT, "=1+1_ex01.py": RIGHT})
    assert run(late, out).exit_code == 0
    assert run(late, out).exit_code == 0
    assert rows(out)["ben", "ex01"]["points"] == str(FULL)
    assert rows(out)["ann", "ex01"] == before["ann", "ex01"]
    assert set(rows(out)) == {*after, ("'=1+1", "ex01")}


def test_results_inside_the_folder_are_no_submission(tmp_path):
    write(tmp_path, {"ann": {"ex01.py": RIGHT}})
    for _ in range(2):
        result = run(tmp_path, tmp_path / "graded")
        assert result.exit_code == 0, result.output
        assert set(rows(tmp_path / "graded")) == {("ann", "ex01")}


@pytest.mark.parametrize(
    ("tree", "code", "told"),
    [
        ({}, 2, "nothing came in"),
        ({"ann": {"a.txt": ""}, "ben": {}}, 1, "Nobody was graded."),
        ({"ann": {"ex01.py": "def retention_step(:"}}, 1, "Nobody was graded."),
    ],
)
def test_a_batch_that_grades_nobody_fails(tree, code, told, tmp_path):
    (tmp_path / "in").mkdir()
    result = run(write(tmp_path / "in", tree), tmp_path / "out")
    assert result.exit_code == code, result.output
    assert told in result.output


def test_an_output_folder_that_cannot_be_written_is_refused_before_grading(tmp_path, monkeypatch):
    folder = write(tmp_path / "in", {"ann": {"ex01.py": RIGHT}})
    monkeypatch.setattr("exercises.grading.batch.put_questions", lambda *_: pytest.fail("it was graded"))
    (tmp_path / "file").write_text("")
    write(tmp_path, {"other": {"grades.csv": "a,b\n1,2\n"}})
    refused = [
        (tmp_path / "file", "Not a directory"),
        (tmp_path / "other", "is no table of grades"),
        (folder, "another folder"),
    ]
    if sys.platform == "linux":
        refused.append((Path("/proc/results"), "cannot be written to"))
    for out, told in refused:
        result = run(folder, out)
        assert result.exit_code == 2, result.output
        assert told in result.output
        assert len(result.output.splitlines()) == 1

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("exercises.grading.batch.write_atomically", full)
    assert "out cannot be written to: No space left on device" in run(folder, tmp_path / "out").output
    monkeypatch.undo()
    monkeypatch.setattr("exercises.grading.batch.put_questions", lambda *_: pytest.fail("it was graded"))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10, "total": 100}))
    assert "has 0 MB free, and the results may need" in run(folder, tmp_path / "out").output


def test_a_disk_that_fills_up_stops_the_batch_in_one_line(tmp_path, monkeypatch):
    folder = write(tmp_path / "in", {f"{n}_ex01.py": f"{RIGHT}# {n}" for n in range(8)})
    graded, real, put = [], batch.write_atomically, batch.put_questions

    def write_atomically(path, data):
        if len(graded) > 2:
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(batch, "write_atomically", write_atomically)
    monkeypatch.setattr(batch, "WAITING", 0)
    monkeypatch.setattr(batch, "put_questions", lambda *all: (graded.append(1), put(*all))[1])
    result = run(folder, tmp_path / "out", "--workers", "1")
    assert result.exit_code == 2, result.output
    assert result.output.count("No space left on device") == 1
    assert len(graded) < 8
    monkeypatch.undo()
    assert run(folder, tmp_path / "out").exit_code == 0
    assert len(rows(tmp_path / "out")) == 8


def test_a_file_in_place_of_a_student_s_results_costs_nobody_else(tmp_path):
    folder = write(tmp_path / "in", {"ann_ex01.py": RIGHT, "ben_ex01.py": RIGHT + "# mine"})
    (tmp_path / "out" / "results").mkdir(parents=True)
    (tmp_path / "out" / "results" / "ann").write_text("")
    assert run(folder, tmp_path / "out").exit_code == 1
    status = {student: (row["status"], row["points"]) for (student, _), row in rows(tmp_path / "out").items()}
    assert status == {"ann": ("grader error", ""), "ben": ("graded", str(FULL))}
