"""Reconstruct the reference: all frames, half of the photons, probe refined in several incoherent modes."""

import json
from typing import TYPE_CHECKING

import numpy as np

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)  # before PyTorch is imported

from ptycho.files import save_table
from ptycho.iterative import Exposures, Iterative, reconstruct
from ptycho.npz import save_arrays
from ptycho.probes import add_modes
from ptycho.provenance import record_of
from ptycho.scan import open_scan

options = dict(snakemake.params.options)
scan = open_scan(snakemake.input[0])
probe = add_modes(scan.probe, options.pop("modes"))
fit = Exposures.of(scan, np.arange(len(scan)))
result = reconstruct(
    fit,
    None,
    probe,
    Iterative(patience=options["epochs"], **options),
    seed=snakemake.params.seed,
    compact=False,
    refine_probe=True,
)
save_table(snakemake.output.curve, result.history)
save_arrays(
    snakemake.output.reconstruction,
    object=result.object,
    weight=result.weight.astype(np.float32),
    origin_px=np.asarray(result.origin_px),
    probeGuess=result.probe,
    metadata=np.array(json.dumps({"method": "lsqml, probe refined", "provenance": record_of(snakemake, __file__)})),
)
