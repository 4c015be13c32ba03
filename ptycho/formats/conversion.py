"""The conversion: read a scan of another program, apply what is asked, check the result, and write it, streamed."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.scan import Scan, ScanWriter, open_scan
from ptycho.formats.detector_files import FROM_FRAMES
from ptycho.formats.inputs import Inputs
from ptycho.formats.npz_files import StreamedArray
from ptycho.formats.options import ConversionOptions
from ptycho.formats.planes import place_scan
from ptycho.formats.positions import Exposures
from ptycho.formats.prepared import Prepared, check_beam, prepare
from ptycho.formats.probes import Sample, estimate_probe, scale_probe, window_offset, without_hot_pixels
from ptycho.formats.raw import RawScan
from ptycho.formats.registry import read_scan
from ptycho.formats.survey import Survey
from ptycho.formats.verdict import judge_survey
from ptycho.workflow.files import ContractError, StrPath

N_SAMPLE = 32
"""Exposures that the probe is scaled to."""
SAMPLE_BYTES = 1 << 26
"""Size of their frames at most; there are fewer if they are larger."""

_logger = logging.getLogger(__name__)


def convert(
    paths: Sequence[StrPath],
    destination: StrPath,
    options: ConversionOptions,
    record: Callable[[], dict[str, Any]] | None = None,
) -> Scan:
    """Convert the scan in some files to the data contract.

    Frames are read twice, block by block: to check them, and to write them. The file is checked before it takes the
    place of whatever was at the destination.

    Parameters
    ----------
    paths : sequence of path
        The files of one scan.
    destination : path
        NPZ to write.
    options : ConversionOptions
        What is asked.
    record : callable, optional
        Returns the provenance record, once the scan has been checked.

    Returns
    -------
    Scan
        The converted scan, opened.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the files cannot be read or leave a convention open, the scan is invalid, or the destination is an input or
        a file that is no scan, or an option does not fit the scan.
    ValueError
        If an option names a format, a variant or a file that does not exist.
    """
    check_destination(paths, Path(destination))
    with Inputs(paths, options.follow_links) as inputs:
        return convert_raw(read_scan(inputs, options), destination, options, record)


def check_destination(paths: Sequence[StrPath], destination: Path) -> None:
    """Refuse to overwrite an input, or a file that is no scan.

    Raises
    ------
    ContractError
        If the destination is one of the inputs, or exists and is no scan, or is no `.npz`.
    """
    if destination.suffix != ".npz":
        raise ContractError(f"{destination}: the last file is the one to write; wanted a name that ends in .npz")
    if not destination.exists():
        return
    if any(Path(path).exists() and destination.samefile(path) for path in paths):
        raise ContractError(f"{destination}: both input and output; wanted another name for the converted scan")
    try:
        open_scan(destination)
    except (ContractError, OSError):
        raise ContractError(
            f"{destination}: exists and is no converted scan; wanted another name, or remove it"
        ) from None


def convert_raw(
    raw: RawScan,
    destination: StrPath,
    options: ConversionOptions,
    record: Callable[[], dict[str, Any]] | None = None,
) -> Scan:
    """Convert a scan that a reader has opened; see `convert`."""
    with _naming(raw, options):
        prepared = prepare(raw, options)
        checked = _check(prepared)
        fields = _complete(prepared, checked)
        fields["metadata"] |= {} if record is None else {"provenance": record()}
        _write(prepared, checked, Path(destination), fields)
    return open_scan(destination)


@contextmanager
def _naming(raw: RawScan, options: ConversionOptions) -> Iterator[None]:
    """Add to messages the scan's name, and the files of options, of which any may be what does not fit it."""
    try:
        yield
    except ValueError as error:
        message = str(error) if isinstance(error, ContractError) else f"{raw.name}: {error}"
        files = [] if any(file.name in message for file in options.files) else [str(file) for file in options.files]
        raise ContractError(message + (f" (with {', '.join(files)})" if files else "")) from None


