"""The gradebook: each student in every file, late days as told, decisions that survive, nothing that a spreadsheet runs."""

import csv
import io
import re
import unicodedata
import zipfile
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner
from written_class import graded_row, write_class, write_results

from exercises import load
from exercises.__main__ import app
from exercises.gradebook.book import make_book
from exercises.gradebook.exports import tables
from exercises.gradebook.pages import class_page, count, student_pages, uploads
from exercises.gradebook.roster import Roster
from exercises.gradebook.settings import read_course
from exercises.grading.feedback import grades_csv
from exercises.grading.table import LONGEST_CELL, SIGNS, csv_text, harmless, read_csv, same_name

ADA, BEN = ({"id": name, "email": f"{name}@x.org", "section": "A", "name": name.title()} for name in ("ada", "ben"))
DUE = "[exercises.ex01]\ndeadline = 2026-10-05T12:00:00Z\n"


def book_of(folder, rows, **more):
    graded, course = write_class(folder, rows, **{"roster": [ADA, BEN]} | more)
    return make_book(graded, read_course(course))


def cells(text, separator=","):
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), delimiter=separator))


def one(book, student="ada", exercise="ex01"):
    return next(line.cells[exercise] for line in book.lines if line.student.id == student)


# Cells.


def test_every_form_of_a_sign_is_known():
    forms = {c for c in map(chr, range(0x110000)) if unicodedata.normalize("NFKC", c)[:1] in ("=", "+", "-", "@")}
    assert forms <= set(SIGNS)


@pytest.mark.parametrize("sign", ["=", "\uff1d", "@", "\uff0d", "\ufe62"])
@pytest.mark.parametrize(
    "before",
    ["", " ", "\t", "\r", "\n", "\ufeff", "\u200b", "\xa0", '"', "a;", "a,", "a\t", "a|", 'a; "', "a\n", 'a";"'],
)
def test_no_cell_is_a_formula_however_a_spreadsheet_splits(before, sign):
    text = csv_text(["note"], [{"note": f"{before}{sign}1+1"}])
    for separator in ",;\t|":
        for line in csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=separator):
            for cell in line:
                inside = unicodedata.normalize("NFKC", cell).strip(' "\t\r\n\ufeff\u200b\xa0')
                assert not inside.startswith(("=", "+", "-", "@")), (separator, cell)


def test_tables_suit_excel_and_readers():
    text = csv_text(["a", "b"], [{"a": 7.5, "b": "Müller"}, {"a": -1, "b": "x" * 200_000}])
    assert text.startswith("\ufeff")
    assert max(map(len, cells(text)[1].values())) == LONGEST_CELL
    assert cells(text)[0] == {"a": "7.5", "b": "Müller"}
    assert cells(csv_text(["a"], [{"a": 7.5}], separator=";"), ";") == [{"a": "7,5"}]
    assert not csv_text(["a"], [], mark=False).startswith("\ufeff")
    assert harmless("\0=1\r\n\tx") == "' =1 x"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_are_read_as_people_save_them(tmp_path, separator, end):
    path = tmp_path / "a.csv"
    lines = separator.join(["\ufeffID ", "Email", "more"]), separator * 2, separator.join([" 1", "a@b", '"x\ny"'])
    path.write_bytes((end.join(lines) + end).encode())
    assert read_csv(path, ("id", "email")) == [{"id": "1", "email": "a@b", "more": "x\ny", "line": 4}]


