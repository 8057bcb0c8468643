"""Finds who handed in what: every file that came in ends up in an `Entry`, graded or with the reason why it cannot be.

Folders come as students, colleagues and learning platforms make them: flat, nested, zipped, one level too deep. Whose a
file is, is said by the outermost folder, archive or name, which the lecturer's platform wrote: nothing inside it can put
a file under another student's name.
"""

import functools
import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, replace
from pathlib import Path

from ..checking.catalog import exercise_names, load
from ..harness.runner import one_line
from .places import File, Folder, opened

MOST_FILES = 2000  # looked at of one student
MOST_ARCHIVES = 20  # of one student
MOST_READ = 30  # files of one student that are read to see for which exercise they are
MOST_DEEP = 10  # folders in folders of one student
MOST_CLASSES = 4  # folders around those of the students
MOST_NAMED = 5  # files in a note

EXERCISE = re.compile(r"(?<![^\W\d_])ex(?:ercise)?[ _-]?0*(\d{1,2})(?!\d)", re.IGNORECASE)
SUFFIX = re.compile(r"(\.(?:py|ipynb))(?:\.(?:txt|json))?$", re.IGNORECASE)  # browsers add the second
_COPY_OF = r"(?:copy|kopie|copie|copia)[ _]+(?:\(\d+\)[ _]+)?(?:of|von|de|di)[ _]+"
COPY = re.compile(rf"^{_COPY_OF}|(?<=[ _-]){_COPY_OF}$", re.IGNORECASE)  # before the student, or before the exercise
# Names as Canvas, Moodle and Gradescope write them when a lecturer downloads what was handed in. Otter puts the time into
# the name of a zip, 2026_01_30T10_30_47_123456, and Canvas's two numbers stand before that or are not there.
CANVAS = re.compile(
    r"(?P<student>(?:(?!\d{4}_\d\d_\d\dT).)+?_)(?!\d{4}_\d\d_\d\dT)(?:LATE_)?(?P<id>\d+)_\d+_(?P<name>.+)",
    re.IGNORECASE | re.DOTALL,
)
MOODLE = re.compile(r"(?P<student>.+?)_(?P<id>\d+)_assignsubmission_[a-z]+(?:_(?P<name>.*))?", re.DOTALL)
GRADESCOPE = re.compile(r"submission_\d+")
METADATA = "submission_metadata.yml"
CLASS = re.compile(
    r"(?<![a-z])(?:submi(?:ssions?|tted)|hand-?ins?|uploads?|downloads?|export|abgaben?)(?![a-z])", re.IGNORECASE
)
PART = re.compile(r"(?:src|code|v\d+|old|new|final|drafts?|backup|notebooks?|week[ _-]?\d+)", re.IGNORECASE)
HIDDEN_FOLDER = re.compile(
    r"\.(?:git.*|ipynb_checkpoints|venv|vscode|idea|trash.*|.*cache)|__macosx|__pycache__|node_modules|site-packages",
    re.IGNORECASE,
)
HIDDEN_FILE = re.compile(r"\._.*|\.ds_store|thumbs\.db|desktop\.ini", re.IGNORECASE)  # ._NAME is what a Mac adds
# Letters and digits that look like a Latin letter, and that letter.
ALIKE = str.maketrans("аеорсухіјѕһԁԛԝкмтнвαορνικτυ01|ı", "aeopcyxijshdqwkmthbaopviktuolli")  # noqa: RUF001


@dataclass(frozen=True)
class Entry:
    """What a student handed in for an exercise: the file that counts, and the names of the others for it.

    inside: where the file is in the archive `path`, if it is in one. reason: why there is nothing to grade, or ""; the
    exercise is then "" if it is not known. notes: lines on the files, for the student too; warning: one for the lecturer.
    """

    student: str
    exercise: str
    path: Path
    others: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    warning: str = ""

    @property
    def file(self):
        """Return the file's name, with the folder in which Moodle put it and where it is in an archive."""
        folder = [part for part in self.path.parent.parts if MOODLE.fullmatch(part)][-1:]
        return "/".join((*folder, self.path.name, *self.inside))

    @property
    def suffix(self):
        """Return ".py" or ".ipynb"."""
        return SUFFIX.search(self.file)[1].lower()

    @property
    def folder(self):
        """Return where its results go, relative to the output folder; safe whatever the student's name is."""
        safe = re.sub(r"[^A-Za-z0-9_-]", "_", self.student)[:60]
        plain = safe and safe == self.student == safe.lower() and not re.search("-[0-9a-f]{8}$", safe)
        if not plain:  # no two names share a folder, also where case is ignored or a name looks like a hashed one
            safe += f"-{_hash(self.student)}"
        return Path("results", safe, self.exercise)

    @property
    def shown(self):
        """Return the student's name as one printable line that no other student has."""
        line = printable(self.student)
        return line if line == self.student else f"{line} [{_hash(self.student)}]"

    def read(self):
        """Return (bytes, reason): the content of the file that counts, or why not."""
        return File(self.path.name, self.path, self.inside, self.reason).read()


