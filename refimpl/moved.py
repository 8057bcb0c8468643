"""Old import paths of modules that moved: `import gpu.train` gives the very module `gpu.training.run`."""

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec


def keep_old_paths(package, moves):
    """Make `import package.OLD` give `package.NEW`, for each OLD: NEW of `moves`; nothing is imported until then.

    NEW is a whole name if it begins with refimpl, for what moved from another package to this one.

    >>> from refimpl import text  # its old path
    >>> text.__name__
    'refimpl.training.text'
    """
    whole = {old: new if new.startswith("refimpl.") else f"{package}.{new}" for old, new in moves.items()}
    sys.meta_path.append(_Moved({f"{package}.{old}": new for old, new in whole.items()}))


class _Moved(MetaPathFinder, Loader):
    def __init__(self, moves):
        self.moves = moves

    def find_spec(self, fullname, path=None, target=None):
        return ModuleSpec(fullname, self) if fullname in self.moves else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        # The import system returns the entry of sys.modules, so both names are the same module and not two copies.
        sys.modules[module.__name__] = importlib.import_module(self.moves[module.__name__])
