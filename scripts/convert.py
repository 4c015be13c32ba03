"""Convert the fetched scan to the data contract."""

from typing import TYPE_CHECKING

from ptycho.formats.conversion import convert
from ptycho.formats.options import ConversionOptions
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
options = ConversionOptions(format="tike")
scan = convert(snakemake.input, snakemake.output[0], options, lambda: record_of(snakemake, __file__))
print(f"{len(scan)} exposures of {scan.diffraction.shape[1:]}")
