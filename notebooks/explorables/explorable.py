"""What the widgets share: an ES module that draws in the browser, its values, its data and a still picture of it."""

import re
from base64 import b64encode
from html import escape
from pathlib import Path

import anywidget
import traitlets

HERE = Path(__file__).resolve().parent
IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w-]+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=const |let |function |class |async )", re.MULTILINE)


def bundle(module):
    """The text of an ES module of this folder with all that it imports, so that it can be loaded from anywhere.

    A widget is loaded without its folder, and a page on a disk may import no file. The modules share one scope then: what
    stands outermost in them has a name of its own.
    """
    parts = {}

    def add(name):
        text = (HERE / f"{name}.js").read_text(encoding="utf-8")
        for imported in IMPORT.findall(text):
            if imported not in parts:
                add(imported)
        parts[name] = EXPORT.sub("", IMPORT.sub("", text))

    add(module)
    return "\n".join(parts.values())


class Explorable(anywidget.AnyWidget):
    """A picture that is drawn and moved in the browser, with a kernel or without.

    values: {control: value} where the picture starts, by default where its module says; they follow the reader.
    data: what the picture shows, by default that of the course, see `course_data`.

    >>> from explorables import Clocks
    >>> Clocks(lag=4).values
    {'lag': 4}
    """

    module = ""  # the name of the ES module, which stands beside the file of the class
    values = traitlets.Dict().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)

    _esm = "export default { render() {} }"
    _css = HERE / "shared.css"

    def __init_subclass__(cls, **kwargs):
        if "module" in vars(cls):  # and not of the classes that traitlets makes of an instance
            cls._esm = bundle(cls.module)
        super().__init_subclass__(**kwargs)

    def __init__(self, *, data=None, **values):
        super().__init__(values=values, data=self.course_data() if data is None else data)

    @classmethod
    def course_data(cls):
        """What the picture shows in the course, as lists and numbers that JSON knows."""
        return {}

    def move(self, **values):
        """Set controls by name, as a reader would by hand."""
        self.values = self.values | values

    @classmethod
    def still(cls):
        """(SVG, words) of the picture as it starts in the course: written by `python -m explorables stills`."""
        svg, words = ((HERE / "stills" / f"{cls.module}{end}").read_text(encoding="utf-8") for end in (".svg", ".txt"))
        return svg, words.rstrip("\n")

    @classmethod
    def still_html(cls):
        """The still picture as an HTML image with its words as the alternative text."""
        svg, words = cls.still()
        source = "data:image/svg+xml;base64," + b64encode(svg.encode()).decode()
        return f'<img alt="{escape(words)}" src="{source}" style="max-width: 100%">'

    def _repr_mimebundle_(self, **kwargs):
        shown = super()._repr_mimebundle_(**kwargs)
        data, metadata = shown if isinstance(shown, tuple) else (shown, {})
        return data | {"text/html": self.still_html(), "text/plain": self.still()[1]}, metadata

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.values.items())})"
