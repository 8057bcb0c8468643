"""What belongs together: the functions, equations, lessons, exercises and tests of the course, found in their texts."""

import ast
import functools
import json
import re
from dataclasses import dataclass

import address
import reference
from links import ROOT

CITED = re.compile(r"Eqs?\. ?\(?(\d)\)?(?:(?:,| and|–| to) \(?(\d)\)?)*")
LESSONS = "notebooks/[0-9][0-9]_*.ipynb"
MAGIC = re.compile(r"^[%!].*$", re.MULTILINE)
PROBLEM = re.compile(r"\((\d+) points?(?:, (\d+) of them in hidden checks)?\)")


@dataclass(frozen=True)
class Notebook:
    """A lesson or an exercise."""

    page: str  # its path in the repository and on the site

    @functools.cached_property
    def cells(self):
        """Its cells as (kind, source)."""
        found = json.loads((ROOT / self.page).read_text(encoding="utf-8"))["cells"]
        return [(cell["cell_type"], "".join(cell["source"])) for cell in found]

    @functools.cached_property
    def prose(self):
        """All its Markdown."""
        return "\n\n".join(source for kind, source in self.cells if kind == "markdown")

    @functools.cached_property
    def title(self):
        """Its heading."""
        return re.search(r"^# (.+)$", self.prose, re.MULTILINE)[1]

    @functools.cached_property
    def names(self):
        """The names that its code uses."""
        return set().union(*(names_of(source) for kind, source in self.cells if kind == "code"))

    @functools.cached_property
    def equations(self):
        """The numbers of the equations that it names."""
        cited = (match[0] for match in CITED.finditer(self.prose))
        return sorted({int(number) for text in cited for number in re.findall(r"\d", text) if 1 <= int(number) <= 8})

    @functools.cached_property
    def partners(self):
        """The pages of lessons and exercises that it links to, of the other kind."""
        other = "exercises/ex" if self.page.startswith("notebooks") else "notebooks/[0-9]"
        found = re.findall(rf"\]\(\.\./({other}[\w]+\.ipynb)\)", self.prose)
        return set(found)

    @property
    def number(self):
        """That in its name."""
        return int(re.search(r"/(?:ex)?(\d+)", self.page)[1])

    @property
    def minutes(self):
        """To read it, as it promises; 0 where it promises nothing."""
        return int(match[1]) if (match := re.search(r"about (\d+) minutes", self.prose)) else 0

    @functools.cached_property
    def problems(self):
        """How many problems an exercise has."""
        return len(PROBLEM.findall(self.prose))

    @property
    def points(self):
        """The points of an exercise."""
        return sum(int(points) for points, _ in PROBLEM.findall(self.prose))

    @property
    def hidden(self):
        """Its points that are in hidden checks."""
        return sum(int(hidden or 0) for _, hidden in PROBLEM.findall(self.prose))

    def link(self, page):
        """A link from `page` to it."""
        return f"[{self.title}]({reference.up(page)}{self.page})"


def names_of(source):
    """Every name and attribute in a Python source, strings and comments apart."""
    nodes = ast.walk(ast.parse(MAGIC.sub("", source)))
    return {getattr(node, "id", getattr(node, "attr", None)) for node in nodes} - {None}


def notebooks(pattern):
    """The notebooks of the repository whose paths match a pattern, in order."""
    return [Notebook(path.relative_to(ROOT).as_posix()) for path in sorted(ROOT.glob(pattern))]


