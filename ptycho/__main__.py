"""Small tools beside the workflow."""

import argparse
import logging
import sys

from ptycho.tools import convert, provenance, view

TOOLS = {"convert": convert, "provenance": provenance, "view": view}


def main(arguments=None) -> int:
    """Run a tool; 2 if something is wrong with what it was given."""
    parser = argparse.ArgumentParser(prog="python -m ptycho", description=__doc__)
    parsers = parser.add_subparsers(required=True, metavar="tool")
    for name, tool in TOOLS.items():
        summary = tool.__doc__.partition("\n")[0]
        one = parsers.add_parser(
            name, help=summary, description=tool.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        tool.describe(one)
        one.set_defaults(run=tool.run)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return options.run(options)
    except (ValueError, OSError) as error:
        print(f"ptycho: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
