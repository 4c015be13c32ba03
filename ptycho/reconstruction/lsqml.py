"""LSQML: least-squares maximum likelihood by pty-chi.

Odstrčil, Menzel and Guizar-Sicairos, Opt. Express 26, 3108 (2018). PyTorch and pty-chi are imported by the functions
that need them, not with this module.
"""

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ptycho.data.object_files import Reconstruction, Refined
from ptycho.physics.detector import Detector
from ptycho.physics.forward import as_modes, illumination, predict_intensity
from ptycho.reconstruction.exposures import Exposures, refined_positions
from ptycho.reconstruction.ptychi_adapter import (
    CORRECTION_START,
    CORRECTION_START_FREE_PROBE,
    Box,
    apply_detector,
    corrected_positions,
    ensure_torchvision,
    object_box,
    ptychi_position,
    set_correction,
    with_background,
)
from ptycho.reconstruction.ptychi_engines import LSQML, Solver, setup_of, torch_device
from ptycho.workflow.job import CpuClock

REACH_PX = 14
"""By so much may refined positions lie beyond the recorded ones of all exposures [px]."""

ANSCOMBE = 3 / 8
"""Added to counts and to their predicted means, it makes the variance of the root nearly 1/4 from about one photon on,
and the expected root nearly that of the mean (Anscombe, Biometrika 35, 246, 1948)."""

_logger = logging.getLogger(__name__)


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
    device: str = "auto"
    """Where to compute: `cpu`, `gpu`, or `auto`, see `ptycho.reconstruction.ptychi_engines.torch_device`."""


@dataclass(frozen=True, kw_only=True)
class LSQMLRun:
    """Settings of one reconstruction."""

    seed: int
    """Seed of the order of the batches."""
    compact: bool = False
    """Batches of neighbors with half the momentum: better where exposures hardly overlap."""
    refine_probe: bool = False
    """Refine the probe, too; default: it is known."""
    refine_positions: bool = False
    """Refine the positions, too; default: they are known."""
    stabilize: bool = False
    """Compare √(counts + 3/8) with √(mean + 3/8): without it, pixels with less than about one photon are predicted too
    dim, since the mean of √counts is far below the root of the mean."""
    start: Callable[[Box], NDArray[np.complex64]] | None = None
    """Takes the box of `object_box`, returns the (H, W) object to start from; default: a flat one."""
    engine: str = LSQML
    """Engine of pty-chi, see `ptycho.reconstruction.ptychi_engines`; others than LSQML refine the object alone, without
    background, flux or `stabilize`, which their updates would not see."""
    watch: Callable[[NDArray[np.complex64]], None] | None = None
    """Is given the (H, W) object of every epoch; what it raises ends the run."""

    @property
    def correction_start(self) -> int:
        """Epochs before positions are corrected."""
        return CORRECTION_START_FREE_PROBE if self.refine_probe else CORRECTION_START


