"""LSQML: least-squares maximum likelihood by pty-chi.

Odstrčil, Menzel and Guizar-Sicairos, Opt. Express 26, 3108 (2018). PyTorch and pty-chi are imported by the functions
that need them, not with this module.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from ptycho.data.object_files import Reconstruction, Refined
from ptycho.data.scan import Scan
from ptycho.physics.detector import PERFECT, Detector
from ptycho.physics.forward import as_modes, illumination, predict_intensity, window_start
from ptycho.physics.noise import poisson_deviance
from ptycho.workflow.job import CpuClock

MARGIN_PX = 2
"""Margin around the windows [px]: with less, pty-chi pads the object at every step."""

ANSCOMBE = 3 / 8
"""Added to counts and to their predicted means, it makes the variance of the root nearly 1/4 from about one photon on,
and the expected root nearly that of the mean (Anscombe, Biometrika 35, 246, 1948)."""

Box: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""Origin, row and column in the object plane, and shape of the object [px]."""

_operators: list[Any] = []


@dataclass(frozen=True, kw_only=True)
class LSQMLOptions:
    """Parameters of LSQML."""

    epochs: int
    """Largest number of passes over the exposures."""
    early_stopping_patience: int
    """Passes without a lower validation deviance after which LSQML stops."""
    batch_size: int
    """Exposures per update."""
    compact_batching_below_overlap: float
    """Linear overlap below which batches are of neighbors, with half the momentum."""


@dataclass(frozen=True)
class Exposures:
    """Exposures of a scan, in memory."""

    diffraction: NDArray[np.float32]
    """(m, N, N) amplitudes, sqrt(counts)."""
    xcoords: NDArray[np.float64]
    """(m,) columns of the patch centers [px]."""
    ycoords: NDArray[np.float64]
    """(m,) rows of the patch centers [px]."""
    detector: Detector = PERFECT
    """What the detector does to the photons, and the flux of the m exposures."""

    @classmethod
    def of(cls, scan: Scan, chosen: NDArray[np.int64]) -> "Exposures":
        """Read some exposures of a scan, (m,) int64."""
        detector = scan.detector.select(chosen)
        return cls(scan.diffraction[chosen], scan.xcoords[chosen], scan.ycoords[chosen], detector)

    def deviance(self, intensity: NDArray[np.floating]) -> float:
        """Poisson deviance per valid pixel of what the forward model predicts, (m, N, N) [photon]."""
        counts, mean = np.square(self.diffraction, dtype=np.float64), self.detector.expected_counts(intensity)
        return poisson_deviance(self.detector.valid_values(counts), self.detector.valid_values(mean))


@dataclass(frozen=True, kw_only=True)
class LSQMLRun:
    """Settings of one reconstruction."""

    seed: int
    """Seed of the order of the batches."""
    compact: bool = False
    """Batches of neighbors with half the momentum: better where exposures hardly overlap."""
    refine_probe: bool = False
    """Refine the probe, too; default: it is known."""
    stabilize: bool = False
    """Compare √(counts + 3/8) with √(mean + 3/8): without it, pixels with less than about one photon are predicted too
    dim, since the mean of √counts is far below the root of the mean."""
    start: Callable[[Box], NDArray[np.complex64]] | None = None
    """Takes the box of `object_box`, returns the (H, W) object to start from; default: a flat one."""


def ensure_torchvision() -> None:
    """Declare two operators that a CUDA build of torchvision needs in order to be imported with a CPU PyTorch."""
    import torch

    if _operators or torch.version.cuda is not None:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    _operators.append(library)  # declared for as long as it lives
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def load_library() -> None:
    """Import PyTorch and pty-chi. Call it before the clock starts: the import takes several CPU-seconds."""
    ensure_torchvision()
    importlib.import_module("ptychi.api.task")


