"""The seed of the fuzz tests: another one with every commit, the same whenever a commit is tested again."""

import os
import subprocess
from functools import cache
from pathlib import Path

VARIABLE = "PTYCHO_FUZZ_SEED"
"""Environment variable that sets it."""


@cache
def fuzz_seed():
    """Return the seed that is asked for; without that the number of commits, 1 where there is no repository."""
    if asked := os.environ.get(VARIABLE):
        return int(asked)
    command = ["git", "rev-list", "--count", "HEAD"]
    options = {"cwd": Path(__file__).parent, "capture_output": True, "encoding": "utf-8", "check": False}
    try:
        run = subprocess.run(command, **options)
    except FileNotFoundError:
        return 1
    return int(run.stdout) if run.returncode == 0 else 1