class Course:
    """Every lesson, exercise and entry of the reference, each knowing its lessons and tests."""

    def __init__(self, repository=None, in_browser=()):
        self.repository, self.in_browser = repository, in_browser  # its address on the web; pages that JupyterLite has
        self.lessons, self.exercises = notebooks(LESSONS), notebooks("exercises/ex[0-9][0-9]_*.ipynb")
        self.beside = notebooks("notebooks/[a-z]*.ipynb")  # pages beside the lessons, without a number
        self.modules = reference.entries()
        self.entries = [entry for found in self.modules.values() for entry in found]
        self.known = {entry.name: entry for entry in reversed(self.entries)}  # the first of a name counts
        tests = {path: names_of((ROOT / path).read_text(encoding="utf-8")) for path in _tests()}
        for entry in self.entries:
            if self.known[entry.name] is entry:
                entry.lessons = [lesson for lesson in self.lessons if entry.name in lesson.names]
                entry.tests = _nearest(entry, [path for path, names in tests.items() if entry.name in names])

    def partners(self, notebook):
        """The exercises of a lesson, or the lessons of an exercise: either may have the link."""
        if notebook == self.lessons[0]:  # the map of the course, which links to all
            return []
        others = self.exercises if notebook in self.lessons else self.lessons[1:]
        return [other for other in others if other.page in notebook.partners or notebook.page in other.partners]

    def numbered(self, numbers):
        """The lessons of these numbers, as far as they are written."""
        return [lesson for lesson in self.lessons if lesson.number in numbers]

    def exercises_of(self, lessons):
        """The exercises of some lessons, each once."""
        return list({each.page: each for lesson in lessons for each in self.partners(lesson)}.values())

    def moving(self, name):
        """The lessons that show the moving picture of a class."""
        return [lesson for lesson in self.lessons if name in lesson.names]

    def formula(self, number, lesson):
        """An equation as a lesson has it, from the display that ends in its number."""
        (found,) = self.numbered([lesson])
        tag = re.compile(rf"\s*\\qquad\s*\\text\{{Eq\. \({number}\), arXiv.*", re.DOTALL)
        for shown in re.findall(r"\$\$(.+?)\$\$", found.prose, re.DOTALL):
            if tag.search(shown):
                return f"$$\n{tag.sub('', shown)}\n$$"
        raise ValueError(f"{found.page} has no formula of Eq. ({number})")

    def lead(self, notebook):
        """Markdown for a reader who meets a notebook on the site."""
        if notebook in self.exercises:
            return "*Here you can read the problems. [Run the notebook](../learners.md) to solve them and have your answers checked.*"
        return f"*Here you can read the lesson as it ran: its pictures move, and what is folded opens. You may also [run it](../learners.md){self.elsewhere(notebook)}.*"

    def elsewhere(self, notebook):
        """Markdown for the end of a sentence: where else a lesson runs, as far as the site knows of any such place."""
        links = (
            {"in this browser": f"../lite/lab/index.html?path={notebook.page}"}
            if notebook.page in self.in_browser
            else {}
        )
        if self.repository:
            links |= {
                "on Binder": address.binder(self.repository, notebook.page),
                "on Colab": address.colab(self.repository, notebook.page),
            }
        # As HTML: no page of Sphinx's is behind these.
        return "".join(f', <a href="{link}">{words}</a>' for words, link in links.items())

    def more(self, notebook):
        """Markdown for the end of a lesson or an exercise: where the site goes on from it."""
        page = notebook.page
        rows = {
            "Equations": [f"[Eq. ({n})]({reference.up(page)}equations.md#eq-{n})" for n in notebook.equations],
            "Functions": [self.known[name].link for name in sorted(notebook.names & self.known.keys())],
            "Exercises" if notebook in self.lessons else "Lesson": [
                other.link(page) for other in self.partners(notebook)
            ],
        }
        lines = [f"- {name}: {', '.join(links)}" for name, links in rows.items() if links]
        return "\n".join(["## On this site", "", *lines])

    def of_equation(self, number, page):
        """Markdown: the lessons, functions and exercises that have an equation."""
        rows = {
            "Lessons": [each.link(page) for each in self.lessons if number in each.equations],
            "Functions": [each.link for each in self.entries if number in each.equations],
            "Exercises": [each.link(page) for each in self.exercises if number in each.equations],
        }
        return "\n".join(f"- {name}: {', '.join(links)}" for name, links in rows.items() if links)


def _tests():
    found = (path for room in ("refimpl", "gpu") for path in (ROOT / "tests" / room).rglob("test_*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def _nearest(entry, paths, most=3):
    """The tests that belong to a module by name come first."""
    stem = entry.module.rpartition(".")[2]
    return sorted(paths, key=lambda path: (stem not in path, path.count("/"), path))[:most]