def load_library() -> None:
    """Import PyTorch and pty-chi. Call it before the clock starts: the import takes several CPU-seconds."""
    ensure_torchvision()
    importlib.import_module("ptychi.api.task")


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
        Exposures to fit, at their recorded positions.
    validation : Exposures or None
        Exposures whose deviance decides when to stop; None: the last epoch is kept. If positions are refined, theirs
        are corrected as those of `fit` are, once an epoch, with its object and probe, which they do not change: two
        numbers per exposure are fitted to the counts that the deviance is of.
    probe : (modes, N, N) complex
        Illumination [sqrt(photon)]; fixed unless it is refined.
    options : LSQMLOptions
        Epochs, batches and early stopping.
    run : LSQMLRun
        Seed, batching mode, start, and whether probe and positions are refined.

    Returns
    -------
    Reconstruction
        `chosen` has `best_epoch`; `history` has epoch, loss and, with validation exposures, validation_deviance;
        `refined` has what was refined, positions of both kinds of exposures; with these the object is larger, by
        `REACH_PX` on every side. No common shift is removed: object, probe and positions belong together.

    Raises
    ------
    ValueError
        If the validation deviance is not finite, the options name a device that cannot be used, or an engine is to do
        what only LSQML can.
    """
    load_library()
    import torch

    clock, device, dtype = CpuClock(), torch.get_default_device(), torch.get_default_dtype()
    probe = as_modes(probe)
    n = probe.shape[-1]
    pixels = n**2 / fit.detector.n_valid(n)  # pty-chi's loss is a mean over all of them, and 0 in bad ones
    parts = [part for part in (fit, validation) if part is not None]
    x, y = (np.concatenate([getattr(part, axis) for part in parts]) for axis in ("xcoords", "ycoords"))
    box = object_box(x, y, n, REACH_PX if run.refine_positions else 0)
    best = _Estimate(np.ones(box[1], np.complex64), probe, parts)
    _check_engine(run, fit.detector)
    where = "the CPU" if torch_device(options.device) == "cpu" else f"the GPU {torch.cuda.get_device_name()}"
    _logger.info("%s of pty-chi is computed on %s", run.engine, where)
    first = 1 + (run.correction_start if run.refine_positions else 0)
    try:
        tasks = _tasks(parts, probe, options, box, run)
        rows: list[dict[str, Any]] = []
        lowest, best_epoch = np.inf, 0
        progress = tqdm(range(1, options.epochs + 1), desc="LSQML", unit="epoch", mininterval=2)
        for epoch in progress:
            estimate = _advance(tasks, best, box[0], run)
            if run.watch is not None:
                run.watch(estimate.object)
            loss = tasks[0].reconstructor.loss_tracker.table["loss"].iloc[-1]
            row = {"epoch": epoch, "loss": pixels * float(loss)}
            if validation is not None:
                row["validation_deviance"] = estimate.deviance(box[0])
            rows.append(row)
            progress.set_postfix(row)
            score = row.get("validation_deviance", -epoch)
            if not np.isfinite(score):
                raise ValueError(f"epoch {epoch}: the validation deviance is {score}; NaN in the data or the probe?")
            if score < lowest:
                lowest, best, best_epoch = score, estimate, epoch
            elif epoch - max(best_epoch, first) >= options.early_stopping_patience:
                break
    finally:
        torch.set_default_device(device)
        torch.set_default_dtype(dtype)
    used = best.parts[0]
    return Reconstruction(
        object=best.object,
        illumination=illumination(
            best.probe, used.xcoords, used.ycoords, box[1], box[0], scale=fit.detector.exposure_scale
        ),
        origin_px=box[0],
        history=pd.DataFrame(rows),
        refined=Refined(
            probe=best.probe if run.refine_probe else None,
            positions=refined_positions(parts, best.parts) if run.refine_positions else None,
        )
        if run.refine_probe or run.refine_positions
        else None,
        cpu_s=clock.seconds,
        chosen={"best_epoch": best_epoch},
    )


def _check_engine(run: LSQMLRun, detector: Detector) -> None:
    """Refuse what the updates of an engine would not see."""
    more = {
        "a probe or positions to refine": run.refine_probe or run.refine_positions,
        "stabilized roots": run.stabilize,
        "a detector with background or flux": detector.background is not None or detector.exposure_scale is not None,
    }
    if run.engine != LSQML and any(more.values()):
        raise ValueError(f"engine {run.engine}: {next(name for name in more if more[name])}; wanted {LSQML} for that")


@dataclass(frozen=True)
class _Estimate:
    """What an epoch ends with: (H, W) object, (modes, N, N) probe, exposures to fit and for validation."""

    object: NDArray[np.complex64]
    probe: NDArray[np.complexfloating]
    parts: list[Exposures]

    def deviance(self, origin: tuple[int, int]) -> float:
        """Poisson deviance of the validation exposures."""
        validation = self.parts[-1]
        return validation.deviance(
            predict_intensity(self.object, self.probe, validation.xcoords, validation.ycoords, origin)
        )


def _tasks(
    parts: list[Exposures], probe: NDArray[np.complexfloating], options: LSQMLOptions, box: Box, run: LSQMLRun
) -> list[Any]:
    """Set up pty-chi for exposures to fit, and, if their positions are to be found, for those for validation."""
    fit, *validation = parts if run.refine_positions else parts[:1]
    followers = [_task(part, probe, options, box, run, follows=True) for part in validation]
    return [_task(fit, probe, options, box, run), *followers]


def _advance(tasks: list[Any], before: _Estimate, origin: tuple[int, int], run: LSQMLRun) -> _Estimate:
    """Make one epoch; validation exposures follow with one step of their positions alone."""
    task, *followers = tasks
    n, probe, parts = before.probe.shape[-1], before.probe, before.parts
    task.run(1)
    for follower in followers:
        follower.copy_data_from_task(task, ("object", "probe"))
        follower.run(1)
    if run.refine_probe:
        probe = (task.get_data_to_cpu("probe", as_numpy=True)[0] * n).astype(np.complex64)
    if run.refine_positions:
        places = [corrected_positions(task, origin, n) for task in tasks]
        parts = [replace(part, xcoords=x, ycoords=y) for part, (x, y) in zip(parts, places, strict=True)]
    return _Estimate(task.get_data_to_cpu("object", as_numpy=True)[0].astype(np.complex64), probe, parts)


def _task(
    exposures: Exposures,
    probe: NDArray[np.complexfloating],
    options: LSQMLOptions,
    box: Box,
    run: LSQMLRun,
    *,
    follows: bool = False,
) -> Any:
    """Set up pty-chi: probe and positions are fixed unless they are to be refined.

    One that follows another has its positions refined alone: object and probe are those of the other.
    """
    import torch
    from ptychi.api.task import PtychographyTask

    torch.manual_seed(run.seed)
    (top, left), (height, width) = box
    start = np.ones((height, width), np.complex64) if run.start is None or follows else run.start(box)
    n = probe.shape[-1]
    solver = Solver(
        engine=run.engine,
        device=torch_device(options.device),
        epochs=options.epochs,
        batch_size=options.batch_size,
        seed=run.seed,
        step_size=n**2 / exposures.detector.n_valid(n),  # bad pixels add nothing to an update
        compact=run.compact and not follows,
        free_probe=run.refine_probe and not follows,
    )
    setup = setup_of(solver, len(exposures.xcoords))
    setup.object_options.optimizable = not follows
    if run.refine_positions:
        set_correction(setup, run.correction_start)
    counts, detector = np.square(exposures.diffraction, dtype=np.float32), exposures.detector
    if run.stabilize:
        detector = with_background(detector, ANSCOMBE, n)
        counts += ANSCOMBE if detector.valid is None else ANSCOMBE * detector.valid  # its loss sees bad pixels: 0 there
    scale = detector.exposure_scale
    task = PtychographyTask(
        setup,
        diffraction_data=counts if scale is None else counts / scale.astype(np.float32)[:, None, None],
        object_data=start[None],
        probe_data=(probe / n).astype(np.complex64)[None],
        probe_position_x_px=ptychi_position(exposures.xcoords, left, width).astype(np.float32),
        probe_position_y_px=ptychi_position(exposures.ycoords, top, height).astype(np.float32),
        valid_pixel_mask=exposures.detector.valid,
    )
    apply_detector(task, detector)
    return task
