"""Commands for single files; a study runs through Snakemake."""

import argparse
import sys
from collections.abc import Sequence

from ptycho.cli import check, convert, export, judge, plan, provenance, view
from ptycho.workflow.job import show_messages
from ptycho.workflow.limits import gigabytes, limited_to
from ptycho.workflow.provenance import versions

COMMANDS = {
    "check": check,
    "convert": convert,
    "export": export,
    "judge": judge,
    "plan": plan,
    "provenance": provenance,
    "view": view,
}
"""Name of a command -> its module."""
MAX_GB_HELP = "memory that a file may claim (default: half of this machine's)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line; default: that of this process.

    Returns
    -------
    int
        Exit code: that of the command, or 2 if its arguments or files are invalid.
    """
    parser = argparse.ArgumentParser(prog="ptycho", description=__doc__)
    installed = versions("ptycho").get("ptycho", "of unknown version: not installed")
    parser.add_argument("--version", action="version", version=f"ptycho {installed}")
    parsers = parser.add_subparsers(required=True, metavar="command")
    for name, command in COMMANDS.items():
        description = command.__doc__ or ""
        sub = parsers.add_parser(
            name,
            help=description.partition("\n")[0],
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.add_argument("--max-gb", type=gigabytes, metavar="GB", help=MAX_GB_HELP)
        sub.set_defaults(run=command.run)
    options = parser.parse_args(arguments)
    show_messages()
    try:
        with limited_to(options.max_gb):
            return options.run(options)
    except (ValueError, OSError) as error:
        print(f"ptycho: {error}", file=sys.stderr)
    except MemoryError as error:
        print(f"ptycho: not enough memory: {error or 'none is left'}", file=sys.stderr)
    return 2
