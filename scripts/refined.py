"""Refine TV-MAP of a view by a network that is trained on the view's own photons."""

from pathlib import Path
from typing import TYPE_CHECKING

from ptycho import log

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
log.limit_threads(snakemake.threads)  # before TensorFlow is imported

from ptycho.files import save_table
from ptycho.grouping import FIT, STOP
from ptycho.likelihood import Counts
from ptycho.model.checkpoints import Backup, training_key
from ptycho.model.refined import Refinement, refine_tiles
from ptycho.provenance import origin_of, record_of, versions
from ptycho.scan import open_scan
from ptycho.stitch import load_object, save_object
from ptycho.tv import TotalVariation
from ptycho.views import open_view

scan, view = open_scan(snakemake.input.scan), open_view(snakemake.input.view)
counts = Counts.of(scan, view.of_role(FIT, STOP))
tv = load_object(snakemake.input.tv)[3]
strength, clock = tv["strength"], log.CpuClock()
seed, params = int(snakemake.wildcards.seed), snakemake.params
prior, options = TotalVariation(**params.tv), Refinement(**params.refined)
config = {"refined": params.refined, "tv": params.tv}
inputs = {name: snakemake.input[name] for name in ("scan", "view", "tv")}
made_with = versions("tensorflow", "keras", "numpy", "scipy")
key = training_key(method="refined", made_with=made_with, **origin_of(seed, config, params.code, **inputs))
folder = Path(snakemake.output.object).parent
kept = {"backup": Backup(folder / "backup", key), "clock": clock, "folder": folder}
canvases, history = refine_tiles(counts, scan.probe, strength, prior, options, seed=seed, **kept)
cpu_s = tv["cpu_s"] + clock.seconds
save_table(snakemake.output.history, history)
made = {"strength": strength, "cpu_s": cpu_s, "provenance": record_of(snakemake, __file__)}
files = {"refined": snakemake.output.object, "whole": snakemake.output.whole, "deals": snakemake.output.deals}
for name, path in files.items():
    canvas = canvases[name]
    save_object(path, canvas.mean(), canvas.weight, canvas.origin_px, method=name, **made)
kept["backup"].remove()
