"""The command line: python -m exercises list, check, release, autograder, grade, similarity, course, gradebook, new, validate."""

from refimpl.cli import program, run

from .answers.commands import new, validate
from .checking.commands import check, list_exercises
from .gradebook.commands import course, gradebook
from .grading.commands import grade, similarity
from .handout.commands import autograder, release

app = program("Check your work on the exercises; hand them out, and grade a class.", rich_markup_mode=None)
app.command("list")(list_exercises)
for command in (check, release, autograder, grade, similarity, course, gradebook, new, validate):
    app.command()(command)

if __name__ == "__main__":
    run(app, "python -m exercises")
