"""Write what methods are told of a scan: what is known of it, with one flaw of the study."""

from typing import TYPE_CHECKING

import numpy as np

from ptycho.data.flaws import Flaw, tell
from ptycho.data.knowledge import save_knowledge
from ptycho.data.scan import open_scan
from ptycho.physics.displacement import rms_px
from ptycho.physics.forward import as_modes
from ptycho.physics.probes import simulate_probe
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
scan, params = open_scan(snakemake.input.scan), snakemake.params
flaw, wrong = Flaw(**params.flaw), None
if flaw.defocus:
    optics = params.probe | {"defocus_px": params.probe["defocus_px"] * (1 + flaw.defocus)}
    wrong = as_modes(simulate_probe(**optics))
# the same errors at every dose and seed, and of every size; object, scan and detector have streams of this seed alone
rng = np.random.default_rng([params.seed, snakemake.wildcards.split == "test"])
told = tell(scan, flaw, rng, wrong)
moved = rms_px(np.stack([told.ycoords - scan.ycoords, told.xcoords - scan.xcoords]))
print(
    f"{flaw}: positions are told wrong by {moved:.3g} px (rms), {len(told.probe)} of {len(scan.probe)} modes are told"
)
metadata = {"told": params.flaw, "provenance": record_of(snakemake, __file__)}
save_knowledge(snakemake.output[0], told, **metadata)
