"""Show amplitude and phase of an object in a window or, without a display, save them as PNG.

FILE is an object.npz, a scan or sample (its object and its probe), or a comparison.npz (truth or reference, and all
methods).
Hatched pixels were not illuminated.
"""

import argparse
import json
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ptycho.data.npz import check_keys, keys_of, load_arrays
from ptycho.data.object_files import KEYS, OLD_KEYS
from ptycho.physics.forward import as_modes
from ptycho.workflow.files import ContractError, StrPath

DARK_BELOW = 1e-2
"""Fraction of the largest illumination, or of a probe's peak intensity, below which a pixel counts as dark."""

Image: TypeAlias = tuple[NDArray[np.floating], NDArray[np.floating], tuple[int, int]]
"""Amplitude and phase [rad], (h, w) each, and row and column of the first pixel."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("file", type=Path, help="NPZ with an object")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write a PNG, PDF or SVG instead of opening a window"
    )


def run(options: argparse.Namespace) -> int:
    """Show the images, or save them and print where."""
    images, title, pixel_m = images_of(options.file), str(options.file), _pixel_m(options.file)
    from ptycho.reporting.figures import plot_waves, save
    from ptycho.reporting.image_panels import add_scale_bars

    if options.output is None:
        import matplotlib.pyplot as plt

        figure = plot_waves(images, title, figure=plt.figure(options.file.name))
        add_scale_bars(figure, pixel_m)
        if figure.canvas.required_interactive_framework:
            plt.show()
            return 0
        plt.close(figure)
    output = options.output or Path(f"{options.file.stem}_view.png")
    figure = plot_waves(images, title)
    add_scale_bars(figure, pixel_m)
    save(figure, output)
    print(f"{'no display to open a window on; ' if options.output is None else ''}saved {output.resolve()}")
    return 0


def images_of(path: StrPath) -> dict[str, Image]:
    """Read the objects and the probe of a file.

    Returns
    -------
    dict of ((h, w) float, (h, w) float, (int, int))
        Label -> amplitude, phase [rad], and row and column of the first pixel. Dark pixels are NaN in an object, and in
        the phase of a probe.

    Raises
    ------
    ContractError
        If the file is missing or damaged, has no object, or was written by ptycho 0.1.
    """
    keys = set(keys_of(path))
    probes = _probe_images(path) if "probeGuess" in keys else {}
    if {"object", "origin_px"} <= keys:
        check_keys(path, KEYS, old=OLD_KEYS)
        obj, illumination, origin = load_arrays(path, "object", "illumination", "origin_px")
        bright = illumination > DARK_BELOW * illumination.max()
        return {"object": _image(path, np.where(bright, obj, np.nan), origin)} | probes
    if "objectGuess" in keys:
        return {"object": _image(path, np.squeeze(load_arrays(path, "objectGuess")[0]))} | probes
    if "truth" in keys:
        return _comparison_images(path)
    raise ContractError(
        f"{path}: no object in it; found {sorted(keys)}, wanted 'object', 'illumination' and 'origin_px' (a "
        "reconstruction), 'objectGuess' (a scan or sample) or 'truth' (a comparison)"
    )


def _pixel_m(path: Path) -> float | None:
    """Return the pixel that the metadata of a file name [m]; None if they do not."""
    if "metadata" not in keys_of(path):
        return None
    metadata = json.loads(str(load_arrays(path, "metadata")[0]))
    return metadata.get("pixel_size_m") if isinstance(metadata, dict) else None


def _probe_images(path: StrPath) -> dict[str, Image]:
    modes = as_modes(load_arrays(path, "probeGuess")[0])
    images: dict[str, Image] = {}
    for number, mode in enumerate(modes, start=1):
        label = "probe [√photon]" if len(modes) == 1 else f"probe [√photon], mode {number}"
        intensity = np.abs(mode) ** 2
        phase = np.where(intensity > DARK_BELOW * intensity.max(), np.angle(mode), np.nan)
        images[label] = np.abs(mode), phase, (0, 0)
    return images


def _comparison_images(path: StrPath) -> dict[str, Image]:
    with np.load(path) as arrays:  # in the order in which they were written
        names = [name for name in arrays.files if name != "metadata"]
        metadata = json.loads(str(arrays["metadata"])) if "metadata" in arrays else {}
    origin, labels = metadata.get("origin_px", (0, 0)), {"truth": metadata.get("reference_name", "truth")}
    images = zip(names, load_arrays(path, *names), strict=True)
    return {labels.get(name, name): _image(path, image, origin) for name, image in images}


def _image(path: StrPath, wave: NDArray[np.complexfloating], origin_px: Any = (0, 0)) -> Image:
    if wave.ndim != 2:
        raise ContractError(f"{path}: an object with shape {wave.shape}; wanted two axes")
    return np.abs(wave), np.angle(wave), (int(origin_px[0]), int(origin_px[1]))
