"""Scores of one condition: every method against the truth and against holdout exposures, all in the same way.

In a measured study the scan's object is not the truth but a reference reconstruction; it takes the truth's place here.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ptycho.data.contract import check_finite
from ptycho.data.npz import Npz
from ptycho.data.object_files import load_reconstruction, paste
from ptycho.data.scan import Scan
from ptycho.data.views import FIT, HOLDOUT, VALIDATION, View
from ptycho.physics.forward import blocks, illumination, predict_intensity
from ptycho.scoring.frc import TABLE_COLUMNS, frc, ssnr_of_truth
from ptycho.scoring.mean_pattern import mean_pattern_deviance
from ptycho.scoring.metrics import METRICS, PARTS, data_range, score
from ptycho.scoring.misfit import SIGNIFICANT, lit_pixels, measure_misfit, misfit_of_shot_noise
from ptycho.scoring.region import Region, check_scored
from ptycho.scoring.registration import AlignmentError, Gauge, align
from ptycho.workflow.files import ContractError, StrPath

NO_GAUGE = Gauge(**{field.name: np.nan for field in fields(Gauge)})
"""Gauge of an estimate that cannot be registered."""

MARGIN_PX = 32
"""Margin around the scored rectangle from which alignment shifts data in."""

_logger = logging.getLogger(__name__)


def heldout_blocks(
    obj: NDArray[np.complexfloating], scan: Scan, exposures: NDArray[np.integer], block_size: int = 64
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Predict the counts of some exposures on valid pixels, block by block.

    Parameters
    ----------
    obj : (H, W) complex
        Object on the pixels of the scan's object plane.
    scan : Scan
    exposures : (m,) int
        Indices of exposures.
    block_size : int
        Exposures per block.

    Yields
    ------
    counts, predicted : (b, N, N) or, with bad pixels, (b, V) float64
        Detected and predicted mean counts of the valid pixels [photon].
    """
    for block in blocks(len(exposures), block_size):
        indices = exposures[block]
        counts = np.square(scan.diffraction[indices], dtype=np.float64)
        predicted = predict_intensity(obj, scan.probe, scan.xcoords[indices], scan.ycoords[indices])
        mean, valid_values = scan.detector.expected_counts(predicted, indices), scan.detector.valid_values
        yield valid_values(counts), valid_values(mean)


def load_on_grid(path: StrPath, shape: tuple[int, ...]) -> tuple[NDArray[np.complexfloating], dict[str, Any]]:
    """Read a reconstruction and place it in the object plane.

    Parameters
    ----------
    path : path
        Object file.
    shape : (int, int)
        Rows and columns of the object plane.

    Returns
    -------
    obj : (H, W) complex64
        Outside the reconstruction: the mean modulus of its well-illuminated pixels.
    metadata : dict
        Metadata of the file.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is no object file, or its object has no pixel on the object plane.
    """
    reconstruction, metadata = load_reconstruction(path)
    obj, weight = reconstruction.object, reconstruction.illumination
    axes = zip(reconstruction.origin_px, obj.shape, shape, strict=True)
    if not all(-size < first < total for first, size, total in axes):
        raise ContractError(
            f"{path}: an object of {obj.shape} px from 'origin_px' {reconstruction.origin_px} on; wanted one on the "
            f"object plane of {tuple(shape)} px"
        )
    fill = np.mean(np.abs(obj)[weight > 0.1 * np.median(weight)])
    height, width = shape
    return paste(obj, reconstruction.origin_px, (height, width), fill=fill), metadata


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


def heldout_scores(obj: NDArray[np.complexfloating], scan: Scan, view: View) -> dict[str, float]:
    """Compare the holdout exposures of a view with what an object on the scan's object plane predicts.

    Returns
    -------
    dict
        `heldout_deviance`, per valid pixel; `heldout_misfit`, the same over its expected value for an exact prediction;
        `explained_misfit`, what shot noise explains, with `ptycho.scoring.misfit.SIGNIFICANT` standard errors. Empty
        without holdout exposures.
    """
    holdout, fitted = view.of_role(HOLDOUT), view.of_role(FIT, VALIDATION)
    if not len(holdout):
        return {}
    misfit = measure_misfit(heldout_blocks(obj, scan, holdout))
    whole = Region(0, scan.object.shape[0], 0, scan.object.shape[1])
    per_exposure = lit_pixels(illumination_on(whole, scan, view)) / max(len(fitted), 1)
    explained = misfit_of_shot_noise(per_exposure, float(misfit.expected.mean()))
    return {
        "heldout_deviance": float(misfit.deviance.sum() / (len(holdout) * misfit.n_valid)),
        "heldout_misfit": misfit.ratio,
        "explained_misfit": explained + SIGNIFICANT * misfit.standard_error,
    }


