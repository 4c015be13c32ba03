"""The iterative reference: pty-chi's least-squares maximum likelihood (LSQML), called in one place.

Odstrčil, Menzel and Guizar-Sicairos, Opt. Express 26, 3108 (2018). Importing this module is free: PyTorch and pty-chi
are imported by the functions that need them.
"""

import importlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm import tqdm

from ptycho.metrics import poisson_deviance
from ptycho.physics import as_modes, illumination, predict_intensity, window_start

MARGIN_PX = 2
"""Frame around the windows: with less, pty-chi pads the object at every step."""

_operators = []


@dataclass(frozen=True, kw_only=True)
class Iterative:
    """How LSQML runs."""

    epochs: int
    """Passes over the exposures, at most."""
    patience: int
    """Passes without a better likelihood of the stop exposures before it ends."""
    batch_size: int
    """Exposures of an update."""
    compact_below: float = 0.0
    """Linear overlap below which an update takes neighbours, with half the momentum."""


@dataclass(frozen=True)
class Exposures:
    """Some exposures of a scan, in memory."""

    diffraction: np.ndarray
    """(m, N, N) float32 amplitudes, sqrt(counts)."""
    xcoords: np.ndarray
    ycoords: np.ndarray
    """(m,) float64 patch centres [px]."""

    @classmethod
    def of(cls, scan, chosen) -> "Exposures":
        """Read the chosen exposures of a scan."""
        return cls(scan.diffraction[chosen], scan.xcoords[chosen], scan.ycoords[chosen])


@dataclass(frozen=True)
class Reconstruction:
    """What came out."""

    object: np.ndarray
    """(H, W) complex64."""
    weight: np.ndarray
    """(H, W) illumination, photons per pixel."""
    origin_px: tuple[int, int]
    """Row and column of the first pixel in the object plane."""
    probe: np.ndarray
    """(modes, N, N) complex64 [sqrt(photon)]; as given unless it was refined."""
    history: pd.DataFrame
    """epoch, loss, and with stop exposures stop_deviance."""


def ensure_torchvision() -> None:
    """Declare two operators without which a CUDA build of torchvision does not import beside a CPU PyTorch."""
    import torch

    if _operators or torch.version.cuda is not None:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    _operators.append(library)  # declared for as long as it lives
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def load_library() -> None:
    """Import PyTorch and pty-chi, which takes several CPU-seconds: before the clock of a reconstruction is started."""
    ensure_torchvision()
    importlib.import_module("ptychi.api.task")