def test_tables_that_cannot_be_read_say_why(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("id,email\nMüller,x".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.csv must be UTF-8, and is not: save it as CSV UTF-8"):
        read_csv(path, ("id",))
    path.write_text("id,email\n1,2,3\n")
    with pytest.raises(ValueError, match=r"a\.csv, line 2: 3 cells, but 2 columns"):
        read_csv(path, ("id",))
    path.write_text("")
    with pytest.raises(ValueError, match="it lacks id"):
        read_csv(path, ("id",))


# Who is who.


def test_a_submission_finds_its_student(tmp_path):
    path = tmp_path / "roster.csv"
    rows = [
        ("s1", "ann.lee@x.org", "Ann Lee", "submission_7|AL"),
        ("s2", "bo@x.org", "Zoe\u0308 O'Brien", ""),
        ("s3", "bo@y.org", "", ""),
    ]
    path.write_text(
        csv_text(
            ("id", "email", "name", "also", "section"),
            [dict(zip(("id", "email", "name", "also"), one, strict=True)) for one in rows],
        ),
        encoding="utf-8",
    )
    roster = Roster(path)
    names = (
        "S1",
        "ANN.LEE@x.org",
        "ann.lee",
        "ann  lee",
        "submission_7",
        "al",
        "zoë o\u2019brien",
        "'s3",
        "bo",
        "nobody",
        "",
    )
    found = [roster.find(name) for name in names]
    assert [student and student.id for student in found] == ["s1"] * 6 + ["s2", "s3", None, None, None]
    assert len({student.page for student in roster.students}) == 3
    assert same_name("Zoe\u0308") == same_name("ZOË")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "", "email": "x"}], "line 2: id must be 1 to 60 characters"),
        ([{"id": "a"}, {"id": "A"}], "id must be different in each row, got twice"),
        ([], "must have a row for each student"),
    ],
)
def test_a_roster_that_does_not_do_says_why(tmp_path, rows, message):
    path = tmp_path / "roster.csv"
    path.write_text(csv_text(("id", "email", "section"), rows), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        Roster(path)


def test_a_key_that_would_be_a_formula_is_refused(tmp_path):
    (tmp_path / "roster.csv").write_text("id,email,section\n1,=cmd,\n")
    with pytest.raises(ValueError, match="line 2: email must not begin as a formula does, got '=cmd'"):
        Roster(tmp_path / "roster.csv")


def test_strangers_and_the_missing_keep_a_row(tmp_path):
    book = book_of(tmp_path, [graded_row("ada", 30), graded_row("eve", 12)])
    assert [(line.student.id, line.total, line.on_roster) for line in book.lines] == [
        ("ada", 100.0, True), ("ben", 0.0, True), ("eve", 40.0, False)
    ]  # fmt: skip
    assert book.warnings == ["eve: handed in, but nobody on the roster: add the name under `also`"]
    files = tables(book)
    assert [row["remarks"] for row in cells(files.pop("gradebook.csv"))] == ["", "ex01: missing", "not on the roster"]
    assert not any("eve" in text for text in files.values())


# What counts.


@pytest.mark.parametrize(
    ("hours", "points", "remark"),
    [
        (-1, 20, ""), (0.1, 20, ""), (1, 17, "1 day late; 3 points off"), (24, 17, "1 day late; 3 points off"),
        (25, 14, "2 days late; 6 points off"), (24 * 3, 11, "3 days late; 9 points off"), (24 * 3 + 1, 0, "4 days late; too late to count"),
    ],
)  # fmt: skip
def test_a_late_day_costs_a_share_of_the_points_possible(tmp_path, hours, points, remark):
    came = datetime.fromtimestamp(datetime(2026, 10, 5, 12, tzinfo=UTC).timestamp() + 3600 * hours, UTC).isoformat()
    late = "[late]\npenalty = 0.1\nmost_days = 3\ngrace_minutes = 15\n"
    cell = one(book_of(tmp_path, [graded_row("ada", 20)], settings=late + DUE, times=[("ada", "ex01", came)]))
    assert (cell.points, cell.remarks()) == (points, remark)


def test_a_penalty_takes_no_more_than_there_is(tmp_path):
    book = book_of(
        tmp_path,
        [graded_row("ada", 2)],
        settings="[late]\npenalty = 0.5\n" + DUE,
        times=[("ada", "ex01", "2026-10-07")],
    )
    assert (one(book).points, one(book).penalty) == (0, 2)


def test_free_days_go_to_the_earliest_deadlines(tmp_path):
    settings = "[late]\nfree_days = 3\npenalty = 0.1\n[exercises.ex02]\ndeadline = 2026-10-01\n[exercises.ex01]\ndeadline = 2026-10-05\n"
    times = [("ada", "ex02", "2026-10-02T23:00"), ("ada", "ex01", "2026-10-08T23:00")]
    rows = [graded_row("ada", 30), graded_row("ada", 30, "ex02")]
    book = book_of(tmp_path, rows, settings=settings, times=times)
    assert [(one(book, exercise=name).free, one(book, exercise=name).points) for name in ("ex02", "ex01")] == [
        (1, 30),
        (2, 27),
    ]


@pytest.mark.parametrize(
    ("extension", "late"), [("", 2), ("1", 1), ("0,5", 2), ("2", 0), ("2026-10-06T18:00", 1), ("2026-10-07", 0)]
)
def test_an_extension_is_days_or_a_date_for_one_exercise_or_all(tmp_path, extension, late):
    for exercise in ("ex01", ""):
        given = [("ada", exercise, "", extension, "ill")]
        book = book_of(
            tmp_path,
            [graded_row("ada", 30)],
            settings=DUE,
            times=[("ada", "ex01", "2026-10-07T10:00Z")],
            overrides=given,
        )
        assert (one(book).late, one(book).comment) == (late, "ill")
    both = [("ada", "", "", "9", "all"), ("ada", "ex01", "", extension or "0.0001", "this")]
    book = book_of(
        tmp_path, [graded_row("ada", 30)], settings=DUE, times=[("ada", "ex01", "2026-10-07T10:00Z")], overrides=both
    )
    assert (one(book).late, one(book).comment) == (late, "this all")


def test_decisions_and_comments_survive_grading_again(tmp_path):
    decided = [("ada", "ex01", "25,5", "", "we talked"), ("ben@x.org", "ex01", "excused", "", "")]
    for points in (10, 30):
        book = book_of(tmp_path, [graded_row("ada", points), graded_row("ben", points)], overrides=decided)
        assert (one(book).points, one(book).remarks(), one(book).comment) == (25.5, "by hand", "we talked")
        assert (one(book, "ben").points, one(book, "ben").status) == (None, "excused")
        assert [line.total for line in book.lines] == [85.0, None]
    assert [row["ex01"] for row in cells(tables(book)["canvas.csv"])] == ["30", "25.5", "EX"]
    assert [row["ex01"] for row in cells(tables(book)["moodle.csv"])] == ["25.5", "-"]
    assert [row["Total"] for row in cells(tables(book)["moodle.csv"])] == ["85", "-"]


def test_weights_drops_and_what_is_not_graded_yet(tmp_path):
    settings = (
        "drop = 1\n[exercises.ex01]\nweight = 1\n[exercises.ex02]\nweight = 3\n[exercises.ex03]\n[exercises.ex04]\n"
    )
    rows = [graded_row("ada", points, name) for name, points in (("ex01", 30), ("ex02", 15), ("ex03", 3))]
    book = book_of(tmp_path, rows, settings=settings)
    assert book.lines[0].total == pytest.approx(100 * (1 + 3 / 2) / 4)
    assert one(book, exercise="ex03").remarks() == "dropped"
    assert (one(book, exercise="ex04").points, one(book, exercise="ex04").status) == (None, "not graded yet")
    assert "not graded yet" not in tables(book)["gradebook.csv"]
    assert "not graded yet" in student_pages(book)["ada.html"]
    assert [one(book, "ben", name).remarks() for name in ("ex01", "ex02", "ex03")].count("missing; dropped") == 1
    assert book.lines[1].total == 0


def test_the_weakest_is_the_one_of_the_smallest_share_and_one_stays(tmp_path):
    exercises = "[exercises.ex01]\n[exercises.ex02]\n"
    rows = [graded_row("ada", 9, most=10), graded_row("ada", 15, "ex02")]
    book = book_of(tmp_path, rows, settings=f"drop = 1\n{exercises}")
    assert (book.lines[0].total, one(book, exercise="ex02").dropped) == (90.0, True)
    assert book_of(tmp_path, rows, settings=f"drop = 5\n{exercises}").lines[0].total == 90.0


def test_times_without_a_zone_are_the_course_s(tmp_path):
    times = [
        ("ada", "ex01", "2026-10-05T13:59"),
        ("ben", "ex01", "2026-10-05T13:59"),
        ("ben", "ex01", "2026-10-05T12:30Z"),
    ]
    rows = [graded_row("ada", 30), graded_row("ben", 30)]
    for zone, late in (("Europe/Berlin", [0, 1]), ("UTC", [1, 1])):
        book = book_of(tmp_path, rows, settings=f'timezone = "{zone}"\n{DUE}', times=times)
        assert [one(book, student).late for student in ("ada", "ben")] == late
    assert one(book_of(tmp_path, rows, settings=DUE, times=times[1:]), "ben").submitted.hour == 13


def test_what_the_grader_could_not_do_is_said_and_does_not_count(tmp_path):
    rows = [graded_row("ada", "", status="grader error"), graded_row("ben", 0, status="unusable", note="no function")]
    book = book_of(tmp_path, rows)
    assert [line.total for line in book.lines] == [None, 0.0]
    assert book.warnings == ["the grader failed on ada, ex01: grade again, until then it does not count"]
    assert one(book, "ben").remarks() == "unusable: no function"


def test_the_time_of_a_file_counts_until_the_lecturer_has_a_better_one(tmp_path):
    rows = [graded_row(student, 30, submitted="2026-10-05T20:00:00+00:00") for student in ("ada", "ben")]
    book = book_of(
        tmp_path, rows, settings="[late]\npenalty = 0.1\n" + DUE, times=[("ben", "ex01", "2026-10-05T11:00Z")]
    )
    assert [one(book, student).late for student in ("ada", "ben")] == [1, 0]
    assert "1 day late; 3 points off" in tables(book)["gradebook.csv"]  # a sign would get an apostrophe there
    assert book.warnings == [
        "1 submission late by the time of the file, which copying may change; a time in times.csv counts before it"
    ]


def test_rows_and_columns_that_are_new_do_not_disturb(tmp_path):
    rows = [
        graded_row("ada", 0, status="nothing gradable", note="an empty zip"),
        graded_row("ADA", 21),
        graded_row("ben", "", "", "nothing gradable"),
    ]
    graded, course = write_class(tmp_path, rows, roster=[ADA, BEN], settings=DUE)
    lines = (graded / "grades.csv").read_text(encoding="utf-8").splitlines()
    (graded / "grades.csv").write_text("\n".join([lines[0] + ",new", *(line + ",x" for line in lines[1:])]))
    book = make_book(graded, read_course(course))
    assert (one(book).earned, one(book, "ben").status) == (21, "missing")
    rows = [graded_row("ada", 0), graded_row("ADA", 0, status="unusable")]
    assert one(book_of(tmp_path, rows)).status == "graded"


def test_files_of_no_exercise_are_told_and_names_of_canvas_fit(tmp_path):
    rows = [graded_row("ada", 0, "", "nothing gradable", note="an empty zip"), graded_row("benben_77", 20)]
    book = book_of(tmp_path, rows, roster=[ADA | {"canvas": "7"}, BEN | {"canvas": "77"}])
    assert [line.total for line in book.lines] == [0.0, 66.67]
    assert book.warnings == []
    told = [row["remarks"] for row in cells(tables(book)["gradebook.csv"])]
    assert told == ["ex01: missing | nothing gradable: an empty zip", ""]
    assert "an empty zip" in student_pages(book)["ada.html"]


def test_results_are_read_in_the_folder_alone(tmp_path):
    row = write_results(tmp_path / "elsewhere", "ada", {})
    book = book_of(tmp_path, [row | {"feedback": f"../elsewhere/{row['feedback']}"}])
    assert "what to change" not in student_pages(book)["ada.html"]
    row = write_results(tmp_path / "out", "ada", {})
    assert "what to change" in student_pages(book_of(tmp_path, [row]))["ada.html"]


def test_submissions_without_a_time_are_told(tmp_path):
    book = book_of(
        tmp_path, [graded_row("ada", 30), graded_row("ben", 30)], settings=DUE, times=[("ben", "ex01", "2026-10-05")]
    )
    assert book.warnings == ["1 submission without a time in times.csv: counted as in time"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("drop = -1", "drop must be a number from 0 up, got -1"),
        ("drop = 1.5", "drop must be of type int, got 1.5"),
        ("dorp = 1", "dorp is no setting; there are roster, overrides"),
        ('separator = "x"', "separator must be"),
        ('timezone = "Mars"', "timezone must be a name such as \"Europe/Berlin\", got 'Mars'"),
        ("[late]\npenalty = inf", "late.penalty must be a number from 0 up, got inf"),
        ("late = 3", "late must be a table, got 3"),
        ("[exercises.ex99]", "exercises must be among ex01, .*, got ex99"),
        ("[exercises.ex01]\ndeadline = 3", r"exercises\.ex01\.deadline must be a date or a time, got 3"),
        ("[exercises.ex01]\nweight = 0", "must have a weight above 0"),
        ("exercises = 1", "exercises must name an exercise"),
        ("x = ", "is not TOML"),
    ],
)
def test_a_setting_that_does_not_do_is_named(tmp_path, settings, message):
    _, course = write_class(tmp_path, [], roster=[ADA], settings=settings)
    with pytest.raises(ValueError, match=message):
        read_course(course)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([("eve", "ex01", "1", "", "")], r"overrides\.csv, line 2: student must be one of .*roster\.csv, got 'eve'"),
        ([("ada", "ex02", "1", "", "")], "exercise must be in course.toml, or empty for all, got 'ex02'"),
        ([("ada", "ex01", "lots", "", "")], 'points must be a number, or "excused", from 0 up'),
        ([("ada", "", "3", "", "")], "points need an exercise"),
        ([("ada", "ex01", "", "soon", "")], r"extension \(or a number of days\) must be a time such as .*, got 'soon'"),
        ([("ada", "ex01", "", "", ""), ("Ada", "ex01", "", "", "")], "line 3: ada has a row for ex01 already"),
    ],
)
def test_a_decision_that_does_not_do_is_named(tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        book_of(tmp_path, [], overrides=overrides)


# What is handed on.


def test_every_student_of_300_is_in_every_file(tmp_path):
    roster = [
        {"id": f"s{n:03}", "email": f"s{n}@x.org", "section": f"{n % 3}", "name": f"Lee, {n}"} for n in range(300)
    ]
    rows = [graded_row(f"s{n:03}", n % 31) for n in range(300) if n % 10]
    book = book_of(tmp_path, rows, roster=roster)
    for name, text in tables(book).items():
        for student in roster:
            assert student["id"] in text, name
    pages = student_pages(book)
    assert len(pages) == 300
    with zipfile.ZipFile(io.BytesIO(uploads(book, pages)["feedback.zip"])) as file:
        assert len(file.namelist()) == 300
    assert uploads(book, pages) == uploads(book, pages)


def test_systems_get_their_columns(tmp_path):
    roster = [ADA | {"login": "al", "canvas": "77"}, BEN]
    settings = '[exercises.ex01]\ntitle = "Exercise 1 (123)"\ndeadline = 2026-10-05T12:00:00Z\n'
    book = book_of(
        tmp_path,
        [graded_row("ada", 7.5)],
        roster=roster,
        settings=settings,
        times=[("ada", "ex01", "2026-10-05T13:30:05Z")],
    )
    files = {name: text.splitlines() for name, text in tables(book).items()}
    assert files["canvas.csv"] == [
        "Student,ID,SIS User ID,SIS Login ID,Section,Exercise 1 (123)",
        "    Points Possible,,,,,30",
        "Ada,77,ada,al,A,7.5",
        "Ben,,ben,,A,0",
    ]
    assert files["moodle.csv"][:2] == [
        "ID number,Email address,Exercise 1 (123),Exercise 1 (123) (feedback),Total",
        "ada,ada@x.org,7.5,1 day late,25",
    ]
    head = "Exercise 1 (123)"
    assert files["gradescope.csv"][:2] == [
        f"Name,SID,Email,Sections,{head},{head} - Max Points,{head} - Submission Time,{head} - Lateness (H:M:S),Total Lateness (H:M:S)",
        "Ada,ada,ada@x.org,A,7.5,30,2026-10-05 13:30:05 +0000,01:30:05,01:30:05",
    ]
    early = book_of(tmp_path, [graded_row("ada", 7.5)], settings=DUE, times=[("ada", "ex01", "2026-10-04")])
    assert cells(tables(early)["gradescope.csv"])[0]["ex01 - Lateness (H:M:S)"] == "00:00:00"
    assert files["gradescope_roster.csv"][1] == "Ada,ada@x.org,ada,A"


def test_titles_must_differ(tmp_path):
    settings = '[exercises.ex01]\ntitle = "x"\n[exercises.ex02]\ntitle = "x"\n'
    with pytest.raises(ValueError, match="title must be different for each exercise, got x, x"):
        tables(book_of(tmp_path, [], settings=settings))


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory):
    """Ada and ben make two known mistakes in a function, cyd writes one function only, dan is right."""
    folder = tmp_path_factory.mktemp("class")
    exercise = load("ex01")
    right = {problem.function: problem.solution for problem in exercise.problems}
    first = exercise.problems[0]
    wrong = {one.name: one.function for one in first.wrong_answers}
    names = list(wrong)[:2]
    rows = [
        write_results(folder / "out", student, functions)
        for student, functions in (
            ("ada", right | {first.function: wrong[names[0]]}),
            ("ben", right | {first.function: wrong[names[0]]}),
            ("eva", right | {first.function: wrong[names[1]]}),
            ("cyd", {first.function: first.solution}),
            ("dan", right),
        )
    ]
    roster = [{"id": row["student"], "email": "", "section": "", "name": f"<b>{row['student']}"} for row in rows]
    graded, course = write_class(folder, rows, roster=roster)
    return names, make_book(graded, read_course(course))


