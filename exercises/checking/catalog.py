"""The list of exercises. A students' release has its own catalogue, which reads answer keys from files."""

import importlib
import pkgutil
import re
from pathlib import Path

from .. import answers
from .key import choose
from .secret import with_secret


def exercise_names():
    """Return the names of all exercises, in order.

    >>> exercise_names()[0]
    'ex01'
    """
    modules = pkgutil.iter_modules(answers.__path__)
    return sorted(module.name for module in modules if re.fullmatch(r"ex\d\d", module.name))


def misnamed():
    """Return the paths of modules that define an exercise under a name by which it is never found.

    >>> misnamed()
    []
    """
    paths = [path for folder in answers.__path__ for path in Path(folder).glob("*.py")]
    defined = [path for path in paths if re.search("^EXERCISE *=", path.read_text(encoding="utf-8"), re.MULTILINE)]
    return sorted(path for path in defined if path.stem not in {*exercise_names(), "starter"})


def load(name):
    """Return the `Exercise` called `name`, with the lecturer's hidden inputs if there are any; ValueError for any other name.

    >>> [problem.function for problem in load("ex01").problems]
    ['retention_step', 'retention_loop', 'retention_documents', 'replacing_step']
    """
    choose("exercise", name, exercise_names())
    return with_secret(importlib.import_module(f"{answers.__name__}.{name}").EXERCISE)
