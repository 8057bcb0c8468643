"""The command line: python -m exercises check FILE."""

import argparse
import sys
from dataclasses import replace

from .checking.key import choose
from .checking.prompt import check_own
from .checking.report import plain_text
from .harness.cells import UnusableError


def main(arguments=None):
    """Check one file and return the exit code: 0 all passes, 1 something does not, 2 it cannot be checked."""
    parser = argparse.ArgumentParser(prog="python -m exercises", description="Check your work with the visible checks.")
    check = parser.add_subparsers(required=True, metavar="check").add_parser(
        "check", help="check the functions in a file"
    )
    check.add_argument("file", help="your notebook (.ipynb) or script (.py)")
    check.add_argument("--exercise", default="", help="which exercise, such as ex01; default: as the file's name says")
    check.add_argument("--function", default="", help="show this function alone; default: all of the exercise")
    options = parser.parse_args(arguments)
    try:
        report, notes = check_own(options.file, options.exercise)
        if options.function:
            choose("function", options.function, list(report.results))
            report = replace(report, results={options.function: report.results[options.function]})
    except (UnusableError, ValueError) as error:
        print(f"Cannot check: {error}", file=sys.stderr)
        return 2
    print(plain_text(report))
    for note in notes:
        print(f"Note: {note}")
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