def object_box(xcoords: NDArray[np.float64], ycoords: NDArray[np.float64], n: int) -> Box:
    """Origin, and shape with even sides, of the box around all windows, with pty-chi's margin.

    Parameters
    ----------
    xcoords, ycoords : (M,) float64
        Patch centers [px].
    n : int
        Side of the windows [px].
    """
    top, left = window_start(ycoords, n), window_start(xcoords, n)
    origin = int(top.min()) - MARGIN_PX, int(left.min()) - MARGIN_PX
    height, width = (int(np.ptp(start)) + n + 2 * MARGIN_PX for start in (top, left))
    return origin, (height + height % 2, width + width % 2)


def ptychi_position(coordinate: ArrayLike, origin: int, size: int) -> NDArray[np.float64]:
    """Convert patch centers to pty-chi's coordinates, in which a window at zero is centered on the (even) object.

    Here pixel index N/2 of a window is at its position y, so that the window starts at y - N/2; in pty-chi (2.1 and
    later) it starts at y + (size - N) / 2.

    Parameters
    ----------
    coordinate : (M,) float
        Patch centers along one axis [px].
    origin, size : int
        First pixel and length of the object along that axis [px].
    """
    return np.asarray(coordinate, np.float64) - origin - size / 2


def reconstruct(
    fit: Exposures,
    validation: Exposures | None,
    probe: NDArray[np.complexfloating],
    options: LSQMLOptions,
    run: LSQMLRun,
) -> Reconstruction:
    """Run LSQML and keep the epoch with the lowest validation deviance.

    Parameters
    ----------
    fit : Exposures
        Exposures to fit.
    validation : Exposures or None
        Exposures whose deviance decides when to stop; None: the last epoch is kept.
    probe : (modes, N, N) complex
        Illumination [sqrt(photon)]; fixed unless it is refined.
    options : LSQMLOptions
        Epochs, batches and early stopping.
    run : LSQMLRun
        Seed, batching mode, start, and whether the probe is refined.

    Returns
    -------
    Reconstruction
        `chosen` has `best_epoch`; `history` has epoch, loss and, with validation exposures, validation_deviance.

    Raises
    ------
    ValueError
        If the validation deviance is not finite.
    """
    load_library()
    import torch

    clock, device, dtype = CpuClock(), torch.get_default_device(), torch.get_default_dtype()
    best_probe = probe = as_modes(probe)
    n = probe.shape[-1]
    pixels = n**2 / fit.detector.n_valid(n)  # pty-chi's loss is a mean over all of them, and 0 in bad ones
    everything = [part for part in (fit, validation) if part is not None]
    x, y = (np.concatenate([getattr(part, axis) for part in everything]) for axis in ("xcoords", "ycoords"))
    origin, shape = object_box(x, y, n)
    try:
        task = _task(fit, probe, options, (origin, shape), run)
        rows: list[dict[str, Any]] = []
        best, best_epoch, obj = np.inf, 0, np.ones(shape, np.complex64)
        progress = tqdm(range(1, options.epochs + 1), desc="LSQML", unit="epoch", mininterval=2)
        for epoch in progress:
            task.run(1)
            estimate = task.get_data_to_cpu("object", as_numpy=True)[0].astype(np.complex64)
            row = {"epoch": epoch, "loss": pixels * float(task.reconstructor.loss_tracker.table["loss"].iloc[-1])}
            if run.refine_probe:
                probe = (task.get_data_to_cpu("probe", as_numpy=True)[0] * n).astype(np.complex64)
            if validation is not None:
                predicted = predict_intensity(estimate, probe, validation.xcoords, validation.ycoords, origin)
                row["validation_deviance"] = validation.deviance(predicted)
            rows.append(row)
            progress.set_postfix(row)
            score = row.get("validation_deviance", -epoch)
            if not np.isfinite(score):
                raise ValueError(f"epoch {epoch}: the validation deviance is {score}; NaN in the data or the probe?")
            if score < best:
                best, obj, best_probe, best_epoch = score, estimate.copy(), probe, epoch
            elif epoch - best_epoch >= options.early_stopping_patience:
                break
    finally:
        torch.set_default_device(device)
        torch.set_default_dtype(dtype)
    return Reconstruction(
        object=obj,
        illumination=illumination(
            best_probe, fit.xcoords, fit.ycoords, shape, origin, scale=fit.detector.exposure_scale
        ),
        origin_px=origin,
        history=pd.DataFrame(rows),
        refined=Refined(probe=best_probe) if run.refine_probe else None,
        cpu_s=clock.seconds,
        chosen={"best_epoch": best_epoch},
    )


