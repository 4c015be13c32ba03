"""A scan as another program's file holds it: frames read in blocks, what the file says, and what it leaves open."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ptycho.data.lazy import LazyArray

if TYPE_CHECKING:
    from ptycho.formats.inputs import Inputs
    from ptycho.formats.options import ConversionOptions

Quantity: TypeAlias = Literal["counts", "amplitude"]
"""What frames hold: photons or a number proportional to them, or the square root of it."""
Unit: TypeAlias = Literal["m", "mm", "um", "nm", "px"]
"""Unit of positions; px are object pixels, wavelength · distance / (N · detector pixel)."""
METERS: dict[str, float] = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "nm": 1e-9}
"""Meters per unit."""
HC_EV_M = 1.23984198e-6
"""Planck's constant times the speed of light: wavelength [m] times photon energy [eV]."""
JOULE_PER_EV = 1.602176634e-19
"""Joule of an electronvolt."""
PROMOTED: dict[str, np.dtype[Any]] = {"f2": np.dtype(np.float32), "b1": np.dtype(np.uint8)}
"""Types that are too narrow to compute with -> what is read in their place."""
BLOCK_BYTES = 1 << 25
"""Size of a block of frames in float64: what is processed at a time."""


@dataclass(frozen=True)
class Turn:
    """One of the eight ways to turn frames: rows and columns exchanged, then columns or rows reversed."""

    swap: bool = False
    flip_x: bool = False
    """Reverse the columns."""
    flip_y: bool = False
    """Reverse the rows."""

    def __call__(self, planes: NDArray[Any]) -> NDArray[Any]:
        """Turn (…, H, W) arrays."""
        planes = np.swapaxes(planes, -1, -2) if self.swap else planes
        planes = planes[..., ::-1] if self.flip_x else planes
        return planes[..., ::-1, :] if self.flip_y else planes


AS_IS = Turn()


