"""Make Snakemake's own report of the finished study with a second Snakemake that runs no job."""

import sys
from typing import TYPE_CHECKING

import yaml

from ptycho.workflow import job
from ptycho.workflow.files import replacing, temporary_folder
from ptycho.workflow.processes import run_reported

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
with temporary_folder() as folder:
    config = folder / "config.yaml"  # the config of this run, --config included
    text = yaml.safe_dump(snakemake.params.config, sort_keys=False, allow_unicode=True)
    config.write_text(text, encoding="utf-8")
    with replacing(snakemake.output[0]) as page:
        # The first Snakemake holds the lock and waits; this one only reads.
        # It reads captions in the encoding of the locale, unless Python runs in its UTF-8 mode.
        command = [sys.executable, "-X", "utf8", "-m", "snakemake", "--nolock", "--workflow-profile", "none"]
        command += ["--snakefile", snakemake.params.snakefile, "--configfile", config, "--report", page]
        run_reported(command, snakemake.output[0])