def _task(fit: Exposures, probe: NDArray[np.complexfloating], options: LSQMLOptions, box: Box, run: LSQMLRun) -> Any:
    """Set up pty-chi: known positions, probe fixed unless it is to be refined."""
    import ptychi.api as api
    import torch
    from ptychi.api.task import PtychographyTask

    torch.manual_seed(run.seed)
    (top, left), (height, width) = box
    start = np.ones((height, width), np.complex64) if run.start is None else run.start(box)
    setup = api.LSQMLOptions()
    solver = setup.reconstructor_options
    solver.default_device = api.Devices.CPU
    solver.num_epochs = options.epochs
    solver.batch_size = min(options.batch_size, len(fit.xcoords))
    solver.random_seed = run.seed
    solver.noise_model = api.NoiseModels.GAUSSIAN
    if run.compact:
        solver.batching_mode = api.BatchingModes.COMPACT
        solver.momentum_acceleration_gain = 0.5
    setup.object_options.optimizer = api.Optimizers.SGD
    n = probe.shape[-1]
    setup.object_options.step_size = n**2 / fit.detector.n_valid(n)  # bad pixels add nothing to an update
    setup.probe_options.optimizable = run.refine_probe
    if not run.refine_probe:
        solver.rescale_probe_intensity_in_first_epoch = False
        solver.single_slice_solve_obj_prb_step_size_jointly = False
        setup.object_options.remove_object_probe_ambiguity.enabled = False
    counts, detector = np.square(fit.diffraction, dtype=np.float32), fit.detector
    if run.stabilize:
        detector = _with_background(detector, ANSCOMBE, n)
        counts += ANSCOMBE if detector.valid is None else ANSCOMBE * detector.valid  # its loss sees bad pixels: 0 there
    scale = detector.exposure_scale
    task = PtychographyTask(
        setup,
        diffraction_data=counts if scale is None else counts / scale.astype(np.float32)[:, None, None],
        object_data=start[None],
        probe_data=(probe / n).astype(np.complex64)[None],
        probe_position_x_px=ptychi_position(fit.xcoords, left, width).astype(np.float32),
        probe_position_y_px=ptychi_position(fit.ycoords, top, height).astype(np.float32),
        valid_pixel_mask=fit.detector.valid,
    )
    _detect(task, detector)
    return task


def _with_background(detector: Detector, counts: float, n: int) -> Detector:
    """Return a detector that adds the same mean counts to all of its (n, n) pixels."""
    known = 0.0 if detector.background is None else detector.background
    return replace(detector, background=np.full((n, n), counts, np.float32) + known)


def _detect(task: Any, detector: Detector) -> None:
    """Let pty-chi compare its counts, divided by the flux, with what the detector makes of the predicted intensity.

    pty-chi (2.2) has a mask of valid pixels; its updates respect it, its loss and its rescaling of the probe do not. It
    has no background, and a flux for the first incoherent mode alone. The amplitudes of a wave are replaced alike for
    counts and scale · I + background, and for counts / scale and I + background / scale.
    """
    import torch

    planes, scale = detector.planes(), detector.exposure_scale
    if planes is None:
        return
    valid, background = torch.from_numpy(np.fft.ifftshift(planes, axes=(-2, -1)))
    flux = None if scale is None else torch.from_numpy(scale.astype(np.float32))[:, None, None]

    def detect(_module: Any, inputs: tuple[Any, ...], intensity: Any) -> Any:
        exposures = inputs[0]
        return valid * (intensity + (background if flux is None else background / flux[exposures]))

    task.reconstructor.forward_model.register_forward_hook(detect)
