"""Show amplitude and phase of an object in a window or, without a display, save them as a PNG.

FILE is an object.npz, a scan or sample (its object and its probe), or a comparison.npz (truth and all methods).
Hatched pixels had no light.
"""

import json
from pathlib import Path

import numpy as np

from ptycho.data.npz import keys_of, load_arrays
from ptycho.physics.forward import as_modes
from ptycho.workflow.files import ContractError

LIT = 1e-2
"""Of the largest illumination, or of a probe's peak intensity; below, it counts as dark."""


def describe(parser) -> None:
    """Lay out the arguments."""
    parser.add_argument("file", type=Path, help="NPZ with an object")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write a PNG, PDF or SVG there, open no window")


def run(options) -> int:
    """Show, or write and say where."""
    images, title = images_of(options.file), str(options.file)
    from ptycho.reporting.figures import plot_waves, save

    if options.output is None:
        import matplotlib.pyplot as plt

        figure = plot_waves(images, title, figure=plt.figure(options.file.name))
        if figure.canvas.required_interactive_framework:
            plt.show()
            return 0
        plt.close(figure)
    output = options.output or Path(f"{options.file.stem}_view.png")
    save(plot_waves(images, title), output)
    print(f"{'no display to open a window on; ' if options.output is None else ''}saved {output.resolve()}")
    return 0


def images_of(path) -> dict:
    """Read what there is to show of a file.

    Returns
    -------
    dict of ((h, w) float, (h, w) float, (int, int))
        Label -> amplitude, phase [rad], both NaN where an object, and only the phase where a probe is dark, and row and
        column of the first pixel.

    Raises
    ------
    ContractError
        If the file is missing or damaged, or none with an object.
    """
    keys, probes = set(keys_of(path)), {}
    if "probeGuess" in keys:
        modes = as_modes(load_arrays(path, "probeGuess")[0])
        for number, mode in enumerate(modes, start=1):
            label = "probe [√photon]" if len(modes) == 1 else f"probe [√photon], mode {number}"
            light = np.abs(mode) ** 2
            probes[label] = np.abs(mode), np.where(light > LIT * light.max(), np.angle(mode), np.nan), (0, 0)
    if {"object", "illumination", "origin_px"} <= keys:
        obj, illumination, origin = load_arrays(path, "object", "illumination", "origin_px")
        return {"object": _parts(path, np.where(illumination > LIT * illumination.max(), obj, np.nan), origin)} | probes
    if "objectGuess" in keys:
        return {"object": _parts(path, np.squeeze(load_arrays(path, "objectGuess")[0]))} | probes
    if "truth" in keys:
        return _compared(path)
    raise ContractError(
        f"{path}: no object in it; found {sorted(keys)}, wanted 'object', 'illumination' and 'origin_px' (a reconstruction), "
        "'objectGuess' (a scan or sample) or 'truth' (a comparison)"
    )


def _compared(path) -> dict:
    with np.load(path) as arrays:  # in the order in which they were written
        names = [name for name in arrays.files if name != "metadata"]
        origin = json.loads(str(arrays["metadata"]))["origin_px"] if "metadata" in arrays else (0, 0)
    return {name: _parts(path, image, origin) for name, image in zip(names, load_arrays(path, *names), strict=True)}


def _parts(path, wave, origin_px=(0, 0)) -> tuple:
    if wave.ndim != 2:
        raise ContractError(f"{path}: an object with shape {wave.shape}; wanted two axes")
    return np.abs(wave), np.angle(wave), tuple(int(edge) for edge in origin_px)
