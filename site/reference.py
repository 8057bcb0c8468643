"""The reference: a page for each module, from its source alone; nothing is imported, so a GPU is not missed."""

import ast
import re
from dataclasses import dataclass, field

from links import ROOT

GROUPS = {
    "The forms, and what they are made of": (
        "refimpl.retention", "refimpl.decay", "refimpl.rotation", "refimpl.score_norm", "refimpl.lengths",
    ),
    "Layers and model": (
        "refimpl.config", "refimpl.layers", "refimpl.model", "refimpl.sampling", "refimpl.weights", "refimpl.tree",
    ),
    "Gradients by hand": ("refimpl.backward",),
    "Kin and oracle": ("refimpl.family", "refimpl.oracle"),
    "Compiled and fused": (
        "refimpl.compiled.kernels", "gpu.kernels.triton_retention", "gpu.models.retnet", "gpu.models.operations",
    ),
    "Checks for any retention": ("refimpl.conformance.suite", "refimpl.conformance.report"),
    "Weights of other libraries": ("refimpl.interop.folder", "refimpl.interop.saving"),
    "Training": (
        "refimpl.training.text", "refimpl.training.bpe", "refimpl.training.tasks", "refimpl.training.capacity",
    ),
}  # fmt: skip
EQUATION = re.compile(r"\bEqs?\. ?(?:\(([1-8])\)|([1-8]))")
SECTIONS = ("Args", "Returns", "Raises", "Yields", "Attributes")


@dataclass
class Entry:
    """A function or class of the reference, and what of the site belongs to it."""

    module: str
    node: ast.AST
    methods: list = field(default_factory=list)
    lessons: list = field(default_factory=list)
    tests: list = field(default_factory=list)

    @property
    def name(self):
        """As it is imported from its module."""
        return self.node.name

    @property
    def path(self):
        """Its file in the repository."""
        return path_of(self.module)

    @property
    def page(self):
        """Its page on the site."""
        return f"api/{self.module}.md"

    @property
    def doc(self):
        """Its docstring."""
        return ast.get_docstring(self.node) or ""

    @property
    def equations(self):
        """The numbers of the paper's equations that its docstring names."""
        return sorted({int(match[1] or match[2]) for match in EQUATION.finditer(self.doc)})

    @property
    def link(self):
        """A link to it from any page."""
        return f"{{py:obj}}`~{self.module}.{self.name}`"


def up(page):
    """The path from a page to the root of the site."""
    return "../" * page.count("/")


def path_of(module):
    """The file of a module, in the repository."""
    path = module.replace(".", "/")
    return f"{path}.py" if (ROOT / f"{path}.py").is_file() else f"{path}/__init__.py"


def entries():
    """Every public function and class with a docstring, of the modules of GROUPS, by name of its module."""
    return {module: _entries(module) for modules in GROUPS.values() for module in modules}


def _entries(module):
    tree = ast.parse((ROOT / path_of(module)).read_text(encoding="utf-8"))
    return [Entry(module, node, _methods(node)) for node in tree.body if _is_public(node)]


def _is_public(node):
    kinds = (ast.FunctionDef, ast.ClassDef)
    return isinstance(node, kinds) and not node.name.startswith("_") and ast.get_docstring(node)


def _methods(node):
    return [each for each in node.body if _is_public(each)] if isinstance(node, ast.ClassDef) else []


# ---------------------------------------------------------------- pages


def module_page(module, found, known):
    """The page of a module. found: its entries. known: {name: entry} of the whole reference."""
    page = f"api/{module}.md"
    doc = ast.get_docstring(ast.parse((ROOT / path_of(module)).read_text(encoding="utf-8"))) or ""
    blocks = [f"# {module}", markdown(doc, page, known), f"```{{py:module}} {module}\n```"]
    blocks += [_described(entry, known) for entry in found]
    return "\n\n".join(blocks) + "\n"


def _described(entry, known):
    methods = [_directive("py:method", each, f"{entry.name}.", entry, known, "::::") for each in entry.methods]
    kind = "py:class" if isinstance(entry.node, ast.ClassDef) else "py:function"
    return _directive(kind, entry.node, "", entry, known, ":::::", [*methods, belongs(entry)])


def _directive(kind, node, before, entry, known, fence, more=()):
    doc = markdown(ast.get_docstring(node) or "", entry.page, known)
    body = "\n\n".join([doc, *more])
    return f"{fence}{{{kind}}} {before}{node.name}{signature(node)}\n\n{body}\n{fence}"


