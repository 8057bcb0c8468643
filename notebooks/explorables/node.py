"""Run the modules in Node: their numbers for tests, their still pictures. Playwright brings a Node of its own."""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path

from .explorable import HERE

# JSON has no infinity and no NaN; both may be what a picture is about.
PROGRAM = """
import module from {module};
import {{ defaults, picture }} from {shared};
let text = "";
for await (const part of process.stdin) text += part;
const asked = JSON.parse(text), odd = (x) => (typeof x === "number" && !Number.isFinite(x) ? {{ number: String(x) }} : x);
const answers = asked.map(({{ what, values, data, options }}) => {{
  const all = {{ ...defaults(module.controls), ...values }};
  if (what === "controls") return module.controls;
  if (what === "compute") return module.compute(all, data);
  if (what === "describe") return module.describe(module.compute(all, data), all, data);
  return picture(module, values, data, options);
}});
process.stdout.write(JSON.stringify(answers, (_, x) => odd(x)));
"""


@cache
def node():
    """The path of a Node: Playwright's, or one in PATH."""
    try:
        import playwright

        own = next(Path(playwright.__file__).parent.glob("driver/node*"), None)
    except ImportError:
        own = None
    found = own or shutil.which("node")
    if not found:
        raise FileNotFoundError("there is no Node: pip install playwright, which brings one, or install nodejs")
    return str(found)


def ask(module, questions):
    """The answers of a module. questions: dicts with what ("compute", "describe", "controls", "picture"), values, data."""
    shared, own = ((HERE / f"{name}.js").as_uri() for name in ("shared", module))
    program = PROGRAM.format(module=json.dumps(own), shared=json.dumps(shared))
    asked = json.dumps([{"values": {}, "data": {}, "options": {}} | question for question in questions])
    command = [node(), "--input-type=module", "--eval", program]
    answer = subprocess.run(command, input=asked, capture_output=True, text=True, encoding="utf-8", timeout=60)
    if answer.returncode:
        raise RuntimeError(f"{module}.js failed in Node:\n{answer.stderr}")
    return json.loads(answer.stdout, object_hook=_number)


def _number(pairs):
    return float(pairs["number"].replace("Infinity", "inf")) if set(pairs) == {"number"} else pairs


def compute(cls, *settings, data=None):
    """The numbers of an explorable, one dict for each setting {control: value}; the other controls as they start."""
    data = cls.course_data() if data is None else data
    return ask(cls.module, [{"what": "compute", "values": values, "data": data} for values in settings])


def controls(cls):
    """The controls of an explorable, as its module lists them."""
    return ask(cls.module, [{"what": "controls"}])[0]


def picture(cls, **options):
    """{"svg", "words"} of an explorable as it starts. options: width in px, dark."""
    return ask(cls.module, [{"what": "picture", "data": cls.course_data(), "options": options}])[0]
