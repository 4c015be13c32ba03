"""Grouped files: NPZs that hold the fields of a container, read lazily as a scan and a view of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.canvas import Canvas
from ptycho.data.contract import check_scan
from ptycho.data.mapped import MappedArray
from ptycho.data.npz import Npz, are_pixels, keys_of
from ptycho.data.scan import Scan, open_scan
from ptycho.data.tiles import WHOLE_PLANE, Tile, TilingOptions, cut_view
from ptycho.data.views import FIT, HOLDOUT, VALIDATION, View, whole_view
from ptycho.physics.forward import as_modes, blocks, window_start
from ptycho.workflow.files import ContractError, StrPath

HOLDOUT_FRACTION = 0.05
"""Fraction of a test scan's exposures that is holdout."""


@dataclass(frozen=True)
class _Frames:
    """(B·C, N, N) frames of a (B, N, N, C) array in a file, read when indexed: frame i is channel i mod C."""

    groups: MappedArray
    dtype: np.dtype[Any]

    ndim = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        count, n, _, channels = self.groups.shape
        return count * channels, n, n

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        chosen = np.arange(len(self))[index]
        channels = self.groups.shape[-1]
        group, inverse = np.unique(np.ravel(chosen) // channels, return_inverse=True)
        frames = np.moveaxis(self.groups[group], -1, 1)[inverse, np.ravel(chosen) % channels]
        return frames.reshape(*np.shape(chosen), *self.shape[1:]).astype(self.dtype)


def is_grouped(path: StrPath) -> bool:
    """Whether a file holds groups ('X') rather than a scan ('diffraction')."""
    keys = keys_of(path)
    return "X" in keys and "diffraction" not in keys


def open_grouped(path: StrPath) -> tuple[Scan, View]:
    """Open a grouped NPZ without holding its frames; they are read once for their checksum.

    Every frame of every group counts as an exposure at global_offsets + local_offsets (coords_nominal where there are
    no local offsets). The truth is YY_full, or else the average of the patches Y_I exp(i Y_phi). No exposure is
    holdout, so that `heldout_deviance` is not defined.

    Parameters
    ----------
    path : path
        Uncompressed NPZ with X (B, N, N, C) float32 amplitudes, global_offsets (B, 1, 2, 1), local_offsets or
        coords_nominal (B, 1, 2, C), order [x, y] [px], probeGuess (N, N), and YY_full (H, W) or Y_I and Y_phi.

    Returns
    -------
    scan : Scan
        B·C exposures in the order of the groups.
    view : View
        All of them, with the role fit.

    Raises
    ------
    ContractError
        If a field is missing, damaged, or has another shape.
    """
    path = Path(path)
    with Npz(path) as file:
        truth = ("YY_full",) if "YY_full" in file else ("Y_I", "Y_phi")
        file.require("X", "global_offsets", _local_key(file), "probeGuess", *truth)
        groups = _open_groups(file, "X")
        count, n, _, channels = groups.shape
        x, y = _positions(file, count, channels)
        probe = _read_probe(file, n)
        obj, origin = _read_truth(file, groups, probe[0], (x, y))
    nn_indices = np.arange(count * channels).reshape(count, channels)
    scan = Scan(
        path=path,
        diffraction=_Frames(groups, np.dtype(np.float32)),
        xcoords=x - origin[1],
        ycoords=y - origin[0],
        probe=probe,
        object=obj,
        metadata={"source": str(path), "dose": float(np.sum(np.abs(probe) ** 2, dtype=np.float64))},
    )
    check_scan(scan)
    role = np.full(nn_indices.size, FIT, np.int8)
    return scan, View(exposures=nn_indices.ravel(), role=role, nn_indices=nn_indices, metadata={})


def _local_key(file: Npz) -> str:
    return "local_offsets" if "local_offsets" in file else "coords_nominal"


def _open_groups(file: Npz, key: str) -> MappedArray:
    """Open frames of groups, or their true patches, (B, N, N, C); all of them are read once for their checksum."""
    groups = file.mapped(key, checked=True)
    if groups.dtype.kind not in "fiu" or groups.ndim != 4 or groups.shape[1] != groups.shape[2] or not groups.size:
        raise ContractError(
            f"{file.path}: '{key}' is {groups.dtype} with shape {groups.shape}; wanted numbers, (B, N, N, C)"
        )
    return groups


def _read_probe(file: Npz, n: int) -> NDArray[np.complex64]:
    probe = as_modes(file.array("probeGuess"))
    if probe.dtype.kind not in "cf" or probe.ndim != 3 or probe.shape[1:] != (n, n) or not len(probe):
        raise ContractError(
            f"{file.path}: 'probeGuess' is {probe.dtype} with shape {probe.shape}; wanted complex (modes, {n}, {n})"
        )
    return probe.astype(np.complex64)


def _positions(file: Npz, count: int, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return xcoords and ycoords of all frames, (B·C,) [px]."""
    local = _local_key(file)
    center, offset = file.array("global_offsets"), file.array(local)
    for key, array, last in (("global_offsets", center, (1, channels)), (local, offset, (channels,))):
        if array.ndim != 4 or array.shape[:3] != (count, 1, 2) or array.shape[3] not in last:
            raise ContractError(f"{file.path}: '{key}' has shape {array.shape}; wanted ({count}, 1, 2, {last[-1]})")
        if not are_pixels(array):
            raise ContractError(f"{file.path}: '{key}', {array.dtype}, holds something else than pixels")
    positions = center.astype(np.float64) + offset.astype(np.float64)
    return positions[:, 0, 0].ravel(), positions[:, 0, 1].ravel()


def open_test_data(
    path: StrPath, *, n_groups: int | None, tile_px: float, halo_px: float | None, seed: int
) -> tuple[Scan, View, list[Tile]]:
    """Open a test scan with all its exposures as one view, or a grouped file, to apply networks to.

    Parameters
    ----------
    path : path
        NPZ of a scan or of groups.
    n_groups : int or None
        The first covering groups: tiles from the top of a scan, or groups in the order of a grouped file. None: all.
    tile_px : float
        Largest extent of a tile's core [px]; for a scan.
    halo_px : float or None
        Width of the halo of a tile [px]; None: N. For a scan.
    seed : int
        Seed of the draw of roles; for a scan.

    Returns
    -------
    scan : Scan
        The scan, or one exposure per frame of the groups.
    view : View
        The exposures of its tiles; a twentieth of a scan's exposures is `holdout`. The view of a scan has no groups to
        train on.
    tiles : list of Tile
        What networks are applied to. The groups of a grouped file are its tiles, with the weight 1 everywhere.

    Raises
    ------
    ContractError
        If the file is neither.
    ptycho.data.selection.ViewError
        If exposures are too few, or none has a photon.
    """
    if is_grouped(path):
        scan, view = open_grouped(path)
        tiles = [Tile(group, WHOLE_PLANE, 0.0) for group in view.nn_indices]
    else:
        scan, tiling = open_scan(path), TilingOptions(tile_px=tile_px, halo_px=halo_px)
        view = whole_view(scan, HOLDOUT_FRACTION, np.random.default_rng(seed))
        tiles = cut_view(scan, view.of_role(FIT, VALIDATION), tiling)
    tiles = tiles[:n_groups]
    return scan, _restricted(view, tiles, scan), tiles


def _restricted(view: View, tiles: Sequence[Tile], scan: Scan) -> View:
    """Restrict a view to the exposures of some of its tiles, and the holdout exposures in their cores."""
    x, y = scan.xcoords[view.exposures], scan.ycoords[view.exposures]
    in_core = np.any([tile.has_in_core(x, y) for tile in tiles], axis=0)
    used = np.isin(view.exposures, np.concatenate([tile.exposures for tile in tiles]))
    kept = used | ((view.role == HOLDOUT) & in_core)
    return replace(
        view,
        exposures=view.exposures[kept],
        role=view.role[kept],
        nn_indices=view.nn_indices[: len(tiles)],
    )


def _read_truth(
    file: Npz,
    groups: MappedArray,
    probe: NDArray[np.complex64],
    positions: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> tuple[NDArray[np.complex64], tuple[int, int]]:
    """Return the object, (H, W), and row and column of its first pixel."""
    if "YY_full" in file:
        obj = np.squeeze(file.array("YY_full"))
        if obj.dtype.kind not in "cf":
            raise ContractError(f"{file.path}: 'YY_full' is {obj.dtype}; wanted complex (H, W)")
        return obj.astype(np.complex64), (0, 0)
    parts = {key: _open_groups(file, key) for key in ("Y_I", "Y_phi")}
    for key, part in parts.items():
        if part.shape != groups.shape:
            raise ContractError(f"{file.path}: '{key}' has shape {part.shape}; wanted that of 'X', {groups.shape}")
    amplitude, phase = (_Frames(part, np.dtype(np.float32)) for part in parts.values())
    n = amplitude.shape[-1]
    x, y = positions
    try:
        canvas = Canvas.around(x, y, n)
    except ContractError as error:
        raise ContractError(f"{file.path}: {error}") from None
    for block in blocks(len(x), 256):
        patches = amplitude[block] * np.exp(1j * phase[block])
        canvas.add(patches, np.broadcast_to(np.abs(probe) ** 2, patches.shape), x[block], y[block])
    start = int(window_start(y, n).min()), int(window_start(x, n).min())
    return canvas.mean(), start