def signature(node):
    """The arguments of a function, or of a class as its fields or its __init__ say, on one line."""
    if isinstance(node, ast.ClassDef):
        start = next((each for each in node.body if getattr(each, "name", "") == "__init__"), None)
        if start is None:
            names = [each.target.id for each in node.body if isinstance(each, ast.AnnAssign)]
            return f"({', '.join(names)})" if names else ""
        node = start
    arguments = ast.unparse(node.args).removeprefix("self, ").removeprefix("cls, ")
    arguments = "" if arguments in ("self", "cls") else arguments
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    return f"({arguments}){returns}"


def belongs(entry):
    """What of the site belongs to a function: its equations, lessons, tests and source."""
    at = up(entry.page)
    rows = {
        "Equation": [f"[Eq. ({number})]({at}equations.md#eq-{number})" for number in entry.equations],
        "Lesson": [lesson.link(entry.page) for lesson in entry.lessons],
        "Test": [f"[`{path}`]({at}{path}.md)" for path in entry.tests],
        "Source": [
            f'<a href="{at}{entry.path}.html#line-{entry.node.lineno}">{entry.path}, line {entry.node.lineno}</a>'
        ],
    }
    return "\n".join(f"- {name}: {', '.join(links)}" for name, links in rows.items() if links)


# ---------------------------------------------------------------- docstrings


def markdown(doc, page, known):
    """A docstring as Markdown: its code, examples, tables in spaces and sections of arguments keep their looks."""
    blocks, lines = [], doc.splitlines()
    while lines:
        if not lines[0].strip():
            lines.pop(0)
        elif lines[0].startswith(">>>"):
            blocks.append("```pycon\n" + "\n".join(_taken(lines, lambda line: line.strip())) + "\n```")
        elif lines[0].rstrip(":") in SECTIONS and lines[0].endswith(":"):
            title = lines.pop(0)
            inside = _taken(lines, lambda line: not line.strip() or line.startswith(" "))
            blocks.append(f"**{title}**\n\n" + _items(inside, page, known))
        elif lines[0].startswith("    "):
            inside = _taken(lines, lambda line: not line.strip() or line.startswith("    "))
            blocks.append("```text\n" + "\n".join(line[4:] for line in inside).rstrip() + "\n```")
        else:
            inside = _taken(lines, lambda line: line.strip() and not line.startswith(("    ", ">>>")))
            blocks.append(_words("\n".join(inside), page, known))
    return "\n\n".join(blocks)


def _taken(lines, belongs_to):
    """The first lines that belong together, removed from `lines`."""
    taken = []
    while lines and (not taken or belongs_to(lines[0])):
        taken.append(lines.pop(0))
    return taken


def _items(lines, page, known):
    """The entries of a section of arguments, as a list."""
    items = []
    for line in filter(str.strip, lines):
        if not line.startswith("     ") or not items:
            items.append(line.strip())
        else:
            items[-1] += " " + line.strip()
    shown = []
    for item in items:
        name, colon, words = item.partition(": ")
        is_name = colon and re.fullmatch(r"[\w*]+(, [\w*]+)*", name)
        shown.append(f"- `{name}`: {_words(words, page, known)}" if is_name else f"- {_words(item, page, known)}")
    return "\n".join(shown)


def _words(text, page, known):
    """Prose: names in backticks become links where the reference has them, equations too; the rest is no markup."""
    parts = re.split(r"(`[^`]+`)", text)
    parts[::2] = [_prose(part, page) for part in parts[::2]]
    for number, part in enumerate(parts):
        entry = known.get(part.strip("`").rpartition(".")[2]) if number % 2 else None
        if entry and part.strip("`") in (entry.name, f"{entry.module}.{entry.name}", f"refimpl.{entry.name}"):
            parts[number] = entry.link
    return "".join(parts)


def _prose(text, page):
    text = re.sub(r"([\\*_<>\[\]$~|{}])", r"\\\1", text)
    text = re.sub(r"^([A-Za-z_\\]+(?:, [A-Za-z_\\]+)*: )", r"\\\n\1", text, flags=re.MULTILINE).removeprefix("\\\n")
    return EQUATION.sub(lambda match: f"[{match[0]}]({up(page)}equations.md#eq-{match[1] or match[2]})", text)
