"""Grade a class of 300, a tenth of it hostile, kill the grader half-way, go on and export: python tests/class_of_300.py [FILE].

The class comes in five ways, a part of it too late. The numbers that exercises/README.md quotes are in
exercises/results/class_of_300.json. The slowest animals of the zoo are all in it.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from zoo import FULL, RIGHT, notebook, zoo

import exercises
from exercises.grading.table import csv_text, read_csv
from refimpl.files import write_atomically

COURSE = Path(exercises.__file__).parent
SLOWEST = ("sleeper", "endless-loop", "endless-loop-deaf", "endless-import", "memory-hog-slowly", "fork-bomb-stubborn")
SLOWEST += ("prints-a-gigabyte", "sends-a-gigabyte", "deeper-recursion", "repr-recursion")
DUE = datetime(2026, 10, 5, 23, 59, tzinfo=UTC)
A_DAY_LATE = 0.9 * FULL
EXPORTS = {"gradebook.csv": "id", "canvas.csv": "SIS User ID", "moodle.csv": "ID number", "gradescope.csv": "SID"}
LATE, ZIPPED = 3, 2  # of seven students who is late, of five who packs a zip


def write_class(folder, students, hostile):
    """Write what so many students hand in, so many of them hostile, and return {id: points wanted}."""
    animals = {name: animal for name, animal in zoo(COURSE).items() if animal.points == 0}
    chosen = [*SLOWEST, *(name for name in animals if name not in SLOWEST)][:hostile]
    every, wanted = students // hostile, {}
    for n in range(students):
        turn, late = n // every, n % 7 == LATE
        bad = animals[chosen[turn]] if n % every == turn % every and turn < hostile else None
        suffix = bad.suffix if bad else (".py", ".ipynb")[n % 2]
        right = RIGHT + f"\n# {n}\n"
        _hand_in(folder, n, suffix, bad.content if bad else right.encode() if n % 2 == 0 else notebook(right), late)
        wanted[f"s{n:03}"] = 0 if bad else A_DAY_LATE if late else FULL
    return wanted


def _hand_in(folder, n, suffix, content, late):
    """Write one file as it comes from a folder, from a mail, packed, from Canvas or from Moodle."""
    path = (
        folder
        / (
            f"s{n:03}/ex01{suffix}",
            f"s{n:03}_ex01{suffix}",
            f"s{n:03}.zip",
            f"lee{n:03}_{'LATE_' * late}{9000 + n}_{70_000 + n}_ex01{suffix}",
            f"Lee {n:03}_{5000 + n}_assignsubmission_file_/ex01{suffix}",
        )[n % 5]
    )
    path.parent.mkdir(exist_ok=True)
    if n % 5 == ZIPPED:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"ex01{suffix}", content)
    else:
        path.write_bytes(content)
    when = (DUE + timedelta(hours=20 if late else -20)).timestamp()
    os.utime(path, (when, when))


def command(*words):
    """Return the command line of a command of the exercises."""
    return [sys.executable, "-m", "exercises", *map(str, words)]


def grade(place, out, half, workers):
    """Grade, kill the grader when so many results are there, and grade again; return (how many it found then, seconds)."""
    words = command("grade", place, "--out", out, "--workers", workers)
    began = time.perf_counter()
    process = subprocess.Popen(words, cwd=COURSE.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len([*out.rglob("results.json")]) < half:
        assert process.poll() is None, "the grader ended before it could be killed"
        time.sleep(0.05)
    process.kill()
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in out.rglob("results.json")}
    subprocess.run(words, cwd=COURSE.parent, check=True, capture_output=True)
    seconds = time.perf_counter() - began
    assert all(path.stat().st_mtime_ns == when for path, when in done.items()), "a result was made again"
    return len(done), seconds


def export(out, course, wanted):
    """Make the roster and the exports; check that every student is in each, once, with the points wanted. Return the seconds."""
    began = time.perf_counter()
    subprocess.run(command("course", course, "--exercise", "ex01"), cwd=COURSE.parent, check=True, capture_output=True)
    roster = [
        {"id": one, "email": f"{one}@example.org", "section": "AB"[n % 2], "name": f"Lee {n:03}", "canvas": 9000 + n}
        for n, one in enumerate(wanted)
    ]
    write_atomically(course / "roster.csv", csv_text(tuple(roster[0]), roster))
    settings = course / "course.toml"
    text = settings.read_text(encoding="utf-8")
    write_atomically(settings, text.replace("# deadline = 2026-10-05T23:59:00", f"deadline = {DUE.isoformat()}"))
    made = subprocess.run(
        command("gradebook", out, "--course", settings), cwd=COURSE.parent, check=False, capture_output=True, text=True
    )
    assert made.returncode == 1, made.stderr  # late files are to be looked at, and nothing else is
    assert made.stderr.count("Look at this") == 1, made.stderr
    seconds = time.perf_counter() - began
    for file, column in EXPORTS.items():
        with open(out / "gradebook" / file, newline="", encoding="utf-8-sig") as opened:
            rows = [row for row in csv.DictReader(opened) if row[column]]
        points = next(name for name in rows[0] if name in ("ex01", f"ex01 (of {FULL})"))
        assert {row[column]: float(row[points]) for row in rows} == wanted, file
        assert len(rows) == len(wanted), file
    return seconds


def whole_class(folder, students, hostile, workers=2):
    """Take such a class through everything, check every grade, and return what it took."""
    place, out = folder / "in", folder / "out"
    place.mkdir()
    wanted = write_class(place, students, hostile)
    load = os.getloadavg()[0]
    found, seconds = grade(place, out, students // 2, workers)
    exported = export(out, folder / "course", wanted)
    rows = read_csv(out / "grades.csv", ("student", "isolation", "feedback"))
    assert len(rows) == students
    results = json.loads((out / rows[1]["feedback"]).with_name("results.json").read_text(encoding="utf-8"))
    return {
        "submissions": students,
        "hostile": hostile,
        "late": sum(n % 7 == LATE for n in range(students)),
        "zips": sum(n % 5 == ZIPPED for n in range(students)),
        "found_graded_after_the_kill": found,
        "in_every_export": len(wanted),
        "workers": workers,
        "cores": os.cpu_count(),
        "others_on_the_cores": f"shared: load average {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end",
        "isolation": rows[1]["isolation"],
        "seconds": round(seconds, 1),
        "seconds_a_submission": round(seconds / students, 2),
        "seconds_to_export": round(exported, 1),
        "versions": results["extra_data"]["versions"],
        "command": "python tests/class_of_300.py",
    }


def main(file=COURSE / "results" / "class_of_300.json"):
    """Grade the class and write the numbers."""
    with tempfile.TemporaryDirectory() as folder:
        result = whole_class(Path(folder), 300, 30)
    write_atomically(file, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