def printable(name):
    """Return the name of a file or a student as one printable line."""
    return one_line("".join(c if c.isprintable() else "�" for c in name)) or "�"


def some(names):
    """Return the first names as printable text, and how many more there are.

    >>> some(["a.py", "b.py"]), some("abcdefgh")
    ('a.py, b.py', 'a, b, c, d, e and 3 more')
    """
    more = len(names) - MOST_NAMED
    return ", ".join(map(printable, names[:MOST_NAMED])) + (f" and {more} more" if more > 0 else "")


def _hash(name):
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:8]


def find_entries(folder, exercises=None, leave_out=None):
    """Return (entries, ignored): what came in with `folder`, and (path, reason) of what systems and platforms add to it.

    exercises: the names to grade; by default all. leave_out: a folder that is not looked at, such as that of the results.

    A student is a folder, an archive, or the part of a file's name before the exercise; folders that hold such are looked
    through. If a student has several files for an exercise, the last in the order of their names counts, with numbers
    read as numbers. A file whose name says no exercise counts if no other does: what it defines says for which. A student
    without any has an entry that says why. Links are not followed.
    """
    leave_out = Path(leave_out).resolve() if leave_out else None
    ignored, units = [], defaultdict(list)
    for unit in _apart(list(_units(Folder("", Path(folder)), leave_out, ignored))):
        units[unit.student].append(unit)
    entries = []
    for student in sorted(units):
        entries += _entries(student, units[student], exercises or exercise_names())
    return _with_warnings(entries), ignored


# Whose is it?


@dataclass(frozen=True)
class Unit:
    """A folder, archive or file of one student.

    id: the number that a platform gave the student, or "". name: of the file without what the platform added.
    context: the names of the folders around.
    """

    student: str
    item: File | Folder
    name: str
    id: str = ""
    context: tuple[str, ...] = ()


def _units(folder, leave_out, ignored, prefix="", context=()):
    """Yield a `Unit` for everything in a folder; for a folder in it that holds students' folders, for everything in that.

    Beside students' own folders only what a platform wrote is looked through, and its name stands before the students',
    so that a student who imitates a platform makes none of its files another's.
    """
    items = []
    outer = leave_out is not None and folder.tree is None and folder.path.resolve() == leave_out.parent
    for item in folder.items():
        if outer and item.name == leave_out.name:
            continue
        if _hidden(item):
            ignored.append((item.path, "it is hidden"))
        elif item.name != METADATA:
            items.append(opened(item) if isinstance(item, File) and item.is_archive else item)
    places = [item for item in items if isinstance(item, Folder)]
    classes = [place for place in places if len(context) < MOST_CLASSES and _is_class(place)]
    mixed = len(classes) < len(places) or any(isinstance(item, File) and SUFFIX.search(item.name) for item in items)
    if mixed:
        classes = [place for place in classes if all(map(_of_platform, _shown(place)))]
    people = _people(folder)
    for item in items:
        if any(item is place for place in classes):
            before = f"{prefix}{item.name}/" if mixed else prefix
            yield from _units(item, leave_out, ignored, before, (*context, item.name))
        else:
            for student, number, name in people.get(item.name) or [_owner(item)]:
                yield Unit(unicodedata.normalize("NFC", prefix + student), item, name, number, context)


def _hidden(item):
    return bool((HIDDEN_FOLDER if isinstance(item, Folder) else HIDDEN_FILE).fullmatch(item.name))


def _shown(place):
    """Return what is in a place and not hidden; nothing if it cannot be listed."""
    try:
        return [item for item in place.items() if not _hidden(item) and item.name != METADATA]
    except OSError:
        return []


def _of_platform(item):
    folder = isinstance(item, Folder)
    return bool(MOODLE.fullmatch(item.name) or (GRADESCOPE if folder else CANVAS).fullmatch(item.name))