@dataclass(frozen=True, kw_only=True)
class _Checked:
    """What reading all frames once has shown."""

    exposures: Exposures
    """Without those that hold no data."""
    bad_pixels: NDArray[np.bool_]
    """(H, W)"""
    mean_counts: NDArray[np.floating]
    """(N, N) of the converted frames, 0 in bad pixels."""
    totals: NDArray[np.float64]
    """(m,) photons of the exposures."""
    sample: tuple[NDArray[np.int64], NDArray[Any]]
    """Numbers and frames of some exposures."""


def _check(prepared: Prepared) -> _Checked:
    raw, numbers = prepared.raw, prepared.exposures.numbers
    survey = Survey(raw.frames.shape[1:], prepared.photons, prepared.bad_pixels)
    frame_bytes = raw.frames.dtype.itemsize * raw.frames.shape[1] * raw.frames.shape[2]
    count = min(N_SAMPLE, max(SAMPLE_BYTES // frame_bytes, 1), len(numbers))
    chosen = numbers[np.unique(np.linspace(0, len(numbers) - 1, count).astype(int))]
    sample: list[tuple[int, NDArray[Any]]] = []
    for exposures, frames in prepared.read(numbers, "checking"):
        survey.add(exposures, frames)
        sample += [(int(number), frames[i].copy()) for i, number in enumerate(exposures) if number in chosen]
    found = np.stack([frame for _, frame in sample])
    if isinstance(raw.frames.source, StreamedArray):
        raw.frames.source.finish()  # the last exposures may not be asked for
    gaps, left_out = judge_survey(survey, raw, found, prepared.options, prepared.steps)
    bad = prepared.bad_pixels | gaps
    usable = [i for i, (number, _) in enumerate(sample) if number not in left_out]
    remaining = prepared.exposures.without(left_out)
    mean = prepared.transform.counts(np.where(bad, 0, survey.sum) / len(remaining.numbers))
    totals = np.array([survey.totals[number] for number in remaining.numbers.tolist()])
    _describe(mean, remaining.numbers, totals)
    return _Checked(
        exposures=remaining,
        bad_pixels=bad,
        mean_counts=mean,
        totals=totals,
        sample=(np.array([sample[i][0] for i in usable], np.int64), found[usable]),
    )


def _describe(mean_counts: NDArray[np.floating], numbers: NDArray[np.int64], totals: NDArray[np.float64]) -> None:
    """Log where the mean pattern has its center of mass, for most beams near the zero frequency, and the counts."""
    axis, total = np.arange(len(mean_counts)), mean_counts.sum()
    row, column = (float(mean_counts.sum(axis=other) @ axis / total) for other in (1, 0))
    middle = len(axis) // 2
    _logger.info("mean pattern: center of mass at row %.1f, column %.1f; [N/2, N/2] is %d", row, column, middle)
    low, high = totals.argmin(), totals.argmax()
    _logger.info(
        "photons per exposure: median %.0f, from %.0f (exposure %d) to %.0f (exposure %d)",
        *(np.median(totals), totals[low], numbers[low], totals[high], numbers[high]),
    )


def _complete(prepared: Prepared, checked: _Checked) -> dict[str, Any]:
    """Return the arrays of the converted scan but for its frames."""
    raw, options, steps, transform = prepared.raw, prepared.options, prepared.steps, prepared.transform
    lengths, n = prepared.lengths, prepared.transform.n_pixels
    probe = prepared.probe
    if probe is None:
        assert options.estimate_probe is not None
        pattern = without_hot_pixels(checked.mean_counts, steps)
        probe = estimate_probe(pattern, options.estimate_probe, lengths.pixel_m, lengths.wavelength_m)
        steps.append(f"probe: made of the mean pattern, with a defocus of {options.estimate_probe:.6g} m")
        check_beam(prepared, probe)
    bad = transform.bad_pixels(checked.bad_pixels)
    fields = _detector_fields(prepared, checked, bad)
    centers, obj = place_scan(raw, checked.exposures.positions, lengths, n, options, steps)
    numbers, frames = checked.sample
    rows = np.searchsorted(checked.exposures.numbers, numbers)
    flux = fields.get("exposure_scale", np.ones(len(centers)))[rows]
    photons = _without_background(prepared, prepared.counts(frames, checked.bad_pixels), fields.get("background"), ~bad)
    sample = Sample(centers[rows], photons / flux[:, None, None], ~bad)
    probe = scale_probe(probe, obj, sample)
    if raw.object is not None and not (obj == 1).all():
        centers = centers + window_offset(probe, obj, sample, raw.object.window_offsets_px, steps)
    dose = float(np.sum(np.abs(probe) ** 2, dtype=np.float64))
    steps.append(f"probe scaled to Σ|P|² = {dose:.6g}: it predicts the measured photons")
    return {
        "xcoords": centers[:, 0].copy(),
        "ycoords": centers[:, 1].copy(),
        "probeGuess": probe,
        "objectGuess": obj,
        **fields,
        "metadata": _metadata(prepared, dose),
    }


def _without_background(
    prepared: Prepared,
    photons: NDArray[np.floating],
    background: NDArray[np.floating] | None,
    valid: NDArray[np.bool_],
) -> NDArray[np.floating]:
    """Return the photons of frames, (m, N, N), less their background, (N, N); refuse one that leaves no photon."""
    if background is None:
        return photons
    rest = photons - background
    if photons[:, valid].any() and rest[:, valid].sum(dtype=np.float64) <= 0:
        raise ContractError(
            f"{prepared.raw.name}: the background, {prepared.options.background or 'that of the file'}, has "
            f"{background[valid].mean():.4g} photons per pixel, the frames {photons[:, valid].mean():.4g}; wanted less"
        )
    return rest


def _detector_fields(prepared: Prepared, checked: _Checked, bad_pixels: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the optional arrays: mask, background [photon], flux, and the numbers of the exposures in the file."""
    fields: dict[str, Any] = {}
    if prepared.background is not None:
        photons = prepared.background * (prepared.options.photons_per_unit or 1.0)
        background = prepared.transform.counts(np.where(checked.bad_pixels, 0, photons))
        fields["background"] = background.astype(np.float32)
    if bad_pixels.any():
        fields["bad_pixels"] = bad_pixels
    scale = _exposure_scale(prepared, checked)
    if scale is not None:
        fields["exposure_scale"] = scale
    index, numbers = prepared.raw.scan_index, checked.exposures.numbers
    if index is not None or len(numbers) < len(prepared.raw.frames):
        fields["scan_index"] = numbers if index is None else index[numbers]
    return fields


def _exposure_scale(prepared: Prepared, checked: _Checked) -> NDArray[np.float64] | None:
    """Return the flux of every exposure, of mean 1; None if nothing is known of it."""
    if prepared.options.exposure_scale == FROM_FRAMES:
        prepared.steps.append("flux of the exposures: in proportion to their photons, as asked")
        return checked.totals / checked.totals.mean()
    if prepared.flux is None:
        return None
    scale = prepared.flux[checked.exposures.numbers]
    return scale / scale.mean()


def _metadata(prepared: Prepared, dose: float) -> dict[str, Any]:
    lengths, earlier = prepared.lengths, prepared.raw.earlier
    factors = [part for part in (earlier.get("photons_per_unit"), prepared.options.photons_per_unit) if part]
    known = {
        "pixel_size_m": lengths.pixel_m,
        "wavelength_m": lengths.wavelength_m,
        "photons_per_unit": math.prod(factors) if factors else None,
    }
    return {
        "source": earlier.get("source", Path(prepared.raw.name).name),
        "measured": True,
        "dose": dose,
        **{key: value for key, value in known.items() if value is not None},
        "conversion": [*earlier.get("conversion", []), *prepared.steps],
    }


def _write(prepared: Prepared, checked: _Checked, destination: Path, fields: dict[str, Any]) -> None:
    numbers, n = checked.exposures.numbers, prepared.transform.n_pixels
    try:
        with ScanWriter(destination, len(numbers), n, check=open_scan, **fields) as writer:
            for _, frames in prepared.read(numbers, "writing"):
                counts = prepared.counts(frames, checked.bad_pixels)
                writer.write(np.sqrt(counts).astype(np.float32))
    except ContractError as error:  # it names the temporary file
        reason = str(error).partition(": ")[2]
        raise ContractError(f"{prepared.raw.name}: converted, it breaks the data contract: {reason}") from None
