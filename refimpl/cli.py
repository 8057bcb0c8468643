"""What the programs of this project share: options from config classes, errors in one line, the `retnet` command."""

import dataclasses
import functools
import inspect
import io
import os
import signal
import sys
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import typer
from rich.console import Console
from rich.text import Text

from . import __version__
from .training.stopping import StoppedError

OWN = ("refimpl", "gpu", "exercises")


def show_version(wanted):
    """Print the version and end the program, if that is wanted."""
    if wanted:
        typer.echo(f"retnet-reference {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
]


def program(text, commands=(), **options):
    """A typer app with the help `text`, the functions `commands` as its commands, and --version."""
    app = typer.Typer(help=text, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, **options)

    @app.callback()
    def main(version: Version = False):
        pass

    for command in commands:
        app.command()(command)
    return app


def one_command(command):
    """A typer app of one function, whose options follow the program's name directly."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    return app


def run(app, name):
    """Run a typer app; a mistake of the user's becomes one line on standard error, with exit status 2.

    Our checks raise ValueError, TypeError and OSError, and their messages name the argument, what came and what is
    wanted. A FloatingPointError is that of broken weights. A package that is not installed, and memory that does not suffice, are also reported in one line. Anything else is
    a bug and keeps its traceback. Of the processes that torchrun starts only the first prints.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if it is closed
            stream.reconfigure(errors="backslashreplace")  # its encoding may lack a character of a path or of a text
    try:
        app(prog_name=name)
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        message = f"{error}"
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        reason = f"{error}".partition("\n")[0] or "an array does not fit"
        message = f"not enough memory: {reason}; a smaller batch_size, dim or window needs less"
    except ModuleNotFoundError as error:
        if error.name is None:  # ours, with its own remedy
            message = f"{error}"
        elif error.name.partition(".")[0] in OWN:
            raise
        else:
            message = (
                f"this needs {error.name}, which is not installed; the extras cpu and gpu bring what commands need"
            )
    else:
        return
    # As Text: what a user typed may hold brackets, which rich would read as markup.
    console = Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0")
    console.print(Text.assemble(("error:", "red"), f" {message}"), soft_wrap=True)
    raise SystemExit(2)


def path(text):
    """A path as it was typed, for the parser of an option; '' is none, though pathlib takes it for the working folder."""
    if not text:
        raise typer.BadParameter("must be a path, got ''")
    return Path(text)


def _lacks_memory(error):
    """True for NumPy's error, and for torch's: CUDA's has a class of its own, that of its allocator on the CPU has none."""
    torch_s = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in f"{error}"
    return isinstance(error, MemoryError) or torch_s


def say(line, console):
    """Print a line as it is, on one line: what a user typed may hold brackets and colons, which rich would read."""
    console.print(line, markup=False, emoji=False, soft_wrap=True)


@contextmanager
def exit_when_stopped(console, next_command="the same command"):
    """Within, a request to stop ends the program with the signal's exit status, and says how to go on.

    A second Ctrl-C does not wait for the end of the step: the last checkpoint is what is kept then. A loss that is not
    finite ends the program with exit status 1.
    """
    try:
        yield
    except StoppedError as stopped:
        say(f"{stopped}; {next_command} goes on", console)
        raise typer.Exit(128 + stopped.signal) from None
    except KeyboardInterrupt:
        say(f"stopped at once; {next_command} goes on from the last checkpoint, if there is one", console)
        raise typer.Exit(128 + signal.SIGINT) from None
    except FloatingPointError as error:
        say(f"stopped: {error}", Console(stderr=True, quiet=console.quiet))
        raise typer.Exit(1) from None


def with_options(config, leave_out=()):
    """Give a typer command an option for every field of a dataclass; it receives those that were given as `settings`.

    A field is annotated Annotated[kind, help], or Annotated[kind, help, "--name"] where the option has another name. An
    option of a tuple may be given again. No option is made for the names in leave_out, nor for a field that the command
    has a parameter for.

    >>> @dataclasses.dataclass
    ... class Config:
    ...     steps: Annotated[int, "optimizer steps"] = 900
    >>> @with_options(Config)
    ... def train(*, settings):
    ...     print(settings)
    >>> one_command(train)(["--steps", "5"], standalone_mode=False)
    {'steps': 5}
    """

    def decorate(command):
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "settings"]
        hints = get_type_hints(config, include_extras=True)
        fields = {
            field.name: _parameter(field, hints[field.name])
            for field in dataclasses.fields(config)
            if field.name not in {*leave_out, *(parameter.name for parameter in own)}
        }

        @functools.wraps(command)
        def wrapped(typer_context, **arguments):
            settings = {}
            for name in fields:
                value = arguments.pop(name)
                if typer_context.get_parameter_source(name).name != "DEFAULT":
                    settings[name] = tuple(value) if isinstance(value, list) else value
            return command(**arguments, settings=settings)

        context = inspect.Parameter("typer_context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        wrapped.__signature__ = inspect.Signature([context, *own, *fields.values()])
        wrapped.__annotations__ = {p.name: p.annotation for p in wrapped.__signature__.parameters.values()}
        return wrapped

    return decorate


def _parameter(field, hint):
    """The parameter of a typer command for a field of a dataclass."""
    kind, text, *names = get_args(hint)
    default = field.default
    if get_origin(kind) is tuple:
        kind, text = list[get_args(kind)[0]], f"{text}; may be given again"
        default = list(default)
    option = typer.Option(*names, help=text, rich_help_panel="Settings")
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


def retnet():
    """Run the `retnet` command: every program that an installed package lists as an entry point "retnet.programs"."""
    app = program("The programs of the RetNet reference; `python -m PROGRAM` runs the same.")
    for entry in sorted(entry_points(group="retnet.programs"), key=lambda entry: entry.name):
        app.add_typer(entry.load(), name=entry.name)
    run(app, "retnet")
