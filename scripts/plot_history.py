"""Plot the progress of a training or of an iterative reconstruction."""

from typing import TYPE_CHECKING

from ptycho.reporting.curves import plot_early_stopping, plot_training, plot_tv_weight, read_history
from ptycho.reporting.figures import save
from ptycho.workflow import job
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
history = read_history(snakemake.input[0], "validation_deviance")
if "tv_weight" in history:
    figure = plot_tv_weight(history, float(history["tv_weight"].iloc[-1]))
else:
    history = read_history(snakemake.input[0], "validation_deviance", "epoch", "loss")
    if "learning_rate" in history:
        figure = plot_training(history)
    else:
        figure = plot_early_stopping(history, int(history["epoch"][history["validation_deviance"].idxmin()]))
save(figure, snakemake.output[0], record_of(snakemake, __file__))
