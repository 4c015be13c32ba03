"""Scores of one condition: every method against the truth and against holdout exposures, all in the same way.

In a measured study the scan's object is not the truth but a reference reconstruction; it takes the truth's place here.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ptycho.data.contract import check_finite
from ptycho.data.knowledge import MAX_SHIFT_PX
from ptycho.data.npz import Npz
from ptycho.data.object_files import Reconstruction, load_reconstruction
from ptycho.data.scan import Scan
from ptycho.data.views import FIT, HOLDOUT, VALIDATION, View
from ptycho.physics.forward import blocks, predict_intensity
from ptycho.scoring.frc import TABLE_COLUMNS, frc, ssnr_of_truth
from ptycho.scoring.knowledge import knowledge_errors, known_by, without_affine_map
from ptycho.scoring.mean_pattern import mean_pattern_deviance
from ptycho.scoring.metrics import METRICS, PARTS, data_range, score
from ptycho.scoring.misfit import SIGNIFICANT, lit_pixels, measure_misfit, misfit_of_shot_noise
from ptycho.scoring.placement import MARGIN_PX, NO_GAUGE, align_if_possible, illumination_on, on_object_plane
from ptycho.scoring.region import Region, check_scored
from ptycho.scoring.registration import Gauge
from ptycho.workflow.files import ContractError, StrPath

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


def _aligned_scores(
    on_grid: NDArray[np.complexfloating], scan: Scan, view: View, region: Region, *, name: StrPath
) -> tuple[dict[str, float], NDArray[np.complexfloating], Gauge]:
    """Return the metrics of an object on the object plane, its scored rectangle aligned, and the gauge removed."""
    wide = region.widened(MARGIN_PX, scan.object.shape)
    truth, inner = scan.object[wide.box], region.inside(wide)
    if not np.isfinite(on_grid[wide.box]).all():
        _logger.warning("%s: some values are not finite; all its scores are NaN", name)
        return dict.fromkeys(METRICS, np.nan), on_grid[wide.box][inner], NO_GAUGE
    aligned, gauge = align_if_possible(on_grid[wide.box], truth, illumination_on(wide, scan, view), inner, name=name)
    return score(aligned, truth[inner]), aligned, gauge


def _with_known(path: StrPath, reconstruction: Reconstruction, known: Scan, view: View) -> dict[str, float]:
    """Return `heldout_scores` with what was taken for known; its windows may leave the object plane."""
    obj = on_object_plane(path, reconstruction, known.object.shape, margin := int(MAX_SHIFT_PX))
    plane = np.broadcast_to(np.complex64(1), obj.shape)  # for its shape alone
    moved = replace(known, xcoords=known.xcoords + margin, ycoords=known.ycoords + margin, object=plane)
    return heldout_scores(obj, moved, view)


def score_method(
    obj_path: StrPath, scan: Scan, view: View, region: Region, known: Scan | None = None
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
    known : Scan, optional
        The scan with what the method took for known, where that is not the scan's own; what is in the object file goes
        before it.

    Returns
    -------
    values : dict
        The metrics of `ptycho.scoring.metrics`; those of `heldout_scores` if the view has holdout exposures; the gauge
        that `align` removed; `cpu_s`, the CPU time of the reconstruction, if the file records it. Where something was
        refined, also `ptycho.scoring.knowledge.knowledge_errors`, and `error_affine`, the error of the object without
        the affine map of its positions.
    aligned : (h, w) complex64
        The scored rectangle.
    """
    reconstruction, metadata = load_reconstruction(obj_path)
    known = known_by(reconstruction, known or scan) or known
    on_grid = on_object_plane(obj_path, reconstruction, scan.object.shape)
    values, aligned, gauge = _aligned_scores(on_grid, scan, view, region, name=obj_path)
    if known is None:
        heldout = heldout_scores(on_grid, scan, view)
    else:
        heldout = _with_known(obj_path, reconstruction, known, view)
        exposures = view.of_role(FIT, VALIDATION)
        unbent = without_affine_map(reconstruction, known, scan, exposures)
        plane = on_object_plane(obj_path, unbent, scan.object.shape)
        heldout |= knowledge_errors(known, scan, exposures)
        heldout["error_affine"] = _aligned_scores(plane, scan, view, region, name=obj_path)[0]["error"]
    cost = {} if metadata.get("cpu_s") is None else {"cpu_s": metadata["cpu_s"]}
    removed = {"shift_px": gauge.shift_px, "ramp_rad_per_px": gauge.ramp_rad_per_px, **asdict(gauge)}
    return {**values, **heldout, **removed, **cost}, aligned.astype(np.complex64)


def compare(
    objects: Mapping[str, StrPath],
    scan: Scan,
    view: View,
    region: Region,
    known: Mapping[str, Scan] | None = None,
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
    known : dict of Scan, optional
        Method -> the scan with what it took for known, as for `score_method`; others took what the scan says.

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
    rows, fitted, holdout = [], view.of_role(FIT, VALIDATION), view.of_role(HOLDOUT)
    null = {"mean_pattern_deviance": mean_pattern_deviance(scan, fitted, holdout)} if len(holdout) else {}
    for method, path in objects.items():
        values, arrays[method] = score_method(path, scan, view, region, (known or {}).get(method))
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