def test_the_class_page_counts_checks_and_mistakes(mistaken):
    (name, other), book = mistaken
    ranked, mistakes = count(book)
    assert (ranked[0].failed, ranked[0].graded) == (3, 5)
    assert ranked[0].reasons[name] == 2
    assert mistakes == {("ex01", "retention_step", name): 2, ("ex01", "retention_step", other): 1}
    loop = next(one for one in ranked if one.name.startswith("retention_documents: "))
    assert (loop.failed, loop.unwritten) == (0, 1)
    assert (ranked[-1].graded, max(one.unwritten for one in ranked)) == (5, 1)
    page = class_page(book)
    assert re.search(r"<!-- *3 of 5 *-->", page), "the figure says how many of how many"
    assert page.count("<svg ") == page.count("</svg>") == 1
    assert f"{name} (2)" in page
    assert not re.search(r"<script|<!DOCTYPE svg|href=\"http", page.replace('"http://www.w3.org', ""))
    assert class_page(book) == page


def test_a_students_page_tells_points_and_reasons_and_no_more(mistaken):
    _, book = mistaken
    page = student_pages(book)["ada.html"]
    assert "&lt;b&gt;ada" in page
    assert "<b>ada" not in page
    assert load("ex01").problems[0].wrong_answers[0].message in page.replace("&#x27;", "'")
    hidden = next(check.name for check in load("ex01").problems[0].checks if check.hidden)
    assert hidden in page
    object.__setattr__(book.course, "hidden_checks", False)
    assert hidden not in student_pages(book)["ada.html"]
    object.__setattr__(book.course, "hidden_checks", True)


