"""A lesson as pytest sees it: nbval runs its cells and compares them, then the same kernel looks at what no output shows."""

import ast
from pathlib import Path

import pytest
from nbval.plugin import IPyNbFile

FOLDER = Path(__file__).parent / "notebooks"


class Lesson(IPyNbFile):
    """nbval's file, and one test more behind its cells."""

    def setup(self):
        super().setup()
        self.evaluate(f"__import__('sys').path.append({str(FOLDER)!r})")
        self.evaluate("__import__('run_lesson').watch(get_ipython())")

    def collect(self):
        yield from super().collect()
        yield Again.from_parent(self, name="pictures are legible and cells run again")

    def evaluate(self, expression):
        """The value of an expression in the kernel, a literal; no cell runs and no name of the lesson changes."""
        reply = self.kernel.kc.execute_interactive(
            "pass", silent=True, user_expressions={"value": expression}, timeout=600, output_hook=lambda _: None
        )["content"]
        value = reply["user_expressions"]["value"]
        assert value["status"] == "ok", value
        return ast.literal_eval(value["data"]["text/plain"])


class Again(pytest.Item):
    def runtest(self):
        found = self.parent.evaluate(f"__import__('run_lesson').wrong({str(self.path)!r}, get_ipython())")
        assert not found, "\n".join(found)

    def reportinfo(self):
        return self.path, None, f"{self.path.name}: {self.name}"
