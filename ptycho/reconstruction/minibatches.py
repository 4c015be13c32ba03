"""Mini-batch epochs: preconditioned gradient steps of a few exposures each, a quick start from a flat object.

Where a smooth beam keeps the photons in the middle of the detector, one epoch gets as far as several L-BFGS iterations
(ordered subsets: Hudson and Larkin, IEEE Trans. Med. Imaging 13, 601, 1994; in ptychography: Maiden, Johnson and Li,
Optica 4, 736, 2017). Steps that change no common pixel commute: a GPU takes many of them at once, and gets the object
that steps one by one lead to.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.passes import Array, Batches, Block, Windows

BATCH_SIZE = 8
"""Exposures in a mini-batch."""
DAMPING = 0.1
"""Added to the illumination that divides a mini-batch step, as a fraction of its maximum: dimmer pixels move less."""
MOMENTUM = 0.5
"""Fraction of the change of one mini-batch epoch that is added to the next one's."""

Step: TypeAlias = tuple[Block, Windows, Batches]
"""Exposures of mini-batches, where their windows start on the canvas, and which belong together."""


def minibatch_epochs(likelihood: Likelihood, obj: Array, count: int) -> Array:
    """Run epochs of preconditioned gradient steps with momentum, one step per mini-batch.

    There is no prior, and the noise of a mini-batch limits how close the result gets to the minimum: use it as a start.

    Parameters
    ----------
    likelihood : Likelihood
        Likelihood of the counts.
    obj : (H, W) complex64
        Start.
    count : int
        Number of epochs.

    Returns
    -------
    (H, W) complex64
        Object after the last epoch.
    """
    xp, passes = likelihood.device.xp, likelihood.device.passes
    rng, obj, change = np.random.default_rng(0), obj.copy(), xp.zeros_like(obj)
    smoothed = likelihood.with_background(np.inf)
    for _ in range(count):
        before = obj.copy()
        for block, windows, batches in steps(smoothed, BATCH_SIZE, rng):
            passes.descend(obj, block, windows, smoothed.expected, batches, DAMPING)
        change = MOMENTUM * change + (obj - before)
        obj = before + change
    return obj


def steps(likelihood: Likelihood, size: int, rng: np.random.Generator) -> Iterator[Step]:
    """Yield every exposure once in mini-batches, block by block, blocks and exposures in random order.

    Mini-batches of several blocks are taken at once where nothing depends on their order, see `independent_groups`, as
    far as the device computes so many exposures at once.

    Parameters
    ----------
    likelihood : Likelihood
        Where the exposures come from.
    size : int
        Largest number of exposures in a mini-batch.
    """
    parts, places = list(likelihood.counts.parts), np.empty(len(likelihood.counts), np.int32)
    order = rng.permutation(len(parts))
    drawn = [parts[number].start + rng.permutation(parts[number].stop - parts[number].start) for number in order]
    boxes = _boxes(likelihood, slice(None), [part.start for part in parts])[order]
    at_once = max(1, likelihood.block_size // likelihood.counts.block_size)
    for group in independent_groups(boxes, at_once):
        members = tuple(parts[order[number]] for number in group)
        block = _joined(likelihood, members)
        places[np.r_[members]] = np.arange(len(block[0]))
        split = [np.array_split(drawn[number], -(-len(drawn[number]) // size)) for number in group]
        for batches in zip_longest(*split):
            yield _step(likelihood, block, [batch for batch in batches if batch is not None], places)


def _joined(likelihood: Likelihood, parts: tuple[slice, ...]) -> Block:
    """Return the exposures of some blocks of the counts as one block."""
    blocks = [likelihood.block(part) for part in parts]
    if len(blocks) == 1:
        return blocks[0]
    frames, probes = (likelihood.device.xp.concatenate(arrays) for arrays in zip(*blocks, strict=True))
    return frames, probes


def _step(likelihood: Likelihood, block: Block, batches: list[NDArray[np.int64]], places: NDArray[np.int32]) -> Step:
    """Take mini-batches, (m,) exposures each, out of a block; `places` says where an exposure is in it."""
    exposures, bounds = np.concatenate(batches), np.cumsum([0, *map(len, batches)])
    table = likelihood.device.to_device(np.stack([places[exposures], *likelihood.corners[:, exposures]]))
    chosen = block[0][table[0]], block[1][table[0]]
    return chosen, (table[1], table[2]), Batches(bounds, _boxes(likelihood, exposures, bounds[:-1]))


def _boxes(
    likelihood: Likelihood, exposures: slice | NDArray[np.int64], first: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return first row and column, height and width, of the boxes around runs of exposures, which start at `first`."""
    corners = likelihood.corners[:, exposures]
    low, high = (function.reduceat(corners, first, axis=1) for function in (np.minimum, np.maximum))
    return np.concatenate([low, high - low + likelihood.n_pixels]).T


def independent_groups(boxes: NDArray[np.integer], size: int) -> list[list[int]]:
    """Group boxes so that those of a group do not overlap, and overlapping ones keep their order from group to group.

    Parameters
    ----------
    boxes : (k, 4) int
        First row and column, height and width.
    size : int
        Largest number of boxes in a group; with 1, every box is a group, in the order given.
    """
    if size == 1:
        return [[number] for number in range(len(boxes))]
    top, left, height, width = boxes.T
    bottom, right, levels = top + height, left + width, np.zeros(len(boxes), np.int64)
    for i in range(len(boxes)):
        rows = (top[:i] < bottom[i]) & (top[i] < bottom[:i])
        overlapping = rows & (left[:i] < right[i]) & (left[i] < right[:i])
        levels[i] = 1 + levels[:i][overlapping].max(initial=-1)
    members = [np.flatnonzero(levels == level) for level in range(levels.max() + 1)]
    return [group[start : start + size].tolist() for group in members for start in range(0, len(group), size)]