def object_box(xcoords, ycoords, n: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Origin and shape (both even-sized) of the box around all windows, with pty-chi's margin."""
    top, left = window_start(ycoords, n), window_start(xcoords, n)
    origin = int(top.min()) - MARGIN_PX, int(left.min()) - MARGIN_PX
    sizes = (int(np.ptp(start)) + n + 2 * MARGIN_PX for start in (top, left))
    return origin, tuple(size + size % 2 for size in sizes)


def ptychi_position(coordinate, origin: int, size: int):
    """Patch centres in pty-chi's coordinates: zero puts a window on the centre of the (even) object.

    Ours: pixel index N/2 of a window is at its position, so that the window starts at y - N/2; pty-chi's (2.1 and
    later) starts at y + (size - N) / 2.
    """
    return np.asarray(coordinate, np.float64) - origin - size / 2


def reconstruct(
    fit: Exposures,
    stop: Exposures | None,
    probe,
    options: Iterative,
    *,
    seed: int,
    compact: bool,
    refine_probe: bool = False,
    start=None,
):
    """Run LSQML and keep the epoch at which the stop exposures' Poisson likelihood is best.

    Parameters
    ----------
    fit : Exposures
        What is fitted.
    stop : Exposures or None
        What decides when it is enough; without, the last epoch is kept.
    probe : (modes, N, N) complex
        Illumination [sqrt(photon)]; fixed unless `refine_probe`.
    compact : bool
        Batches of neighbours with half the momentum: better where exposures hardly overlap.
    start : callable, optional
        Takes the box of `object_box`, (origin, shape), and returns the (H, W) complex64 object to start from; without,
        a flat one.

    Returns
    -------
    Reconstruction
    """
    import torch

    default = torch.get_default_device(), torch.get_default_dtype()
    probe = as_modes(probe)
    n = probe.shape[-1]
    everything = [part for part in (fit, stop) if part is not None]
    x, y = (np.concatenate([getattr(part, axis) for part in everything]) for axis in ("xcoords", "ycoords"))
    origin, shape = object_box(x, y, n)
    first = np.ones(shape, np.complex64) if start is None else start((origin, shape))
    try:
        how = {"seed": seed, "compact": compact, "refine_probe": refine_probe}
        task = _task(fit, probe, options, (origin, shape), first, **how)
        rows, best, obj = [], np.inf, None
        progress = tqdm(range(1, options.epochs + 1), desc="LSQML", unit="epoch", mininterval=2)
        for epoch in progress:
            task.run(1)
            found = task.get_data_to_cpu("object", as_numpy=True)[0].astype(np.complex64)
            row = {"epoch": epoch, "loss": float(task.reconstructor.loss_tracker.table["loss"].iloc[-1])}
            if stop is not None:
                predicted = predict_intensity(found, probe, stop.xcoords, stop.ycoords, origin)
                row["stop_deviance"] = poisson_deviance(np.square(stop.diffraction, dtype=np.float64), predicted)
            rows.append(row)
            progress.set_postfix(row)
            value = row.get("stop_deviance", -epoch)
            if not np.isfinite(value):
                raise ValueError(
                    f"epoch {epoch}: the stop exposures' deviance is {value}; NaN in the data or the probe?"
                )
            if value < best:
                best, obj, best_epoch = value, found.copy(), epoch
            elif epoch - best_epoch >= options.patience:
                break
        if refine_probe:
            probe = (task.get_data_to_cpu("probe", as_numpy=True)[0] * n).astype(np.complex64)
    finally:
        torch.set_default_device(default[0])
        torch.set_default_dtype(default[1])
    light = illumination(probe, fit.xcoords, fit.ycoords, shape, origin)
    return Reconstruction(obj, light, origin, probe, pd.DataFrame(rows))


def _task(fit: Exposures, probe, options: Iterative, box, first, *, seed: int, compact: bool, refine_probe: bool):
    """Set up pty-chi: known positions, probe fixed unless it is to be refined."""
    load_library()
    import ptychi.api as api
    import torch
    from ptychi.api.task import PtychographyTask

    torch.manual_seed(seed)
    (top, left), (height, width) = box
    setup = api.LSQMLOptions()
    solver = setup.reconstructor_options
    solver.default_device = api.Devices.CPU
    solver.num_epochs = options.epochs
    solver.batch_size = min(options.batch_size, len(fit.xcoords))
    solver.random_seed = seed
    solver.noise_model = api.NoiseModels.GAUSSIAN
    if compact:
        solver.batching_mode = api.BatchingModes.COMPACT
        solver.momentum_acceleration_gain = 0.5
    setup.object_options.optimizer = api.Optimizers.SGD
    setup.object_options.step_size = 1
    setup.probe_options.optimizable = refine_probe
    if not refine_probe:
        solver.rescale_probe_intensity_in_first_epoch = False
        solver.single_slice_solve_obj_prb_step_size_jointly = False
        setup.object_options.remove_object_probe_ambiguity.enabled = False
    return PtychographyTask(
        setup,
        diffraction_data=np.square(fit.diffraction, dtype=np.float32),
        object_data=first[None],
        probe_data=(probe / probe.shape[-1]).astype(np.complex64)[None],
        probe_position_x_px=ptychi_position(fit.xcoords, left, width).astype(np.float32),
        probe_position_y_px=ptychi_position(fit.ycoords, top, height).astype(np.float32),
    )
