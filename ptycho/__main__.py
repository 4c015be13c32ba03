"""Run the commands of `ptycho.cli` as `python -m ptycho`."""

import sys

from ptycho.cli.main import main

sys.exit(main())
