"""Split the photons of a scan into two independent half scans: of a measured one, for the reference and the study."""

from typing import TYPE_CHECKING

import numpy as np

from ptycho.data.scan import ScanWriter, open_scan
from ptycho.physics.forward import blocks
from ptycho.physics.noise import split_photons, whole_counts
from ptycho.workflow import job
from ptycho.workflow.files import ContractError
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
whole = open_scan(snakemake.input[0])
rng = np.random.default_rng(snakemake.params.seed)
fields = {
    "xcoords": whole.xcoords,
    "ycoords": whole.ycoords,
    "probeGuess": (whole.probe / np.sqrt(2)).astype(np.complex64),
    "objectGuess": whole.object[:],
    **whole.detector.scaled(0.5).arrays(),
    "metadata": {**whole.metadata, "dose": whole.metadata["dose"] / 2, "provenance": record_of(snakemake, __file__)},
}
size = len(whole), whole.n_pixels
try:
    with (
        ScanWriter(snakemake.output[0], *size, **fields) as first,
        ScanWriter(snakemake.output[1], *size, **fields) as second,
    ):
        for block in blocks(len(whole), 64):
            counts = whole_counts(whole.diffraction[block], whole.path)
            for half, part in zip((first, second), split_photons(counts, 0.5, rng), strict=True):
                half.write(np.sqrt(part).astype(np.float32))
except ContractError as error:
    raise SystemExit(f"{error}{snakemake.params.get('see', '')}") from None
