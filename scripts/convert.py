"""Convert the fetched scan to the data contract."""

from typing import TYPE_CHECKING

from ptycho.data.scan import ScanWriter
from ptycho.formats.siemens import read_siemens
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
arrays = read_siemens(snakemake.input[0])
frames = arrays.pop("diffraction")
arrays["metadata"]["provenance"] = record_of(snakemake, __file__)
with ScanWriter(snakemake.output[0], len(frames), frames.shape[-1], **arrays) as scan:
    scan.write(frames)
print(f"{len(frames)} exposures of {frames.shape[1:]}, zero frequency moved to the center")
