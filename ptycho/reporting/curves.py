"""Curves: convergence of trainings and solvers, choice of the prior's weight."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ptycho.data.tables import read_table
from ptycho.reporting.figures import new_figure
from ptycho.workflow.files import ContractError, StrPath

MAX_TILES_IN_LEGEND = 8
"""A training figure names the best epoch of every tile up to this number of tiles."""

_LOSS_COLOR, _DEVIANCE_COLOR = "#0072B2", "#D55E00"


def read_history(path: StrPath, *required: str) -> pd.DataFrame:
    """Read the progress of a training or of an iterative reconstruction.

    Parameters
    ----------
    path : path
        CSV with at least one of the columns `loss` and `validation_deviance`.
    *required : str
        Columns that it must have.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If it is no such table, or one of these columns, of a training for any tile, holds no number.
    """
    history = read_table(path, *required)
    trained = {"tile", "learning_rate"} <= set(history)  # a solver validates before it cuts tiles
    tiles = [rows for _, rows in history.groupby("tile")] if trained else [history]
    for name in ("loss", "validation_deviance"):
        if name in history and any(rows[name].isna().all() for rows in tiles):
            raise ContractError(f"{path}: no number in the column '{name}'; wanted one at least, of every tile")
    return history


def plot_training(history: pd.DataFrame) -> Figure:
    """Plot a training: loss, validation deviance and learning rate against epoch.

    Parameters
    ----------
    history : DataFrame
        Columns `epoch`, `loss`, `learning_rate`. If there is a column `validation_deviance` (Poisson deviance of the
        validation data, lower is better), its minimum is marked, that of every tile if there is a column `tile`.
    """
    validated = "validation_deviance" in history
    figure = new_figure(6.4, 6.4 if validated else 4.8)
    panels = figure.subplots(2 + validated, 1, sharex=True, height_ratios=[3, *[3] * validated, 1])
    top, bottom = panels[0], panels[-1]
    top.plot(history["epoch"], history["loss"], ".-", color=_LOSS_COLOR)
    spans_a_decade = 0 < 10 * np.nanmin(history["loss"]) < np.nanmax(history["loss"])
    top.set(ylabel="training loss", yscale="log" if spans_a_decade else "linear")
    bottom.plot(history["epoch"], history["learning_rate"], color="#000000", drawstyle="steps-pre")
    bottom.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    if validated:
        panels[1].set_ylabel("validation:\nPoisson deviance")
        tiles: list[tuple[Any, pd.DataFrame]] = [("", history)]
        if "tile" in history:
            tiles = list(history.groupby("tile", sort=False))
        for tile, rows in tiles:
            panels[1].plot(rows["epoch"], rows["validation_deviance"], ".-", color=_DEVIANCE_COLOR)
            best_epoch = float(rows["epoch"].to_numpy()[np.nanargmin(rows["validation_deviance"])])
            label = f"kept: epoch {best_epoch:.2f}" + (f" (tile {tile})" if tile else "")
            for axes in panels:
                axes.axvline(best_epoch, color="#000000", linestyle=":", label=label)
        if len(tiles) <= MAX_TILES_IN_LEGEND:
            panels[1].legend()
    _finish_convergence(panels)
    return figure


def plot_early_stopping(history: pd.DataFrame, best_epoch: int) -> Figure:
    """Plot an iterative reconstruction: validation deviance and loss against epoch.

    Parameters
    ----------
    history : DataFrame
        Columns `epoch`, `loss` (of the fitted exposures, which the solver minimizes) and `validation_deviance` (Poisson
        deviance of the validation exposures, lower is better); NaN where one was not evaluated.
    best_epoch : int
        Epoch whose object is kept.
    """
    figure = new_figure(6.4, 4.8)
    top, bottom = figure.subplots(2, 1, sharex=True)
    for axes, column, label, color in (
        (top, "validation_deviance", "validation exposures:\nPoisson deviance", _DEVIANCE_COLOR),
        (bottom, "loss", "loss", _LOSS_COLOR),
    ):
        rows = history.dropna(subset=[column])
        axes.plot(rows["epoch"], rows[column], ".-", color=color)
        axes.axvline(best_epoch, color="#000000", linestyle=":", label=f"kept: epoch {best_epoch}")
        axes.set_ylabel(label)
    top.legend()
    bottom.set_xlabel("epoch")
    _finish_convergence([top, bottom])
    return figure


def plot_tv_weight(history: pd.DataFrame, tv_weight: float) -> Figure:
    """Plot the deviance of the validation photons against the weight of the TV prior.

    Parameters
    ----------
    history : DataFrame
        Columns `tv_weight` and `validation_deviance`; NaN where it was not evaluated.
    tv_weight : float
        Weight that is used.
    """
    figure = new_figure(6.4, 3.6)
    axes = figure.subplots()
    rows = history.dropna(subset=["validation_deviance"]).sort_values("tv_weight")
    axes.semilogx(rows["tv_weight"], rows["validation_deviance"], ".-", color=_DEVIANCE_COLOR)
    axes.axvline(tv_weight, color="#000000", linestyle=":", label=f"chosen: {tv_weight:.3g}")
    axes.set(xlabel="weight of the TV prior", ylabel="validation photons:\nPoisson deviance")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure


def _finish_convergence(panels: Sequence[Axes]) -> None:
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    for axes in panels:
        axes.grid(alpha=0.3)
