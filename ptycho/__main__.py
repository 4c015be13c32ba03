"""`python -m ptycho`: the commands of `ptycho.cli`."""

import sys

from ptycho.cli.main import main

sys.exit(main())
