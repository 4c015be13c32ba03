"""Commands beside the workflow."""

import argparse
import sys

from ptycho.cli import convert, provenance, view
from ptycho.workflow.job import show_messages

COMMANDS = {"convert": convert, "provenance": provenance, "view": view}


def main(arguments=None) -> int:
    """Run a command; return 2 if something is wrong with what it was given."""
    parser = argparse.ArgumentParser(prog="ptycho", description=__doc__)
    parsers = parser.add_subparsers(required=True, metavar="command")
    for name, command in COMMANDS.items():
        summary = command.__doc__.partition("\n")[0]
        sub = parsers.add_parser(
            name, help=summary, description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.describe(sub)
        sub.set_defaults(run=command.run)
    options = parser.parse_args(arguments)
    show_messages()
    try:
        return options.run(options)
    except (ValueError, OSError) as error:
        print(f"ptycho: {error}", file=sys.stderr)
        return 2
