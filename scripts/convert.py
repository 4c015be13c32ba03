"""Convert the fetched scan to the contract."""

from typing import TYPE_CHECKING

from ptycho import log
from ptycho.formats import read_siemens
from ptycho.provenance import record_of
from ptycho.scan import ScanWriter

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
arrays = read_siemens(snakemake.input[0])
frames = arrays.pop("diffraction")
arrays["metadata"]["provenance"] = record_of(snakemake, __file__)
with ScanWriter(snakemake.output[0], len(frames), frames.shape[-1], **arrays) as scan:
    scan.write(frames)
print(f"{len(frames)} exposures of {frames.shape[1:]}, counts with the zero frequency moved to the centre")
