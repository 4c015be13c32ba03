"""Objects where they are scored: in the object plane, aligned to the truth where that is possible."""

import logging
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.object_files import Reconstruction, load_reconstruction, paste
from ptycho.data.scan import Scan
from ptycho.data.views import FIT, VALIDATION, View
from ptycho.physics.forward import illumination
from ptycho.scoring.region import Region
from ptycho.scoring.registration import AlignmentError, Gauge, align
from ptycho.workflow.files import ContractError, StrPath

NO_GAUGE = Gauge(**{field.name: np.nan for field in fields(Gauge)})
"""Gauge of an estimate that cannot be registered."""

MARGIN_PX = 32
"""Margin around the scored rectangle from which alignment shifts data in."""

_logger = logging.getLogger(__name__)


def load_on_grid(path: StrPath, shape: tuple[int, ...]) -> tuple[NDArray[np.complexfloating], dict[str, Any]]:
    """Read a reconstruction and place it in the object plane, see `on_object_plane`; return its metadata, too."""
    reconstruction, metadata = load_reconstruction(path)
    return on_object_plane(path, reconstruction, shape), metadata


def on_object_plane(
    path: StrPath, reconstruction: Reconstruction, shape: tuple[int, ...], margin_px: int = 0
) -> NDArray[np.complexfloating]:
    """Place a reconstruction in the object plane.

    Parameters
    ----------
    path : path
        What an error calls it.
    reconstruction : Reconstruction
        Result of a method.
    shape : (int, int)
        Rows and columns of the object plane.
    margin_px : int
        Width of a margin around the object plane [px].

    Returns
    -------
    (H + 2 margin_px, W + 2 margin_px) complex64
        Outside the reconstruction: the mean modulus of its well-illuminated pixels.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the object has no pixel on the object plane.
    """
    obj, weight = reconstruction.object, reconstruction.illumination
    axes = zip(reconstruction.origin_px, obj.shape, shape, strict=True)
    if not all(-size < first < total for first, size, total in axes):
        raise ContractError(
            f"{path}: an object of {obj.shape} px from 'origin_px' {reconstruction.origin_px} on; wanted one on the "
            f"object plane of {tuple(shape)} px"
        )
    fill = np.mean(np.abs(obj)[weight > 0.1 * np.median(weight)])
    (height, width), (top, left) = shape, reconstruction.origin_px
    wide = height + 2 * margin_px, width + 2 * margin_px
    return paste(obj, (top + margin_px, left + margin_px), wide, fill=fill)


def illumination_on(region: Region, scan: Scan, view: View) -> NDArray[np.float64]:
    """Illumination of a region by the fit and validation exposures of a view, (h, w) float64 [photon/px]."""
    exposures = view.of_role(FIT, VALIDATION)
    positions, scale = (
        (scan.xcoords[exposures], scan.ycoords[exposures]),
        scan.detector.select(exposures).exposure_scale,
    )
    return illumination(scan.probe, *positions, region.shape, region.origin_px, scale=scale)


def align_if_possible(
    estimate: NDArray[np.complexfloating],
    truth: NDArray[np.complexfloating],
    weight: NDArray[np.floating],
    region: tuple[slice, slice],
    *,
    name: StrPath,
) -> tuple[NDArray[np.complexfloating], Gauge]:
    """Align an estimate; if it cannot be registered, log a warning and fit scale, phase and ramp in place.

    Parameters
    ----------
    estimate, truth, weight, region
        As for `ptycho.scoring.registration.align`.
    name : str or path
        What the log calls the estimate.

    Returns
    -------
    aligned : (h, w) complex
    gauge : Gauge
        Its shift is NaN if the estimate was not registered; `NO_GAUGE` if nothing could be fitted.
    """
    try:
        return align(estimate, truth, weight, region)
    except AlignmentError as error:
        _logger.warning("%s: not registered, scored where it is: %s", name, error)
    try:
        aligned, gauge = align(estimate, truth, weight, region, max_shift_px=0)
        return aligned, replace(gauge, shift_y_px=np.nan, shift_x_px=np.nan)
    except AlignmentError:  # there is nothing to fit a scale to
        return estimate[region], NO_GAUGE
