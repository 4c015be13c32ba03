"""Exposures on their way to a GPU that has no room for all of them: read, copied and computed at the same time.

A thread reads a block into page-locked memory, from which a stream of its own copies it, while the GPU computes the one
before. There are two of each array: one is filled while the other is used.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Read: TypeAlias = Callable[[slice, NDArray[np.float32]], None]
"""Takes (m,) consecutive items, fills the (m, …) array of the host with them."""


def stream(read: Read, parts: Sequence[slice], shape: tuple[int, ...]) -> Iterator[Any]:
    """Yield items as CuPy arrays on the current GPU.

    Parameters
    ----------
    read : callable
        Reads items; called in another thread, one call at a time.
    parts : sequence of slice
        Consecutive items that are computed at once.
    shape : tuple of int
        Shape of an item.

    Yields
    ------
    (m, …) float32
        Array of the GPU, which is overwritten after the next one has been asked for.
    """
    import cupy
    import cupyx

    size = max(part.stop - part.start for part in parts), *shape
    hosts = [cupyx.empty_pinned(size, np.float32) for _ in range(2)]
    arrays = [cupy.empty(size, np.float32) for _ in range(2)]
    device, computing, copying = cupy.cuda.Device(), cupy.cuda.get_current_stream(), cupy.cuda.Stream(non_blocking=True)
    read_out = [copying.record() for _ in range(2)]  # events: the array of the host has been copied
    computed = [computing.record() for _ in range(2)]  # events: that of the GPU is not needed any more

    def load(turn: int, part: slice) -> Any:
        with device:
            host, array = (pair[turn][: part.stop - part.start] for pair in (hosts, arrays))
            read_out[turn].synchronize()
            read(part, host)
            copying.wait_event(computed[turn])
            array.set(host, stream=copying)
            read_out[turn] = copying.record()
            return array

    with ThreadPoolExecutor(1) as reader:
        try:
            pending = reader.submit(load, 0, parts[0])
            for number, _ in enumerate(parts):
                turn, array = number % 2, pending.result()
                if number + 1 < len(parts):
                    pending = reader.submit(load, 1 - turn, parts[number + 1])
                computing.wait_event(read_out[turn])
                yield array
                computed[turn] = computing.record()
        finally:
            reader.shutdown(cancel_futures=True)
            copying.synchronize()  # the arrays may be given to others now
