"""Picture of a training's or an iterative reconstruction's progress."""

from typing import TYPE_CHECKING

import pandas as pd

from ptycho import log
from ptycho.plots import learning_curve, save, stopping_curve

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
history = pd.read_csv(snakemake.input[0])
draw = stopping_curve if "stop_deviance" in history else learning_curve
save(draw(history), snakemake.output[0])
