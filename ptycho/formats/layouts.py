"""Layouts that differ by program: exposures first or last, positions in rows or columns, masks in stacks."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.inputs import KeyedFile, numbers
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import AS_IS, BLOCK_BYTES, OpenConvention, RawFrames, Turn
from ptycho.workflow.files import ContractError


def open_frames(
    file: KeyedFile,
    key: str,
    n_positions: int,
    options: ConversionOptions,
    *,
    turn: Turn = AS_IS,
    is_specified: bool = False,
) -> tuple[RawFrames, list[str], list[OpenConvention]]:
    """Open frames whose exposures are on the first or on the last axis.

    Parameters
    ----------
    file : KeyedFile
        The file.
    key : str
        Where its frames are.
    n_positions : int
        Number of positions: that of the exposures, as a rule.
    options : ConversionOptions
        `frames_last` decides where it is set.
    turn : Turn
        What is done to rows and columns.
    is_specified : bool
        The format says that exposures come first: they do, unless the shape shows that they do not.

    Returns
    -------
    frames : RawFrames
    conventions : list of str
        What was done.
    open : list of OpenConvention
        The order, if it cannot be known.

    Raises
    ------
    ContractError
        If there are fewer than three axes, or no numbers.
    """
    shape = tuple(side for side in file.shape(key))
    if len(shape) < 3:
        raise ContractError(f"{file.path}: '{key}' has shape {shape}; wanted (M, N, N) or (N, N, M)")
    last, ambiguous = _frames_last(shape, n_positions)
    unknown = []
    if ambiguous and not is_specified:
        unknown.append(
            OpenConvention(f"which axis of '{key}', {shape}, has the exposures", "--frames-last or --frames-first", ())
        )
    if options.frames_last is not None:
        last, unknown = options.frames_last, []
    source = file.frames(key, last)
    if source.dtype.kind not in "buif":
        raise ContractError(f"{file.path}: '{key}' is {source.dtype}; wanted counts or amplitudes")
    said = [f"frames: exposures moved from the last axis of {shape} to the first"] if last else []
    return RawFrames(source, last=last, turn=turn), said, unknown


def _frames_last(shape: tuple[int, ...], n_positions: int) -> tuple[bool, bool]:
    """Return whether exposures are on the last axis, and whether that is a guess."""
    if len(shape) != 3:
        return False, False
    by_count = shape[0] == n_positions, shape[2] == n_positions
    by_square = shape[1] == shape[2], shape[0] == shape[1]
    says = [pair[1] for pair in (by_count, by_square) if pair[0] != pair[1]]
    if len(says) == 2 and says[0] != says[1]:
        return False, True
    return (says[0], False) if says else (False, any(by_count + by_square))


def read_vectors(
    file: KeyedFile, key: str, n_frames: int, sizes: tuple[int, ...] = (2,), *, columns: bool = False
) -> NDArray[np.float64]:
    """Read positions that are the rows of an array, or its columns.

    Parameters
    ----------
    file : KeyedFile
        The file.
    key : str
        Where they are.
    n_frames : int
        Number of frames.
    sizes : tuple of int
        How many components a position may have.
    columns : bool
        What they are by the format; where the shape does not allow it, the other is taken.

    Returns
    -------
    (K, size) float64
        A row for each position, of which there may be another number than of frames.

    Raises
    ------
    ContractError
        If it is another array.
    """
    values = numbers(file, key).astype(np.float64)
    values = values if values.ndim == 2 else np.squeeze(values)
    if values.ndim > 2 and values.shape[-1] in sizes:  # a grid of exposures
        values = values.reshape(-1, values.shape[-1])
    fits = [side in sizes for side in values.shape] if values.ndim == 2 else [False]
    if not any(fits):
        wanted = " or ".join(str((size, n_frames) if columns else (n_frames, size)) for size in sizes)
        raise ContractError(f"{file.path}: '{key}' has shape {values.shape}; wanted positions, {wanted}")
    if all(fits):
        own, other = values.shape[:: 1 if not columns else -1]
        transposed = columns if own == n_frames or other != n_frames else not columns
    else:
        transposed = fits[0]
    return values.T if transposed else values


def read_file_mask(
    file: KeyedFile,
    key: str,
    options: ConversionOptions,
    is_bad: Callable[[NDArray[Any]], NDArray[np.bool_]],
    *,
    is_open: bool = False,
) -> tuple[NDArray[np.bool_], list[str]]:
    """Read a mask of all exposures, (H, W), or of every one, (…, H, W), of which any masks a pixel.

    Parameters
    ----------
    file : KeyedFile
        The file.
    key : str
        Where the mask is.
    options : ConversionOptions
        `mask_marks` says what a mask marks, unless there is a file of its own that it may be said of.
    is_bad : callable
        Which of some values mark bad pixels, by the format.
    is_open : bool
        The format does not say it: `mask_marks` is for this mask, too.

    Returns
    -------
    bad : (H, W) bool
    conventions : list of str
        Whether exposures differ.

    Raises
    ------
    ContractError
        If it holds no numbers.
    """
    is_inverted = options.mask_marks == "good" and (is_open or options.mask is None)
    shape = file.shape(key)
    parts: Iterable[NDArray[Any]]
    if len(shape) != 3:
        parts = [numbers(file, key, "buif").reshape(-1, *shape[-2:])]
    else:
        stack = file.frames(key)
        if stack.dtype.kind not in "buif" or not len(stack):
            raise ContractError(f"{file.path}: '{key}' is {stack.dtype} with shape {shape}; wanted numbers")
        step = max(BLOCK_BYTES // max(8 * shape[1] * shape[2], 1), 1)
        parts = (stack[start : start + step] for start in range(0, len(stack), step))
    some, every = np.zeros(shape[-2:], bool), np.ones(shape[-2:], bool)
    for part in parts:
        bad = is_bad(part) != is_inverted
        some |= bad.any(axis=0)
        every &= bad.all(axis=0)
    differ = int((some & ~every).sum())
    said = f"mask: in '{key}', {int(every.sum())} px are bad in all exposures and {differ} px in some; all are masked"
    return some, [said] if differ else []
