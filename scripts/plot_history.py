"""Picture of a training's or an iterative reconstruction's progress."""

from typing import TYPE_CHECKING

import pandas as pd

from ptycho import log
from ptycho.curves import learning_curve, stopping_curve, strength_curve
from ptycho.plots import save
from ptycho.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
history = pd.read_csv(snakemake.input[0])
if "learning_rate" in history:
    figure = learning_curve(history)
elif "stop_deviance" in history:
    chosen = int(history["epoch"][history["stop_deviance"].idxmin()])
    figure = stopping_curve(history, chosen)
else:
    figure = strength_curve(history, float(history["strength"].iloc[-1]))
save(figure, snakemake.output[0], record_of(snakemake, __file__))
