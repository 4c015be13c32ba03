"""What is known of a scan before its frames are read: every refusal that needs no frames comes here, and so first."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ptycho.formats.detector_files import read_background, read_flux, read_mask
from ptycho.formats.frames import FrameTransform, Photons, make_transform
from ptycho.formats.geometry import Lengths, object_lengths
from ptycho.formats.options import ConversionOptions
from ptycho.formats.positions import Exposures, check_step, orient_positions, select_exposures, to_pixels
from ptycho.formats.probes import check_probe, read_probe_file, resample_probe
from ptycho.formats.quantity import resolve_quantity
from ptycho.formats.raw import RawScan
from ptycho.physics.probes import diameter_px
from ptycho.workflow.files import ContractError

N_FIRST = 16
"""Frames whose values may show what they hold."""

_logger = logging.getLogger(__name__)


class Steps(list[str]):
    """What a conversion has done, in words; every step is logged."""

    def append(self, step: str) -> None:
        """Add a step."""
        _logger.info("%s", step)
        super().append(step)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A scan whose frames have not been read yet, and all that is known without them."""

    raw: RawScan
    options: ConversionOptions
    steps: Steps
    transform: FrameTransform
    lengths: Lengths
    photons: Photons
    exposures: Exposures
    """Their positions are in pixels of the converted object."""
    bad_pixels: NDArray[np.bool_]
    """(H, W) by the masks of file and options."""
    background: NDArray[np.float64] | None
    """(H, W) [units of the file]."""
    flux: NDArray[np.float64] | None
    """(M,) of every exposure of the file, in any unit; None if nothing is known of it before the frames are read."""
    probe: NDArray[np.complexfloating] | None
    """(modes, N, N) in any unit; None: it is made of the mean pattern."""

    def read(self, numbers: NDArray[np.int64], doing: str) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Yield numbers and frames, (b, H, W), of some exposures, block by block."""
        frames = self.raw.frames
        with tqdm(total=len(numbers), desc=doing, unit="frame", delay=2, mininterval=0.5, disable=None) as progress:
            for start in range(0, len(frames), frames.block_size):
                within = numbers[np.searchsorted(numbers, start) : np.searchsorted(numbers, start + frames.block_size)]
                if within.size:
                    yield within, frames.read(int(within[0]), int(within[-1]) + 1)[within - within[0]]
                    progress.update(len(within))

    def counts(self, frames: NDArray[Any], bad_pixels: NDArray[np.bool_]) -> NDArray[np.floating]:
        """Return (b, N, N) whole photons of (b, H, W) frames; `bad_pixels`, (H, W), read 0."""
        photons = self.photons.of(frames)
        photons[:, bad_pixels] = 0
        return self.transform.counts(photons)


def prepare(raw: RawScan, options: ConversionOptions) -> Prepared:
    """Apply options to what is known without the frames.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the scan is invalid.
    ValueError
        If an option does not fit it.
    """
    steps = Steps()
    for convention in raw.conventions:
        steps.append(convention)
    transform = make_transform(raw.frames.shape[1:], raw.corner, options)
    exposures = select_exposures(raw, options, steps)
    first = raw.frames.read(0, min(raw.frames.block_size, len(raw.frames), N_FIRST))
    quantity = resolve_quantity(raw, options, first, steps)
    for step in transform.describe():
        steps.append(step)
    lengths = object_lengths(raw.geometry, transform, options, steps)
    oriented = orient_positions(exposures.positions, options, steps)
    unit = options.position_unit or raw.unit or "px"
    centers = to_pixels(oriented, unit, lengths.pixel_m, lengths.scale, steps)
    background = read_background(raw, options, steps)
    added = 0.0 if background is None or not options.background_subtracted else background
    prepared = Prepared(
        raw=raw,
        options=options,
        steps=steps,
        transform=transform,
        lengths=lengths,
        photons=Photons(quantity=quantity, per_unit=options.photons_per_unit, added=added),
        exposures=Exposures(exposures.numbers, centers),
        bad_pixels=read_mask(raw, options, steps),
        background=background,
        flux=read_flux(raw, exposures.numbers, options, steps),
        probe=_read_probe(raw, transform, options, steps),
    )
    if prepared.probe is not None:
        check_beam(prepared, prepared.probe)
    return prepared


def _read_probe(
    raw: RawScan, transform: FrameTransform, options: ConversionOptions, steps: Steps
) -> NDArray[np.complexfloating] | None:
    """Return the probe for the converted frames; None if it is to be made of the mean pattern."""
    if options.probe is not None:
        modes = read_probe_file(options.probe, options.follow_links)
        steps.append(f"probe: that of {options.probe.name}")
    elif options.estimate_probe is not None:
        return None
    elif raw.probe is None:
        raise ContractError(
            f"{raw.name}: no probe; --probe FILE gives one, --estimate-probe DEFOCUS makes one of the mean pattern"
        )
    else:
        modes = check_probe(raw.name, raw.probe_key, raw.probe)
        steps.append(f"probe: '{raw.probe_key}', {len(modes)} mode{'s' if len(modes) > 1 else ''}")
    return resample_probe(modes, transform, steps)


def check_beam(prepared: Prepared, probe: NDArray[np.complexfloating]) -> None:
    """Refuse a step of the scan that is implausible for the beam, or warn if its unit was asked for."""
    unit = prepared.options.position_unit
    known = unit or prepared.raw.unit or "px"
    centers = prepared.exposures.positions
    pixel = prepared.lengths.pixel_m
    warning = check_step(prepared.raw.name, centers, diameter_px(probe), known, pixel, asked=unit is not None)
    if warning is not None:
        _logger.warning("%s", warning)
