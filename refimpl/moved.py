"""Old import paths of modules that moved: `import gpu.train` gives the very module `gpu.training.run`."""

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec


def keep_old_paths(package, moves):
    """Let `package.OLD` be imported as `package.NEW`, for each OLD: NEW of `moves`; nothing is imported before it is asked for.

    >>> from refimpl import text  # where it was
    >>> text.__name__
    'refimpl.training.text'
    """
    sys.meta_path.append(_Moved({f"{package}.{old}": f"{package}.{new}" for old, new in moves.items()}))


class _Moved(MetaPathFinder, Loader):
    def __init__(self, moves):
        self.moves = moves

    def find_spec(self, fullname, path=None, target=None):
        return ModuleSpec(fullname, self) if fullname in self.moves else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        # The import system hands out what it finds here afterwards: one module under two names, and not a copy.
        sys.modules[module.__name__] = importlib.import_module(self.moves[module.__name__])
