"""TV-MAP: maximum a posteriori reconstruction, Poisson likelihood with a total-variation prior; known probe.

Likelihood of the counts (Thibault and Guizar-Sicairos, New J. Phys. 14, 063004, 2012) plus λ times the isotropic total
variation (Rudin, Osher and Fatemi, Physica D 60, 259, 1992) of the complex object, minimized by L-BFGS from large to
small λ. The final λ is chosen as `ptycho.reconstruction.tv_weight` says. Large scans are reconstructed tile by tile, in
one process or in several. Exposures are read block by block in every evaluation: memory is the canvas. On a GPU
everything but these reads stays on it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ptycho.data.canvas import Canvas
from ptycho.data.object_files import Reconstruction
from ptycho.data.tiles import Tile, canvas_of, cut_tiles, fullest
from ptycho.physics.forward import as_modes, illumination, window_start
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.devices import Device, choose_device
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.optimize import minimize, minimize_slow_phase
from ptycho.reconstruction.passes import Array
from ptycho.reconstruction.tv_weight import WARM_START_FACTOR, background_for, choose_tv_weight, tv_weights
from ptycho.reconstruction.tv_weight import TVOptions as TVOptions  # the method's
from ptycho.workflow.files import ContractError, StrPath
from ptycho.workflow.job import CpuClock

PHASE_ITERATIONS = 8
"""L-BFGS iterations on the slow phase before each λ below `WARM_START_FACTOR` times the final one."""

_logger = logging.getLogger(__name__)


def reconstruct(
    counts: Counts,
    probe: NDArray[np.complexfloating],
    options: TVOptions,
    *,
    seed: int,
    folder: StrPath | None = None,
) -> Reconstruction:
    """Choose λ by splitting the photons, then reconstruct from all of them, tile by tile.

    All tiles have the λ that is chosen in the tile with the most exposures.

    Parameters
    ----------
    counts : Counts
        Fit and validation exposures; no truth is read.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].
    options : TVOptions
        Bounds of λ, iterations and size of the tiles.
    seed : int
        Seed of the split of the photons.
    folder : path, optional
        Folder for a canvas in files; default: in memory.

    Returns
    -------
    Reconstruction
        `chosen` has `tv_weight`; `history` has stage, tile, tv_weight, iterations, objective, validation_deviance.

    Raises
    ------
    ValueError
        If the options name a device that cannot be used.
    """
    clock, positions, n = CpuClock(), (counts.xcoords, counts.ycoords), as_modes(probe).shape[-1]
    view = TiledView(counts, probe, cut_tiles(*positions, options.tile_px, n), options)
    rows: list[dict[str, Any]] = []
    start = view.choose_start(seed, rows)
    canvas = Canvas.around(*positions, n, folder)
    for number in range(len(view.tiles)):
        canvas.include(view.reconstruct(number, start, rows))
    return Reconstruction(
        object=canvas.mean(),
        illumination=canvas.weight,
        origin_px=canvas.origin_px,
        history=pd.DataFrame(rows),
        cpu_s=clock.seconds,
        chosen={"tv_weight": start.chosen["tv_weight"]},
    )


@dataclass(frozen=True)
class TiledView:
    """The tiles of a view; each is reconstructed by itself, all with one λ.

    Raises
    ------
    ValueError
        If the options name a device that cannot be used.
    """

    counts: Counts
    """Exposures that the tiles are made of, and any others, which are not read."""
    probe: NDArray[np.complexfloating]
    """(modes, N, N) known illumination [sqrt(photon)]."""
    tiles: Sequence[Tile]
    """At least one; their exposures are indices into `counts`."""
    options: TVOptions
    """Bounds of λ, and iterations."""

    def __post_init__(self) -> None:
        _logger.info("TV-MAP is computed on %s", self.device.name)

    @property
    def device(self) -> Device:
        """Where it is computed."""
        return choose_device(self.options.device, self.options.device_memory)

    def choose_start(self, seed: int, rows: list[dict[str, Any]]) -> Reconstruction:
        """Choose λ in the tile with the most exposures.

        Parameters
        ----------
        seed : int
            Seed of the split of its photons.
        rows : list of dict
            History, to which one row per λ is appended.

        Returns
        -------
        Reconstruction
            Fit of most photons of that tile, from which its reconstruction is continued. `chosen` has what all tiles
            share: `tv_weight`, and `transmittance`, the mean amplitude of the object.
        """
        clock = CpuClock()
        used = np.unique(np.concatenate([tile.exposures for tile in self.tiles]))
        transmittance = self.counts.select(used).mean_transmittance(self.probe)
        part = self.counts.select(self.tiles[fullest(self.tiles)].exposures)
        chosen, start = choose_tv_weight(part, self.probe, transmittance, self.options, seed=seed, rows=rows)
        obj, n = self.device.to_host(start), as_modes(self.probe).shape[-1]
        origin = int(window_start(part.ycoords, n).min()), int(window_start(part.xcoords, n).min())
        positions, scale = (part.xcoords, part.ycoords), part.detector.exposure_scale
        return Reconstruction(
            object=obj,
            illumination=illumination(self.probe, *positions, obj.shape, origin, scale),
            origin_px=origin,
            cpu_s=clock.seconds,
            chosen={"tv_weight": chosen, "transmittance": transmittance},
        )

    def reconstruct(self, number: int, start: Reconstruction, rows: list[dict[str, Any]]) -> Canvas:
        """Reconstruct a tile from all its photons.

        Parameters
        ----------
        number : int
            Index of the tile.
        start : Reconstruction
            As `choose_start` returns it.
        rows : list of dict
            History, to which one row per λ is appended.

        Returns
        -------
        Canvas
            The tile's object, weighted by its illumination and by the distance from the core; synchronize the phases
            of tiles when they are merged.

        Raises
        ------
        ptycho.workflow.files.ContractError
            If the start is of other tiles.
        """
        tile, device, chosen = self.tiles[number], self.device, start.chosen["tv_weight"]
        part = Likelihood(self.counts.select(tile.exposures), self.probe, device=device)
        incident = device.to_host(part.illumination())
        weights = [weight for weight in tv_weights(self.options, incident) if weight > chosen * 1.01] + [chosen]
        if number == fullest(self.tiles):  # the choice of λ has fitted most of its photons down to this λ
            if (start.object.shape, start.origin_px) != (part.shape, part.origin_px):
                raise ContractError(
                    f"TV-MAP's start is of {start.object.shape} px from {start.origin_px}; wanted that of tile "
                    f"{number + 1}, {part.shape} px from {part.origin_px}"
                )
            weights, obj = [w for w in weights if w < WARM_START_FACTOR * chosen], device.to_device(start.object)
        else:
            obj = device.xp.full(part.shape, start.chosen["transmittance"], np.complex64)
        obj = continuation(part, obj, weights, self.options, rows, label=f"tile {number + 1}/{len(self.tiles)}")
        return canvas_of(tile, device.to_host(obj), incident, part.origin_px)


def continuation(
    likelihood: Likelihood,
    obj: Array,
    weights: list[float],
    options: TVOptions,
    rows: list[dict[str, Any]],
    *,
    label: str,
) -> Array:
    """Reconstruct from all photons with decreasing λ.

    Parameters
    ----------
    likelihood : Likelihood
        Likelihood of all photons.
    obj : (H, W) complex64
        Start, on the likelihood's device.
    weights : list of float
        Values of λ, decreasing.
    options : TVOptions
        Iterations at every λ and at the last.
    rows : list of dict
        History, to which one row per λ is appended.
    label : str
        Name of the tile in the progress bar and in the history.

    Returns
    -------
    (H, W) complex64
        Object at the last λ.
    """
    for weight in tqdm(weights, desc=f"all photons, {label}", unit="λ"):
        iterations = options.final_iterations if weight == weights[-1] else options.iterations
        smoothed = background_for(likelihood, weight / weights[-1])
        if weight < WARM_START_FACTOR * weights[-1]:
            obj = minimize_slow_phase(smoothed, obj, PHASE_ITERATIONS)
        obj, objective, n_iterations = minimize(smoothed, obj, weight, iterations)
        numbers = {"stage": "all", "tile": label, "tv_weight": weight}
        rows.append({**numbers, "iterations": n_iterations, "objective": objective})
    return obj
