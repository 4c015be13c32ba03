"""The data contract: one uncompressed NPZ per scan, opened lazily, checked, and written block by block.

docs/reference/files.md lists keys, shapes and meanings. Opening a scan reads everything but its frames, once, and holds
neither them nor the object. Frames are read, and held against their checksums, when they are indexed, so that memory
does not limit the size of a scan.
"""

import json
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.contract import check_index, check_metadata, check_scan
from ptycho.data.lazy import LazyArray, MaskedFrames
from ptycho.data.mapped import FRAME_CHECKSUMS
from ptycho.data.npz import Npz
from ptycho.physics.detector import PERFECT, Detector
from ptycho.physics.forward import as_modes, blocks, window_corners
from ptycho.workflow.damage import reading, require_file
from ptycho.workflow.files import ContractError, StrPath, replacing

RAW = {b"\x89HDF": "an HDF5 file", b"II*\0": "a TIFF file", b"MM\0*": "a TIFF file", b"\x93NUM": "a single array"}
"""First bytes of files as detectors and other programs write them -> what they are."""
UNITS = "diffraction sqrt(counts), coords px, probeGuess sqrt(photon), objectGuess transmittance"
"""What the metadata of a scan says about units."""
REQUIRED = ("diffraction", "xcoords", "ycoords", "probeGuess", "objectGuess", "metadata")
"""Keys that every scan has."""
DETECTOR = ("bad_pixels", "background", "exposure_scale")
"""Keys of what the detector does, all optional; see `ptycho.physics.detector.Detector`."""
MEASUREMENT = ("pixel_size_m", "wavelength_m", "photons_per_unit", "conversion")
"""Keys of the metadata, all optional, that scans made of a measured one take over."""


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One scan. Frames and truth are read when indexed; positions and probe are small and in memory."""

    path: Path
    """File that it was read from."""
    diffraction: LazyArray = field(repr=False)
    """(M, N, N) float32 amplitudes, sqrt(counts), zero frequency at [N/2, N/2]; bad pixels read 0."""
    xcoords: NDArray[np.float64] = field(repr=False)
    """(M,) patch centers along x, columns [px]."""
    ycoords: NDArray[np.float64] = field(repr=False)
    """(M,) patch centers along y, rows [px]."""
    probe: NDArray[np.complex64] = field(repr=False)
    """(modes, N, N) illumination [sqrt(photon)]."""
    object: LazyArray = field(repr=False)
    """(H, W) complex64 truth (simulated) or reference (measured)."""
    metadata: dict[str, Any]
    """At least `dose`, the photons per exposure; JSON-serializable."""
    detector: Detector = field(default=PERFECT, repr=False)
    """What the detector does to the photons, and the flux of every exposure."""

    def __len__(self) -> int:
        return len(self.diffraction)

    @property
    def n_pixels(self) -> int:
        """N, side of the detector [px]."""
        return self.diffraction.shape[-1]

    @property
    def measurement(self) -> dict[str, Any]:
        """What the metadata say about the measurement, for the metadata of a scan that is made of this one."""
        return {key: self.metadata[key] for key in MEASUREMENT if key in self.metadata}

    def patches(self, exposures: NDArray[np.int64]) -> NDArray[np.complex64]:
        """Cut the truth under some exposures, (m, N, N); only their windows are read."""
        x, y, n = self.xcoords[exposures], self.ycoords[exposures], self.n_pixels
        corners = zip(*window_corners(self.object.shape, x, y, n), strict=True)
        patches = [self.object[top : top + n, left : left + n] for top, left in corners]
        return np.array(patches, self.object.dtype).reshape(-1, n, n)


def open_scan(path: StrPath) -> Scan:
    """Open a scan without reading its frames.

    All arrays but the frames are held against their checksums now, every frame when it is first read: if it is damaged,
    indexing raises a `ContractError`. A file without `frame_checksums`, of another program or an older version, does
    not tell.

    This is the one place where bad pixels are masked: whatever stands in them, everything that reads the scan's frames
    reads 0 there.

    Raises
    ------
    ContractError
        If the file violates the data contract.
    """
    path = Path(path)
    _refuse_raw(path)
    with Npz(path) as file:
        missing = [key for key in REQUIRED if key not in file]
        if missing:
            lacks, found = ", ".join(map(repr, missing)), sorted(file.keys)
            raise ContractError(f"{path}: no key {lacks}; found {found}; `ptycho convert` makes a scan of other files")
        scan = Scan(
            path=path,
            diffraction=file.frames("diffraction"),
            xcoords=file.array("xcoords"),
            ycoords=file.array("ycoords"),
            probe=as_modes(file.array("probeGuess")),
            object=file.mapped("objectGuess", checked=True),
            metadata=file.metadata(),
            detector=Detector(**{key: file.array(key) for key in DETECTOR if key in file}),
        )
        check_metadata(path, scan.metadata)
        check_scan(scan)
        if "scan_index" in file:
            check_index(path, file.array("scan_index"), len(scan), distinct=False)
    return _masked(scan)


def _refuse_raw(path: Path) -> None:
    """Name the command that makes a scan of what other programs write."""
    with reading(path):
        require_file(path)
        with path.open("rb") as file:
            kind = RAW.get(file.read(4))
    if kind is not None:
        raise ContractError(f"{path}: {kind}; wanted a scan, such as `ptycho convert` makes of it")


def _masked(scan: Scan) -> Scan:
    """Return a scan whose bad pixels read 0, in frames and background."""
    bad, background = scan.detector.bad_pixels, scan.detector.background
    if bad is None or not bad.any():
        return replace(scan, detector=replace(scan.detector, bad_pixels=None))
    if background is not None:
        background = np.where(bad, np.float32(0), background)
    detector = replace(scan.detector, background=background)
    return replace(scan, diffraction=MaskedFrames(scan.diffraction, bad), detector=detector)


class ScanWriter:
    """Write a scan block by block, and the CRC-32 of every frame as `frame_checksums`; it is complete or absent.

    Parameters
    ----------
    path : path
        A temporary file beside it is renamed on success.
    n_exposures, n_pixels : int
        M and N.
    check : callable, optional
        Called with the finished temporary file before it is renamed; if it raises, the file is removed.
    **fields : array
        All other keys of the contract; `metadata` is a dict.

    Raises
    ------
    ContractError
        If a block has another shape or dtype, or the number of written patterns is not M.

    Examples
    --------
    >>> with ScanWriter(path, 400, 64, xcoords=x, ycoords=y, probeGuess=p, objectGuess=o, metadata={}) as scan:
    ...     for frames in simulated:
    ...         scan.write(frames)
    """

    def __init__(
        self,
        path: StrPath,
        n_exposures: int,
        n_pixels: int,
        *,
        check: Callable[[Path], object] | None = None,
        **fields: Any,
    ):
        self.shape, self._check = (n_exposures, n_pixels, n_pixels), check
        self._fields = {**fields, "metadata": np.array(json.dumps(fields["metadata"]))}
        self._path, self._checksums = path, array("L")

    def __enter__(self) -> "ScanWriter":
        with ExitStack() as stack:  # if this fails, the temporary file is closed and removed
            temporary = stack.enter_context(replacing(self._path))
            stack.enter_context(self._checked(temporary))
            archive = stack.enter_context(zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED))
            for key, array in self._fields.items():
                _write_member(archive, key, np.asarray(array, order="C"))
            stack.enter_context(self._followed_by_checksums(archive))
            self._member = stack.enter_context(archive.open("diffraction.npy", "w", force_zip64=True))
            header = {"descr": "<f4", "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(self._member, header)
            self._open = stack.pop_all()
        return self

    @contextmanager
    def _checked(self, temporary: Path) -> Iterator[None]:
        yield
        if self._check is not None:
            self._check(temporary)

    @contextmanager
    def _followed_by_checksums(self, archive: zipfile.ZipFile) -> Iterator[None]:
        yield
        _write_member(archive, FRAME_CHECKSUMS, np.array(self._checksums, np.uint32))

    def write(self, frames: NDArray[np.float32]) -> None:
        """Append a block of (b, N, N) amplitudes."""
        if frames.shape[1:] != self.shape[1:] or frames.dtype != np.float32:
            raise ContractError(
                f"a block of {frames.dtype} {frames.shape}; wanted float32 (b, {self.shape[1]}, {self.shape[2]})"
            )
        stored = np.ascontiguousarray(frames, "<f4")
        self._member.write(stored.tobytes())
        self._checksums.extend(map(zlib.crc32, stored))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is None and len(self._checksums) != self.shape[0]:
            incomplete = ContractError(f"{len(self._checksums)} patterns written, {self.shape[0]} announced")
            self._open.__exit__(type(incomplete), incomplete, None)
            raise incomplete
        return self._open.__exit__(kind, error, trace)


def _write_member(archive: zipfile.ZipFile, key: str, array: NDArray[Any]) -> None:
    with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def detected_photons(
    diffraction: LazyArray, exposures: NDArray[np.int64] | None = None, block_size: int = 256
) -> NDArray[np.float64]:
    """Detected photons of every exposure, or of some, (M,) or (m,), on valid pixels; read block by block."""
    exposures = np.arange(len(diffraction)) if exposures is None else exposures
    parts = [
        np.square(diffraction[exposures[block]], dtype=np.float64).sum((1, 2))
        for block in blocks(len(exposures), block_size)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def mean_counts(diffraction: LazyArray, exposures: NDArray[np.int64] | None = None, block_size: int = 256) -> float:
    """Mean detected photons per exposure, of all or of some, on valid pixels."""
    return float(detected_photons(diffraction, exposures, block_size).mean())


def split_rows(
    ycoords: NDArray[np.float64], guard_px: float, train_fraction: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split a scan along y into train (smaller y) and test, with a guard band between them.

    Parameters
    ----------
    ycoords : (M,) float64
        Patch centers [px].
    guard_px : float
        Smallest distance in y between a train and a test center.
    train_fraction : float
        Wanted fraction of train among the exposures that are used.

    Returns
    -------
    train, test : (m,) int64
        Exposures of either split, ascending.

    Raises
    ------
    ContractError
        If a split would be empty.
    """
    ordered = np.sort(ycoords)
    starts = np.unique(ordered)
    n_train = np.searchsorted(ordered, starts, side="right")
    n_test = len(ordered) - np.searchsorted(ordered, starts + guard_px, side="left")
    possible = (n_train > 0) & (n_test > 0)
    if not possible.any():
        raise ContractError(
            f"the scan spans {np.ptp(ordered):.0f} px in y, "
            f"but the guard band between train and test alone needs {guard_px:.0f} px"
        )
    fraction = np.where(possible, n_train / (n_train + n_test), np.inf)
    last_train = starts[np.argmin(np.abs(fraction - train_fraction))]
    return np.flatnonzero(ycoords <= last_train), np.flatnonzero(ycoords >= last_train + guard_px)
