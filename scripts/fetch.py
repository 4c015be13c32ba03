"""Fetch the measured Siemens star scan from a published package."""

from typing import TYPE_CHECKING

from ptycho.workflow import job
from ptycho.workflow.fetch import fetch_member
from ptycho.workflow.provenance import record_of, save_record

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
fetch_member(
    "tike==0.26.0 --hash=sha256:e6a89bfb8e62ff77e01ca2cef4384898b1208f541652a5449dc0c61781006a19",
    "tests/data/siemens-star-small.npz.bz2",
    snakemake.output[0],
    sha256="dbce7715c1d4a7c28a48f684dacc7d343fbc5d06fe993d6ea31714ffb5c68d3d",
)
save_record(snakemake.output.provenance, record_of(snakemake, __file__))