def test_feedback_files_for_moodle_keep_its_folders(tmp_path):
    rows = [graded_row("ada", 3, file="Ada Lee_123_assignsubmission_file"), graded_row("ben", 3)]
    book = book_of(tmp_path, rows)
    zips = uploads(book, student_pages(book))
    with zipfile.ZipFile(io.BytesIO(zips["moodle_feedback_ex01.zip"])) as file:
        assert file.namelist() == ["Ada Lee_123_assignsubmission_file/feedback.html"]


# The commands.


def test_from_a_folder_to_the_gradebook_by_commands(tmp_path):
    out, folder = tmp_path / "out", tmp_path / "course"
    out.mkdir()
    (out / "grades.csv").write_text(grades_csv([graded_row("ada", 30), graded_row("ben", 15)]), encoding="utf-8")
    run = CliRunner().invoke
    words = ["course", str(folder), "--graded", str(out), "--exercise", "ex01"]
    assert run(app, words).exit_code == 0
    assert read_csv(folder / "times.csv", ("student", "exercise", "submitted")) == []
    (folder / "roster.csv").write_text("id;email;section\nada;a@x;\n")
    assert "roster.csv (kept as it is)" in run(app, words).output.replace("\n", "")
    made = run(app, ["gradebook", str(out), "--course", str(folder / "course.toml")])
    assert made.exit_code == 1
    assert "Look at this: ben: handed in, but nobody on the roster" in made.output
    names = {
        path.relative_to(out / "gradebook").as_posix() for path in (out / "gradebook").rglob("*") if path.is_file()
    }
    assert names == {
        "gradebook.csv", "canvas.csv", "moodle.csv", "gradescope.csv", "gradescope_roster.csv", "class.html", "feedback.zip",
        "feedback/ada.html",
    }  # fmt: skip
    (told,) = re.findall(r"In \S+: (.*); in feedback/ a page for each student", made.output.replace("\n", " "))
    assert set(told.split(", ")) == names - {"feedback/ada.html"}
    (folder / "roster.csv").write_text("id,email,section\nada,a@x,\nben,b@x,\n")
    assert run(app, ["gradebook", str(out), "--course", str(folder / "course.toml")]).exit_code == 0
    for words, told in (
        (
            [tmp_path, "--course", folder / "course.toml"],
            f"{tmp_path / 'grades.csv'}; `python -m exercises grade` writes it",
        ),
        ([out, "--course", "gone/course.toml"], "gone/course.toml; `python -m exercises course` writes it"),
    ):
        lost = run(app, ["gradebook", *map(str, words)])
        assert (lost.exit_code, lost.output) == (2, f"Cannot make the gradebook: there is no {told}\n")
