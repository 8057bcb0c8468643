"""python -m refimpl: how far the forms of retention are apart, what they cost, and a model trained, sampled and measured in NumPy."""

import typer

from .bench.commands import bench, roof
from .cli import Version, run
from .compare import compare
from .conformance.commands import conformance
from .corpus.commands import corpus
from .generate import generate
from .training.commands import facts, passages, train

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def default(context: typer.Context, version: Version = False):
    """The NumPy reference of retention. Without a command: compare, with its defaults."""
    if context.invoked_subcommand is None:
        compare()


for command in (compare, train, generate, bench, roof, conformance, facts, passages):
    app.command()(command)

app.add_typer(corpus, name="corpus")

if __name__ == "__main__":
    run(app, "python -m refimpl")