def score_method(
    obj_path: StrPath, scan: Scan, view: View, region: Region
) -> tuple[dict[str, float], NDArray[np.complex64]]:
    """Score one reconstruction.

    Parameters
    ----------
    obj_path : path
        Object file of the method.
    scan, view : Scan, View
        What was reconstructed.
    region : Region
        Scored rectangle.

    Returns
    -------
    values : dict
        The metrics of `ptycho.scoring.metrics`; those of `heldout_scores` if the view has holdout exposures; the gauge
        that `align` removed; `cpu_s`, the CPU time of the reconstruction, if the file records it.
    aligned : (h, w) complex64
        The scored rectangle.
    """
    on_grid, metadata = load_on_grid(obj_path, scan.object.shape)
    heldout = heldout_scores(on_grid, scan, view)
    wide = region.widened(MARGIN_PX, scan.object.shape)
    truth, inner = scan.object[wide.box], region.inside(wide)
    cost = {} if metadata.get("cpu_s") is None else {"cpu_s": metadata["cpu_s"]}
    aligned: NDArray[np.complexfloating]
    if np.isfinite(on_grid[wide.box]).all():
        aligned, gauge = align_if_possible(
            on_grid[wide.box], truth, illumination_on(wide, scan, view), inner, name=obj_path
        )
        values = score(aligned, truth[inner])
    else:
        _logger.warning("%s: some values are not finite; all its scores are NaN", obj_path)
        aligned, gauge, values = on_grid[wide.box][inner], NO_GAUGE, dict.fromkeys(METRICS, np.nan)
    removed = {"shift_px": gauge.shift_px, "ramp_rad_per_px": gauge.ramp_rad_per_px, **asdict(gauge)}
    return {**values, **heldout, **removed, **cost}, aligned.astype(np.complex64)


def compare(
    objects: Mapping[str, StrPath], scan: Scan, view: View, region: Region
) -> tuple[pd.DataFrame, dict[str, NDArray[np.complex64]]]:
    """Score all methods of one condition.

    Parameters
    ----------
    objects : dict of path
        Method -> object file.
    scan, view : Scan, View
        What was reconstructed.
    region : Region
        Scored rectangle.

    Returns
    -------
    metrics : DataFrame
        Columns method, metric, value: those of `score_method` and, if the view has holdout exposures,
        `mean_pattern_deviance`, the `heldout_deviance` of the mean of all others.
    arrays : dict of (h, w) complex64
        "truth" (in a measured study the reference), and method -> aligned object, all on the scored rectangle.
    """
    check_scored(scan, view, region)
    arrays = {"truth": scan.object[region.box]}
    check_finite(scan.path, "objectGuess", arrays["truth"])
    rows, known, holdout = [], view.of_role(FIT, VALIDATION), view.of_role(HOLDOUT)
    null = {"mean_pattern_deviance": mean_pattern_deviance(scan, known, holdout)} if len(holdout) else {}
    for method, path in objects.items():
        values, arrays[method] = score_method(path, scan, view, region)
        values |= null
        rows += [{"method": method, "metric": name, "value": float(value)} for name, value in values.items()]
    return pd.DataFrame(rows), arrays


def load_comparison(path: StrPath) -> tuple[dict[str, NDArray[np.complex64]], dict[str, Any]]:
    """Read the aligned rectangles that `compare` has returned, and the metadata that were saved with them.

    Returns
    -------
    arrays : dict of (h, w) complex64
        "truth", and method -> aligned object.
    metadata : dict
        Whatever is in `metadata`.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is missing or damaged, or an array is no complex image as large as the truth.
    """
    with Npz(path) as file:
        file.require("truth", "metadata")
        arrays = {key: file.array(key) for key in file.keys if key != "metadata"}
        metadata = file.metadata()
    shape = arrays["truth"].shape
    for key, array in arrays.items():
        if array.dtype.kind != "c" or array.ndim != 2 or not array.size or array.shape != shape:
            raise ContractError(f"{path}: '{key}' is {array.dtype} with shape {array.shape}; wanted complex {shape}")
    return arrays, metadata


def frc_table(arrays: Mapping[str, NDArray[np.complexfloating]]) -> pd.DataFrame:
    """Fourier ring correlation of every method with the truth, ring by ring.

    Parameters
    ----------
    arrays : dict of (h, w) complex
        "truth", and aligned objects by method, as `compare` returns them.

    Returns
    -------
    DataFrame
        Columns method, part ("amplitude" or "phase"), frequency (fraction of Nyquist), frc, ssnr; NaN where the truth
        is flat.
    """
    tables = []
    for method in (name for name in arrays if name != "truth"):
        for part, images in PARTS.items():
            image, truth = images(arrays[method], arrays["truth"])
            frequency, correlation = frc(image, truth)
            if not data_range(truth):
                correlation = np.full_like(correlation, np.nan)
            columns = {"frequency": frequency, "frc": correlation, "ssnr": ssnr_of_truth(correlation)}
            tables.append(pd.DataFrame({"method": method, "part": part, **columns})[list(TABLE_COLUMNS)])
    return pd.concat(tables, ignore_index=True)
