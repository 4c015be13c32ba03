"""Anybody's object and probe, placed on the exposures of a scan: our object files, plain NPZ, ptychodus products."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.npz import are_pixels
from ptycho.data.object_files import KEYS, Reconstruction, Refined, load_reconstruction
from ptycho.data.scan import Scan
from ptycho.formats.candidates import Candidate, check_candidate
from ptycho.formats.hdf5_files import Hdf5File
from ptycho.formats.inputs import kind_of, numbers, require
from ptycho.formats.npz_files import NpzFile
from ptycho.formats.readers.plain import OBJECT_KEYS, PROBE_KEYS
from ptycho.physics.forward import as_modes, window_start
from ptycho.workflow.files import ContractError, StrPath

HDF5 = (".h5", ".hdf5", ".hdf")
"""Suffixes of ptychodus products; what has another one is recognized by its content."""


def read_candidate(path: StrPath, scan: Scan, follow_links: bool = False) -> Candidate:
    """Read an object, and its probe and positions where the file has them; otherwise those of the scan.

    Parameters
    ----------
    path : path
        An object file of a study or of `ptycho.data.object_files`, a ptychodus product (HDF5), or an NPZ with
        `object` or `objectGuess`, and optionally `probe` or `probeGuess`, `xcoords`, `ycoords` and `origin_px`.
    scan : Scan
        What it is a reconstruction of.
    follow_links : bool
        Read files in other folders that a product links to.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is missing or damaged, has no object of two finite complex axes, or its probe or positions do not
        fit the scan.
    """
    path = Path(path)
    if path.is_dir():
        raise ContractError(f"{path}: a folder; wanted a file with an object")
    if path.suffix.lower() in HDF5 or kind_of(path) == "hdf5":
        candidate = _read_product(path, scan, follow_links)
    else:
        file = NpzFile(path)
        is_ours = set(KEYS) <= set(file.names())
        candidate = candidate_of(path, load_reconstruction(path)[0], scan) if is_ours else _read_plain(file, scan)
    check_candidate(candidate, scan)
    return candidate


def candidate_of(path: Path, reconstruction: Reconstruction, scan: Scan) -> Candidate:
    """Return the result of a method with its own probe and positions, where it has refined them, or the scan's.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If it has positions of exposures that the scan lacks; `path` is the file that the message names.
    """
    refined, positions = reconstruction.refined or Refined(), _positions_of(scan)
    if (own := refined.positions) is not None:
        positions = _matched(path, {"xcoords": own.xcoords, "ycoords": own.ycoords}, own.exposures, scan)
    return Candidate(
        path=path,
        object=reconstruction.object,
        origin_px=reconstruction.origin_px,
        probe=scan.probe if refined.probe is None else as_modes(refined.probe),
        **positions,
        is_placed=True,
        is_calibrated=True,
    )


def _positions_of(scan: Scan) -> dict[str, Any]:
    return {"exposures": np.arange(len(scan)), "xcoords": scan.xcoords, "ycoords": scan.ycoords}


def _read_plain(file: NpzFile, scan: Scan) -> Candidate:
    path, key = file.path, require(file, *OBJECT_KEYS)
    obj, notes = _one_layer(numbers(file, key, "uifc"), f"{path}: '{key}'"), []
    probe = next((as_modes(np.squeeze(numbers(file, key, "uifc"))) for key in PROBE_KEYS if key in file), None)
    positions = _positions_of(scan)
    if "xcoords" in file and "ycoords" in file:
        own = {axis: np.ravel(numbers(file, axis)).astype(np.float64) for axis in ("xcoords", "ycoords")}
        positions |= _matched(path, own, np.arange(len(own["xcoords"])), scan)
        notes.append(_taken_as(len(own["xcoords"]), len(scan)))
    origin, is_placed = (0, 0), "origin_px" in file or obj.shape == scan.object.shape
    if "origin_px" in file:
        given = np.ravel(numbers(file, "origin_px"))
        if given.shape != (2,) or not are_pixels(given):
            raise ContractError(f"{path}: 'origin_px' is {given.tolist()}; wanted row and column")
        origin = int(given[0]), int(given[1])
    elif not is_placed:
        axes = positions["ycoords"], positions["xcoords"]
        origin = _guessed_origin(axes, obj.shape, scan.n_pixels)
        notes.append(f"no origin_px: the first pixel of the object is put at {origin}")
    return Candidate(
        path=path,
        object=obj,
        origin_px=origin,
        probe=scan.probe if probe is None else probe,
        **positions,
        is_placed=is_placed,
        is_calibrated=probe is None,
        notes=tuple(notes),
    )


def _taken_as(count: int, total: int) -> str:
    """Say which exposures the positions of a plain file are taken as."""
    if count == total:
        return "positions of the file"
    return f"positions of the file: {count}, taken as those of exposures 0-{count - 1} of {total}: it names none"


def _guessed_origin(axes: tuple[NDArray[np.float64], ...], shape: tuple[int, ...], n: int) -> tuple[int, int]:
    """Return (0, 0) if all windows fit the object there; otherwise, what puts its middle at that of the positions."""
    starts = [window_start(axis, n) for axis in axes]
    if all(0 <= start.min() <= start.max() + n <= size for start, size in zip(starts, shape, strict=True)):
        return 0, 0
    middles = [(int(start.min()) + int(start.max()) + n) // 2 for start in starts]
    return middles[0] - shape[0] // 2, middles[1] - shape[1] // 2


def _matched(
    path: Path, positions: Mapping[str, NDArray[np.float64]], indices: NDArray[np.int64], scan: Scan
) -> dict[str, Any]:
    """Return exposures and positions of a file, matched to the scan by index; refuse those that the scan lacks."""
    lengths = {len(positions["xcoords"]), len(positions["ycoords"]), len(indices)}
    if len(lengths) > 1 or len(np.unique(indices)) < len(indices):
        raise ContractError(
            f"{path}: {len(positions['xcoords'])} x-positions, {len(positions['ycoords'])} y-positions and "
            f"{len(np.unique(indices))} different indices of exposures; wanted as many of each"
        )
    if len(indices) and not 0 <= indices.min() <= indices.max() < len(scan):
        raise ContractError(
            f"{path}: positions of exposures {indices.min()} to {indices.max()}; {scan.path} has {len(scan)} exposures"
        )
    finite = np.isfinite(positions["xcoords"]) & np.isfinite(positions["ycoords"])
    if not finite.all():
        raise ContractError(f"{path}: positions of exposures {indices[~finite].tolist()} are not finite")
    return {"exposures": indices.astype(np.int64), **positions}


def _read_product(path: Path, scan: Scan, follow_links: bool) -> Candidate:
    """Read a ptychodus product: object and probe with their pixel sizes, positions in meters.

    ptychodus put the center of an object of W pixels at W / 2 until late 2025, and at (W - 1) / 2 since: the origin is
    known to half a pixel only.
    """
    file = Hdf5File(path, follow_links)
    try:
        obj = _one_layer(numbers(file, require(file, "object"), "uifc"), f"{path}: 'object'")
        probe = numbers(file, require(file, "probe"), "uifc")
        names = {axis: require(file, f"probe_position_{axis}_m") for axis in ("x", "y")}
        meters = {axis: np.ravel(numbers(file, name)).astype(np.float64) for axis, name in names.items()}
        given = "probe_position_indexes"
        indices = np.ravel(numbers(file, given, "iu")) if given in file else np.arange(len(meters["x"]))
        centers = {axis: _attribute(file, f"center_{axis}_m") for axis in ("x", "y")}
        sizes = {axis: _attribute(file, f"pixel_{side}_m") for axis, side in (("x", "width"), ("y", "height"))}
    finally:
        file.close()
    if not all(size > 0 for size in sizes.values()):
        raise ContractError(f"{path}: pixels of {sizes['x']:g} × {sizes['y']:g} m; wanted numbers above 0")
    middle = dict(zip(("y", "x"), (size / 2 for size in obj.shape), strict=True))
    pixels = {f"{axis}coords": (meters[axis] - centers[axis]) / sizes[axis] + middle[axis] for axis in ("x", "y")}
    notes = []
    while probe.ndim > 3:  # (OPR modes, incoherent modes, N, N): the first varies from exposure to exposure
        notes += [f"the first of {len(probe)} OPR modes alone"] * (len(probe) > 1)
        probe = probe[0]
    return Candidate(
        path=path,
        object=obj,
        origin_px=(0, 0),
        probe=as_modes(probe),
        **_matched(path, pixels, indices, scan),
        is_placed=False,
        is_calibrated=False,
        notes=(*notes, "positions of the file"),
    )


def _attribute(file: Hdf5File, name: str) -> float:
    """Return a number that is an attribute of the object."""
    value = np.ravel(file.attribute("object", name))
    if value.size != 1 or value.dtype.kind not in "uif" or not np.isfinite(value).all():
        raise ContractError(f"{file.path}: attribute '{name}' of 'object' is {value.tolist()}; wanted a finite number")
    return float(value[0])


def _one_layer(obj: NDArray[Any], where: str) -> NDArray[Any]:
    squeezed = np.squeeze(obj)
    if squeezed.ndim != 2:
        raise ContractError(f"{where} has shape {np.shape(obj)}; wanted (H, W), an object of one layer")
    return squeezed