def _is_class(place, depth=0):
    """Return whether a folder holds the folders or files of several students, or such folders, as far as its looks say."""
    items = _shown(place)
    if items and all(map(_of_platform, items)):
        return True
    files = [item for item in items if isinstance(item, File) and SUFFIX.search(item.name)]
    owners = {_before_exercise(item.name) for item in files}
    if "" in owners:  # a file that is not named after anybody: it belongs to the owner of the folder
        return False
    packed = [item for item in items if isinstance(item, File) and item.is_archive][:MOST_ARCHIVES]
    inner = [item for item in [*items, *map(opened, packed)] if isinstance(item, Folder)][:MOST_FILES]
    own = [one for one in inner if not (PART.fullmatch(one.name) or EXERCISE.search(one.name))]
    if EXERCISE.fullmatch(re.sub(r"\.zip$", "", place.name)) or CLASS.search(place.name):
        return bool(own or owners)
    if own and not files and depth < MOST_CLASSES and all(_is_class(one, depth + 1) for one in own):
        return True
    handed_in = Counter(exercise for one in own for exercise in {_exercise(item.name) for item in _shown(one)} - {""})
    return len(owners) > 1 or any(times > 1 for times in handed_in.values())


def _exercise(name):
    """Return the exercise that a name says, or "".

    >>> _exercise("Copy of Exercise 1.ipynb"), _exercise("alex01.py")
    ('ex01', '')
    """
    found = EXERCISE.search(name)
    return f"ex{int(found[1]):02}" if found else ""


def _before_exercise(name):
    """Return the part of a name before the exercise, or "".

    >>> [_before_exercise(name) for name in ("Copy of ann_ex01.py", "ann_Copy of ex01 (2).ipynb", "ex01_ann.py")]
    ['ann', 'ann', '']
    """
    found = EXERCISE.search(name)
    return re.sub(r"[ _-]+$", "", COPY.sub("", name[: found.start()])) if found else ""


def _owner(item):
    """Return (student, number, name) of a file or folder as its name says them."""
    name = item.name
    if found := MOODLE.fullmatch(name):
        return found["student"], found["id"], found["name"] or ""
    archive = name.lower().endswith(".zip")
    if (isinstance(item, File) or archive) and (found := CANVAS.fullmatch(name)):
        return found["student"] + found["id"], "", found["name"]
    if isinstance(item, Folder) and not archive:
        return name, "", name
    student = _before_exercise(name) or (name[:-4] if archive else name if _exercise(name) else SUFFIX.sub("", name))
    return student, "", name


def _people(folder):
    """Return {folder: [(student, number, name)]} as Gradescope's list of submissions says, everybody of a group."""
    listed = next((item for item in folder.items() if item.name == METADATA and isinstance(item, File)), None)
    people, current = {}, None
    for line in listed.read()[0].decode("utf-8", "replace").splitlines() if listed else ():
        if found := re.match(r"['\"]?(submission_\d+)['\"]?:", line):
            current = people.setdefault(found[1], [])
        elif current is not None and (found := re.match(r"[ -]+:(name|sid): *(.*)", line)):
            value = found[2].strip().strip("'\"").replace("''", "'")
            if found[1] == "name":
                current.append((value, "", ""))
            elif current:
                current[-1] = (current[-1][0], value, "")
    return people


def _apart(units):
    """Return the units with other names for students who only share theirs: of other numbers, or in several classes."""
    numbers, contexts = defaultdict(set), defaultdict(set)
    for unit in units:
        numbers[unit.context, unit.student].add(unit.id)
        contexts[unit.student].add(unit.context)
    apart = []
    for unit in units:
        student = unit.student
        if len(numbers[unit.context, student]) > 1:
            student += f"_{unit.id}" if unit.id else ""
        exercises = [_exercise(" ".join(context)) for context in contexts[unit.student]]
        folder_an_exercise = "" not in exercises and len(set(exercises)) == len(exercises)
        if len(exercises) > 1 and not folder_an_exercise:
            student = "/".join((*unit.context, student))
        apart.append(replace(unit, student=student))
    return apart


# What is it?


