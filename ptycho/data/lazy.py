"""Lazy arrays: indexed like NumPy arrays, they read what is indexed and keep nothing."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray


class LazyArray(Protocol):
    """What can be indexed like an array and read in parts; NumPy arrays qualify, too."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(frozen=True)
class GroupedArray:
    """(B, N, N, C) frames of groups, gathered when indexed by a number, a slice or an index array.

    Parameters
    ----------
    gather : callable
        Takes (m,) int64 exposures, returns their (m, N, N) frames.
    nn_indices : (B, C) int64
        Exposures of each group; -1, at the end of smaller groups, gives a frame of zeros.
    n_pixels : int
        N, side of a frame.
    dtype : dtype
        Type of the frames.
    """

    gather: Callable[[NDArray[np.int64]], NDArray[Any]]
    nn_indices: NDArray[np.int64]
    n_pixels: int
    dtype: np.dtype[Any]

    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, N, N, C)."""
        count, channels = self.nn_indices.shape
        return count, self.n_pixels, self.n_pixels, channels

    def __len__(self) -> int:
        return len(self.nn_indices)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Gather groups; an exposure that several of them share is read once."""
        indices = self.nn_indices[index]
        members = indices >= 0
        exposures, inverse = np.unique(indices[members], return_inverse=True)
        groups = np.zeros((*indices.shape[:-1], self.n_pixels, self.n_pixels, indices.shape[-1]), self.dtype)
        if exposures.size:
            np.moveaxis(groups, -1, -3)[members] = self.gather(exposures)[inverse]
        return groups

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


@dataclass(frozen=True)
class TransformedArray:
    """An array of `function(source)`, evaluated on what is indexed.

    Parameters
    ----------
    source : array-like
        Indexed on demand.
    function : callable
        Applied elementwise.
    dtype : dtype
        Type of the result.
    """

    source: LazyArray
    function: Callable[[NDArray[Any]], NDArray[Any]]
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the source."""
        return self.source.shape

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return self.function(self.source[index]).astype(self.dtype)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


@dataclass(frozen=True)
class SelectedRows:
    """Some rows of an array, read when indexed.

    Parameters
    ----------
    source : array-like
        Indexed on demand.
    rows : (m,) int64
        The selected rows.
    """

    source: LazyArray
    rows: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the selection."""
        return (len(self.rows), *self.source.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.source.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return self.source[self.rows[index]]


@dataclass(frozen=True)
class ChangedFrames(ABC):
    """Frames that are changed as they are read: as many, of the same size and type.

    Parameters
    ----------
    source : (M, N, N) array-like
        Indexed on demand.
    """

    source: LazyArray

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, N, N)."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.source.dtype

    def __len__(self) -> int:
        return len(self.source)

    @abstractmethod
    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Return a changed copy of some frames."""


@dataclass(frozen=True)
class MaskedFrames(ChangedFrames):
    """Frames whose bad pixels read 0, whatever stands there.

    Parameters
    ----------
    source : (M, N, N) array-like
        Indexed on demand.
    bad_pixels : (N, N) bool
        True where a pixel reads 0.
    """

    bad_pixels: NDArray[np.bool_]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Return a copy of some frames; the index is along the first axis alone."""
        if isinstance(index, tuple):
            raise IndexError(f"index {index}; wanted one along the first axis: whole frames are masked")
        frames = np.array(self.source[index])
        np.copyto(frames, 0, where=self.bad_pixels)
        return frames

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)
