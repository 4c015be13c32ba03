"""Show amplitude and phase of an object in a window or, without a display, save them as PNG.

FILE is an object.npz, a scan or sample (its object and its probe), or a comparison.npz (truth or reference, and all
methods).
Hatched pixels were not illuminated.
"""

import argparse
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ptycho.data.contract import check_pixel_size
from ptycho.data.npz import Npz
from ptycho.data.object_files import load_reconstruction
from ptycho.physics.forward import as_modes
from ptycho.workflow.damage import check_fields, is_of
from ptycho.workflow.files import ContractError, StrPath

DARK_BELOW = 1e-2
"""Fraction of the largest illumination, or of a probe's peak intensity, below which a pixel counts as dark."""

MAX_MODES = 100
"""More modes than any probe has: a figure of them would have no end."""
MAX_ORIGIN_PX = 10**9
"""Largest row or column of a first pixel: axes do not tell larger ones apart."""
COMPARISON: dict[str, type] = {"origin_px": list, "reference_name": str}
"""Metadata of a comparison, and their types."""
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
    with Npz(path) as file:
        probes = _probe_images(file) if "probeGuess" in file else {}
        if "object" in file and ("origin_px" in file or not {"objectGuess", "truth"} & set(file.keys)):
            reconstruction, _ = load_reconstruction(path)
            bright = reconstruction.illumination > DARK_BELOW * reconstruction.illumination.max()
            shown = np.where(bright, reconstruction.object, np.nan)
            return {"object": _image(file, "object", shown, reconstruction.origin_px)} | probes
        if "objectGuess" in file:
            return {"object": _image(file, "objectGuess", np.squeeze(file.array("objectGuess")))} | probes
        if "truth" in file:
            return _comparison_images(file)
        found = sorted(file.keys)
    raise ContractError(
        f"{path}: no object in it; found {found}, wanted 'object', 'illumination' and 'origin_px' (a "
        "reconstruction), 'objectGuess' (a scan or sample) or 'truth' (a comparison)"
    )


def _pixel_m(path: StrPath) -> float | None:
    """Return the pixel that the metadata of a file name [m]; None if they do not."""
    with Npz(path) as file:
        return check_pixel_size(path, file.metadata().get("pixel_size_m") if "metadata" in file else None)


def _probe_images(file: Npz) -> dict[str, Image]:
    modes = as_modes(file.array("probeGuess"))
    if modes.dtype.kind != "c" or modes.ndim != 3 or not modes.size or len(modes) > MAX_MODES:
        raise ContractError(
            f"{file.path}: 'probeGuess' is {modes.dtype} with shape {modes.shape}; wanted complex (modes, N, N), at "
            f"most {MAX_MODES} modes"
        )
    images: dict[str, Image] = {}
    for number, mode in enumerate(modes, start=1):
        label = "probe [√photon]" if len(modes) == 1 else f"probe [√photon], mode {number}"
        intensity = np.abs(mode) ** 2
        phase = np.where(intensity > DARK_BELOW * intensity.max(), np.angle(mode), np.nan)
        images[label] = np.abs(mode), phase, (0, 0)
    return images


def _comparison_images(file: Npz) -> dict[str, Image]:
    names = [name for name in file.keys if name != "metadata"]  # in the order in which they were written
    metadata = file.metadata() if "metadata" in file else {}
    origin, name = metadata.get("origin_px", [0, 0]), metadata.get("reference_name", "truth")
    check_fields({"origin_px": origin, "reference_name": name}, f"{file.path}: 'metadata'", **COMPARISON)
    if len(origin) != 2 or not all(is_of(number, int) and abs(number) <= MAX_ORIGIN_PX for number in origin):
        raise ContractError(f"{file.path}: 'origin_px' in 'metadata' is {origin}; wanted row and column")
    return {{"truth": name}.get(key, key): _image(file, key, file.array(key), (origin[0], origin[1])) for key in names}


def _image(file: Npz, key: str, wave: NDArray[Any], origin_px: tuple[int, int] = (0, 0)) -> Image:
    if wave.ndim != 2 or wave.dtype.kind not in "cf" or not wave.size:
        raise ContractError(f"{file.path}: '{key}' is {wave.dtype} with shape {wave.shape}; wanted complex, two axes")
    return np.abs(wave), np.angle(wave), origin_px