def _entries(student, units, wanted):
    """Return the entries of one student."""
    named, unnamed, left = defaultdict(list), [], []
    for unit in units:
        for name, file in _walk(unit):
            exercise = _exercise(name.rpartition("/")[2])
            if file.reason or not SUFFIX.search(file.name):
                left.append((name, file, file.reason or "it is no notebook and no script"))
            elif not exercise:
                unnamed.append((name, file, (*unit.context, unit.item.name, name)))
            elif exercise not in exercise_names():
                left.append((name, file, f"there is no exercise {exercise}"))
            elif exercise not in wanted:
                left.append((name, file, "its exercise was not asked for"))
            else:
                named[exercise].append((_natural(name), name, file))
    guessed = defaultdict(list)
    for n, (name, file, around) in enumerate(unnamed):
        exercise, defined = _by_content(file) if n < MOST_READ else ("", 0)
        exercise = exercise or next(filter(None, map(_exercise, reversed(around))), "")
        if exercise in wanted and exercise not in named:
            guessed[exercise].append(((defined, _natural(name)), name, file))
        else:
            left.append((name, file, "neither its name nor what it defines says for which exercise it is"))
    entries = []
    for exercise, files in sorted((named | guessed).items()):
        *others, (_, _, file) = sorted(files, key=lambda one: one[0])
        entries.append(Entry(student, exercise, file.path, tuple(name for _, name, _ in others), file.inside))
    if not entries:
        said = map(_exercise, [*(name for name, _, _ in left), *(name for unit in units for name in unit.context)])
        exercise = next((one for one in said if one in wanted), wanted[0] if len(wanted) == 1 else "")
        return [_nothing(student, exercise, units[0].item, left)]
    notes = [f"not graded: {some([name for name, _, _ in left])}"] if left else []
    if any(student == unit.item.name for unit in units if isinstance(unit.item, File)):
        notes.append("the name of the file does not say whose it is")
    return [replace(entries[0], notes=tuple(notes)), *entries[1:]]


def _nothing(student, exercise, item, left):
    """Return the entry of a student of whom nothing can be graded; left: (name, `File`, reason) of what came in."""
    file = left[0][1] if left else item
    more = [f"{printable(name)}: {why}" for name, _, why in left[:MOST_NAMED]]
    text = "; ".join(more) + (f"; and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else "")
    return Entry(student, exercise, file.path, inside=getattr(file, "inside", ()), reason=text or "it is empty")


def _walk(unit):
    """Yield (name, `File`) of every file of a unit, the name with its folders; the nearest come first, and not endlessly many."""
    if isinstance(unit.item, File):
        yield unit.name, unit.item
        return
    places, seen, archives = deque([("", unit.item)]), 0, 0
    while places:
        before, place = places.popleft()
        try:
            items = [item for item in place.items() if not _hidden(item)]
        except OSError as error:
            yield before or place.name, File(place.name, place.path, reason=f"it cannot be read: {error.strerror}")
            continue
        for item in sorted(items, key=lambda item: not SUFFIX.search(item.name)):  # what may count first
            seen += 1
            if seen > MOST_FILES:
                reason = f"there are more than {MOST_FILES} files, of which the others were not looked at"
                yield place.name, File(place.name, place.path, reason=reason)
                return
            if isinstance(item, File) and item.is_archive:
                archives += 1
                too_many = File(item.name, item.path, item.inside, "there are too many archives")
                item = opened(item) if archives <= MOST_ARCHIVES else too_many
            if isinstance(item, Folder) and before.count("/") < MOST_DEEP:
                places.append((f"{before}{item.name}/", item))
            elif isinstance(item, Folder):
                yield before + item.name, File(item.name, item.path, reason="it lies in too many folders")
            else:
                yield before + item.name, item


def _natural(name):
    """Return what to sort names by: numbers as numbers, and of two files of one name the one in fewer folders later."""
    *folders, last = name.split("/")
    parts = re.split(r"(\d+)", COPY.sub("", SUFFIX.sub("", last)))
    return [int(part) if at % 2 else part for at, part in enumerate(parts)], -len(folders), name


def _by_content(file):
    """Return (the exercise of which a file defines most functions or which it checks, how many it defines), or ("", 0)."""
    data, _ = file.read()
    functions = set(re.findall(rb"\bdef\s+(\w+)\s*\(", data))
    score = Counter(re.findall(rb"check\(\\?[\"'](ex\d\d)", data)[:1])
    score = Counter({exercise.decode(): 1 for exercise in score})
    for exercise, names in _functions().items():
        score[exercise] += len(names & functions)
    exercise, most = max(score.items(), key=lambda pair: pair[1])
    return (exercise, most) if most else ("", 0)


@functools.cache
def _functions():
    return {name: {problem.function.encode() for problem in load(name).problems} for name in exercise_names()}


def _with_warnings(entries):
    """Return the entries with a warning where another student's name looks the same."""
    looks = defaultdict(set)
    for entry in entries:
        looks[_look(entry.student)].add(entry.shown)
    warned = []
    for entry in entries:
        others = sorted(looks[_look(entry.student)] - {entry.shown}) if _look(entry.student) else ()
        warned.append(
            replace(entry, warning=f"a name that looks the same is graded apart: {some(others)}" if others else "")
        )
    return warned


def _look(name):
    """Return what is the same for names that look alike: of case, accents, spaces, invisible signs and other alphabets."""
    plain = unicodedata.normalize("NFKD", name).casefold().translate(ALIKE)
    return "".join(c for c in plain if c.isalnum())
