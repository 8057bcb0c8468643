"""How the programs of this project report a mistake of the user's: one line, exit status 2."""

from rich.console import Console
from rich.text import Text


def run(app, name, quiet=False):
    """Run a typer app; ValueError, TypeError and OSError become a line on standard error.

    Those are what our checks raise, and their messages name the argument, what came and what is
    wanted. Anything else is a bug and keeps its traceback. quiet: print no line, for another process does.
    """
    try:
        app(prog_name=name)
    except (ValueError, TypeError, OSError) as error:
        # As Text: what a user typed may hold brackets, which rich would read as markup.
        Console(stderr=True, quiet=quiet).print(Text.assemble(("error:", "red"), f" {error}"), soft_wrap=True)
        raise SystemExit(2) from None
