"""Between this package and pty-chi: its import, its coordinates, and what its detector does not do.

PyTorch is imported by the functions that need it, not with this module.
"""

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.physics.detector import Detector
from ptycho.physics.forward import window_start

MARGIN_PX = 2
"""Margin around the windows [px]: with less, pty-chi pads the object at every step."""
CORRECTION_START = 2
"""Epochs before positions are corrected: a flat object says nothing about them."""
CORRECTION_START_FREE_PROBE = 20
"""The same where the probe is refined, too: while it is wrong, positions would be stretched to fit it."""
CORRECTION_STEP = 4.0
"""Step of the correction, in units of pty-chi's update."""
CORRECTION_MOMENTUM = 0.5
"""Gain of its momentum, which pty-chi uses where all updates of a batch are below 0.1 px."""
CORRECTION_LIMIT_PX = 1.0
"""Largest correction in an epoch without momentum, along each axis [px]."""

Box: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""Origin, row and column in the object plane, and shape of the object [px]."""

_operators: list[Any] = []


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


def object_box(xcoords: NDArray[np.float64], ycoords: NDArray[np.float64], n: int, reach: int = 0) -> Box:
    """Origin, and shape with even sides, of the box around all windows, with pty-chi's margin.

    Parameters
    ----------
    xcoords, ycoords : (M,) float64
        Patch centers [px].
    n : int
        Side of the windows [px].
    reach : int
        By so much may windows move, beyond those of all exposures [px].
    """
    top, left = window_start(ycoords, n), window_start(xcoords, n)
    margin = MARGIN_PX + reach
    origin = int(top.min()) - margin, int(left.min()) - margin
    height, width = (int(np.ptp(start)) + n + 2 * margin for start in (top, left))
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


def set_correction(setup: Any, start: int) -> None:
    """Let the options of a pty-chi task correct its positions, after so many epochs.

    pty-chi projects the update of every exit wave on the wave's derivative with respect to the position, and moves by
    half of the shift that explains it best, or less, times the step. docs/methods/lsqml.md says how the values were
    chosen.
    """
    import ptychi.api as api

    positions = setup.probe_position_options
    positions.optimizable = True
    positions.optimizer = api.Optimizers.SGD
    positions.step_size = CORRECTION_STEP
    positions.optimization_plan.start = start
    positions.momentum_acceleration_gain = CORRECTION_MOMENTUM
    how = positions.correction_options
    how.correction_type = api.PositionCorrectionTypes.GRADIENT
    how.differentiation_method = api.ImageGradientMethods.FOURIER_DIFFERENTIATION
    how.update_magnitude_limit = CORRECTION_LIMIT_PX / CORRECTION_STEP  # with momentum, it is that of an update


def corrected_positions(task: Any, origin: tuple[int, int], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the positions of a pty-chi task, after moving those back whose windows have left the object.

    Parameters
    ----------
    task : PtychographyTask
        Its positions are changed where necessary.
    origin : (int, int)
        Row and column of the first pixel of its object [px].
    n : int
        Side of the windows [px].

    Returns
    -------
    xcoords, ycoords : (M,) float64
        Patch centers, the inverse of `ptychi_position` [px].
    """
    import torch

    shape = task.object.data.shape[-2:]
    farthest = torch.tensor([(size - n) / 2 - 1 for size in shape])  # beyond it pty-chi pads
    with torch.no_grad():
        centers = task.probe_positions.data
        inside = centers.clamp(-farthest, farthest)
        if not torch.equal(inside, centers):
            task.probe_positions.set_data(inside)
    y, x = inside.cpu().numpy().astype(np.float64).T
    return x - ptychi_position(0, origin[1], shape[1]), y - ptychi_position(0, origin[0], shape[0])


def with_background(detector: Detector, counts: float, n: int) -> Detector:
    """Return a detector that adds the same mean counts to all of its (n, n) pixels."""
    known = 0.0 if detector.background is None else detector.background
    return replace(detector, background=np.full((n, n), counts, np.float32) + known)


def apply_detector(task: Any, detector: Detector) -> None:
    """Let pty-chi compare its counts, divided by the flux, with what the detector makes of the predicted intensity.

    pty-chi (2.2) has a mask of valid pixels; its updates respect it, its loss and its rescaling of the probe do not. It
    has no background, and a flux for the first incoherent mode alone. The amplitudes of a wave are replaced alike for
    counts and scale · I + background, and for counts / scale and I + background / scale.
    """
    import torch

    planes, scale = detector.planes(), detector.exposure_scale
    if planes is None:
        return
    device = torch.get_default_device()  # the task's
    valid, background = torch.from_numpy(np.fft.ifftshift(planes, axes=(-2, -1))).to(device)
    flux = None if scale is None else torch.from_numpy(scale.astype(np.float32)).to(device)[:, None, None]

    def detect(_module: Any, inputs: tuple[Any, ...], intensity: Any) -> Any:
        exposures = inputs[0]
        return valid * (intensity + (background if flux is None else background / flux[exposures]))

    task.reconstructor.forward_model.register_forward_hook(detect)
