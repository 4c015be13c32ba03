"""Export of an object, with its probe and positions where they are known, to files of other programs."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.npz import Npz
from ptycho.data.object_files import Refined, load_reconstruction
from ptycho.data.scan import Scan, open_scan
from ptycho.formats.options import POSITIVE, check_pixel, check_positive
from ptycho.formats.raw import HC_EV_M
from ptycho.physics.forward import window_start
from ptycho.workflow.damage import is_of, reading
from ptycho.workflow.files import ContractError, StrPath, WriteError, replacing


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An object, and what is known about its measurement."""

    name: str
    """Of the file that it comes from."""
    object: NDArray[np.complex64]
    """(H, W) transmittance."""
    origin_px: tuple[int, int]
    """Row and column of the first pixel in the plane of the positions."""
    pixel_m: float | None = None
    wavelength_m: float | None = None
    distance_m: float | None = None
    probe: NDArray[np.complex64] | None = None
    """(modes, N, N) [√photon]."""
    positions: NDArray[np.float64] | None = None
    """(M, 2) patch centers, [x, y] [px]."""
    record: dict[str, Any] = field(default_factory=dict)
    """Provenance."""

    def require(self, *names: str) -> None:
        """Check that some fields are known.

        Raises
        ------
        ContractError
            If one is not; the message names the options that give it.
        """
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            lengths = {"pixel_m": "--pixel-size", "wavelength_m": "--energy or --wavelength"}
            wanted = " and ".join(lengths[name] for name in missing if name in lengths)
            if self.positions is None:  # no scan was given
                needs_it = not lengths.keys() >= set(missing)
                more = f", and {wanted} if it has none" if needs_it else f", or {wanted}"
                wanted = f"--scan with the scan that it was reconstructed from{more if wanted else ''}"
            known = ", ".join(name.removesuffix("_m") for name in missing)
            raise ContractError(f"{self.name}: no {known} in it; wanted {wanted}")

    @property
    def pixel_size_m(self) -> float:
        """Pixel of the object [m], which must be known."""
        assert self.pixel_m is not None
        return self.pixel_m

    @property
    def energy_ev(self) -> float:
        """Photon energy, of a wavelength that must be known."""
        assert self.wavelength_m is not None
        return HC_EV_M / self.wavelength_m


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is known beside the file; None: nothing."""

    scan: Path | None = None
    """Scan that the object was reconstructed from: its positions, its probe, its lengths."""
    pixel_size_m: float | None = None
    energy_ev: float | None = None
    wavelength_m: float | None = None
    distance_m: float | None = None

    def __post_init__(self) -> None:
        for name in ("energy_ev", "wavelength_m", "distance_m"):
            check_positive(POSITIVE[name], getattr(self, name))
        check_pixel(POSITIVE["pixel_size_m"], self.pixel_size_m)


def read_exported(path: StrPath, options: ExportOptions) -> Exported:
    """Read an object file, or the object of a scan or sample, and what a scan says about it.

    Raises
    ------
    ContractError
        If a file is missing or damaged, has no object, or the positions of the scan do not fit the object.
    """
    path, scan = Path(path), None if options.scan is None else open_scan(options.scan)
    has_size_of_scan = False
    with Npz(path) as file:
        if "objectGuess" in file and "object" not in file:
            obj, origin, refined = file.array("objectGuess"), (0, 0), Refined()
            metadata = file.metadata() if "metadata" in file else {}
            scan = scan or (open_scan(path) if "diffraction" in file else None)
        else:
            reconstruction, metadata = load_reconstruction(path)
            obj, origin = reconstruction.object, reconstruction.origin_px
            refined = reconstruction.refined or Refined()
            has_size_of_scan = True
    if obj.ndim != 2 or not np.iscomplexobj(obj) or not obj.size:
        raise ContractError(f"{path}: an object of {obj.dtype} with shape {obj.shape}; wanted complex (H, W)")
    if scan is not None:
        scan = _with_refined_positions(scan, refined)
        _check_fit(path, (origin, obj.shape), scan, has_size_of_scan)
    known = {**({} if scan is None else scan.metadata), **metadata}
    for key in ("pixel_size_m", "wavelength_m"):
        if known.get(key) is not None and not (is_of(known[key], float) and known[key] > 0):
            raise ContractError(f"{path}: '{key}' in 'metadata' is {known[key]!r}; wanted a number above 0")
    wavelength = options.wavelength_m or (HC_EV_M / options.energy_ev if options.energy_ev else None)
    return Exported(
        name=str(path),
        object=obj.astype(np.complex64),
        origin_px=origin,
        pixel_m=options.pixel_size_m or known.get("pixel_size_m"),
        wavelength_m=wavelength or known.get("wavelength_m"),
        distance_m=options.distance_m,
        probe=_modes(refined.probe, scan),
        positions=None if scan is None else np.stack([scan.xcoords, scan.ycoords], axis=1),
    )


def _with_refined_positions(scan: Scan, refined: Refined) -> Scan:
    """Return a scan with the positions that belong to an object."""
    if refined.positions is None:
        return scan
    xcoords, ycoords = refined.positions.among(scan.xcoords, scan.ycoords, scan.path)
    return replace(scan, xcoords=xcoords, ycoords=ycoords)


def _check_fit(path: Path, extent: tuple[tuple[int, int], tuple[int, int]], scan: Scan, has_size_of_scan: bool) -> None:
    """Refuse a scan with positions beside an object.

    Parameters
    ----------
    path : Path
        File of the object.
    extent : tuple
        Its origin, (row, column), and its shape.
    scan : Scan
    has_size_of_scan : bool
        Whether it was reconstructed: then it is as large as the windows of its scan, within a window; a sample may be
        larger.

    Raises
    ------
    ContractError
        If the positions are not in the object, or it is too large.
    """
    first, end = np.array(extent[0]), np.sum(extent, axis=0)
    centers, n = np.stack([scan.ycoords, scan.xcoords]), scan.n_pixels
    starts = window_start(centers, n)
    low, high = starts.min(axis=1), starts.max(axis=1) + n
    holds = (centers.min(axis=1) >= first).all() and (centers.max(axis=1) <= end).all()
    too_large = has_size_of_scan and ((first < low - n).any() or (end > high + n).any())
    if not holds or too_large:
        (top, left), (bottom, right) = first, end
        raise ContractError(
            f"{path}: its object covers rows {top}..{bottom} and columns {left}..{right}, the windows of {scan.path} "
            f"rows {low[0]}..{high[0]} and columns {low[1]}..{high[1]}; wanted the scan that it was reconstructed from"
        )


def _modes(probe: NDArray[np.complex64] | None, scan: Scan | None) -> NDArray[np.complex64] | None:
    if probe is not None:
        return probe
    return None if scan is None else scan.probe


def export(exported: Exported, destination: StrPath) -> None:
    """Write an object in the format of a file's suffix; the file is complete or absent.

    Raises
    ------
    ContractError
        If there is no such format, the file exists, or something is not known that the format needs.
    """
    from ptycho.formats.writers import cxi, ptychodus, tiff

    writers: dict[str, Callable[[Exported, Path], None]] = {
        ".tif": tiff.write,
        ".tiff": tiff.write,
        ".h5": ptychodus.write,
        ".hdf5": ptychodus.write,
        ".cxi": cxi.write,
    }
    destination = Path(destination)
    if destination.suffix.lower() not in writers:
        raise ContractError(f"{destination}: wanted a name that ends in {', '.join(writers)}")
    if destination.exists():
        raise ContractError(f"{destination}: exists; wanted another name, or remove it")
    with replacing(destination) as temporary:
        writers[destination.suffix.lower()](exported, temporary)
        _check_written(temporary, destination, exported)


def _check_written(temporary: Path, destination: Path, exported: Exported) -> None:
    """Read the object of a file that has been written, and compare it.

    Raises
    ------
    WriteError
        If it is another one, or cannot be read.
    """
    import h5py
    import tifffile

    try:
        with reading(destination):
            if destination.suffix.lower() in (".tif", ".tiff"):
                amplitude, phase = tifffile.imread(temporary)
                same = np.array_equal(amplitude, np.abs(exported.object).astype(np.float32), equal_nan=True)
                same &= np.array_equal(phase, np.angle(exported.object).astype(np.float32), equal_nan=True)
            else:
                key = "entry_1/image_1/data" if destination.suffix.lower() == ".cxi" else "object"
                with h5py.File(temporary, "r") as file:
                    same = np.array_equal(np.squeeze(file[key][()]), np.squeeze(exported.object), equal_nan=True)
    except ContractError as error:
        raise WriteError(f"{error}: what was written; try again, on another disk") from None
    if not same:
        raise WriteError(f"{destination}: what was written reads differently; try again, on another disk")
