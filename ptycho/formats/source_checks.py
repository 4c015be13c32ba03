"""What can be known of a simulated study before any job: its beam, the size of its object, what its detector leaves.

It stands here, in no digest of code, so that a change of the checks simulates nothing anew.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.images import crop_object, make_probe
from ptycho.physics.detector import DetectorOptions, simulate_detector
from ptycho.physics.probes import diameter_px, illuminated_height_px
from ptycho.physics.simulate import RasterOptions, raster_shape
from ptycho.workflow.config import INVALID, listed
from ptycho.workflow.config_files import ConfigError
from ptycho.workflow.limits import VARIABLE, max_bytes

PIXEL_BYTES = 80
"""Memory of a pixel while an object is drawn, at most."""
EXPOSURE_BYTES = 56
"""Memory of an exposure while positions are laid out."""
MIN_BEAM_PX = 1.0
"""Smallest diameter of a beam that pixels sample."""
READ_BYTES = 1 << 26
"""Files of objects up to this size are read before any job; larger ones are refused by the job."""


def check_source(source: Mapping[str, Any], objects: Mapping[str, Any] | None = None) -> None:
    """Refuse a simulated source that no job could make; files that are not there are left to the workflow.

    Parameters
    ----------
    source : mapping
        `source` of a valid config.
    objects : mapping, optional
        `objects` of the config, in place of the source's own.

    Raises
    ------
    ConfigError
        If beam, scan, detector or a file of an object do not fit; it lists what was found and what is wanted.
    """
    if problems := list(_problems(source, objects or {})):
        raise ConfigError(listed(INVALID, problems))


def _problems(source: Mapping[str, Any], objects: Mapping[str, Any]) -> Iterator[str]:
    if not Path(source["probe"].get("path", "/")).exists():
        return
    try:
        probe = _beam(source["probe"])
    except (ValueError, ArithmeticError) as error:
        yield f"source.probe: {error}"
        return
    raster, n = RasterOptions(**source["raster"]), probe.shape[-1]
    shape = raster_shape(raster, n, illuminated_height_px(probe))
    rows = raster.train_rows + raster.test_rows
    size, most = PIXEL_BYTES * shape[0] * shape[1] + EXPOSURE_BYTES * raster.columns * rows, max_bytes()
    if size > most:
        yield (
            f"source.raster: {raster.columns:,} × {rows:,} exposures on an object of {shape[0]:,} × {shape[1]:,} px "
            f"would take {size / 1e9:.3g} GB of memory; wanted at most {most / 1e9:.3g} GB ({VARIABLE} allows more)"
        )
        return
    rng = np.random.default_rng(source["seed"])
    try:
        simulate_detector(DetectorOptions(**source.get("detector", {})), n, raster.columns * rows, rng)
    except (ValueError, ArithmeticError) as error:
        yield f"source.detector: {error}"
    named = {f"objects.{name}": part for name, part in objects.items()} or {"source.object": source["object"]}
    for key, part in named.items():
        yield from _problems_of_file(key, part, shape)


def _beam(options: Mapping[str, Any]) -> NDArray[np.complex64]:
    """Return the probe, (N, N) or (modes, N, N); refuse one that pixels do not sample."""
    with np.errstate(all="ignore"):
        probe = make_probe(**options)
    n = probe.shape[-1]
    if not np.isfinite(probe).all():
        raise ValueError(f"{dict(options)} give values that are not finite; wanted a beam")
    if n % 2:
        raise ValueError(f"{options['path']}: patterns of {n} px; wanted an even number")
    if diameter_px(probe) < MIN_BEAM_PX:
        raise ValueError(f"90 % of the photons in {diameter_px(probe):.2g} px; wanted {MIN_BEAM_PX:g} px at least")
    return probe


def _problems_of_file(key: str, options: Mapping[str, Any], shape: tuple[int, int]) -> Iterator[str]:
    """Say what is wrong with the files of an object, if there are any and they are not too large."""
    files = [Path(options[name]) for name in ("path", "phase_path") if name in options]
    if files and all(file.is_file() for file in files) and sum(file.stat().st_size for file in files) <= READ_BYTES:
        try:
            crop_object(shape, options["path"], options.get("phase_path"))
        except ValueError as error:
            yield f"{key}: {error}"
