"""Object files: what a method returns, and how it is saved and read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.mapped import row_blocks
from ptycho.data.npz import Npz, are_pixels, save_arrays
from ptycho.data.refined_positions import POSITION_KEYS, RefinedPositions, check_positions, read_positions
from ptycho.data.written import DIGESTS, digests_of
from ptycho.workflow.damage import is_numbers, is_of
from ptycho.workflow.files import ContractError, StrPath, save_table

if TYPE_CHECKING:  # a merge job does without pandas: 40 MB
    import pandas as pd

KEYS = ("object", "illumination", "origin_px", "metadata")
"""Arrays of an object file; where a method has refined the probe, `probe` is one more, and `POSITION_KEYS` are where it
has refined positions."""
OLD_KEYS = ("weight",)
"""What ptycho 0.1 wrote instead of `illumination`."""


@dataclass(frozen=True, kw_only=True)
class Refined:
    """Inputs that a method has refined; None for those that it kept."""

    probe: NDArray[np.complex64] | None = None
    """(modes, N, N) [sqrt(photon)]."""
    positions: RefinedPositions | None = None
    """Of the exposures that were used."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """The result of every method for a view."""

    object: NDArray[np.complex64]
    """(H, W) transmittance."""
    illumination: NDArray[np.floating]
    """(H, W) incident photons [photon/px]; for merged patches the sum of their weights, probe intensities."""
    origin_px: tuple[int, int]
    """Row and column of the first pixel in the object plane."""
    history: "pd.DataFrame | None" = None
    """Progress, one row per step; the method documents the columns."""
    refined: Refined | None = None
    """What was refined; None if probe and positions are as given."""
    cpu_s: float | None = None
    """CPU time of the reconstruction without training and start-up [s]."""
    chosen: Mapping[str, float] = field(default_factory=dict)
    """Numbers that the method has chosen, such as `tv_weight` or `best_epoch`."""


def save_reconstruction(
    path: StrPath, reconstruction: Reconstruction, *, history: StrPath | None = None, **metadata: Any
) -> None:
    """Write a reconstruction as an object file, and its history as CSV; each file is complete or absent.

    Parameters
    ----------
    path : path
        NPZ with the arrays `KEYS`.
    reconstruction : Reconstruction
        The result of a method.
    history : path, optional
        CSV of `reconstruction.history`.
    **metadata
        JSON-serializable, such as `method` and `provenance`; `cpu_s` and `chosen` are added where there are any.

    Raises
    ------
    ValueError
        If `history` is given, but the reconstruction has none.
    ptycho.workflow.files.ContractError
        If refined positions are not of one length or not finite, or their exposures do not ascend.
    """
    weight = np.asanyarray(reconstruction.illumination)
    illumination = np.empty(weight.shape, np.float32)
    for rows in row_blocks(weight):  # a canvas in a file is read block by block
        illumination[rows] = weight[rows]
    known: dict[str, Any] = {"chosen": dict(reconstruction.chosen)} if reconstruction.chosen else {}
    if reconstruction.cpu_s is not None:
        known["cpu_s"] = reconstruction.cpu_s
    arrays: dict[str, NDArray[Any]] = {
        "object": np.asarray(reconstruction.object, np.complex64),
        "illumination": illumination,
        "origin_px": np.asarray(reconstruction.origin_px, np.int64),
    }
    refined = reconstruction.refined or Refined()
    if refined.probe is not None:
        arrays["probe"] = refined.probe
    if refined.positions is not None:
        arrays |= {key: getattr(refined.positions, key) for key in POSITION_KEYS}
        check_positions(path, arrays)
    if history is not None:
        if reconstruction.history is None:
            raise ValueError(f"{history}: the reconstruction has no history to write")
        save_table(history, reconstruction.history)
        known[DIGESTS] = digests_of(history)
    save_arrays(path, **arrays, metadata=np.array(json.dumps({**known, **metadata})))


def load_reconstruction(path: StrPath) -> tuple[Reconstruction, dict[str, Any]]:
    """Read an object file; its history, a file of its own, is not read.

    Returns
    -------
    reconstruction : Reconstruction
        The result of the method, without history.
    metadata : dict
        Everything that was saved with it.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is missing, damaged, not an object file, or was written by ptycho 0.1.
    """
    with Npz(path) as file:
        if "object" in file and not {*KEYS[1:], *OLD_KEYS} & set(file.keys):
            raise ContractError(
                f"{path}: an object without {', '.join(map(repr, KEYS[1:]))}: that of another program, which `ptycho "
                "judge` reads; wanted an object.npz of a study"
            )
        file.require(*KEYS, old=OLD_KEYS)
        obj, illumination, origin = (file.array(key) for key in KEYS[:3])
        metadata = file.metadata()
        probe = file.array("probe") if "probe" in file else None
        positions = read_positions(file)
    _check_object(path, obj, illumination, origin, probe)
    check_outcome(metadata, f"{path}: 'metadata'")
    return (
        Reconstruction(
            object=obj,
            illumination=illumination,
            origin_px=(int(origin[0]), int(origin[1])),
            refined=None if probe is None and positions is None else Refined(probe=probe, positions=positions),
            cpu_s=metadata.get("cpu_s"),
            chosen=metadata.get("chosen", {}),
        ),
        metadata,
    )


def check_outcome(metadata: Mapping[str, Any], where: str) -> None:
    """Check what a method has left in its file's metadata: `cpu_s`, at least 0, `chosen` and `steps`, all optional.

    Parameters
    ----------
    metadata : mapping
        Of an object file, or of a chunk.
    where : str
        File and key, the start of the message.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If one is there and holds something else than finite numbers; steps may also have texts.
    """
    seconds, chosen = metadata.get("cpu_s"), metadata.get("chosen", {})
    if seconds is not None and not (is_of(seconds, float) and seconds >= 0):
        raise ContractError(f"{where}: 'cpu_s' is {str(seconds)[:80]!r}; wanted seconds, at least 0")
    if not is_numbers(chosen):
        raise ContractError(f"{where}: 'chosen' is {str(chosen)[:80]!r}; wanted an object of finite numbers")
    steps = metadata.get("steps", [])
    if not (is_of(steps, list) and all(map(_is_step, steps))):
        raise ContractError(
            f"{where}: 'steps' is {str(steps)[:80]!r}; wanted a list of objects of texts and finite numbers"
        )


def _is_step(value: Any) -> bool:
    """Whether a JSON value is a row of a history: an object of texts and finite numbers."""
    return isinstance(value, dict) and all(is_of(cell, str) or is_of(cell, float) for cell in value.values())


def refined_probe(path: StrPath, reconstruction: Reconstruction, n_pixels: int) -> NDArray[np.complex64]:
    """Return the probe that a method has refined, (modes, N, N) or (N, N) [sqrt(photon)].

    Parameters
    ----------
    path : path
        File that the reconstruction was read from.
    reconstruction : Reconstruction
        The result of the method.
    n_pixels : int
        N, side of a pattern [px].

    Raises
    ------
    ptycho.workflow.files.ContractError
        If there is none, it has another size, is not finite, or is zero everywhere.
    """
    probe = None if reconstruction.refined is None else reconstruction.refined.probe
    if probe is None:
        raise ContractError(f"{path}: no key 'probe'; wanted the object file of a method that has refined the probe")
    if probe.shape[-1] != n_pixels:
        raise ContractError(f"{path}: 'probe' has shape {probe.shape}; wanted patterns of {n_pixels} px")
    if not np.isfinite(probe).all() or not probe.any():
        raise ContractError(f"{path}: 'probe' is zero everywhere, or holds values that are not finite")
    return probe


def _check_object(
    path: StrPath,
    obj: NDArray[Any],
    illumination: NDArray[Any],
    origin: NDArray[Any],
    probe: NDArray[Any] | None,
) -> None:
    """Refuse arrays of an object file that have other types or shapes than theirs."""
    wanted = {
        "object": (obj, "c", obj.ndim == 2 and obj.size > 0, "complex (H, W)"),
        "illumination": (illumination, "f", illumination.shape == obj.shape, "float, as large as the object"),
        "origin_px": (origin, "i", origin.shape == (2,) and are_pixels(origin), "two integers"),
    }
    for key, (array, kind, fits, text) in wanted.items():
        if array.dtype.kind != kind or not fits:
            raise ContractError(f"{path}: '{key}' is {array.dtype} with shape {array.shape}; wanted {text}")
    if probe is not None:
        check_probe(path, probe)


def check_probe(path: StrPath, probe: NDArray[Any]) -> None:
    """Refuse a refined probe of another type or shape than (modes, N, N) or (N, N) complex.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If it is; the message names the file.
    """
    if probe.dtype.kind != "c" or probe.ndim not in (2, 3) or not probe.shape[-1] == probe.shape[-2] > 0:
        raise ContractError(f"{path}: 'probe' is {probe.dtype} with shape {probe.shape}; wanted complex (modes, N, N)")


def paste(obj: NDArray[Any], origin_px: tuple[int, int], shape: tuple[int, int], fill: complex = 1.0) -> NDArray[Any]:
    """Copy an object onto a larger or smaller grid whose first pixel is (0, 0), with `fill` around it.

    Nothing of an object that lies beside the grid is copied.

    Parameters
    ----------
    obj : (h, w) array
        Object.
    origin_px : (int, int)
        Row and column of its first pixel on the grid.
    shape : (int, int)
        Rows and columns of the grid.
    fill : complex
        Value of all other pixels.
    """
    grid = np.full(shape, fill, obj.dtype)
    y, x = origin_px
    top, left = max(y, 0), max(x, 0)
    bottom, right = max(min(y + obj.shape[0], shape[0]), top), max(min(x + obj.shape[1], shape[1]), left)
    grid[top:bottom, left:right] = obj[top - y : bottom - y, left - x : right - x]
    return grid
