"""Snakemake's own report of the finished study, made by a second Snakemake that runs no job."""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ptycho.workflow import job
from ptycho.workflow.files import replacing
from ptycho.workflow.processes import run

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
with tempfile.TemporaryDirectory() as folder, replacing(snakemake.output[0]) as page:
    config = Path(folder, "config.yaml")  # as it is in this run, --config included
    config.write_text(yaml.safe_dump(snakemake.params.config, sort_keys=False, allow_unicode=True))
    # The first Snakemake holds the lock and waits; this one only reads.
    command = [sys.executable, "-m", "snakemake", "--nolock", "--workflow-profile", "none"]
    command += ["--snakefile", snakemake.params.snakefile, "--configfile", config, "--report", page]
    run(command, check=True)