class RawFrames:
    """Frames in a file, read in order and block by block.

    Parameters
    ----------
    source : lazy array
        (M, H, W), (…, H, W) with the exposures on all leading axes, or, if `last`, (H, W, M).
    last : bool
        Exposures are on the last axis.
    turn : Turn, optional
        What is done to rows and columns.

    Raises
    ------
    ValueError
        If there are other axes.
    """

    def __init__(self, source: LazyArray, *, last: bool = False, turn: Turn = AS_IS):
        self.source, self.last, self.turn = source, last, turn
        shape = (source.shape[-1], *source.shape[:-1]) if last else source.shape
        if len(shape) < 3 or (last and len(shape) > 3):
            raise ValueError(f"frames have shape {source.shape}; wanted {'(N, N, M)' if last else '(M, N, N)'}")
        self._leading = shape[:-2]
        height, width = shape[-2:][:: -1 if turn.swap else 1]
        self.shape = (math.prod(self._leading), height, width)
        self.dtype: np.dtype[Any] = PROMOTED.get(
            source.dtype.kind + str(source.dtype.itemsize), source.dtype.newbyteorder("=")
        )

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def block_size(self) -> int:
        """Exposures that are read and processed at a time."""
        return max(BLOCK_BYTES // (8 * self.shape[1] * self.shape[2]), 1)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the frames of some exposures, (stop - start, H, W)."""
        if self.last:
            frames = np.moveaxis(self.source[:, :, start:stop], -1, 0)
        elif len(self._leading) == 1:
            frames = self.source[start:stop]
        else:
            frames = np.concatenate([self.source[index] for index in self._rows(start, stop)])
        return np.ascontiguousarray(self.turn(frames), self.dtype)

    def _rows(self, start: int, stop: int) -> list[tuple[int | slice, ...]]:
        """Return indices of the leading axes that cover a range of exposures, one for every row of the last of them."""
        *outer, columns = self._leading
        rows = range(start // columns, -(-stop // columns))
        return [
            (
                *(int(number) for number in np.unravel_index(row, outer)),
                slice(max(start - row * columns, 0), min(stop - row * columns, columns)),
            )
            for row in rows
        ]


class Concatenated:
    """Stacks of frames one after the other, read when indexed by a range of exposures.

    Parameters
    ----------
    stacks : sequence of lazy array
        (m, H, W) each, with the same H, W and type.
    """

    def __init__(self, stacks: Sequence[LazyArray]):
        self._stacks = stacks
        self._starts = np.cumsum([0, *(stack.shape[0] for stack in stacks)])
        self.shape = (int(self._starts[-1]), *stacks[0].shape[1:])
        self.dtype = np.result_type(*(stack.dtype for stack in stacks))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> NDArray[Any]:
        start, stop, _ = index.indices(len(self))
        parts = [
            stack[max(start - first, 0) : min(stop - first, stack.shape[0])]
            for first, stack in zip(self._starts[:-1].tolist(), self._stacks, strict=True)
            if first < stop and start < first + stack.shape[0]
        ]
        return np.concatenate(parts) if parts else np.zeros((0, *self.shape[1:]), self.dtype)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What a file says about lengths; None: nothing."""

    wavelength_m: float | None = None
    distance_m: float | None = None
    """From sample to detector."""
    detector_pixel_m: float | None = None
    object_pixel_m: float | None = None
    """Where the file gives it; otherwise it follows from the others."""
    object_pixel_side: int | None = None
    """Side of the frames that it belongs to [detector px]; None: that of the frames in the file."""


@dataclass(frozen=True, kw_only=True)
class RawObject:
    """An object, and where it lies in the plane of the positions."""

    array: NDArray[Any]
    """(H, W), or what the file has in its place."""
    origin: tuple[float, float] | None = None
    """(x, y) of the center of its first pixel, in the unit of the positions; None: positions count its pixels."""
    window_offsets_px: tuple[float, ...] = (0.0,)
    """From a position to pixel N/2 of its window: the first, unless the frames fit another one better."""


@dataclass(frozen=True)
class OpenConvention:
    """A convention that a file leaves open: it is asked for, never guessed."""

    question: str
    """What is not known."""
    answers: str
    """The options that settle it, as they are typed."""
    settled_by: tuple[str, ...]
    """Fields of `ptycho.formats.options.ConversionOptions`: one of them must be set."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of scans, and its reader."""

    name: str
    """As it is typed."""
    title: str
    """As it is called."""
    recognizes: "Callable[[Inputs], bool]"
    """Whether some files have it."""
    read: "Callable[[Inputs, ConversionOptions], RawScan]"
    """Opens the scan in them."""
    supported: bool = True
    """False: it is recognized to be refused."""
    variants: tuple[str, ...] = ()
    """Names of conventions that a file may follow without saying so."""


@dataclass(frozen=True, kw_only=True)
class RawScan:
    """What a reader found in the files of one scan."""

    name: str
    """The files, in messages."""
    frames: RawFrames
    positions: NDArray[np.float64]
    """(K, 2) patch centers, [x, y] = [column, row], growing to the right and downwards."""
    unit: Unit | None
    """Unit of the positions; None: the file does not say."""
    quantity: Quantity | None
    """What the frames hold; None: the file does not say."""
    corner: bool = False
    """Whether the zero frequency of the frames is at [0, 0]; otherwise it is at [H // 2, W // 2]."""
    frame_numbers: NDArray[np.int64] | None = None
    """(M,) numbers of the frames where positions are matched by number; None: by order."""
    position_numbers: NDArray[np.int64] | None = None
    """(K,) numbers of the positions."""
    probe: NDArray[Any] | None = None
    """(N, N) or (modes, N, N) complex, in any unit."""
    probe_key: str = "probe"
    """Its name in messages."""
    object: RawObject | None = None
    object_key: str = "object"
    """Its name in messages."""
    geometry: Geometry = field(default_factory=Geometry)
    bad_pixels: NDArray[np.bool_] | None = None
    """(H, W), in the orientation of the frames."""
    background: NDArray[np.floating] | None = None
    """(H, W) mean counts, in the orientation of the frames."""
    exposure_scale: NDArray[np.float64] | None = None
    """(M,) flux of every exposure, in any unit."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Names in the file, for messages, of fields, of the geometry's too, that are called otherwise there."""
    conventions: tuple[str, ...] = ()
    """What the reader has applied, in words."""
    earlier: Mapping[str, Any] = field(default_factory=dict)
    """Metadata that `ptycho convert` wrote, if the scan has been converted before."""
    scan_index: NDArray[np.int64] | None = None
    """(M,) numbers of the exposures before some were left out by an earlier conversion."""
    open: tuple[OpenConvention, ...] = ()
    """What it could not know."""

    def key(self, name: str) -> str:
        """Return the name in the file of a field, for messages."""
        return self.keys.get(name, name)
