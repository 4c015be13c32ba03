"""Reconstruct a view iteratively with pty-chi's LSQML; keep the epoch that the stop exposures like best."""

from typing import TYPE_CHECKING

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)  # before PyTorch is imported

